//! One boot, from the control block to the next reset.

use shared::link::Epoch;
use shared::msg::body::ResultCode;

use super::{
    Addresses, BUSY_STEPS, CONTROL_LEN, Card, Counters, Memory, Order, Parts, Port, ProgramError,
    Setup, Surroundings, mac,
};
use crate::device::DeviceKind;
use crate::device::console::{ConsoleDevice, Log, Shell};
use crate::device::net::stack::{
    PacketMetadata, SOCKETS, SocketStorage, Stack, StackConfig, StackMemory, UDP_PACKETS,
};
use crate::device::net::{
    self, Echo, Either, FrameHandler, NetBackend, NetDevice, NetMemory, NetOptions,
};
use crate::dma::DmaEngine;
use crate::service::{Next, Service, ServiceOptions};
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
/// As for [`boot`], and what is wrong with addresses or memory.
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
/// As for [`boot`].
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
    memory.clear();
    let Parts { control, description, support, engine, mut take_reset } = parts;
    let [receive, transmit, commands] = &mut memory.queues;
    let [frame, waiting] = &mut memory.frames;
    let frames = NetMemory { slots: [receive, transmit], frame, waiting };
    let options = NetOptions { mac: mac(setup.number, Card::Host), mtu: MTU, withhold: 0 };
    let net = NetDevice::new(&options, frames, backend)?.with_control(commands)?;
    let [receive, transmit] = &mut memory.console;
    let shell = Shell::new(Log::new(&mut memory.log));
    let console = ConsoleDevice::new([receive, transmit], shell)?;
    let devices = [DeviceKind::Net(net), DeviceKind::Console(console)];

    let options = ServiceOptions::default();
    let mut service = Service::new(control, 0, description, support, engine, devices, options)?;
    // A reset from before this boot is none of its business.
    let _ = take_reset();
    service.boot(epoch, around.now_us() / 1000);
    let mut busy = 0;
    loop {
        let next = service.step_at(around.now_us());
        if take_reset() || service.reboot_due() {
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
            around.counted(&Counters { net, service: *service.stats(), queues });
        }
        match around.pause(until) {
            Order::Go => {}
            order => return Ok(order),
        }
    }
}
