//! Echo: every frame goes back as it came.

use shared::wire::net::{FLAG_NEEDS_CSUM, GSO_ECN, GSO_NONE, NetHeader, feature};

use super::backend::{FrameSink, Negotiated, NetBackend, Packet};
use super::checksum::complete;
use crate::device::Wake;

/// Sends every frame back, with its offloads if the driver takes them.
///
/// A partial checksum that the driver does not take back is completed here. A
/// segmented frame that it does not take back is dropped and counted.
#[derive(Clone, Debug)]
pub struct Echo {
    swap: bool,
    negotiated: Negotiated,
}

impl Echo {
    /// An echo that leaves frames as they are: for tests that compare bytes.
    #[must_use]
    pub const fn verbatim() -> Self {
        Self { swap: false, negotiated: Negotiated::NONE }
    }

    /// An echo that exchanges source and destination MAC address, so that a
    /// switch or a network stack takes the frame for one that came from there.
    #[must_use]
    pub const fn swapping() -> Self {
        Self { swap: true, negotiated: Negotiated::NONE }
    }
}

/// Exchanges the two MAC addresses.
fn swap_addresses(frame: &mut [u8]) {
    if let Some([a, b, c, d, e, f, g, h, i, j, k, l]) = frame.first_chunk_mut::<12>() {
        for (to, from) in [(a, g), (b, h), (c, i), (d, j), (e, k), (f, l)] {
            core::mem::swap(to, from);
        }
    }
}

impl NetBackend for Echo {
    fn features(&self) -> u64 {
        feature::CSUM
            | feature::GUEST_CSUM
            | feature::HOST_TSO4
            | feature::HOST_TSO6
            | feature::HOST_ECN
            | feature::HOST_USO
            | feature::GUEST_TSO4
            | feature::GUEST_TSO6
            | feature::GUEST_ECN
            | feature::GUEST_USO4
            | feature::GUEST_USO6
    }

    fn start(&mut self, _now: u64, negotiated: Negotiated) {
        self.negotiated = negotiated;
    }

    fn renegotiated(&mut self, _now: u64, negotiated: Negotiated) {
        self.negotiated = negotiated;
    }

    fn frame<S: FrameSink>(
        &mut self,
        _now: u64,
        header: &NetHeader,
        packet: &mut Packet<'_>,
        sink: &mut S,
    ) {
        let mut back =
            NetHeader { flags: header.flags & FLAG_NEEDS_CSUM, num_buffers: 0, ..*header };
        if back.flags == 0 {
            back.csum_start = 0;
            back.csum_offset = 0;
        }
        if back.gso_type & !GSO_ECN == GSO_NONE {
            back.hdr_len = 0;
            back.gso_size = 0;
            let partial_accepted = self.negotiated.has(feature::GUEST_CSUM);
            if !partial_accepted && !complete(&mut back, packet.frame_mut()) {
                sink.counters().dropped_header += 1;
                return;
            }
        }
        if !self.negotiated.may_go_to_driver(&back) {
            sink.counters().dropped_unfit += 1;
            return;
        }
        if self.swap {
            swap_addresses(packet.frame_mut());
        }
        sink.send(&back, packet);
    }

    fn poll<S: FrameSink>(&mut self, _now: u64, _sink: &mut S) -> Wake {
        Wake::Idle
    }
}
