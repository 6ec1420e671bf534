//! The board itself: memory, devices, and the loop around the service.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use board::device::DeviceKind;
use board::device::console::{ConsoleDevice, Log, Shell};
use board::device::net::stack::{
    PacketMetadata, SOCKETS, SocketStorage, Stack, StackConfig, StackMemory, UDP_PACKETS,
};
use board::device::net::{self, Echo, NetBackend, NetDevice, NetMemory, NetOptions};
use board::service::{Next, Service, ServiceOptions};
use board::support::WindowBoard;
use nix::poll::{PollFd, ppoll};
use nix::sys::time::TimeSpec;
use shared::link::{
    BoardDescription, BoardRegion, BoardRegions, Epoch, Heartbeat, Label, Versions,
};
use shared::msg::ResultCode;
use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::virtq::DeviceSlot;

use super::port::{Port, Wiring};
use super::talker::Talker;
use super::{Behind, BoardCounters, BoardFault, Setup};

/// The control pages come first in BAR 0, board memory behind them.
const CONTROL_LEN: u64 = 16 << 10;

/// Largest queues that the board serves.
const QUEUE_ENTRIES: usize = 256;

/// The same for its console.
const CONSOLE_ENTRIES: usize = 8;

/// Bytes of the board's log: some eighty lines.
const LOG_BYTES: usize = 4096;

/// Interrupt vectors that the board raises.
const VECTORS: u32 = 4;

/// Bytes of each of the stack's large socket buffers.
const SOCKET_BUFFER: usize = 512 << 10;

/// Steps without sleep after which the board looks at its surroundings all the
/// same: no host keeps it from being switched off.
const BUSY_STEPS: u32 = 256;

/// Whose network card an address belongs to.
#[derive(Clone, Copy)]
pub(super) enum Card {
    Host = 1,
    Board = 2,
}

/// A locally administered address.
pub(super) const fn mac(number: u8, card: Card) -> [u8; 6] {
    [0x02, 0x76, 0x70, 0x68, number, card as u8]
}

/// What a pause between two steps ended with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Go on.
    Go,
    /// Start over, as after a power cut.
    Reboot,
    /// Switch off.
    Off,
}

/// What surrounds the board.
pub(crate) trait Surroundings {
    /// Waits for what becomes readable on the board's bus, an order, or
    /// `timeout` microseconds.
    fn pause(&mut self, bus: Option<BorrowedFd<'_>>, timeout: u64) -> Order;
    /// The board is about to pause, and has counted this.
    fn counted(&mut self, counters: &BoardCounters);
}

/// The board's memory beyond its BAR: the same in each boot.
struct Ram {
    sockets: Vec<u8>,
    slots: [Vec<DeviceSlot>; 3],
    frames: [Vec<u8>; 2],
}

/// What of it is the network device's.
struct NetRam<'a> {
    frames: NetMemory<'a>,
    commands: &'a mut [DeviceSlot],
}

impl Ram {
    fn new() -> Self {
        Self {
            sockets: vec![0; Stack::LEAST_BYTES + Stack::BULK_BUFFERS * SOCKET_BUFFER],
            slots: [(); 3].map(|()| vec![DeviceSlot::default(); QUEUE_ENTRIES]),
            frames: [(); 2].map(|()| vec![0; NetMemory::FRAME_BYTES]),
        }
    }
}

/// Runs the board, boot after boot, until it is switched off or its bus is gone.
pub(crate) fn run<P: Port>(port: &P, setup: &Setup, around: &mut impl Surroundings) -> Result<()> {
    // Another one with each start of the process, and counted up from there.
    let seed = RandomState::new().hash_one(0);
    let mut epoch = Epoch::from_random(u32::try_from(seed >> 32).unwrap_or(1));
    let mut ram = Ram::new();
    loop {
        let Ram { sockets, slots, frames } = &mut ram;
        let memory = memory(slots, frames);
        let order = match &setup.behind {
            Behind::Echo => boot(port, setup, epoch, around, memory, Echo::swapping())?,
            Behind::Talker(talk) => {
                let talker = Talker::new(talk.clone(), setup.mac());
                boot(port, setup, epoch, around, memory, net::Port::new(talker, 0))?
            }
            Behind::Stack => with_stack(port, setup, epoch, around, memory, sockets)?,
        };
        if order == Order::Off {
            return Ok(());
        }
        log::info!("the board reboots");
        epoch = epoch.next();
    }
}

/// The network device's memory, its slots as in the first boot.
fn memory<'a>(slots: &'a mut [Vec<DeviceSlot>; 3], frames: &'a mut [Vec<u8>; 2]) -> NetRam<'a> {
    for slots in slots.iter_mut() {
        slots.fill(DeviceSlot::default());
    }
    let [receive, transmit, commands] = slots;
    let [frame, waiting] = frames;
    NetRam { frames: NetMemory { slots: [receive, transmit], frame, waiting }, commands }
}

