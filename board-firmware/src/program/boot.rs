//! One boot, from the control block to the next reset.

use shared::link::{BoardDescription, BoardLink, Epoch};
use shared::msg::body::ResultCode;
use shared::msg::device::VirtioDevice;
use shared::virtq::DeviceSlot;
use shared::window::Window;

use super::memory::{CONSOLE_ENTRIES, QUEUE_ENTRIES};
use super::{
    Addresses, BUSY_STEPS, BUSY_US, CONTROL_LEN, Card, Counters, Memory, Order, Parts, Port,
    ProgramError, Setup, Surroundings, mac,
};
use crate::device::DeviceKind;
use crate::device::console::{ConsoleDevice, ConsoleError, Log, Shell};
use crate::device::net::stack::{
    PacketMetadata, SOCKETS, SocketStorage, Stack, StackConfig, StackMemory, UDP_PACKETS,
};
use crate::device::net::{
    self, Echo, Either, FrameHandler, NetBackend, NetDevice, NetError, NetMemory, NetOptions,
};
use crate::dma::DmaEngine;
use crate::service::{DEVICE_QUEUES, Next, Service, ServiceOptions};
use crate::support::{BoardSupport, WindowBoard};

/// Longest MTU: the link's is the interface's, which the host sets.
const MTU: u16 = 65_521;

/// What lies behind a program's network device, for programs that are told so
/// when they start.
#[derive(Debug)]
pub enum Behind<'b, H> {
    /// Each frame comes back, its MAC addresses exchanged.
    Echo,
    /// An IP stack with these addresses. The bytes are those of its socket
    /// buffers: at least [`Stack::LEAST_BYTES`].
    Stack(Addresses, &'b mut [u8]),
    /// The board's own code.
    Handler(H),
}

/// One boot with one of these behind the network device. The code that all of
/// them share is there once.
///
/// # Errors
/// As for [`boot()`], and what is wrong with addresses or memory.
pub fn boot_behind<P: Port, H: FrameHandler>(
    port: &P,
    setup: &Setup<'_>,
    epoch: Epoch,
    memory: &mut Memory,
    behind: Behind<'_, H>,
    around: &mut impl Surroundings,
) -> Result<Order, ProgramError> {
    let mut sockets = [const { SocketStorage::EMPTY }; SOCKETS];
    let mut packets = [PacketMetadata::EMPTY; 2 * UDP_PACKETS];
    let backend = match behind {
        Behind::Stack(addresses, bytes) => Either::One(Stack::new(
            &StackConfig {
                mac: setup.mac(),
                ipv4: Some(addresses.v4),
                ipv6: Some(addresses.v6),
                seed: epoch.get().into(),
                name: setup.name,
            },
            StackMemory { sockets: &mut sockets, packets: &mut packets, bytes },
        )?),
        Behind::Echo => Either::Other(Either::One(Echo::swapping())),
        Behind::Handler(handler) => Either::Other(Either::Other(net::Port::new(handler, 0))),
    };
    boot(port, setup, epoch, memory, backend, around)
}

/// One boot with `backend` behind the network device: publishes the control
/// block, serves hosts, and returns how it ended: by [`Order::Reboot`] or
/// [`Order::Off`].
///
/// `epoch` differs from the last boot's.
///
/// # Errors
/// What in the set-up does not go together; nothing was published then.
pub fn boot<P: Port, B: NetBackend>(
    port: &P,
    setup: &Setup<'_>,
    epoch: Epoch,
    memory: &mut Memory,
    backend: B,
    around: &mut impl Surroundings,
) -> Result<Order, ProgramError> {
    let wiring = port.wiring();
    let description = setup.describe(&wiring)?;
    let short = ProgramError::Bar { len: wiring.bar_len };
    let board =
        port.memory(CONTROL_LEN, wiring.bar_len.saturating_sub(CONTROL_LEN)).ok_or(short)?;
    let control = port.memory(0, CONTROL_LEN).ok_or(short)?;
    let support = WindowBoard::new(
        [board],
        |iova, len| port.outbound(iova, len).ok_or(ResultCode::OutOfReach),
        || port.take_doorbells(),
        |vector| port.raise(vector),
    )
    .that_reboots();
    let engine = P::Engine::default();
    let parts = Parts { control, description, support, engine, take_reset: || port.take_reset() };
    boot_parts(parts, setup, epoch, memory, backend, around)
}

