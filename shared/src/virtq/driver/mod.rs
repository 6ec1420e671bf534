//! The driver side: makes buffers available, takes them back.

mod add;
mod tables;
mod take;

pub use add::AddError;
pub use tables::IndirectTables;
pub use take::Completion;

use super::handshake::{Handshake, RingWords};
use super::layout::{avail_event, avail_pair, descriptor_address, descriptor_tail};
use super::layout::{index_word, used_event, used_id, used_is_wide, used_len};
use super::slots::Slots;
use super::{Parts, QueueStats, RingOptions, SetupError, check_parts};
use crate::fault::PeerFault;
use crate::window::{Barrier, Window};

/// What the driver side remembers of a descriptor, and of the avail entry and
/// the buffer of the same number.
#[derive(Clone, Debug, Default)]
pub struct DriverSlot {
    /// Shadow of the descriptor's halves.
    address: u64,
    tail: u64,
    /// Of the buffer whose head this is: device-writable bytes, descriptors
    /// (0: none in flight), and the avail index that it was added at.
    writable: u32,
    count: u16,
    position: u16,
    /// Shadow of the avail entry.
    entry: u16,
    /// The descriptor that follows in the chain or in the free list
    /// (out-of-order queues only).
    link: u16,
}

impl DriverSlot {
    /// The buffer whose head this is goes into flight.
    #[inline(always)]
    fn hold(&mut self, count: u16, writable: u32, position: u16) {
        self.count = count;
        self.writable = writable;
        self.position = position;
    }
}

/// The driver side of a queue. `S` stores one [`DriverSlot`] a descriptor.
///
/// Its calls in a loop that never misses a wake-up: [`take`](Self::take) until
/// `None`, [`add`](Self::add), [`publish`](Self::publish); then, to go on
/// polling, [`park`](Self::park); to sleep, drain the wake-up latch,
/// [`arm`](Self::arm), and sleep only if that said so.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct DriverQueue<D, A, U, S> {
    parts: Parts<D, A, U>,
    tables: Option<IndirectTables<D>>,
    slots: Slots<S, DriverSlot>,
    handshake: Handshake,
    in_order: bool,
    /// Used entries are single 64-bit words.
    wide: bool,
    /// Index of the next buffer to add; published up to `handshake.published()`.
    added: u16,
    /// Index of the next buffer to take back.
    taken: u16,
    /// Free descriptors, and the first of them.
    free: u16,
    next: u16,
    /// In order: the end of the batch that is being taken, and its last `len`.
    batch_end: u16,
    batch_len: u32,
    broken: Option<PeerFault>,
}