fn with_stack<P: Port>(
    port: &P,
    setup: &Setup,
    epoch: Epoch,
    around: &mut impl Surroundings,
    memory: NetRam<'_>,
    bytes: &mut [u8],
) -> Result<Order> {
    let mut sockets = [const { SocketStorage::EMPTY }; SOCKETS];
    let mut packets = [PacketMetadata::EMPTY; 2 * UDP_PACKETS];
    let stack = Stack::new(
        &StackConfig {
            mac: setup.mac(),
            ipv4: Some((setup.addresses.v4.0.octets(), setup.addresses.v4.1)),
            ipv6: Some((setup.addresses.v6.0.octets(), setup.addresses.v6.1)),
            seed: epoch.get().into(),
            name: "emulated board",
        },
        StackMemory { sockets: &mut sockets, packets: &mut packets, bytes },
    )
    .map_err(|error| anyhow!("{error}"))?;
    boot(port, setup, epoch, around, memory, stack)
}

/// What the board's control block says.
fn describe(wiring: &Wiring, setup: &Setup) -> BoardDescription {
    let mut regions = BoardRegions::new();
    let memory = BoardRegion {
        bar: 0,
        rights: Rights::READ_WRITE,
        offset: CONTROL_LEN,
        len: wiring.bar_len - CONTROL_LEN,
    };
    let _ = regions.push(memory);
    let Versions { max, .. } = Versions::OURS;
    BoardDescription {
        name: Label::new(&setup.name),
        firmware: Label::new(env!("CARGO_PKG_VERSION")),
        mac: setup.mac(),
        versions: match setup.fault {
            Some(BoardFault::Version) => Versions { min: max + 1, max: max + 2 },
            _ => Versions::OURS,
        },
        interrupts_unordered: false,
        dma_engine: wiring.dma_engine,
        vectors: VECTORS,
        widest_store: StoreWidth::Bits64,
        heartbeat: Heartbeat { interval_ms: 500, misses: 4 },
        doorbell: wiring.doorbell,
        outbound: wiring.outbound,
        regions,
    }
}

/// One boot: how it ended.
fn boot<P: Port, B: NetBackend>(
    port: &P,
    setup: &Setup,
    epoch: Epoch,
    around: &mut impl Surroundings,
    memory: NetRam<'_>,
    backend: B,
) -> Result<Order> {
    let description = describe(&port.wiring(), setup);
    let region = description.regions.get(0).context("the board has no memory")?;
    let support = WindowBoard::new(
        [port.memory(region.offset, region.len)?],
        |iova, len| port.outbound(iova, len).map_err(|_| ResultCode::OutOfReach),
        || port.take_doorbells(),
        |vector| port.raise(vector),
    )
    .that_reboots();

    let device = NetDevice::new(
        &NetOptions { mac: mac(setup.number, Card::Host), mtu: 65_521, withhold: 0 },
        memory.frames,
        backend,
    )
    .and_then(|device| device.with_control(memory.commands))
    .map_err(|error| anyhow!("{error}"))?;

    let mut log = [0; LOG_BYTES];
    let mut slots = [(); 2].map(|()| vec![DeviceSlot::default(); CONSOLE_ENTRIES]);
    let [receive, transmit] = &mut slots;
    let shell = Shell::new(Log::new(&mut log));
    let console =
        ConsoleDevice::new([receive, transmit], shell).map_err(|error| anyhow!("{error}"))?;
    let devices = [DeviceKind::Net(device), DeviceKind::Console(console)];

    let control = port.memory(0, CONTROL_LEN)?;
    let engine = P::Engine::default();
    let options = ServiceOptions::default();
    let mut service = Service::new(control, 0, description, support, engine, devices, options)
        .map_err(|error| anyhow!("{error}"))?;
    // A reset from before this boot is none of its business.
    let _ = port.take_reset();
    let start = Instant::now();
    let now = || u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    service.boot(epoch, now() / 1000);
    let mut busy = 0;
    loop {
        if let Some(BoardFault::Silent { after_ms }) = setup.fault
            && now() / 1000 >= after_ms
        {
            while around.pause(None, u64::MAX) != Order::Off {}
            return Ok(Order::Off);
        }
        let next = service.step_at(now());
        if port.take_reset() || service.reboot_due() {
            return Ok(Order::Reboot);
        }
        let until = match next {
            Next::Sleep { until } => until,
            Next::Again if busy < BUSY_STEPS => {
                busy += 1;
                continue;
            }
            Next::Again => 0,
        };
        busy = 0;
        if let Some(device) = service.device(0).and_then(DeviceKind::net) {
            let (net, queues) = (*device.counters(), device.queue_stats());
            around.counted(&BoardCounters { net, service: *service.stats(), queues });
        }
        let bus = port.fd();
        match around.pause(bus, until.saturating_sub(now())) {
            Order::Go => {}
            order => return Ok(order),
        }
    }
}

