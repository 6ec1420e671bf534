//! The device side: pops chains, completes them.

mod complete;

pub use complete::{CompleteError, UsedEntry};

use super::handshake::{Handshake, RingWords};
use super::layout::{avail_event, avail_pair, high, low, used_event, used_is_wide};
use super::slots::Slots;
use super::{Chain, Parts, QueueStats, RingOptions, SetupError, SleepFlush, check_parts};
use crate::address::BusAddress;
use crate::fault::PeerFault;
use crate::region::Located;
use crate::window::{Barrier, Window};

/// An indirect table looked up.
type Found<'t, T> = Result<Located<'t, T>, PeerFault>;

/// How a table is found, and what is told of its descriptors, where there is none.
type Tables<'t, T> = (fn(BusAddress, u32) -> Found<'t, T>, fn(&T, u64));

/// Bit of [`DeviceSlot::state`]: the head of this number is in flight.
const IN_FLIGHT: u16 = 1 << 15;

/// What the device side remembers of a used entry, of the avail entry of the
/// same number, and of the head of the same number.
#[derive(Clone, Debug, Default)]
pub struct DeviceSlot {
    /// Shadow of the used entry.
    len: u32,
    id: u16,
    /// [`IN_FLIGHT`]; below it the head that was popped from the avail entry.
    state: u16,
}

impl DeviceSlot {
    /// One that nothing has used, for memory that is made by the compiler.
    pub const NEW: Self = Self { len: 0, id: 0, state: 0 };

    /// The head that was popped from the avail entry of this number.
    #[inline(always)]
    const fn popped(&self) -> u16 {
        self.state & !IN_FLIGHT
    }
}

/// The device side of a queue. `S` stores one [`DeviceSlot`] a descriptor.
///
/// The parts are as the driver set them up: all zero but for descriptors and
/// avail entries. Calls in a loop that never misses a wake-up:
/// [`pop`](Self::pop) and [`complete`](Self::complete),
/// [`publish`](Self::publish); then [`park`](Self::park) to go on polling, or
/// drain the wake-up latch, [`arm`](Self::arm), and sleep if that said so.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct DeviceQueue<D, A, U, S> {
    parts: Parts<D, A, U>,
    slots: Slots<S, DeviceSlot>,
    handshake: Handshake,
    in_order: bool,
    /// Used entries are single 64-bit words.
    wide: bool,
    /// Index of the next buffer to pop.
    taken: u16,
    /// Index of the next buffer to complete; published up to
    /// `handshake.published()`.
    completed: u16,
    /// Where the used entry of the buffers from here to `completed` will
    /// stand: none of them has one yet. What it will say.
    run_start: u16,
    run_head: u16,
    run_len: u32,
    broken: Option<PeerFault>,
}