/// The same for a board that brings [`BoardSupport`] itself.
///
/// # Errors
/// As for [`boot()`].
pub fn boot_parts<S, E, R, B>(
    parts: Parts<S, E, R>,
    setup: &Setup<'_>,
    epoch: Epoch,
    memory: &mut Memory,
    backend: B,
    around: &mut impl Surroundings,
) -> Result<Order, ProgramError>
where
    S: BoardSupport,
    E: DmaEngine<S::Window>,
    R: FnMut() -> bool,
    B: NetBackend,
{
    let Parts { control, description, support, engine, mut take_reset } = parts;
    let link = (control, description);
    let mut service = assemble(link, support, engine, setup, memory, backend);
    // Where it lies: it is too large to be moved.
    let service = service.as_mut().map_err(|error| *error)?;
    // A reset from before this boot is none of its business, nor are doorbells,
    // with which it comes: each queue is looked at when its driver is ready.
    let _ = service.support().take_doorbells();
    let _ = take_reset();
    service.boot(epoch, around.now_us() / 1000);
    let (mut busy, mut paused) = (0, around.now_us());
    loop {
        let now = around.now_us();
        let next = service.step_at(now);
        if take_reset() || service.reboot_due() {
            return Ok(Order::Reboot);
        }
        let until = match next {
            Next::Sleep { until } => until,
            Next::Again if busy < BUSY_STEPS && now.saturating_sub(paused) < BUSY_US => {
                busy += 1;
                continue;
            }
            Next::Again => 0,
        };
        busy = 0;
        if let Some(device) = service.device(0).and_then(DeviceKind::net) {
            let (net, queues) = (*device.counters(), device.queue_stats());
            around.counted(&Counters { net, service: *service.stats(), queues });
        }
        match around.pause(until) {
            Order::Go => {}
            order => return Ok(order),
        }
        paused = around.now_us();
    }
}

/// The device that it serves: a network device or a console.
type Device<'m, W, B> = DeviceKind<NetDevice<'m, W, B>, ConsoleDevice<'m, W, Shell<'m>>>;

/// One of them, with what its driver sees of it.
type Place<'m, W, B> = VirtioDevice<Device<'m, W, B>, DEVICE_QUEUES>;

/// The service of a board and its two devices.
type Board<'m, S, E, B> = Service<S, E, Device<'m, <S as BoardSupport>::Window, B>, 2>;

// Functions of their own from here on: the stack that they take is free again
// before the first step.
#[inline(never)]
fn assemble<'m, S: BoardSupport, E: DmaEngine<S::Window>, B: NetBackend>(
    (control, description): (S::Window, BoardDescription),
    support: S,
    engine: E,
    setup: &Setup<'_>,
    memory: &'m mut Memory,
    backend: B,
) -> Result<Board<'m, S, E, B>, ProgramError> {
    memory.clear();
    let Memory { queues, frames, console, log } = memory;
    let mac = mac(setup.number, Card::Host);
    let devices = [network(mac, queues, frames, backend)?, shell(console, log)?];
    let link = BoardLink::new(control, 0, description)?;
    Ok(Service::of(link, support, engine, devices, ServiceOptions::default()))
}

#[inline(never)]
fn network<'m, W: Window + Clone, B: NetBackend>(
    mac: [u8; 6],
    queues: &'m mut [[DeviceSlot; QUEUE_ENTRIES]; 3],
    frames: &'m mut [[u8; NetMemory::FRAME_BYTES]; 2],
    backend: B,
) -> Result<Place<'m, W, B>, NetError> {
    let [receive, transmit, commands] = queues;
    let [frame, waiting] = frames;
    let frames = NetMemory { slots: [receive, transmit], frame, waiting };
    let options = NetOptions { mac, mtu: MTU, withhold: 0 };
    let device = NetDevice::new(&options, frames, backend)?.with_control(commands)?;
    Ok(VirtioDevice::new::<W>(DeviceKind::Net(device)))
}

#[inline(never)]
fn shell<'m, W: Window + Clone, B: NetBackend>(
    queues: &'m mut [[DeviceSlot; CONSOLE_ENTRIES]; 2],
    log: &'m mut [u8],
) -> Result<Place<'m, W, B>, ConsoleError> {
    let [receive, transmit] = queues;
    let device = ConsoleDevice::new([receive, transmit], Shell::new(Log::new(log)))?;
    Ok(VirtioDevice::new::<W>(DeviceKind::Console(device)))
}
