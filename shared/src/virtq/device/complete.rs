//! Returning buffers.

use core::fmt;

use super::{DeviceQueue, DeviceSlot, IN_FLIGHT};
use crate::fault::PeerFault;
use crate::virtq::layout::{used_id, used_len, used_word};
use crate::window::Window;

/// Whether a buffer needs a used entry of its own (R5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UsedEntry {
    /// It does: its length says something.
    Own,
    /// It was filled wholly, or nothing in it is device-writable: with
    /// VIRTIO_F_IN_ORDER the entry of a later buffer of the batch speaks for
    /// it too.
    MaySkip,
}

/// Why a buffer was not completed: the caller's mistake, not the peer's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompleteError {
    /// The head was not popped, or was completed before.
    NotInFlight {
        /// The head given.
        head: u16,
    },
    /// With VIRTIO_F_IN_ORDER buffers are completed in the order popped.
    OutOfOrder {
        /// The head given.
        head: u16,
        /// The head that is due.
        due: u16,
    },
    /// The queue is broken.
    Broken(PeerFault),
}

impl fmt::Display for CompleteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotInFlight { head } => write!(f, "head {head} is not in flight"),
            Self::OutOfOrder { head, due } => {
                write!(f, "head {head} completed where head {due} is due")
            }
            Self::Broken(fault) => write!(f, "the queue is broken: {fault}"),
        }
    }
}

impl core::error::Error for CompleteError {}

impl<D, A, U, S> DeviceQueue<D, A, U, S>
where
    D: Window,
    A: Window,
    U: Window,
    S: AsRef<[DeviceSlot]> + AsMut<[DeviceSlot]>,
{
    /// Returns a buffer with `written` bytes in its device-writable part. The
    /// driver sees it after [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`CompleteError`]; the queue is unchanged.
    #[inline(always)]
    pub fn complete(
        &mut self,
        head: u16,
        written: u32,
        entry: UsedEntry,
    ) -> Result<(), CompleteError> {
        if let Some(fault) = self.broken {
            return Err(CompleteError::Broken(fault));
        }
        // In order, the next one due is in flight if any is.
        let is_due = self.in_order
            && self.taken != self.completed
            && self.slots.get(self.completed).popped() == head;
        if !is_due {
            self.check_completable(head)?;
        }
        self.slots.get_mut(head).state &= !IN_FLIGHT;
        if self.in_order && entry == UsedEntry::MaySkip {
            self.run_head = head;
            self.run_len = written;
            self.completed = self.completed.wrapping_add(1);
        } else {
            // At the slot of the run's first buffer (VirtIO 1.3 §2.7.9).
            self.write_entry(self.run_start, head, written);
            self.completed = self.completed.wrapping_add(1);
            self.run_start = self.completed;
        }
        Ok(())
    }

    /// Whether a buffer that is not simply the next in order can be completed.
    fn check_completable(&self, head: u16) -> Result<(), CompleteError> {
        if head >= self.size() || self.slots.get(head).state & IN_FLIGHT == 0 {
            return Err(CompleteError::NotInFlight { head });
        }
        if self.in_order {
            let due = self.slots.get(self.completed).popped();
            return Err(CompleteError::OutOfOrder { head, due });
        }
        Ok(())
    }

    /// Publishes all buffers completed since the last call, as one batch. True:
    /// raise the interrupt. A packet in several buffers is completed whole
    /// before this is called.
    #[inline(always)]
    #[must_use = "an interrupt that is not raised leaves the driver asleep"]
    pub fn publish(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        if self.run_start != self.completed {
            self.write_entry(self.run_start, self.run_head, self.run_len);
            self.run_start = self.completed;
        }
        self.handshake.publish(&self.parts.used, &self.parts.avail, self.completed)
    }

    /// Writes what of a used entry the driver does not know yet.
    #[inline(always)]
    fn write_entry(&mut self, index: u16, head: u16, len: u32) {
        let place = index & self.handshake.options().size.mask();
        let slot = self.slots.get_mut(place);
        let (same_id, same_len) = (slot.id == head, slot.len == len);
        if same_id && same_len {
            return;
        }
        (slot.id, slot.len) = (head, len);
        let (used, used_at, id) = (&self.parts.used, self.parts.used_at, u32::from(head));
        if self.wide {
            used.store(used_id(used_at, place), used_word(id, len));
            return;
        }
        if !same_id {
            used.store(used_id(used_at, place), id);
        }
        if !same_len {
            used.store(used_len(used_at, place), len);
        }
    }
}
