//! Port: frames to and from the board's own code.

use shared::wire::net::NetHeader;

use super::backend::{FrameSink, Negotiated, NetBackend, Packet};
use crate::device::Wake;

/// The board's own code behind the interface: a switch, a MAC driver, an
/// application with a stack of its own.
///
/// # Implementation contract
/// Neither method panics or waits, whatever a frame contains.
pub trait FrameHandler {
    /// A frame from the host: the offloads that [`Port::new`] was given and
    /// the host accepted may be asked for in the header.
    fn take(&mut self, now: u64, header: &NetHeader, frame: &[u8]);

    /// The next frame for the host: written to the start of `into`, with its
    /// header and length returned. `None`: nothing now.
    fn give(&mut self, now: u64, into: &mut [u8]) -> Option<(NetHeader, usize)>;

    /// When to ask [`FrameHandler::give`] again without a frame from the
    /// host in between; asked after it returned `None`.
    fn next(&self, now: u64) -> Wake;
}

/// Hands frames to a [`FrameHandler`] and takes frames from it.
#[derive(Clone, Debug)]
pub struct Port<H> {
    handler: H,
    offloads: u64,
}

/// Frames taken from the handler in one poll.
const BUDGET: usize = 32;

impl<H: FrameHandler> Port<H> {
    /// A port with these offload bits (`shared::wire::net::feature`): HOST_*
    /// and CSUM for what the handler takes, GUEST_* for what it makes.
    #[must_use]
    pub const fn new(handler: H, offloads: u64) -> Self {
        Self { handler, offloads }
    }

    /// The handler.
    pub const fn handler(&mut self) -> &mut H {
        &mut self.handler
    }
}

impl<H: FrameHandler> NetBackend for Port<H> {
    fn features(&self) -> u64 {
        self.offloads
    }

    fn start(&mut self, _now: u64, _negotiated: Negotiated) {}

    fn frame<S: FrameSink>(
        &mut self,
        now: u64,
        header: &NetHeader,
        packet: &mut Packet<'_>,
        _sink: &mut S,
    ) {
        self.handler.take(now, header, packet.frame());
    }

    fn poll<S: FrameSink>(&mut self, now: u64, sink: &mut S) -> Wake {
        for _ in 0..BUDGET {
            if !sink.ready() {
                // A buffer from the host is what it waits for.
                return Wake::Idle;
            }
            let more = sink.build(|into| {
                let frame = self.handler.give(now, into);
                (frame, frame.is_some())
            });
            if !more {
                return self.handler.next(now);
            }
        }
        Wake::Again
    }
}
