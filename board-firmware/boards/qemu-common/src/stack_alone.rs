//! The IP stack and its services on the board's start-up, with nothing of
//! virtio: what a board's text has at the least, for docs/boards.md.

use core::hint::black_box;

use board::device::net::stack::{
    PacketMetadata, SOCKETS, SocketStorage, Stack, StackConfig, StackMemory, UDP_PACKETS,
};
use board::device::net::{FrameSink, Negotiated, NetBackend, Packet};
use board::program::{Card, ProgramError, mac};
use board::trace::NetCounters;
use shared::wire::net::NetHeader;

use crate::machine::Machine;
use crate::parameters::Parameters;

/// Room for a frame and the header before it, in bytes.
const ROOM: usize = 2048;

/// Serves frames that come from nowhere.
pub(crate) fn run(
    machine: &mut impl Machine,
    parameters: &Parameters,
    bytes: &'static mut [u8],
) -> Result<(), ProgramError> {
    let mut sockets = [const { SocketStorage::EMPTY }; SOCKETS];
    let mut packets = [PacketMetadata::EMPTY; 2 * UDP_PACKETS];
    let config = StackConfig {
        mac: mac(parameters.number, Card::Board),
        ipv4: Some((parameters.v4.0.octets(), parameters.v4.1)),
        ipv6: Some((parameters.v6.0.octets(), parameters.v6.1)),
        seed: machine.entropy(),
        name: parameters.name,
    };
    let memory = StackMemory { sockets: &mut sockets, packets: &mut packets, bytes };
    let mut stack = Stack::new(&config, memory)?;
    let mut nowhere = Nowhere { counters: NetCounters::default(), frame: [0; ROOM] };
    stack.start(0, Negotiated { features: black_box(0), mtu: 1500, room: ROOM });
    let mut frame = [0; ROOM];
    loop {
        let now = machine.now_us() / 1000;
        if let Some(mut packet) = Packet::new(black_box(&mut frame)) {
            let header = black_box(NetHeader::default());
            stack.frame(now, &header, &mut packet, &mut nowhere);
        }
        black_box(stack.poll(now, &mut nowhere));
    }
}

/// Takes every frame.
struct Nowhere {
    counters: NetCounters,
    frame: [u8; ROOM],
}

impl FrameSink for Nowhere {
    fn ready(&mut self) -> bool {
        black_box(true)
    }

    fn send(&mut self, _: &NetHeader, packet: &mut Packet<'_>) {
        black_box(packet.frame());
    }

    fn counters(&mut self) -> &mut NetCounters {
        &mut self.counters
    }

    fn build<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (Option<(NetHeader, usize)>, R)) -> R {
        let (built, result) = fill(&mut self.frame);
        black_box(built);
        result
    }

    fn build_whole<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (Option<usize>, R)) -> R {
        fill(&mut self.frame).1
    }
}
