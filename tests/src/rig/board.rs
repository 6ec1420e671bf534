//! The rig's board: the board library over the simulated bus's other face.

use std::collections::BTreeSet;

use board::device::net::{NetBackend, NetDevice, NetMemory, NetOptions};
use board::dma::{CpuCopy, DmaEngine, DmaError};
use board::service::{Next, Service, ServiceOptions, ServiceStats};
use board::support::{BoardSupport, Doorbells};
use board::trace::NetCounters;
use host::bus::sim::{SimBoardPort, SimBus, SimWindow};
use shared::link::{BoardDescription, BoardRegion, BoardRegions, Epoch, Label, Outbound};
use shared::msg::ResultCode;
use shared::msg::body::{RegionKind, RegionMessage};
use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::virtq::DeviceSlot;
use shared::window::{Barrier, Window};

use super::options::{BoardOptions, EngineKind, RigOptions};

/// The control pages come first in BAR 0, board memory behind them.
pub const CONTROL_LEN: u64 = 16 << 10;

/// The board's own MAC address: what its frames to the host must come from.
pub const BOARD_MAC: [u8; 6] = [2, 0x76, 0x70, 0x68, 0x79, 2];
/// The MAC address that it gives the host's interface.
pub const HOST_MAC: [u8; 6] = [2, 0x76, 0x70, 0x68, 0x79, 1];

/// The board under the service.
#[derive(Debug)]
pub struct RigSupport {
    port: SimBoardPort,
    memory: SimWindow,
    rung: u32,
    open: BTreeSet<u32>,
}

impl RigSupport {
    /// Whether a doorbell waits; it stays.
    pub fn peek(&mut self) -> bool {
        let rung = self.port.take_doorbells() & u64::from(u32::MAX);
        self.rung |= u32::try_from(rung).unwrap_or(u32::MAX);
        self.rung != 0
    }

    /// Regions that are open, by number.
    #[must_use]
    pub const fn open_regions(&self) -> &BTreeSet<u32> {
        &self.open
    }
}

impl BoardSupport for RigSupport {
    type Window = SimWindow;

    fn open_region(&mut self, region: &RegionMessage) -> Result<SimWindow, ResultCode> {
        let window = match region.kind {
            RegionKind::Host { .. } => self
                .port
                .outbound(region.base, region.len)
                .map_err(|_refused| ResultCode::OutOfReach)?,
            RegionKind::Board { index: 0 } => self.memory.clone(),
            RegionKind::Board { .. } => return Err(ResultCode::Unknown),
        };
        self.open.insert(region.id);
        Ok(window)
    }

    fn close_region(&mut self, number: u32) {
        self.open.remove(&number);
    }

    fn take_doorbells(&mut self) -> Doorbells {
        self.peek();
        Doorbells(std::mem::take(&mut self.rung))
    }

    fn raise(&mut self, vector: u16) {
        self.port.raise(vector);
    }
}

/// What moves the payload.
#[derive(Debug)]
pub struct Engine {
    kind: EngineKind,
    /// Where it last posted to: its barrier is the engine's.
    last: Option<SimWindow>,
}

impl Engine {
    fn view(&self, window: &SimWindow) -> Option<SimWindow> {
        (self.kind == EngineKind::Dma).then(|| window.dma_view()).flatten()
    }
}

impl DmaEngine<SimWindow> for Engine {
    fn fetch(&mut self, from: &SimWindow, offset: u64, into: &mut [u8]) -> Result<(), DmaError> {
        let view = self.view(from);
        CpuCopy.fetch(view.as_ref().unwrap_or(from), offset, into)
    }

