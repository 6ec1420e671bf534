//! Taking buffers back.

use super::{DriverQueue, DriverSlot};
use crate::fault::PeerFault;
use crate::virtq::handshake::Handshake;
use crate::virtq::layout::{used_fields, used_id, used_len};
use crate::window::{Barrier, Window};

/// A buffer that the device has returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// What [`DriverQueue::add`] returned for it.
    pub head: u16,
    /// Bytes written into its device-writable part, at most as many as it has.
    pub len: u32,
}

impl<D, A, U, S> DriverQueue<D, A, U, S>
where
    D: Window,
    A: Window,
    U: Window,
    S: AsRef<[DriverSlot]> + AsMut<[DriverSlot]>,
{
    /// The next buffer that the device has returned. used.idx is read only
    /// when all that it last announced has been taken. In-order batches come
    /// as single buffers; those that the device skipped count as filled wholly
    /// (VirtIO 1.3 §2.7.9).
    ///
    /// # Errors
    /// The fault; the queue is broken then.
    #[inline(always)]
    pub fn take(&mut self) -> Result<Option<Completion>, PeerFault> {
        if let Some(fault) = self.broken {
            return Err(fault);
        }
        match self.try_take() {
            Ok(taken) => Ok(taken),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    #[inline(always)]
    fn try_take(&mut self) -> Result<Option<Completion>, PeerFault> {
        if self.taken == self.handshake.seen() {
            let word = self.parts.used.load(self.parts.used_at);
            if !self.look(word)? {
                return Ok(None);
            }
        }
        let completion = if self.in_order { self.take_next()? } else { self.take_any()? };
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(completion))
    }

    /// Checks a used index word; whether it announces something new.
    #[inline(always)]
    pub(super) fn look(&mut self, word: u32) -> Result<bool, PeerFault> {
        if self.handshake.link_lost(word) {
            return Err(PeerFault::LinkLost);
        }
        let seen = self.handshake.seen();
        let claimed = Handshake::index(word).wrapping_sub(seen);
        if claimed == 0 {
            return Ok(false);
        }
        let limit = self.handshake.published().wrapping_sub(seen);
        if claimed > limit {
            return Err(PeerFault::UsedIndexAhead { claimed, limit });
        }
        self.handshake.accept(Handshake::index(word));
        self.parts.used.barrier(Barrier::Read); // B: the index before the entries
        Ok(true)
    }

    /// Reads the used entry at `self.taken`, once, and checks all that does
    /// not depend on the order: a head in flight and a length that fits.
    #[inline(always)]
    fn read_entry(&self) -> Result<(u16, u32, &DriverSlot), PeerFault> {
        let place = self.taken & self.handshake.options().size.mask();
        let (used, used_at) = (&self.parts.used, self.parts.used_at);
        let (id, len) = if self.wide {
            used_fields(used.load(used_id(used_at, place)))
        } else {
            (used.load(used_id(used_at, place)), used.load(used_len(used_at, place)))
        };
        if self.handshake.link_lost(id) {
            return Err(PeerFault::LinkLost);
        }
        let head = match u16::try_from(id) {
            Ok(head) if head < self.size() => head,
            _ => return Err(PeerFault::UsedId { id }),
        };
        let slot = self.slots.get(head);
        // A count of zero: mid-chain, free, or returned before.
        if slot.count == 0 || self.is_unpublished(head, slot.position) {
            return Err(PeerFault::UsedId { id });
        }
        if len > slot.writable {
            return Err(PeerFault::UsedLength { length: len, limit: slot.writable });
        }
        Ok((head, len, slot))
    }

    /// Whether the buffer `head`, added at `position`, still waits for
    /// [`publish`](Self::publish). The entry tells it from one that was added
    /// 2^16 buffers earlier and is still out.
    #[inline(always)]
    fn is_unpublished(&self, head: u16, position: u16) -> bool {
        let published = self.handshake.published();
        position.wrapping_sub(published) < self.added.wrapping_sub(published)
            && self.slots.get(position).entry == head
    }

    /// In order: the next buffer of the batch, whose entry is read first.
    #[inline(always)]
    fn take_next(&mut self) -> Result<Completion, PeerFault> {
        if self.taken == self.batch_end {
            let (id, len, slot) = self.read_entry()?;
            // In order, whatever is published and in flight lies less than
            // the queue's size ahead of `taken`.
            let skipped = slot.position.wrapping_sub(self.taken);
            if skipped >= self.handshake.seen().wrapping_sub(self.taken) {
                return Err(PeerFault::BatchBeyondIndex { id });
            }
            self.batch_end = slot.position.wrapping_add(1);
            self.batch_len = len;
        }
        // Our own record of the entry, never the ring's.
        let head = self.slots.get(self.taken).entry;
        let slot = self.slots.get_mut(head);
        let last = self.taken.wrapping_add(1) == self.batch_end;
        let len = if last { self.batch_len } else { slot.writable };
        self.free += slot.count;
        slot.count = 0;
        Ok(Completion { head, len })
    }

    /// Out of order: the buffer that the entry names; its descriptors go to
    /// the front of the free list.
    #[inline(always)]
    fn take_any(&mut self) -> Result<Completion, PeerFault> {
        let (head, len, slot) = self.read_entry()?;
        let count = slot.count;
        let mut last = head;
        for _ in 1..count {
            last = self.slots.get(last).link;
        }
        self.slots.get_mut(last).link = self.next;
        self.slots.get_mut(head).count = 0;
        self.next = head;
        self.free += count;
        Ok(Completion { head, len })
    }
}
