//! Frames on their way to the host: used buffers are gathered into frames,
//! checked, written to the port, and given back to the board.

use shared::fault::PeerFault;
use shared::region::Located;
use shared::virtq::{Completion, Segment};
use shared::window::Window;
use shared::wire::net::{HEADER_BYTES, HEADER_LEN, NetHeader};

use super::buffers::BufferArea;
use super::to_board::BusQueue;
use super::{BridgeError, Moved, ToHostCounters};
use crate::bus::Ring;
use crate::net::{CHECKED_BYTES, FramePort, Sanitizer, Sent};

/// Buffers that one frame may span: a 64 KiB frame in buffers of 2 KiB.
pub const MAX_FRAME_BUFFERS: u16 = 33;

/// Private room for the header and every byte that a check reads.
const HEAD_LEN: usize = HEADER_LEN + CHECKED_BYTES;

/// The same as a length on the wire.
#[expect(clippy::cast_possible_truncation, reason = "a few hundred bytes")]
const HEAD_BYTES: u32 = HEAD_LEN as u32;

/// The way to the host, for one queue pair.
#[derive(Debug)]
pub struct ToHost<W: Window, R> {
    pub(super) queue: BusQueue<W>,
    buffers: BufferArea<W>,
    mergeable: bool,
    sanitizer: Sanitizer,
    doorbell: R,
    pub(super) counters: ToHostCounters,
    /// The queue is being reset, and left alone.
    pub(super) held: bool,
}

impl<W: Window, R: Ring> ToHost<W, R> {
    /// The way to the host over virtio-net's receiveq, with all of its
    /// descriptors filled but not yet published.
    #[must_use]
    pub fn new(
        queue: BusQueue<W>,
        buffers: BufferArea<W>,
        mergeable: bool,
        sanitizer: Sanitizer,
        doorbell: R,
    ) -> Self {
        let mut new = Self {
            queue,
            buffers,
            mergeable,
            sanitizer,
            doorbell,
            counters: ToHostCounters::default(),
            held: false,
        };
        new.refill();
        new
    }

    /// Publishes the first buffers: after DRIVER_OK, whose look at every queue
    /// needs no doorbell, but a doorbell does no harm.
    pub fn start(&mut self) {
        self.publish();
    }

    /// Moves up to `budget` frames from the ring to the port and returns their
    /// buffers as one batch.
    ///
    /// # Errors
    /// The board broke the protocol, or the port failed.
    pub fn step(
        &mut self,
        port: &mut impl FramePort<W>,
        budget: u16,
    ) -> Result<Moved, BridgeError> {
        if self.held {
            return Ok(Moved::default());
        }
        self.queue.park();
        let mut moved = Moved::default();
        let outcome = self.empty_ring(port, budget, &mut moved);
        if moved.frames > 0 {
            self.counters.bounced = port.bounced();
            self.publish();
        }
        outcome.map(|()| moved)
    }

    pub(super) fn empty_ring(
        &mut self,
        port: &mut impl FramePort<W>,
        budget: u16,
        moved: &mut Moved,
    ) -> Result<(), BridgeError> {
        for _ in 0..budget {
            let Some(first) = self.queue.take()? else { return Ok(()) };
            moved.frames += 1;
            self.one_frame(port, first)?;
        }
        moved.more = true;
        Ok(())
    }

    fn one_frame(
        &mut self,
        port: &mut impl FramePort<W>,
        first: Completion,
    ) -> Result<(), BridgeError> {
        // Read once into private memory: the header and all that is checked.
        let mut head = [0; HEAD_LEN];
        let head_len = first.len.min(HEAD_BYTES);
        let head = head.get_mut(..head_len as usize).unwrap_or(&mut []);
        self.buffers.window().read(self.buffers.offset(first.head), head);
        let header = NetHeader::decode(head)
            .ok_or(PeerFault::ChainTooShort { found: head_len, needed: HEADER_BYTES })?;

        let tail = Located {
            window: self.buffers.window(),
            offset: self.buffers.offset(first.head) + u64::from(head_len),
            len: first.len - head_len,
        };
        let mut pieces = [tail; MAX_FRAME_BUFFERS as usize];
        let count = frame_buffers(header.num_buffers, self.mergeable)?;
        let mut total = first.len;
        for piece in pieces.iter_mut().take(usize::from(count)).skip(1) {
            // The board publishes the buffers of a frame together.
            let next = self.queue.take()?.ok_or(PeerFault::NumBuffers { count })?;
            *piece = Located {
                window: self.buffers.window(),
                offset: self.buffers.offset(next.head),
                len: next.len,
            };
            total = total.saturating_add(next.len);
        }

        let frame_len = total - HEADER_BYTES;
        match self.sanitizer.check(head, frame_len) {
            Ok(checked) => {
                let rest = pieces.get(..usize::from(count)).unwrap_or(&[]);
                match port.send(checked.head(head), rest)? {
                    Sent::Whole => {
                        self.counters.frames += 1;
                        self.counters.bytes += u64::from(frame_len);
                    }
                    Sent::Dropped(_) => self.counters.dropped += 1,
                }
            }
            Err(_cause) => self.counters.refused += 1,
        }
        self.refill();
        Ok(())
    }

    /// Gives every free descriptor, with its buffer, back to the board.
    pub(super) fn refill(&mut self) {
        while let Some(slot) = self.queue.next_head() {
            let segment = Segment {
                address: self.buffers.address(slot),
                len: self.buffers.stride(),
                writable: true,
            };
            if self.queue.add(&[segment]).is_err() {
                return;
            }
        }
    }

    fn publish(&mut self) {
        if self.queue.publish() {
            self.ring();
        }
    }

    pub(super) fn ring(&mut self) {
        self.doorbell.ring();
        self.counters.doorbells += 1;
    }

    /// The counters so far.
    #[must_use]
    pub fn counters(&self) -> ToHostCounters {
        ToHostCounters { sleep_flushes: self.queue.stats().flushes, ..self.counters }
    }
}

/// How many buffers a frame spans, as its header says.
fn frame_buffers(num_buffers: u16, mergeable: bool) -> Result<u16, PeerFault> {
    let limit = if mergeable { MAX_FRAME_BUFFERS } else { 1 };
    if (1..=limit).contains(&num_buffers) {
        Ok(num_buffers)
    } else {
        Err(PeerFault::NumBuffers { count: num_buffers })
    }
}
