//! The demo's board: the board library with its IP stack, on a simulated bus,
//! in a thread of its own.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use board::device::net::stack::{
    PacketMetadata, SOCKETS, SocketStorage, Stack, StackConfig, StackMemory, UDP_PACKETS,
};
use board::device::net::{NetDevice, NetMemory, NetOptions};
use board::dma::{CpuCopy, DmaEngine, DmaError};
use board::service::{Next, Service, ServiceOptions, ServiceStats};
use board::support::{Doorbells, WindowBoard};
use board::trace::NetCounters;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shared::link::{
    BoardDescription, BoardRegion, BoardRegions, Epoch, Heartbeat, Label, Outbound, Versions,
};
use shared::msg::ResultCode;
use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::virtq::{DeviceSlot, QueueStats};
use shared::window::{Barrier, Window};
use virtio_phys_host::bus::sim::{SimBoardPort, SimBus, SimWindow};
use virtio_phys_host::daemon::Stop;

use super::options::BoardFault;

/// The control pages come first in BAR 0, board memory behind them.
const CONTROL_LEN: u64 = 16 << 10;

/// Largest queues that the board serves.
const QUEUE_ENTRIES: usize = 256;

/// The board's own address, and the one it gives the host's interface: both
/// locally administered.
const BOARD_MAC: [u8; 6] = [0x02, 0x76, 0x70, 0x68, 0x79, 0x02];
const HOST_MAC: [u8; 6] = [0x02, 0x76, 0x70, 0x68, 0x79, 0x01];

/// Bytes of each of the stack's large socket buffers.
const SOCKET_BUFFER: usize = 512 << 10;

/// What the board has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BoardCounters {
    pub(crate) net: NetCounters,
    pub(crate) service: ServiceStats,
    /// The receiveq's and the transmitq's.
    pub(crate) queues: [QueueStats; 2],
}

/// A board that runs.
pub(crate) struct EmulatedBoard {
    stop: Arc<Stop>,
    counters: Arc<Mutex<BoardCounters>>,
    thread: JoinHandle<()>,
}

/// The board's addresses on the link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) v4: (Ipv4Addr, u8),
    pub(crate) v6: (Ipv6Addr, u8),
}

impl EmulatedBoard {
    /// Boots a board on the other end of `bus`.
    pub(crate) fn start(
        bus: &SimBus,
        addresses: Addresses,
        fault: Option<BoardFault>,
    ) -> Result<Self> {
        let stop = Arc::new(Stop::new()?);
        let counters = Arc::default();
        let (asked, published) = (Arc::clone(&stop), Arc::clone(&counters));
        let (port, mut description) = (bus.board(), describe(bus));
        let mut silent_at = None;
        match fault {
            None => {}
            Some(BoardFault::Version) => {
                let Versions { max, .. } = Versions::OURS;
                description.versions = Versions { min: max + 1, max: max + 2 };
            }
            Some(BoardFault::Silent { after_ms }) => silent_at = Some(after_ms),
        }
        let thread = thread::Builder::new()
            .name("board".into())
            .spawn(move || {
                if let Err(error) =
                    run(&port, description, addresses, silent_at, &asked, &published)
                {
                    log::error!("the emulated board stopped: {error:#}");
                }
            })
            .context("cannot start the board's thread")?;
        Ok(Self { stop, counters, thread })
    }

    /// The counters as of the board's last sleep.
    pub(crate) fn counters(&self) -> BoardCounters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Switches the board off.
    pub(crate) fn stop(self) {
        self.stop.ask();
        // A panic of the board has been printed by the thread itself.
        let _ = self.thread.join();
    }
}