    fn post(&mut self, from: &[u8], to: &SimWindow, offset: u64) -> Result<(), DmaError> {
        let view = self.view(to);
        CpuCopy.post(from, view.as_ref().unwrap_or(to), offset)?;
        self.last = view;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DmaError> {
        // Accepted by the bus: whatever the CPU stores now comes behind it.
        if let Some(window) = self.last.take() {
            window.barrier(Barrier::Full);
        }
        Ok(())
    }

    fn drain(&mut self) {
        let _ = self.finish();
    }
}

type Device<B> = NetDevice<'static, SimWindow, B>;

/// The board, awake or asleep.
#[derive(Debug)]
pub struct Board<B: NetBackend> {
    /// The board library.
    pub service: Service<RigSupport, Engine, Device<B>>,
    asleep_until: Option<u64>,
}

impl<B: NetBackend> Board<B> {
    /// Boots a board on the other end of `bus`.
    pub(super) fn boot(
        bus: &SimBus,
        options: &RigOptions,
        backend: B,
        epoch: u32,
        now: u64,
    ) -> Self {
        let port = bus.board();
        let BoardOptions { mtu, withhold, queue_entries, spin, engine, .. } = options.board;
        let device = NetDevice::new(
            &NetOptions { mac: HOST_MAC, mtu, withhold },
            NetMemory {
                slots: [leak::<DeviceSlot>(queue_entries), leak(queue_entries)],
                frame: leak(NetMemory::FRAME_BYTES),
                waiting: leak(NetMemory::FRAME_BYTES),
            },
            backend,
        );
        let memory = port.memory(CONTROL_LEN, bus.bar_len() - CONTROL_LEN);
        let support = RigSupport {
            memory: memory.expect("the BAR has board memory"),
            rung: 0,
            open: BTreeSet::new(),
            port,
        };
        let mut service = Service::new(
            support.port.control().expect("the BAR has control pages"),
            0,
            describe(bus, &options.board),
            support,
            Engine { kind: engine, last: None },
            [device.expect("the device's options do")],
            ServiceOptions { spin, recheck_ms: 10 },
        )
        .expect("the board describes itself well");
        service.boot(Epoch::from_random(epoch), now);
        Self { service, asleep_until: None }
    }

    /// The network device.
    ///
    /// # Panics
    /// Never: there is one.
    pub fn device(&mut self) -> &mut Device<B> {
        self.service.device(0).expect("device 0")
    }

    /// What lies behind the network device.
    pub fn backend(&mut self) -> &mut B {
        self.device().backend()
    }

    /// What the network device has counted.
    pub fn counters(&mut self) -> NetCounters {
        *self.device().counters()
    }

    /// What the service has counted.
    pub const fn stats(&self) -> ServiceStats {
        *self.service.stats()
    }

    /// One turn: a step if it is awake or has a reason to wake.
    pub(super) fn turn(&mut self, now: u64) {
        if self.wants(now) {
            self.asleep_until = match self.service.step(now) {
                Next::Again => None,
                Next::Sleep { until } => Some(until),
            };
        }
    }

    /// Wakes it for a reason of its own, such as a frame of its own code.
    pub const fn kick(&mut self) {
        self.asleep_until = None;
    }

    /// Until when it sleeps, doorbells apart; `None`: it is awake.
    pub const fn asleep(&self) -> Option<u64> {
        self.asleep_until
    }

    /// Whether it would do something now.
    pub(super) fn wants(&mut self, now: u64) -> bool {
        self.asleep_until.is_none_or(|until| now >= until) || self.service.support().peek()
    }
}

/// What the control block says.
fn describe(bus: &SimBus, options: &BoardOptions) -> BoardDescription {
    let limits = bus.board().limits();
    let mut regions = BoardRegions::new();
    let pushed = regions.push(BoardRegion {
        bar: 0,
        rights: Rights::READ_WRITE,
        offset: CONTROL_LEN,
        len: bus.bar_len() - CONTROL_LEN,
    });
    assert!(pushed);
    BoardDescription {
        name: Label::new("rig"),
        firmware: Label::new("test"),
        mac: BOARD_MAC,
        versions: options.versions,
        interrupts_unordered: options.interrupts_unordered,
        dma_engine: limits.dma && options.engine == EngineKind::Dma,
        vectors: 4,
        widest_store: StoreWidth::Bits64,
        heartbeat: options.heartbeat,
        doorbell: bus.doorbells(),
        outbound: (limits.windows > 0).then(|| Outbound {
            windows: limits.windows.into(),
            size: limits.window_len,
            alignment: limits.alignment,
            address_bits: limits.address_bits.into(),
        }),
        regions,
    }
}

/// Memory for a test's whole life.
fn leak<T: Clone + Default>(len: usize) -> &'static mut [T] {
    Box::leak(vec![T::default(); len].into())
}
