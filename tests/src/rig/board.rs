//! The rig's board: the board library over the simulated bus's other face.

use std::cell::Cell;
use std::collections::BTreeSet;

use board::device::DeviceKind;
use board::device::console::{ConsoleDevice, Log, Shell};
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

use super::options::{BoardOptions, EngineKind, Reboots, RigOptions};

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
    reboots: Reboots,
    /// A cache hook that does nothing, to see that a test would notice.
    pub forgets: Option<CacheHook>,
}

/// What the board library calls to maintain a cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheHook {
    /// Invalidate what is read next.
    BeforeFetch,
    /// Invalidate the lines that a post begins and ends in.
    BeforePost,
    /// Clean what was written.
    AfterPost,
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

    fn reboot(&mut self) -> bool {
        self.reboots != Reboots::Refuses
    }

    fn clean(&mut self, window: &SimWindow, offset: u64, len: u32) {
        if self.forgets != Some(CacheHook::AfterPost) {
            window.clean(offset, len.into());
        }
    }

    fn invalidate(&mut self, window: &SimWindow, offset: u64, len: u32) {
        // No piece that is read is as short.
        let hook = if len == 1 { CacheHook::BeforePost } else { CacheHook::BeforeFetch };
        if self.forgets != Some(hook) {
            window.invalidate(offset, len.into());
        }
    }
}

/// What moves the payload.
#[derive(Debug)]
pub struct Engine {
    kind: EngineKind,
    /// It waits for each post: the CPU may write to the same cache lines next.
    finishes_each: bool,
    /// Where it last posted to: its barrier is the engine's.
    last: Option<SimWindow>,
    /// What it was told last does not end in time.
    pub fails: bool,
}

impl Engine {
    /// The window for a copy of `len` bytes by the engine; `None`: it is the CPU's.
    fn view(&self, window: &SimWindow, len: usize) -> Option<SimWindow> {
        let from = match self.kind {
            EngineKind::Cpu => return None,
            EngineKind::Dma => 0,
            EngineKind::Mixed(from) => from,
        };
        if len >= from { window.dma_view() } else { None }
    }

    /// Accepted by the bus: whatever the CPU stores now comes behind it.
    fn push_out(&mut self) {
        if let Some(window) = self.last.take() {
            window.barrier(Barrier::Full);
        }
    }
}

impl DmaEngine<SimWindow> for Engine {
    fn fetch(&mut self, from: &SimWindow, offset: u64, into: &mut [u8]) -> Result<(), DmaError> {
        let view = self.view(from, into.len());
        CpuCopy.fetch(view.as_ref().unwrap_or(from), offset, into)
    }

