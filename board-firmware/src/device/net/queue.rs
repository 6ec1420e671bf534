//! One queue in use, and the ways in which it stops.

use shared::fault::PeerFault;
use shared::virtq::{CompleteError, DeviceQueue, DeviceSlot, UsedEntry};
use shared::window::Window;

use super::transfer::Mover;
use crate::device::Stop;
use crate::dma::DmaEngine;
use crate::support::BoardSupport;

/// A ring with all parts in windows of one kind.
pub(super) type Ring<'b, W> = DeviceQueue<W, W, W, &'b mut [DeviceSlot]>;

/// A queue in use.
#[derive(Debug)]
pub(super) struct Queue<'b, W> {
    pub(super) ring: Ring<'b, W>,
    vector: u16,
    /// Buffers completed since the last publish.
    completed: u32,
    /// Its payload was posted by the engine.
    posts: bool,
    stopped: Option<Stop>,
}

impl<'b, W: Window> Queue<'b, W> {
    /// A queue whose interrupts go to `vector`; `posts` if payload goes to the
    /// host through it.
    pub(super) fn new(ring: Ring<'b, W>, vector: u16, posts: bool) -> Self {
        Self { ring, vector, completed: 0, posts, stopped: None }
    }

    /// Whether it still runs.
    pub(super) const fn runs(&self) -> bool {
        self.stopped.is_none()
    }

    /// Stops it for good. `true`: it was running.
    pub(super) fn stop(&mut self, stop: Stop) -> bool {
        if let Stop::Peer(fault) = stop {
            self.ring.break_with(fault);
        }
        let ran = self.runs();
        self.stopped.get_or_insert(stop);
        ran
    }

    /// Completes a buffer.
    pub(super) fn complete(
        &mut self,
        head: u16,
        written: u32,
        entry: UsedEntry,
    ) -> Result<(), PeerFault> {
        match self.ring.complete(head, written, entry) {
            Ok(()) => {
                self.completed = self.completed.saturating_add(1);
                Ok(())
            }
            Err(CompleteError::Broken(fault)) => Err(fault),
            // Both would be ours: every head is completed once, in the order popped.
            Err(CompleteError::NotInFlight { head } | CompleteError::OutOfOrder { head, .. }) => {
                debug_assert!(false, "completed out of turn");
                Err(PeerFault::HeadInFlight { head })
            }
        }
    }

    /// Publishes what was completed, behind its payload. Returns the
    /// interrupts raised, 0 or 1.
    pub(super) fn publish<S, E>(&mut self, mover: &mut Mover<'_, S, E>) -> Result<u64, Stop>
    where
        S: BoardSupport<Window = W>,
        E: DmaEngine<W>,
    {
        if self.completed == 0 || !self.runs() {
            return Ok(0);
        }
        if self.posts {
            mover.finish().map_err(Stop::Dma)?;
        }
        self.completed = 0;
        let notify = self.ring.publish();
        if notify {
            mover.support.raise(self.vector);
        }
        Ok(u64::from(notify))
    }

    /// The records, for a later set-up.
    pub(super) fn into_slots(self) -> &'b mut [DeviceSlot] {
        self.ring.into_parts().1
    }
}