impl<D, A, U, S> DeviceQueue<D, A, U, S>
where
    D: Window,
    A: Window,
    U: Window,
    S: AsRef<[DeviceSlot]> + AsMut<[DeviceSlot]>,
{
    /// Takes a queue over from the driver that has set it up. Writes nothing.
    ///
    /// # Errors
    /// [`SetupError`] if windows or records are too short.
    pub fn new(parts: Parts<D, A, U>, slots: S, options: RingOptions) -> Result<Self, SetupError> {
        let (size, avail_at, used_at) = (options.size, parts.avail_at, parts.used_at);
        check_parts(&parts, size)?;
        let mine = RingWords { index: used_at, event: avail_event(used_at, size) };
        let theirs = RingWords { index: avail_at, event: used_event(avail_at, size) };
        Ok(Self {
            parts,
            slots: Slots::new(slots, size)?,
            handshake: Handshake::new(options, mine, theirs),
            in_order: options.in_order,
            wide: used_is_wide(used_at),
            taken: 0,
            completed: 0,
            run_start: 0,
            run_head: 0,
            run_len: 0,
            broken: None,
        })
    }

    /// Entries.
    #[inline(always)]
    #[must_use]
    pub fn size(&self) -> u16 {
        self.handshake.options().size.get()
    }

    /// Buffers that were popped and not completed.
    #[inline(always)]
    #[must_use]
    pub fn in_flight(&self) -> u16 {
        self.taken.wrapping_sub(self.completed)
    }

    /// Looks at avail.idx: buffers that can be popped now.
    ///
    /// # Errors
    /// The fault; the queue is broken then.
    #[inline(always)]
    pub fn available(&mut self) -> Result<u16, PeerFault> {
        if let Some(fault) = self.broken {
            return Err(fault);
        }
        let word = self.parts.avail.load(self.parts.avail_at);
        match self.look(word) {
            Ok(_) => Ok(self.handshake.seen().wrapping_sub(self.taken)),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// Pops the next buffer into `chain` and returns its head. The chain is
    /// checked as a whole; its addresses are for the region table to check.
    /// avail.idx is read only when all that it last announced was popped. An
    /// indirect table is a fault: for queues without VIRTIO_F_INDIRECT_DESC.
    ///
    /// # Errors
    /// The fault; the queue is broken then.
    #[inline(always)]
    pub fn pop(&mut self, chain: &mut Chain) -> Result<Option<u16>, PeerFault> {
        self.pop_checked(chain, None::<Tables<'_, D>>)
    }

    /// [`pop`](Self::pop) for a queue that may have negotiated
    /// VIRTIO_F_INDIRECT_DESC (else a table is a fault here too): `find` turns
    /// bus address and bytes of an indirect table into memory, with
    /// [`RegionTable::resolve`](crate::region::RegionTable::resolve) and the
    /// right to read. It is asked at most once. `see` is told of each
    /// descriptor there, by window and offset, before it is read: what makes
    /// sure that the CPU sees what the driver wrote belongs there.
    ///
    /// # Errors
    /// The fault, those of `find` included; the queue is broken then.
    #[inline(always)]
    pub fn pop_with_tables<'t, T: Window + 't>(
        &mut self,
        chain: &mut Chain,
        find: impl FnOnce(BusAddress, u32) -> Result<Located<'t, T>, PeerFault>,
        see: impl FnMut(&T, u64),
    ) -> Result<Option<u16>, PeerFault> {
        let tables = self.handshake.options().indirect.then_some((find, see));
        self.pop_checked(chain, tables)
    }

    #[inline(always)]
    fn pop_checked<'t, T: Window + 't>(
        &mut self,
        chain: &mut Chain,
        tables: Option<(impl FnOnce(BusAddress, u32) -> Found<'t, T>, impl FnMut(&T, u64))>,
    ) -> Result<Option<u16>, PeerFault> {
        if let Some(fault) = self.broken {
            return Err(fault);
        }
        match self.try_pop(chain, tables) {
            Ok(head) => Ok(head),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    #[inline(always)]
    fn try_pop<'t, T: Window + 't>(
        &mut self,
        chain: &mut Chain,
        tables: Option<(impl FnOnce(BusAddress, u32) -> Found<'t, T>, impl FnMut(&T, u64))>,
    ) -> Result<Option<u16>, PeerFault> {
        if self.taken == self.handshake.seen() {
            let word = self.parts.avail.load(self.parts.avail_at);
            if !self.look(word)? {
                return Ok(None);
            }
        }
        let size = self.handshake.options().size;
        let place = self.taken & size.mask();
        let pair: u32 = self.parts.avail.load(avail_pair(self.parts.avail_at, place));
        let head = if place & 1 == 0 { low(pair) } else { high(pair) };
        if head >= size.get() {
            if self.handshake.link_lost(pair) {
                return Err(PeerFault::LinkLost);
            }
            return Err(PeerFault::DescriptorIndex { index: head, size: size.get() });
        }
        if self.slots.get(head).state & IN_FLIGHT != 0 {
            return Err(PeerFault::HeadInFlight { head });
        }
        chain.walk(&self.parts.descriptors, size, head, tables)?;
        let order = self.slots.get_mut(place);
        order.state = order.state & IN_FLIGHT | head;
        self.slots.get_mut(head).state |= IN_FLIGHT;
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(head))
    }

    /// Checks an avail index word; whether it announces something new.
    #[inline(always)]
    fn look(&mut self, word: u32) -> Result<bool, PeerFault> {
        if self.handshake.link_lost(word) {
            return Err(PeerFault::LinkLost);
        }
        let seen = self.handshake.seen();
        let claimed = Handshake::index(word).wrapping_sub(seen);
        if claimed == 0 {
            return Ok(false);
        }
        // Entries that the driver cannot have used again: popped or announced,
        // and not returned.
        let taken = seen.wrapping_sub(self.handshake.published());
        let limit = self.size().wrapping_sub(taken);
        if claimed > limit {
            return Err(PeerFault::AvailIndexAhead { claimed, limit });
        }
        self.handshake.accept(Handshake::index(word));
        self.parts.avail.barrier(Barrier::Read); // A: the index before the entries
        Ok(true)
    }

    /// Gives back the last `count` buffers popped, none of which has been
    /// completed: the next [`pop`](Self::pop) finds the first of them again.
    /// Stops at one that was completed.
    pub fn unpop(&mut self, count: u16) {
        for _ in 0..count.min(self.in_flight()) {
            let last = self.taken.wrapping_sub(1);
            let head = self.slots.get(last).popped();
            let slot = self.slots.get_mut(head);
            if slot.state & IN_FLIGHT == 0 {
                debug_assert!(false, "unpop behind a completed buffer");
                return;
            }
            slot.state &= !IN_FLIGHT;
            self.taken = last;
        }
    }

    /// Awake: keeps the driver from ringing the doorbell. Cheap enough for
    /// every round of a polling loop.
    #[inline(always)]
    pub fn park(&mut self) {
        if self.broken.is_none() {
            self.handshake.park(&self.parts.used);
        }
    }

    /// Asks for a doorbell without a look: for a side that sleeps on several
    /// queues and flushes once. Behind it come [`arm`](Self::arm) of another
    /// queue of the same function, whose barrier and flush take this event word
    /// along, and then [`available`](Self::available) of this one, which has to
    /// find nothing.
    pub fn ask(&mut self) {
        if self.broken.is_none() {
            self.handshake.ask(&self.parts.used);
        }
    }

    /// Asks for a doorbell and looks once more (R4's sleeper). True: nothing
    /// is there to pop, the caller may sleep. Drain the wake-up latch and
    /// publish first, and call this again after *every* wake-up.
    ///
    /// # Errors
    /// The fault, if what the look found is one.
    pub fn arm(&mut self) -> Result<bool, PeerFault> {
        if self.broken.is_none() && self.taken != self.handshake.seen() {
            return Ok(false);
        }
        self.arm_for_more()
    }

    /// Like [`arm`](Self::arm), for one who needs more buffers than are known
    /// to be there: true if none came since the last look, whether or not
    /// there are some to pop.
    ///
    /// # Errors
    /// The fault, if what the look found is one.
    pub fn arm_for_more(&mut self) -> Result<bool, PeerFault> {
        if let Some(fault) = self.broken {
            return Err(fault);
        }
        let word = self.handshake.arm_and_look(&self.parts.used, &self.parts.avail);
        match self.look(word) {
            Ok(found) => Ok(!found),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// Whether [`arm`](Self::arm) reads the event word back across the bus.
    #[must_use]
    pub fn reads_back(&self) -> bool {
        self.handshake.options().sleep_flush == SleepFlush::ReadBack
    }

    /// The fault that broke the queue, if one did.
    #[must_use]
    pub fn fault(&self) -> Option<PeerFault> {
        self.broken
    }

    /// Breaks the queue for a fault that was found outside it, such as an
    /// address that the region table refuses.
    pub fn break_with(&mut self, fault: PeerFault) {
        self.fail(fault);
    }

    /// What was counted since the set-up.
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
