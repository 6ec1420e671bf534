//! A queue that the control thread serves: virtio-net's control queue, or one
//! way of a console. A few messages a second, so no speed is needed.

use std::fmt;

use shared::virtq::{DriverQueue, DriverSlot, QueueSize};
use shared::window::Window;

use crate::bridge::BufferArea;

/// Descriptors of such a queue, at most.
pub const SLOW_ENTRIES: u32 = 8;

/// Segments of a message that go into an indirect table: what the board reads
/// of it and what it writes, with room to cut either.
pub const SLOW_TABLE_ENTRIES: u16 = 4;

/// Bytes of each of its buffers.
pub const SLOW_BUFFER: u32 = 256;

/// The size of a slow queue, where the board takes that many descriptors.
#[must_use]
pub fn slow_queue_size() -> QueueSize {
    QueueSize::try_from(SLOW_ENTRIES).unwrap_or(QueueSize::MIN)
}

/// The driver side of a slow queue, with the memory of its buffers.
pub struct SlowQueue<W: Window, R> {
    /// The ring.
    pub queue: DriverQueue<W, W, W, Box<[DriverSlot]>>,
    /// A buffer for each descriptor that the board reads: written with
    /// `window().write`, padded to whole 32-bit words.
    pub readable: BufferArea<W>,
    /// A buffer for each descriptor that the board writes.
    pub writable: BufferArea<W>,
    /// The queue's doorbell.
    pub doorbell: R,
}

impl<W: Window, R> fmt::Debug for SlowQueue<W, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlowQueue")
            .field("in_flight", &self.queue.in_flight())
            .finish_non_exhaustive()
    }
}
