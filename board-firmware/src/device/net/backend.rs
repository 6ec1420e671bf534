//! What lies behind the virtio-net device, and how frames reach it.

use shared::wire::net::{
    FLAG_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, HEADER_LEN, NetHeader,
    feature,
};

use crate::device::Wake;
use crate::trace::NetCounters;

/// What was negotiated with the driver, as far as frames are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// The feature bits (`shared::wire::net::feature`).
    pub features: u64,
    /// Longest packet without Ethernet header, in bytes.
    pub mtu: u16,
    /// Longest frame that [`FrameSink::build`] has room for, in bytes; at
    /// least `mtu` and an Ethernet header.
    pub room: usize,
}

impl Negotiated {
    /// Nothing: what a backend holds before it is started.
    pub const NONE: Self = Self { features: 0, mtu: 0, room: 0 };

    /// Whether all of these feature bits were negotiated.
    #[must_use]
    pub const fn has(&self, features: u64) -> bool {
        self.features & features == features
    }

    /// Whether a frame with this header may go to the driver, that is whether
    /// it accepted the offloads that the header asks for.
    #[must_use]
    pub fn may_go_to_driver(&self, header: &NetHeader) -> bool {
        let segmentation = match header.gso_type & !GSO_ECN {
            GSO_NONE => 0,
            GSO_TCPV4 => feature::GUEST_TSO4,
            GSO_TCPV6 => feature::GUEST_TSO6,
            // The header does not say which; both or neither.
            GSO_UDP_L4 => feature::GUEST_USO4 | feature::GUEST_USO6,
            _ => return false,
        };
        let ecn = if header.gso_type & GSO_ECN == 0 { 0 } else { feature::GUEST_ECN };
        let checksum = if header.flags & FLAG_NEEDS_CSUM == 0 { 0 } else { feature::GUEST_CSUM };
        self.has(segmentation | ecn | checksum)
    }
}

/// A frame in private memory, with room in front for the virtio-net header, so
/// that both leave in one copy.
#[derive(Debug)]
pub struct Packet<'p> {
    bytes: &'p mut [u8],
}

impl<'p> Packet<'p> {
    /// The packet in `bytes`: room for a header, then the frame. `None` if
    /// there is not even that room.
    #[must_use]
    pub fn new(bytes: &'p mut [u8]) -> Option<Self> {
        (bytes.len() >= HEADER_LEN).then_some(Self { bytes })
    }

    /// The frame.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or(&[])
    }

    /// The frame, to change.
    pub fn frame_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(HEADER_LEN..).unwrap_or(&mut [])
    }

    /// Header and frame, to post.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// The header and, behind it, the frame: for a kernel that takes both in
    /// one piece.
    pub fn with_header(&mut self, header: &NetHeader) -> &mut [u8] {
        self.set_header(header);
        self.bytes
    }

    /// Writes the header into its room.
    pub(super) fn set_header(&mut self, header: &NetHeader) {
        if let Some(room) = self.bytes.first_chunk_mut::<HEADER_LEN>() {
            *room = header.encode();
        }
    }
}

/// Where a backend's frames go: towards the host.
///
/// It holds at most one frame that the driver has no buffers for yet. While it
/// does it is not ready, and the device takes no frame from the host, so
/// nothing is lost and nothing grows.
pub trait FrameSink {
    /// Whether a frame may be sent now.
    fn ready(&mut self) -> bool;

    /// Sends a frame that the caller has. Called only while the sink is ready;
    /// else the frame is dropped and counted. So is one whose header asks for
    /// offloads that the driver did not accept.
    fn send(&mut self, header: &NetHeader, packet: &mut Packet<'_>);

    /// The device's counters, for drops and for whoever shows them.
    fn counters(&mut self) -> &mut NetCounters;

    /// Builds a frame in the sink's own buffer, [`Negotiated::room`] bytes, and
    /// sends it if `fill` returns its header and length. Called only while the
    /// sink is ready; else the frame that waits in the buffer is dropped and
    /// counted.
    fn build<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (Option<(NetHeader, usize)>, R)) -> R;

    /// The same for a frame that comes with its header in front, as from a
    /// kernel: `fill` has [`HEADER_LEN`] bytes more, and returns the length of
    /// both.
    fn build_whole<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (Option<usize>, R)) -> R;
}

/// What takes the host's frames and makes the board's.
///
/// # Implementation contract
/// - Whatever a frame contains, no method panics or loops without bound.
/// - `frame` and `poll` do a bounded amount of work; what is left waits for
///   the next call.
pub trait NetBackend {
    /// The offloads it takes and makes: CSUM, GUEST_CSUM, HOST_* and GUEST_*
    /// bits. The device adds what is its own business.
    fn features(&self) -> u64;

    /// The driver is ready: forget everything from before.
    fn start(&mut self, now: u64, negotiated: Negotiated);

    /// The driver takes other offloads than before, and everything else is as
    /// it was. What asks for others from now on is dropped.
    fn renegotiated(&mut self, now: u64, negotiated: Negotiated) {
        let _ = (now, negotiated);
    }

    /// The driver has reset the device, or its session ended: no frame comes or
    /// goes any more, until the next start.
    fn stop(&mut self) {}

    /// A frame from the host. Its header was checked against `negotiated`
    /// and the frame's length. Called only while the sink is ready.
    fn frame<S: FrameSink>(
        &mut self,
        now: u64,
        header: &NetHeader,
        packet: &mut Packet<'_>,
        sink: &mut S,
    );

    /// Work that no frame asked for: timers, and data that waits.
    fn poll<S: FrameSink>(&mut self, now: u64, sink: &mut S) -> Wake;
}
