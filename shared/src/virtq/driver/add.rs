//! Making buffers available.

use core::fmt;

use super::{DriverQueue, DriverSlot};
use crate::fault::PeerFault;
use crate::virtq::Segment;
use crate::virtq::chain::MAX_CHAIN;
use crate::virtq::layout::tail_word;
use crate::virtq::layout::{avail_pair, descriptor_address, descriptor_tail, index_word};
use crate::window::Window;
use crate::wire::virtq::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE, DESCRIPTOR_SIZE, DESCRIPTOR_TAIL};

/// Bytes of a descriptor, as a length on the wire.
#[expect(clippy::cast_possible_truncation, reason = "a dozen bytes")]
const DESCRIPTOR_BYTES: u32 = DESCRIPTOR_SIZE as u32;

/// Why a buffer was not added. Nothing was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddError {
    /// No segments.
    Empty,
    /// Not enough free descriptors now.
    Full {
        /// Descriptors needed.
        needed: usize,
        /// Descriptors free.
        free: u16,
    },
    /// More than [`MAX_CHAIN`] segments, or more than the queue has entries.
    TooLong,
    /// The lengths add up to more than 32 bits hold.
    TooLarge,
    /// A device-readable segment behind a device-writable one.
    ReadableAfterWritable,
    /// The queue is broken.
    Broken(PeerFault),
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("a buffer without segments"),
            Self::Full { needed, free } => {
                write!(f, "a buffer of {needed} descriptors where {free} are free")
            }
            Self::TooLong => f.write_str("a buffer of more segments than a chain may have"),
            Self::TooLarge => f.write_str("a buffer of 4 GiB or more"),
            Self::ReadableAfterWritable => {
                f.write_str("a device-readable segment behind a device-writable one")
            }
            Self::Broken(fault) => write!(f, "the queue is broken: {fault}"),
        }
    }
}

impl core::error::Error for AddError {}

