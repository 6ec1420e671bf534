//! Either: one of two backends, chosen when the board starts.

use shared::wire::net::NetHeader;

use super::backend::{FrameSink, Negotiated, NetBackend, Packet};
use crate::device::Wake;

/// One of two backends. A firmware that knows only at its start what lies
/// behind its device has the device's code once in its flash, not twice.
#[derive(Clone, Copy, Debug)]
pub enum Either<A, B> {
    /// The one.
    One(A),
    /// The other.
    Other(B),
}

impl<A: NetBackend, B: NetBackend> NetBackend for Either<A, B> {
    fn features(&self) -> u64 {
        match self {
            Self::One(backend) => backend.features(),
            Self::Other(backend) => backend.features(),
        }
    }

    fn start(&mut self, now: u64, negotiated: Negotiated) {
        match self {
            Self::One(backend) => backend.start(now, negotiated),
            Self::Other(backend) => backend.start(now, negotiated),
        }
    }

    fn renegotiated(&mut self, now: u64, negotiated: Negotiated) {
        match self {
            Self::One(backend) => backend.renegotiated(now, negotiated),
            Self::Other(backend) => backend.renegotiated(now, negotiated),
        }
    }

    fn stop(&mut self) {
        match self {
            Self::One(backend) => backend.stop(),
            Self::Other(backend) => backend.stop(),
        }
    }

    fn frame<S: FrameSink>(
        &mut self,
        now: u64,
        header: &NetHeader,
        packet: &mut Packet<'_>,
        sink: &mut S,
    ) {
        match self {
            Self::One(backend) => backend.frame(now, header, packet, sink),
            Self::Other(backend) => backend.frame(now, header, packet, sink),
        }
    }

    fn poll<S: FrameSink>(&mut self, now: u64, sink: &mut S) -> Wake {
        match self {
            Self::One(backend) => backend.poll(now, sink),
            Self::Other(backend) => backend.poll(now, sink),
        }
    }
}
