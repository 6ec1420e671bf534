//! A second stack as the host, over the net device's queues.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use shared::wire::net::{FLAG_NEEDS_CSUM, GSO_NONE, NetHeader, feature};
use shared::wire::net_control::{ACK_OK, COMMAND_MAX, Command, GUEST_OFFLOADS};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta, RxToken,
    TxToken,
};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Address, Ipv6Address};

use super::{BOARD_IPV4, BOARD_IPV6, BOARD_MAC, stack};
use crate::device::net::Negotiated;
use crate::device::net::checksum::complete;
use crate::device::net::stack::{Stack, checks, link_local};
use crate::device::{Ran, Wake};
use crate::rig::{NetRig, RigOptions, SentFrame, leak};

pub(super) const HOST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
pub(super) const HOST_IPV4: [u8; 4] = [10, 0, 0, 1];
pub(super) const HOST_IPV6: [u8; 16] = [0xFD, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The board's addresses, by the three ways to reach it.
pub(super) fn board_addresses() -> [IpAddress; 3] {
    [
        Ipv4Address::from(BOARD_IPV4).into(),
        Ipv6Address::from(BOARD_IPV6).into(),
        Ipv6Address::from(link_local(BOARD_MAC)).into(),
    ]
}

pub(super) struct Peer {
    pub(super) rig: NetRig<Stack<'static>>,
    pub(super) now: u64,
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    /// Frames with segmentation offload, from the board and from here.
    pub(super) large: (usize, usize),
    /// Drop every n-th frame from the board, if not 0.
    pub(super) lossy: usize,
    received: usize,
}

/// The peer's device.
struct Wire {
    inbox: VecDeque<Vec<u8>>,
    outbox: VecDeque<SentFrame>,
    negotiated: Negotiated,
}

impl Peer {
    pub(super) fn new(features: u64, mtu: u16) -> Self {
        let mergeable = features & feature::MRG_RXBUF != 0;
        let buffer = if mergeable { 2048 } else { 65_562 };
        let options = RigOptions { features, mtu, buffer, ..Default::default() };
        let rig = NetRig::new(options, stack());
        // Its own offloads are what the board takes: the other direction's bits.
        let mut own = 0;
        for (board, host) in
            [(feature::CSUM, feature::GUEST_CSUM), (feature::HOST_TSO4, feature::GUEST_TSO4)]
        {
            if features & board != 0 {
                own |= host;
            }
        }
        let negotiated = Negotiated { features: own, mtu, room: 65_550 };
        let mut wire = Wire { inbox: VecDeque::new(), outbox: VecDeque::new(), negotiated };
        let config = Config::new(EthernetAddress(HOST_MAC).into());
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(Ipv4Address::from(HOST_IPV4).into(), 24)).unwrap();
            list.push(IpCidr::new(Ipv6Address::from(HOST_IPV6).into(), 64)).unwrap();
            list.push(IpCidr::new(Ipv6Address::from(link_local(HOST_MAC)).into(), 64)).unwrap();
        });
        let places: &'static mut [SocketStorage<'static>; 8] = Box::leak(Box::default());
        let sockets = SocketSet::new(places.as_mut_slice());
        Self { rig, now: 0, interface, sockets, wire, large: (0, 0), lossy: 0, received: 0 }
    }

    pub(super) fn tcp(&mut self, to: IpAddress, port: u16, local: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(leak(256 * 1024));
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.connect(self.interface.context(), (to, port), local).unwrap();
        self.sockets.add(socket)
    }

    pub(super) fn udp(&mut self, local: u16) -> SocketHandle {
        let packets = |count| {
            let places: &'static mut [udp::PacketMetadata] =
                Box::leak(vec![udp::PacketMetadata::EMPTY; count].into_boxed_slice());
            udp::PacketBuffer::new(places, leak(64 * 1024))
        };
        let mut socket = udp::Socket::new(packets(16), packets(16));
        socket.bind(local).unwrap();
        self.sockets.add(socket)
    }

    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(super) fn udp_socket(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(super) fn close(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    /// One round of both stacks; a millisecond passes.
    pub(super) fn round(&mut self) -> Ran {
        self.interface.poll(
            Instant::from_millis(i64::try_from(self.now).unwrap()),
            &mut self.wire,
            &mut self.sockets,
        );
        while self.rig.transmit.free() > 0
            && let Some(out) = self.wire.outbox.pop_front()
        {
            self.large.1 += usize::from(out.header.gso_type != GSO_NONE);
            self.rig.send(&out.header, &out.frame);
        }
        self.rig.offer(usize::MAX);
        let ran = self.rig.run_at(self.now);
        self.rig.sent();
        for frame in self.rig.frames() {
            self.receive(frame);
        }
        self.now += 1;
        ran
    }

    /// A frame from the board: it must be legal, then the stack judges it.
    fn receive(&mut self, mut got: SentFrame) {
        let features = self.rig.options.features;
        if got.header.gso_type == GSO_NONE {
            assert!(got.frame.len() <= usize::from(self.rig.options.mtu) + 14);
        } else {
            assert!(features & feature::GUEST_TSO4 != 0);
            assert!(got.header.flags == FLAG_NEEDS_CSUM);
            assert!(got.header.gso_size > 0);
            assert!(usize::from(got.header.hdr_len) < got.frame.len());
            let segments = (got.frame.len() - usize::from(got.header.hdr_len))
                .div_ceil(usize::from(got.header.gso_size));
            assert!(segments > 1);
            let whole = usize::from(got.header.hdr_len + got.header.gso_size);
            assert!(whole <= usize::from(self.rig.options.mtu) + 14);
            self.large.0 += 1;
        }
        if got.header.flags & FLAG_NEEDS_CSUM != 0 {
            assert!(features & feature::GUEST_CSUM != 0);
            assert!(complete(&mut got.header, &mut got.frame));
        }
        self.received += 1;
        if self.lossy == 0 || !self.received.is_multiple_of(self.lossy) {
            self.wire.inbox.push_back(got.frame);
        }
    }

    /// Rounds until `done`, at most `most`.
    pub(super) fn until(&mut self, most: u32, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..most {
            if done(self) {
                return;
            }
            self.round();
        }
        panic!("not done after {most} rounds; {:?}", self.rig.device.counters());
    }

    /// Has the board make these offloads from now on; no frame of it may ask for another.
    pub(super) fn take_offloads(&mut self, offloads: u64) {
        let mut bytes = [0; COMMAND_MAX];
        let len = Command::GuestOffloads(offloads).encode(&mut bytes).unwrap();
        self.rig.put_command(&bytes[..len], &[], 1);
        let others = self.rig.options.features & !GUEST_OFFLOADS;
        self.rig.options.features = others | offloads;
        self.round();
        assert_eq!(self.rig.answer(), Some(ACK_OK));
    }

    /// Sends a frame as it is and returns what the board answers to it.
    pub(super) fn exchange(&mut self, header: &NetHeader, frame: &[u8]) -> Vec<SentFrame> {
        self.rig.offer(usize::MAX);
        self.rig.send(header, frame);
        let mut frames = Vec::new();
        for _ in 0..4 {
            let ran = self.rig.run_at(self.now);
            self.rig.sent();
            frames.extend(self.rig.frames());
            if ran.wake != Wake::Again {
                break;
            }
        }
        self.now += 1;
        frames
    }
}

impl Device for Wire {
    type RxToken<'t> = Received;
    type TxToken<'t> = Sending<'t>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.inbox.pop_front()?;
        Some((Received(frame), Sending { wire: self, segment: None }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        let room = self.outbox.len() < 32;
        room.then_some(Sending { wire: self, segment: None })
    }

    /// Checks everything it receives, leaves to the board what that takes.
    fn capabilities(&self) -> DeviceCapabilities {
        let mut checksum = ChecksumCapabilities::default();
        let partial = self.negotiated.has(feature::GUEST_CSUM);
        let transport = if partial { Checksum::Rx } else { Checksum::Both };
        checksum.tcp = transport;
        checksum.udp = transport;
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = usize::from(self.negotiated.mtu) + 14;
        capabilities.checksum = checksum;
        if self.negotiated.has(feature::GUEST_CSUM | feature::GUEST_TSO4) {
            capabilities.segmentation.tcpv4 = NonZeroUsize::new(65_549);
        }
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sending<'t> {
    wire: &'t mut Wire,
    segment: Option<u16>,
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        let header = checks::offload(&mut frame, self.segment, &self.wire.negotiated);
        self.wire.outbox.push_back(SentFrame { header, frame });
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment = meta.segmentation_offload_size.map(std::num::NonZeroU16::get);
    }
}