impl<D, A, U, S> DriverQueue<D, A, U, S>
where
    D: Window,
    A: Window,
    U: Window,
    S: AsRef<[DriverSlot]> + AsMut<[DriverSlot]>,
{
    /// Adds one buffer, and returns the head that [`take`](Self::take) will
    /// name. The device sees it after [`publish`](Self::publish). Of descriptors
    /// and entry only what differs from what the device knows is written. A
    /// buffer of several segments goes into an indirect table, and takes one
    /// descriptor, if there are tables and it fits one.
    ///
    /// # Errors
    /// [`AddError`]; the queue is unchanged.
    #[inline(always)]
    pub fn add(&mut self, segments: &[Segment]) -> Result<u16, AddError> {
        if let Some(fault) = self.broken {
            return Err(AddError::Broken(fault));
        }
        let head = self.next;
        if let [segment] = segments {
            if self.free == 0 {
                return Err(AddError::Full { needed: 1, free: 0 });
            }
            let (flags, writable) =
                if segment.writable { (DESC_WRITE, segment.len) } else { (0, 0) };
            self.next = self.after(head);
            let added = self.added;
            let slot = self.describe(head, segment, flags, 0);
            slot.hold(1, writable, added);
            self.make_available(head, 1);
        } else {
            let (needed, writable) = self.check(segments)?;
            let in_table = self.fits_table(needed);
            let count = if in_table { 1 } else { needed };
            if count > self.free {
                return Err(AddError::Full { needed: usize::from(count), free: self.free });
            }
            if in_table {
                self.add_table(head, segments);
            } else {
                self.add_chain(segments);
            }
            let added = self.added;
            self.slots.get_mut(head).hold(count, writable, added);
            self.make_available(head, count);
        }
        Ok(head)
    }

    /// The checks of a chain: its segments and its device-writable bytes.
    fn check(&self, segments: &[Segment]) -> Result<(u16, u32), AddError> {
        let needed = segments.len();
        if needed == 0 {
            return Err(AddError::Empty);
        }
        if needed > MAX_CHAIN.min(usize::from(self.size())) {
            return Err(AddError::TooLong);
        }
        let (mut total, mut writable) = (0_u32, 0_u32);
        let mut behind_writable = false;
        for segment in segments {
            total = total.checked_add(segment.len).ok_or(AddError::TooLarge)?;
            if segment.writable {
                behind_writable = true;
                writable = writable.saturating_add(segment.len);
            } else if behind_writable {
                return Err(AddError::ReadableAfterWritable);
            }
        }
        u16::try_from(needed).map(|count| (count, writable)).map_err(|_| AddError::TooLong)
    }

    /// Describes a chain that was checked, from `self.next` on.
    fn add_chain(&mut self, segments: &[Segment]) {
        let mut left = segments.len();
        for segment in segments {
            let index = self.next;
            let following = self.after(index);
            left -= 1;
            let (more, next) = if left > 0 { (DESC_NEXT, following) } else { (0, 0) };
            let write = if segment.writable { DESC_WRITE } else { 0 };
            self.describe(index, segment, more | write, next);
            self.next = following;
        }
    }

    /// Describes a chain that was checked in the table of `head`, and that
    /// table in the descriptor. No shadow is kept of tables: they are written whole.
    fn add_table(&mut self, head: u16, segments: &[Segment]) {
        let Some(tables) = &self.tables else { return };
        let (start, address) = tables.table(head);
        let mut at = start;
        let mut len = 0;
        for (next, segment) in (1_u16..).zip(segments) {
            let last = usize::from(next) == segments.len();
            let (more, next) = if last { (0, 0) } else { (DESC_NEXT, next) };
            let write = if segment.writable { DESC_WRITE } else { 0 };
            tables.window.store(at, segment.address.bits());
            tables.window.store(at + DESCRIPTOR_TAIL, tail_word(segment.len, more | write, next));
            at += DESCRIPTOR_SIZE;
            len += DESCRIPTOR_BYTES;
        }
        let table = Segment { address, len, writable: false };
        self.next = self.after(head);
        self.describe(head, &table, DESC_INDIRECT, 0);
    }

    /// The descriptor to use after `index`: in ring order (VirtIO 1.3 §2.7.5.2),
    /// or the next free one.
    #[inline(always)]
    fn after(&self, index: u16) -> u16 {
        if self.in_order {
            index.wrapping_add(1) & self.handshake.options().size.mask()
        } else {
            self.slots.get(index).link
        }
    }

    /// Writes what of a descriptor the device does not know yet.
    #[inline(always)]
    fn describe(
        &mut self,
        index: u16,
        segment: &Segment,
        flags: u16,
        next: u16,
    ) -> &mut DriverSlot {
        let slot = self.slots.get_mut(index);
        let address = segment.address.bits();
        if slot.address != address {
            if slot.address != 0 {
                self.handshake.stats.address_rewrites += 1;
            }
            slot.address = address;
            self.parts.descriptors.store(descriptor_address(index), address);
        }
        let tail = tail_word(segment.len, flags, next);
        if slot.tail != tail {
            slot.tail = tail;
            self.parts.descriptors.store(descriptor_tail(index), tail);
        }
        slot
    }

    /// Takes the `count` descriptors of a buffer into flight, and writes the
    /// avail entry unless it already says `head`.
    #[inline(always)]
    fn make_available(&mut self, head: u16, count: u16) {
        let place = self.added & self.handshake.options().size.mask();
        let entry = self.slots.get_mut(place);
        if entry.entry != head {
            entry.entry = head;
            let neighbour = self.slots.get(place ^ 1).entry;
            let pair = if place & 1 == 0 {
                index_word(head, neighbour)
            } else {
                index_word(neighbour, head)
            };
            self.parts.avail.store(avail_pair(self.parts.avail_at, place), pair);
        }
        self.added = self.added.wrapping_add(1);
        self.free -= count;
    }
}
