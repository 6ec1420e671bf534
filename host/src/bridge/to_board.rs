//! Frames on their way to the board: the port fills a buffer, the buffer is
//! pushed or left to be fetched, its descriptor is published.

use shared::fault::PeerFault;
use shared::virtq::{DriverQueue, DriverSlot, Segment};
use shared::window::Window;
use shared::wire::net::HEADER_BYTES;

use super::buffers::{BufferArea, Staging, copy};
use super::{BridgeError, Moved, ToBoardCounters};
use crate::bus::Ring;
use crate::net::{FramePort, OutboundHeader};

/// The driver side of a queue whose three parts lie in windows of one bus.
pub(super) type BusQueue<W> = DriverQueue<W, W, W, Box<[DriverSlot]>>;

/// The way to the board, for one queue pair.
#[derive(Debug)]
pub struct ToBoard<W: Window, R> {
    pub(super) queue: BusQueue<W>,
    staging: Staging<W>,
    push: Option<BufferArea<W>>,
    push_limit: u32,
    header: OutboundHeader,
    doorbell: R,
    pub(super) counters: ToBoardCounters,
    returned: u64,
    /// The queue is being reset, and left alone.
    pub(super) held: bool,
}

/// What [`ToBoard::new`] puts together.
#[derive(Debug)]
pub struct ToBoardParts<W: Window, R> {
    /// virtio-net's transmitq.
    pub queue: BusQueue<W>,
    /// Where frames arrive from the port.
    pub staging: Staging<W>,
    /// Board memory for small frames; `None`: every frame is fetched.
    pub push: Option<BufferArea<W>>,
    /// Frames of up to this many bytes, header included, are pushed.
    pub push_limit: u32,
    /// What the board may be shown of a frame's offloads.
    pub header: OutboundHeader,
    /// The queue's doorbell.
    pub doorbell: R,
}

impl<W: Window, R: Ring> ToBoard<W, R> {
    /// The way to the board over `parts`.
    #[must_use]
    pub fn new(parts: ToBoardParts<W, R>) -> Self {
        let ToBoardParts { queue, staging, push, push_limit, header, doorbell } = parts;
        let push_limit = push.as_ref().map_or(0, |area| push_limit.min(area.stride()));
        Self {
            queue,
            staging,
            push,
            push_limit,
            header,
            doorbell,
            counters: ToBoardCounters::default(),
            returned: 0,
            held: false,
        }
    }

    /// Moves up to `budget` frames from the port into the ring, as one batch.
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
        self.reclaim()?;
        let mut moved = Moved::default();
        let outcome = self.fill_ring(port, budget, &mut moved);
        // Also after an error: what is in the ring is the board's to have.
        if moved.frames > 0 && self.queue.publish() {
            self.ring();
        }
        outcome.map(|()| moved)
    }

    pub(super) fn ring(&mut self) {
        self.doorbell.ring();
        self.counters.doorbells += 1;
    }

    fn fill_ring(
        &mut self,
        port: &mut impl FramePort<W>,
        budget: u16,
        moved: &mut Moved,
    ) -> Result<(), BridgeError> {
        // Frames that are dropped count towards the budget as well.
        for _ in 0..budget {
            let Some(slot) = self.queue.next_head() else {
                self.counters.ring_full += 1;
                return Ok(());
            };
            let Some(len) = self.receive(port, slot)? else { return Ok(()) };
            let Some(segment) = self.place(slot, len) else {
                self.counters.dropped += 1;
                continue;
            };
            // One descriptor is free, so there is room for one segment.
            if self.queue.add(&[segment]).is_ok() {
                moved.frames += 1;
                self.counters.frames += 1;
                self.counters.bytes += u64::from(len).saturating_sub(u64::from(HEADER_BYTES));
            }
        }
        moved.more = true;
        Ok(())
    }

    /// Takes one frame from the port into the staging buffer of `slot`.
    fn receive(
        &mut self,
        port: &mut impl FramePort<W>,
        slot: u16,
    ) -> Result<Option<u32>, BridgeError> {
        Ok(match &mut self.staging {
            Staging::Shared(area) => {
                port.receive(area.window(), area.offset(slot), area.stride())?
            }
            Staging::Private(bytes) => port.receive_private(bytes)?,
        })
    }

    /// Pushes the staged frame or leaves it to be fetched; `None` drops it.
    fn place(&mut self, slot: u16, len: u32) -> Option<Segment> {
        match (&mut self.staging, &self.push) {
            (Staging::Private(bytes), Some(push)) => {
                let frame = bytes.get_mut(..len as usize)?;
                self.header.check_private(frame).ok()?;
                let padded = bytes.get(..len.next_multiple_of(4) as usize)?;
                if padded.len() as u64 > u64::from(push.stride()) {
                    return None;
                }
                push.window().write(push.offset(slot), padded);
                self.counters.pushed += 1;
                Some(Segment { address: push.address(slot), len, writable: false })
            }
            (Staging::Private(_), None) => None,
            (Staging::Shared(area), push) => {
                self.header.check(area.window(), area.offset(slot), len).ok()?;
                match push {
                    Some(push) if len <= self.push_limit => {
                        copy(
                            area.window(),
                            area.offset(slot),
                            push.window(),
                            push.offset(slot),
                            len,
                        );
                        self.counters.pushed += 1;
                        Some(Segment { address: push.address(slot), len, writable: false })
                    }
                    _ => {
                        self.counters.pulled += 1;
                        Some(Segment { address: area.address(slot), len, writable: false })
                    }
                }
            }
        }
    }

    /// Takes back the buffers that the board has used.
    ///
    /// # Errors
    /// The board returned something that it was not given.
    pub fn reclaim(&mut self) -> Result<u16, PeerFault> {
        let mut taken = 0;
        // At most as many as are in flight: `take` refuses more.
        while self.queue.take()?.is_some() {
            taken += 1;
        }
        self.returned += u64::from(taken);
        Ok(taken)
    }

    /// Buffers that the board has returned so far.
    #[must_use]
    pub const fn returned(&self) -> u64 {
        self.returned
    }

    /// Whether a frame from the port would find no free descriptor, or a queue
    /// that is being reset.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.held || self.waits_for_room()
    }

    /// Whether the board has to return something before a frame can go.
    pub(super) fn waits_for_room(&self) -> bool {
        !self.held && self.queue.next_head().is_none()
    }

    /// Whether the board holds buffers of this queue.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.queue.in_flight() > 0
    }

    /// The counters so far.
    #[must_use]
    pub fn counters(&self) -> ToBoardCounters {
        ToBoardCounters { sleep_flushes: self.queue.stats().flushes, ..self.counters }
    }
}