/// What the board's control block says.
fn describe(bus: &SimBus) -> BoardDescription {
    let limits = bus.board().limits();
    let mut regions = BoardRegions::new();
    let memory = BoardRegion {
        bar: 0,
        rights: Rights::READ_WRITE,
        offset: CONTROL_LEN,
        len: bus.bar_len() - CONTROL_LEN,
    };
    let _ = regions.push(memory);
    BoardDescription {
        name: Label::new("emulated board"),
        firmware: Label::new(env!("CARGO_PKG_VERSION")),
        mac: BOARD_MAC,
        versions: Versions::OURS,
        interrupts_unordered: false,
        dma_engine: limits.dma,
        vectors: 4,
        widest_store: StoreWidth::Bits64,
        heartbeat: Heartbeat { interval_ms: 250, misses: 8 },
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

fn run(
    port: &SimBoardPort,
    description: BoardDescription,
    addresses: Addresses,
    silent_at: Option<u64>,
    stop: &Stop,
    published: &Mutex<BoardCounters>,
) -> Result<()> {
    let memory = description.regions.get(0).context("the board has no memory")?;
    let board_memory = port.memory(memory.offset, memory.len)?;
    let support = WindowBoard::new(
        [board_memory],
        |iova, len| port.outbound(iova, len).map_err(|_| ResultCode::OutOfReach),
        // Doorbells above 31 do not exist on this board.
        || Doorbells(u32::try_from(port.take_doorbells() & 0xFFFF_FFFF).unwrap_or(u32::MAX)),
        |vector| port.raise(vector),
    );

    let seed = std::process::id();
    let mut sockets = [const { SocketStorage::EMPTY }; SOCKETS];
    let mut packets = [PacketMetadata::EMPTY; 2 * UDP_PACKETS];
    let mut bytes = vec![0; Stack::LEAST_BYTES + Stack::BULK_BUFFERS * SOCKET_BUFFER];
    let stack = Stack::new(
        &StackConfig {
            mac: BOARD_MAC,
            ipv4: Some((addresses.v4.0.octets(), addresses.v4.1)),
            ipv6: Some((addresses.v6.0.octets(), addresses.v6.1)),
            seed: seed.into(),
            name: "emulated board",
        },
        StackMemory { sockets: &mut sockets, packets: &mut packets, bytes: &mut bytes },
    )
    .map_err(|error| anyhow!("{error}"))?;

    let mut slots = [(); 2].map(|()| vec![DeviceSlot::default(); QUEUE_ENTRIES]);
    let [receive, transmit] = &mut slots;
    let mut frames = [(); 2].map(|()| vec![0; NetMemory::FRAME_BYTES]);
    let [frame, waiting] = &mut frames;
    let device = NetDevice::new(
        &NetOptions { mac: HOST_MAC, mtu: 65_521, withhold: 0 },
        NetMemory { slots: [receive, transmit], frame, waiting },
        stack,
    )
    .map_err(|error| anyhow!("{error}"))?;

    let control = port.control()?;
    let mut service = Service::new(
        control,
        0,
        description,
        support,
        Engine::default(),
        [device],
        ServiceOptions::default(),
    )
    .map_err(|error| anyhow!("{error}"))?;
    let start = Instant::now();
    let now = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    service.boot(Epoch::from_random(seed), now());
    loop {
        if silent_at.is_some_and(|silent_at| now() >= silent_at) {
            while !sleep(None, stop, u64::MAX) {}
            return Ok(());
        }
        let Next::Sleep { until } = service.step(now()) else { continue };
        if let Some(device) = service.device(0) {
            let (net, queues) = (*device.counters(), device.queue_stats());
            let counters = BoardCounters { net, service: *service.stats(), queues };
            *published.lock().unwrap_or_else(PoisonError::into_inner) = counters;
        }
        if sleep(port.doorbell_fd(), stop, until.saturating_sub(now())) {
            return Ok(());
        }
    }
}

/// The simulated DMA engine. Short copies are the CPU's: an engine costs more
/// to set up than they take.
#[derive(Debug, Default)]
struct Engine {
    /// Where the engine has posted since the last `finish`.
    posted: Option<SimWindow>,
}

/// Posts below this many bytes are the CPU's.
const ENGINE_FROM: usize = 1024;

impl DmaEngine<SimWindow> for Engine {
    fn fetch(&mut self, from: &SimWindow, offset: u64, into: &mut [u8]) -> Result<(), DmaError> {
        // Across the bus always the engine: the CPU would wait for each word.
        match from.dma_view().filter(|_| from.is_remote()) {
            Some(view) => CpuCopy.fetch(&view, offset, into),
            None => CpuCopy.fetch(from, offset, into),
        }
    }

    fn post(&mut self, from: &[u8], to: &SimWindow, offset: u64) -> Result<(), DmaError> {
        match to.dma_view().filter(|_| to.is_remote() && from.len() >= ENGINE_FROM) {
            Some(view) => {
                CpuCopy.post(from, &view, offset)?;
                self.posted = Some(view);
                Ok(())
            }
            None => CpuCopy.post(from, to, offset),
        }
    }

    fn finish(&mut self) -> Result<(), DmaError> {
        if let Some(view) = self.posted.take() {
            view.barrier(Barrier::Full);
        }
        Ok(())
    }

    fn drain(&mut self) {
        let _ = self.finish();
    }
}

/// Waits for a doorbell, at most `timeout` ms; `true` when asked to stop.
fn sleep(doorbell: Option<BorrowedFd<'_>>, stop: &Stop, timeout: u64) -> bool {
    let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut fds = [readable(stop.fd()), readable(doorbell.unwrap_or(stop.fd()))];
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    poll(&mut fds, timeout).unwrap_or(0) > 0 && fds[0].any().unwrap_or(false)
}
