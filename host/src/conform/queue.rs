//! The driver's side of one queue, word by word: nothing here is helped along.

use std::collections::BTreeMap;

use shared::msg::QueueAddresses;
use shared::window::{Barrier, Window};
use shared::wire::virtq::{
    AVAIL_NO_INTERRUPT, DESC_NEXT, DESCRIPTOR_SIZE, DESCRIPTOR_TAIL, RING_ENTRIES, USED_ENTRY_LEN,
    USED_ENTRY_SIZE, USED_NO_NOTIFY,
};

use super::card::Shared;
use super::device::addresses;
use super::point::{Stop, must, seen};
use super::session::Lent;

/// Entries of the kit's queues.
pub(super) const SIZE: u16 = 16;

/// Where the parts of queue 0 lie in `near` and `far`, and bytes to the next queue's.
const DESCRIPTORS: u64 = 0;
const AVAIL: u64 = 0x200;
const USED: u64 = 0x1000;
const STEP: u64 = 0x400;

/// A descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Descriptor {
    pub(super) address: u64,
    pub(super) len: u32,
    pub(super) flags: u16,
    pub(super) next: u16,
}

impl Descriptor {
    /// Its bytes.
    pub(super) fn bytes(self) -> Vec<u8> {
        let mut bytes = self.address.to_le_bytes().to_vec();
        bytes.extend(self.len.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.next.to_le_bytes());
        bytes
    }
}

/// One queue.
pub(super) struct Queue {
    pub(super) number: u32,
    pub(super) size: u16,
    near: Shared,
    far: Shared,
    avail: u64,
    used: u64,
    setup: QueueAddresses,
    descriptors: u64,
    /// Where the next buffer goes, and what is announced.
    next: u16,
    entries: Vec<u16>,
    /// Used entries taken so far.
    taken: u16,
    /// Device-writable bytes of each head in flight.
    in_flight: BTreeMap<u16, u32>,
    /// Heads in the order in which they were made available.
    order: Vec<u16>,
    in_order: bool,
    flags: u16,
}

impl Queue {
    /// Queue `number` of the session's memory, in its first state. `shift`
    /// moves the used ring from 4 modulo 8.
    pub(super) fn new(lent: &Lent, number: u32, size: u16, shift: u64) -> Self {
        let step = STEP * u64::from(number);
        let (descriptors, avail) = (DESCRIPTORS + step, AVAIL + step);
        let used = USED + step + 4 + shift;
        let setup = addresses(
            size.into(),
            [lent.near.at(descriptors), lent.near.at(avail), lent.far.at(used)],
        );
        let queue = Self {
            number,
            size,
            near: lent.near.window.clone(),
            far: lent.far.window.clone(),
            avail,
            used,
            setup,
            descriptors,
            next: 0,
            entries: vec![0; size.into()],
            taken: 0,
            in_flight: BTreeMap::new(),
            order: Vec::new(),
            in_order: false,
            flags: 0,
        };
        queue.clear();
        queue
    }

    /// Brings all parts to their first state (docs/protocol-rings.md, "Rings").
    fn clear(&self) {
        let size = u64::from(self.size);
        for at in (0..size * DESCRIPTOR_SIZE).step_by(4) {
            self.near.store(self.descriptors + at, 0_u32);
        }
        for at in (0..RING_ENTRIES + 2 * size + 4).step_by(4) {
            self.near.store(self.avail + at, 0_u32);
        }
        for at in (0..RING_ENTRIES + USED_ENTRY_SIZE * size + 4).step_by(4) {
            self.far.store(self.used + at, 0_u32);
        }
        self.near.barrier(Barrier::Full);
    }

    /// Starts over in the first state, as behind RESET_VQUEUE.
    pub(super) fn restart(&mut self) {
        self.clear();
        (self.next, self.taken, self.flags) = (0, 0, 0);
        self.entries.fill(0);
        self.in_flight.clear();
        self.order.clear();
    }

    /// What SET_VQUEUE says.
    pub(super) const fn setup(&self) -> QueueAddresses {
        self.setup
    }

    /// VIRTIO_F_IN_ORDER was negotiated.
    pub(super) const fn in_order(&mut self) {
        self.in_order = true;
    }

    /// Writes descriptor `index`.
    pub(super) fn describe(&self, index: u16, descriptor: Descriptor) {
        let at = self.descriptors + DESCRIPTOR_SIZE * u64::from(index);
        let Descriptor { address, len, flags, next } = descriptor;
        self.near.store(at, address);
        let tail = u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48;
        self.near.store(at + DESCRIPTOR_TAIL, tail);
    }