    fn post(&mut self, from: &[u8], to: &SimWindow, offset: u64) -> Result<(), DmaError> {
        let view = self.view(to, from.len());
        if view.is_none() {
            // What the engine wrote to the same bytes comes first.
            self.push_out();
        } else if self.last.is_none() {
            // What the CPU wrote to the same bytes comes first.
            to.barrier(Barrier::Full);
        }
        CpuCopy.post(from, view.as_ref().unwrap_or(to), offset)?;
        self.last = view;
        if self.finishes_each {
            self.push_out();
            // The CPU has seen that it is over; what it loads comes behind.
            to.barrier(Barrier::Read);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DmaError> {
        if std::mem::take(&mut self.fails) {
            return Err(DmaError::Timeout);
        }
        self.push_out();
        Ok(())
    }

    fn drain(&mut self) {
        self.push_out();
    }
}

type Device<B> = NetDevice<'static, SimWindow, B>;
type Console = ConsoleDevice<'static, SimWindow, Shell<'static>>;

/// Bytes of the board's log.
const LOG_BYTES: usize = 2048;

/// Entries of each of the console's queues.
const CONSOLE_ENTRIES: usize = 8;

/// The board, awake or asleep.
#[derive(Debug)]
pub struct Board<B: NetBackend> {
    /// The board library.
    pub service: Service<RigSupport, Engine, DeviceKind<Device<B>, Console>, 2>,
    /// The devices' numbers.
    net: u16,
    console: u16,
    asleep_until: Option<u64>,
}

impl<B: NetBackend> Board<B> {
    /// Boots a board on the other end of `bus`.
    pub(crate) fn boot(
        bus: &SimBus,
        options: &RigOptions,
        backend: B,
        epoch: u32,
        now: u64,
    ) -> Self {
        let port = bus.board();
        let BoardOptions { mtu, withhold, queue_entries, spin, engine, .. } = options.board;
        let device = NetDevice::new(
            &NetOptions { mac: options.board.host_mac, mtu, withhold },
            NetMemory {
                slots: [leak::<DeviceSlot>(queue_entries), leak(queue_entries)],
                frame: leak(NetMemory::FRAME_BYTES),
                waiting: leak(NetMemory::FRAME_BYTES),
            },
            backend,
        );
        let device = device.and_then(|device| device.with_control(leak(queue_entries)));
        let slots = [leak(CONSOLE_ENTRIES), leak(CONSOLE_ENTRIES)];
        let console = ConsoleDevice::new(slots, Shell::new(Log::new(leak(LOG_BYTES))));
        let (at, len) = (CONTROL_LEN, bus.bar_len() - CONTROL_LEN);
        let memory = if options.board.non_coherent {
            port.cached_memory(at, len)
        } else {
            port.memory(at, len)
        };
        let support = RigSupport {
            memory: memory.expect("the BAR has board memory"),
            rung: 0,
            open: BTreeSet::new(),
            reboots: options.board.reboots,
            forgets: None,
            port,
        };
        let mut devices = [
            DeviceKind::Net(device.expect("the device's options do")),
            DeviceKind::Console(console.expect("the queues have entries")),
        ];
        let (mut net, mut console) = (0, 1);
        if options.board.console_first {
            devices.reverse();
            (net, console) = (1, 0);
        }
        let mut service = Service::new(
            support.port.control().expect("the BAR has control pages"),
            0,
            describe(bus, options),
            support,
            Engine {
                kind: engine,
                finishes_each: options.board.non_coherent,
                last: None,
                fails: false,
            },
            devices,
            ServiceOptions { spin, recheck_ms: 10 },
        )
        .expect("the board describes itself well");
        service.set_present(net, options.board.net);
        service.set_present(console, options.board.console);
        service.boot(Epoch::from_random(epoch), now);
        Self { service, net, console, asleep_until: None }
    }

    /// The network device.
    ///
    /// # Panics
    /// Never: there is one.
    pub fn device(&mut self) -> &mut Device<B> {
        self.service.device(self.net.into()).and_then(DeviceKind::net).expect("the network device")
    }

    /// The board's log and shell.
    ///
    /// # Panics
    /// Never: it is there, also if the host is not shown it.
    pub fn shell(&mut self) -> &mut Shell<'static> {
        let console = self.service.device(self.console.into()).and_then(DeviceKind::console);
        console.expect("the console").backend()
    }

    /// Bytes that were typed at its console.
    ///
    /// # Panics
    /// Never: there is one.
    pub fn typed(&mut self) -> u64 {
        let console = self.service.device(self.console.into()).and_then(DeviceKind::console);
        console.expect("the console").counters().to_board_bytes
    }

    /// Lets the network device appear or vanish.
    pub fn set_net(&mut self, present: bool) {
        self.service.set_present(self.net, present);
        self.kick();
    }

    /// Lets the console appear or vanish.
    pub fn set_console(&mut self, present: bool) {
        self.service.set_present(self.console, present);
        self.kick();
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
fn describe(bus: &SimBus, rig: &RigOptions) -> BoardDescription {
    let options = &rig.board;
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
        mac: options.mac,
        versions: options.versions,
        interrupts_unordered: options.interrupts_unordered,
        // One that only copies in board memory is the board's own business.
        dma_engine: limits.dma && limits.windows > 0 && options.engine != EngineKind::Cpu,
        vectors: 4,
        widest_store: if rig.sim.bar_32_bit { StoreWidth::Bits32 } else { StoreWidth::Bits64 },
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
    let memory: &'static mut [T] = Box::leak(vec![T::default(); len].into());
    FIRMWARE_MEMORY.with(|bytes| bytes.set(bytes.get() + size_of_val(memory)));
    memory
}

thread_local! {
    static FIRMWARE_MEMORY: Cell<usize> = const { Cell::new(0) };
}

/// Bytes of this thread's boards that are never freed: each boot takes anew
/// what a real one's firmware has once, in static memory.
#[must_use]
pub fn firmware_memory() -> usize {
    FIRMWARE_MEMORY.get()
}