impl<D, A, U, S> DriverQueue<D, A, U, S>
where
    D: Window,
    A: Window,
    U: Window,
    S: AsRef<[DriverSlot]> + AsMut<[DriverSlot]>,
{
    /// Brings the three parts to their first state (docs/protocol-rings.md,
    /// "Rings"). Only then is the device told of the queue.
    ///
    /// # Errors
    /// [`SetupError`] if windows or records are too short.
    pub fn new(parts: Parts<D, A, U>, slots: S, options: RingOptions) -> Result<Self, SetupError> {
        check_parts(&parts, options.size)?;
        let mut queue = Self {
            handshake: handshake(options, &parts),
            wide: used_is_wide(parts.used_at),
            parts,
            tables: None,
            slots: Slots::new(slots, options.size)?,
            in_order: options.in_order,
            added: 0,
            taken: 0,
            free: options.size.get(),
            next: 0,
            batch_end: 0,
            batch_len: 0,
            broken: None,
        };
        queue.write_first_state();
        Ok(queue)
    }

    /// Begins a new life behind a reset of this queue (VirtIO 1.3 §2.6.1) that
    /// the device has *confirmed*: buffers that are out are the caller's again,
    /// a fault is forgotten, and the parts are in their first state, for
    /// `options`, which may ask for another size. Only then is the device told
    /// of the queue. What was counted stays.
    ///
    /// Words that the device writes of the old life all the same meet the
    /// checks of the new one, in which nothing is in flight.
    ///
    /// # Errors
    /// [`SetupError`] if windows, tables or records are too short for the new
    /// size; the queue is unchanged.
    pub fn restart(&mut self, options: RingOptions) -> Result<(), SetupError> {
        check_parts(&self.parts, options.size)?;
        if let Some(tables) = &self.tables {
            tables.check(options.size)?;
        }
        self.slots.reset(options.size)?;
        let stats = self.handshake.stats;
        self.handshake = handshake(options, &self.parts);
        self.handshake.stats = stats;
        self.in_order = options.in_order;
        (self.added, self.taken) = (0, 0);
        (self.free, self.next) = (options.size.get(), 0);
        (self.batch_end, self.batch_len) = (0, 0);
        self.broken = None;
        self.write_first_state();
        Ok(())
    }

    /// Writes the first state of all three parts; the records are fresh.
    fn write_first_state(&mut self) {
        let RingOptions { size, in_order, .. } = *self.handshake.options();
        let (parts, slots) = (&self.parts, &mut self.slots);
        let used_at = parts.used_at;
        for index in 0..size.get() {
            parts.descriptors.store(descriptor_address(index), 0_u64);
            parts.descriptors.store(descriptor_tail(index), 0_u64);
            parts.used.store(used_id(used_at, index), 0_u32);
            parts.used.store(used_len(used_at, index), 0_u32);
            let slot = slots.get_mut(index);
            slot.link = index.wrapping_add(1);
            slot.entry = if in_order { index } else { 0 };
        }
        for even in (0..size.get()).step_by(2) {
            let (low, high) = (slots.get(even).entry, slots.get(even + 1).entry);
            parts.avail.store(avail_pair(parts.avail_at, even), index_word(low, high));
        }
        parts.avail.store(used_event(parts.avail_at, size), 0_u32);
        parts.avail.store(parts.avail_at, 0_u32);
        parts.used.store(avail_event(used_at, size), 0_u32);
        parts.used.store(used_at, 0_u32);
        // A, B: whatever tells the device of the queue comes behind all this.
        parts.descriptors.barrier(Barrier::Write);
        parts.avail.barrier(Barrier::Write);
        parts.used.barrier(Barrier::Write);
    }

    /// How the queue was set up.
    #[must_use]
    pub fn options(&self) -> RingOptions {
        *self.handshake.options()
    }

    /// Buffers that were added and not taken back.
    #[inline(always)]
    #[must_use]
    pub fn buffers(&self) -> u16 {
        self.added.wrapping_sub(self.taken)
    }

    /// Entries.
    #[inline(always)]
    #[must_use]
    pub fn size(&self) -> u16 {
        self.handshake.options().size.get()
    }

    /// Descriptors that are free.
    #[inline(always)]
    #[must_use]
    pub fn free(&self) -> u16 {
        self.free
    }

    /// Descriptors of buffers that were added and not taken back.
    #[inline(always)]
    #[must_use]
    pub fn in_flight(&self) -> u16 {
        self.size() - self.free
    }

    /// The head that the next [`add`](Self::add) will use, so that a caller
    /// can bind a buffer to each head (R5: then no address is written again).
    #[inline(always)]
    #[must_use]
    pub fn next_head(&self) -> Option<u16> {
        if self.free > 0 { Some(self.next) } else { None }
    }

    /// Looks at used.idx: buffers that [`take`](Self::take) would return now.
    ///
    /// # Errors
    /// The fault; the queue is broken then.
    #[inline(always)]
    pub fn pending(&mut self) -> Result<u16, PeerFault> {
        if let Some(fault) = self.broken {
            return Err(fault);
        }
        let word = self.parts.used.load(self.parts.used_at);
        match self.look(word) {
            Ok(_) => Ok(self.handshake.seen().wrapping_sub(self.taken)),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// Publishes all buffers added since the last call, as one batch. True:
    /// ring the doorbell.
    #[inline(always)]
    #[must_use = "a doorbell that is not rung leaves the device asleep"]
    pub fn publish(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        self.handshake.publish(&self.parts.avail, &self.parts.used, self.added)
    }

    /// Awake: keeps the device from sending notifications. Cheap enough for
    /// every round of a polling loop.
    #[inline(always)]
    pub fn park(&mut self) {
        if self.broken.is_none() {
            self.handshake.park(&self.parts.avail);
        }
    }

    /// Asks for a notification without a look: for a side that sleeps on
    /// several queues and flushes once. Behind it come [`arm`](Self::arm) of
    /// another queue of the same function, whose barrier and flush take this
    /// event word along, and then [`pending`](Self::pending) of this one, which
    /// has to find nothing.
    pub fn ask(&mut self) {
        if self.broken.is_none() {
            self.handshake.ask(&self.parts.avail);
        }
    }

    /// Asks for a notification and looks once more (R4's sleeper). True:
    /// nothing is there, the caller may sleep. Drain the wake-up latch and
    /// publish first, and call this again after *every* wake-up.
    ///
    /// # Errors
    /// The fault, if what the look found is one.
    pub fn arm(&mut self) -> Result<bool, PeerFault> {
        if let Some(fault) = self.broken {
            return Err(fault);
        }
        if self.taken != self.handshake.seen() {
            return Ok(false);
        }
        let word = self.handshake.arm_and_look(&self.parts.avail, &self.parts.used);
        match self.look(word) {
            Ok(found) => Ok(!found),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// The fault that broke the queue, if one did.
    #[must_use]
    pub fn fault(&self) -> Option<PeerFault> {
        self.broken
    }

    /// Breaks the queue for a fault that was found outside it, such as a
    /// `num_buffers` that does not fit.
    pub fn break_with(&mut self, fault: PeerFault) {
        self.fail(fault);
    }

    /// What was counted since the first set-up.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        self.handshake.stats
    }

    /// Gives windows and records back, for a new set-up.
    #[must_use]
    pub fn into_parts(self) -> (Parts<D, A, U>, S) {
        (self.parts, self.slots.into_storage())
    }

    /// Remembers the fault: the queue is broken from now on.
    #[cold]
    fn fail(&mut self, fault: PeerFault) -> PeerFault {
        *self.broken.get_or_insert(fault)
    }
}

/// The handshake of rings in their first state.
fn handshake<D, A, U>(options: RingOptions, parts: &Parts<D, A, U>) -> Handshake {
    let (avail_at, used_at) = (parts.avail_at, parts.used_at);
    let mine = RingWords { index: avail_at, event: used_event(avail_at, options.size) };
    let theirs = RingWords { index: used_at, event: avail_event(used_at, options.size) };
    Handshake::new(options, mine, theirs)
}