    /// Writes a chain from descriptor `head` on, and notes it as in flight.
    pub(super) fn chain(&mut self, head: u16, parts: &[(u64, u32, u16)]) {
        let last = parts.len() - 1;
        let mut writable = 0;
        for (index, (number, (address, len, flags))) in (head..).zip(parts.iter().enumerate()) {
            let more = number < last;
            let flags = flags | if more { DESC_NEXT } else { 0 };
            let next = if more { index + 1 } else { 0 };
            self.describe(index, Descriptor { address: *address, len: *len, flags, next });
            if flags & shared::wire::virtq::DESC_WRITE != 0 {
                writable += len;
            }
        }
        self.in_flight.insert(head, writable);
        self.order.push(head);
    }

    /// Makes head `head` available; [`Self::announce`] tells of it.
    pub(super) fn offer(&mut self, head: u16) {
        let slot = self.next % self.size;
        self.entries[usize::from(slot)] = head;
        let even = usize::from(slot & !1);
        let pair = u32::from(self.entries[even]) | u32::from(self.entries[even + 1]) << 16;
        self.near.store(self.avail + RING_ENTRIES + 2 * u64::from(slot & !1), pair);
        self.next = self.next.wrapping_add(1);
    }

    /// Writes avail.idx, and the flags with it.
    pub(super) fn announce(&self) {
        self.announce_as(self.next);
    }

    /// Writes this avail.idx.
    pub(super) fn announce_as(&self, index: u16) {
        self.near.barrier(Barrier::Write);
        let word = u32::from(self.flags) | u32::from(index) << 16;
        self.near.store(self.avail, word);
        self.near.barrier(Barrier::Full);
    }

    /// Where the next buffer goes.
    pub(super) const fn next(&self) -> u16 {
        self.next
    }

    /// Used entries taken so far.
    pub(super) const fn taken(&self) -> u16 {
        self.taken
    }

    /// Sets or clears VIRTQ_AVAIL_F_NO_INTERRUPT.
    pub(super) fn want_interrupts(&mut self, wanted: bool) {
        self.flags = if wanted { 0 } else { AVAIL_NO_INTERRUPT };
        self.announce();
    }

    /// Writes used_event.
    pub(super) fn ask_at(&self, index: u16) {
        let at = self.avail + RING_ENTRIES + 2 * u64::from(self.size);
        self.near.store(at, u32::from(index));
        self.near.barrier(Barrier::Full);
    }

    /// avail_event, the index at which the device wants a doorbell.
    pub(super) fn asked_at(&self) -> u16 {
        let at = self.used + RING_ENTRIES + USED_ENTRY_SIZE * u64::from(self.size);
        low(self.far.load(at))
    }

    /// Whether the device's flag says that it wants no doorbell.
    pub(super) fn unwanted(&self) -> bool {
        low(self.far.load(self.used)) & USED_NO_NOTIFY != 0
    }

    /// used.idx.
    pub(super) fn used_index(&self) -> u16 {
        let word: u32 = self.far.load(self.used);
        low(word >> 16)
    }

    /// The heads that came back since the last time, with their lengths, each
    /// checked (docs/protocol-rings.md, "Rings", the driver's rows).
    pub(super) fn take(&mut self) -> Result<Vec<(u16, u32)>, Stop> {
        let name = format!("queue {}", self.number);
        let ahead = self.used_index().wrapping_sub(self.taken);
        self.far.barrier(Barrier::Read);
        must(usize::from(ahead) <= self.in_flight.len(), || {
            format!("{name}: used.idx is {ahead} ahead, {} are in flight", self.in_flight.len())
        })?;
        let mut back = Vec::new();
        let mut left = ahead;
        while left > 0 {
            let slot = u64::from(self.taken % self.size);
            let at = self.used + RING_ENTRIES + USED_ENTRY_SIZE * slot;
            let id: u32 = self.far.load(at);
            let len: u32 = self.far.load(at + USED_ENTRY_LEN);
            let head = u16::try_from(id).ok().filter(|head| self.in_flight.contains_key(head));
            let Some(head) = head else {
                return seen(format!("{name}: used.id {id} is no buffer in flight"));
            };
            // One entry may stand for all up to its own.
            let place = self.order.iter().position(|other| *other == head).unwrap_or(0);
            let batch = if self.in_order { place + 1 } else { 1 };
            must(batch <= usize::from(left), || {
                format!("{name}: a batch of {batch} ends at used.id {id}, used.idx is {left} ahead")
            })?;
            let first = if self.in_order { 0 } else { place };
            let heads: Vec<u16> = self.order.drain(first..first + batch).collect();
            for skipped in heads {
                let writable = self.in_flight.remove(&skipped).unwrap_or(0);
                let len = if skipped == head { len } else { writable };
                must(len <= writable, || {
                    format!("{name}: used.len {len} of a buffer with {writable} writable bytes")
                })?;
                back.push((skipped, len));
            }
            let batch = u16::try_from(batch).unwrap_or(left);
            self.taken = self.taken.wrapping_add(batch);
            left -= batch;
        }
        Ok(back)
    }
}

/// The low half of a word.
const fn low(word: u32) -> u16 {
    let [a, b, ..] = word.to_le_bytes();
    u16::from_le_bytes([a, b])
}