/// Longest single wait: a board wakes for its heartbeat long before.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Waits for `fds` for at most `timeout` microseconds, as finely as the kernel does.
pub(crate) fn wait(fds: &mut [PollFd<'_>], timeout: u64) -> nix::Result<i32> {
    let timeout = Duration::from_micros(timeout).min(LONGEST_WAIT);
    ppoll(fds, Some(TimeSpec::from_duration(timeout)), None)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::net::{Ipv4Addr, Ipv6Addr};

    use board::dma::CpuCopy;
    use board::support::Doorbells;
    use shared::address::BusAddress;
    use shared::msg::channel::{Channel, OUR_LAYOUT};
    use shared::msg::{Body, Message, Request, Side};
    use shared::window::Window;
    use shared::wire::control::{
        CHANNEL_LEN, CHANNEL_OFFSET, HOST_PAGE_OFFSET, LIVE_OFFSET, host_page, live,
    };
    use virtio_phys_host::bus::BusError;
    use virtio_phys_host::bus::sim::{SimBoardPort, SimBus, SimOptions, SimWindow};

    use super::super::Addresses;
    use super::*;

    /// A bus whose host does something between any two steps of the board.
    struct Flooded {
        bus: SimBoardPort,
        channel: RefCell<Option<Channel<SimWindow>>>,
        steps: Cell<u32>,
        answers: Cell<u32>,
    }

    /// Steps after which it gives up.
    const PATIENCE: u32 = 100_000;

    impl Flooded {
        /// One ping more, and all answers taken.
        fn flood(&self) -> Option<()> {
            let memory = self.bus.memory(0, CONTROL_LEN).ok()?;
            let mut place = self.channel.borrow_mut();
            let Some(channel) = place.as_mut() else {
                let boot: u32 = memory.load(u64::from(LIVE_OFFSET) + live::BOOT_EPOCH);
                let page = u64::from(HOST_PAGE_OFFSET);
                memory.store(page + host_page::VERSION, u32::from(Versions::OURS.max));
                memory.store(page + host_page::BOOT_EPOCH, boot);
                memory.store(page + host_page::SESSION, 4242_u32);
                let window = memory.part(CHANNEL_OFFSET.into(), CHANNEL_LEN.into())?;
                let mut channel = Channel::new(window, &OUR_LAYOUT, Side::Driver);
                channel.begin();
                *place = Some(channel);
                return Some(());
            };
            channel.poll().ok()?;
            let mut frame = [0; 64];
            while channel.receive(&mut frame).ok()? {
                self.answers.set(self.answers.get() + 1);
            }
            let body = Body::Request(Request::Ping { data: 1 });
            channel.send(&Message { device: 0, token: 1, body }.encode()).ok()?;
            Some(())
        }
    }

    impl Port for Flooded {
        type Window = SimWindow;
        type Engine = CpuCopy;

        fn wiring(&self) -> Wiring {
            self.bus.wiring()
        }

        fn memory(&self, offset: u64, len: u64) -> Result<SimWindow, BusError> {
            self.bus.memory(offset, len)
        }

        fn outbound(&self, iova: BusAddress, len: u64) -> Result<SimWindow, BusError> {
            self.bus.outbound(iova, len)
        }

        fn take_doorbells(&self) -> Doorbells {
            self.steps.set(self.steps.get() + 1);
            if self.steps.get() < PATIENCE {
                self.flood().unwrap();
            }
            Doorbells::ALL
        }

        fn raise(&self, _vector: u16) {}

        fn take_reset(&self) -> bool {
            false
        }

        fn fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    /// Switches the board off behind so many pauses.
    struct Impatient {
        pauses: usize,
        timeouts: Vec<u64>,
    }

    impl Surroundings for Impatient {
        fn pause(&mut self, _bus: Option<BorrowedFd<'_>>, timeout: u64) -> Order {
            self.timeouts.push(timeout);
            if self.timeouts.len() > self.pauses { Order::Off } else { Order::Go }
        }

        fn counted(&mut self, _counters: &BoardCounters) {}
    }

    #[test]
    fn a_board_that_is_kept_busy_can_be_switched_off() {
        let sim = SimBus::new(SimOptions::counted()).unwrap();
        let port = Flooded {
            bus: sim.board(),
            channel: RefCell::default(),
            steps: Cell::default(),
            answers: Cell::default(),
        };
        let setup = Setup {
            name: "busy".into(),
            number: 0,
            addresses: Addresses { v4: (Ipv4Addr::LOCALHOST, 8), v6: (Ipv6Addr::LOCALHOST, 128) },
            behind: Behind::Echo,
            fault: None,
        };
        let mut around = Impatient { pauses: 3, timeouts: Vec::new() };
        run(&port, &setup, &mut around).unwrap();
        assert_eq!(around.timeouts, [0; 4]);
        let (steps, answers) = (port.steps.get(), port.answers.get());
        assert!(steps < 8 * BUSY_STEPS, "{steps} steps");
        assert!(answers > 3 * BUSY_STEPS, "{answers} answers, so it was not kept busy");
    }
}
