//! R4, once for both sides: publishing an index and going to sleep.
//!
//! `mine` is the ring that this side writes (avail for the driver, used for
//! the device): its index word and, at its end, its event word. `theirs` is
//! the ring that the peer writes. Barriers carry the letters of
//! docs/protocol-rings.md, "Order": first the driver's, then the device's.

use super::layout::{high, index_word, low};
use super::{QueueStats, RingOptions, SleepFlush, notify};
use crate::window::{Barrier, Window};
use crate::wire::virtq::AVAIL_NO_INTERRUPT;

/// Where the two words of the handshake lie in a ring's window.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingWords {
    /// Flags and index.
    pub(super) index: u64,
    /// The event word of the side that writes the ring.
    pub(super) event: u64,
}

/// The notification state of one side: shadows of all that it wrote.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Handshake {
    options: RingOptions,
    mine: RingWords,
    theirs: RingWords,
    /// What `mine` holds: flags and index of the index word, the event word.
    flags: u16,
    published: u16,
    event: u16,
    /// The peer's index, as last read and accepted.
    seen: u16,
    pub(super) stats: QueueStats,
}

impl Handshake {
    /// The state of rings that are all zero.
    pub(super) fn new(options: RingOptions, mine: RingWords, theirs: RingWords) -> Self {
        Self {
            options,
            mine,
            theirs,
            flags: 0,
            published: 0,
            event: 0,
            seen: 0,
            stats: QueueStats::default(),
        }
    }

    #[inline(always)]
    pub(super) fn options(&self) -> &RingOptions {
        &self.options
    }

    /// The index that the peer can see.
    #[inline(always)]
    pub(super) fn published(&self) -> u16 {
        self.published
    }

    /// The peer's index, as far as it was accepted.
    #[inline(always)]
    pub(super) fn seen(&self) -> u16 {
        self.seen
    }

    /// Accepts the peer's index after its checks.
    #[inline(always)]
    pub(super) fn accept(&mut self, index: u16) {
        self.seen = index;
    }

    /// Publishes all entries up to `new`; true if the peer wants a notification.
    #[inline(always)]
    pub(super) fn publish<M: Window, T: Window>(&mut self, mine: &M, theirs: &T, new: u16) -> bool {
        let old = self.published;
        if new == old {
            return false;
        }
        self.published = new;
        mine.barrier(Barrier::Write); // A, B: entries before the index
        mine.store(self.mine.index, index_word(self.flags, new));
        mine.barrier(Barrier::Full); // C, D: the index before the event word and the notification
        if self.options.publish_flush {
            self.read_back(mine);
            mine.barrier(Barrier::Read); // E: the flush before the event word
            self.stats.publish_flushes += 1;
        }
        let notify = if self.options.event_idx {
            notify::needs_event(low(theirs.load(self.theirs.event)), new, old)
        } else {
            notify::flags_ask(low(theirs.load(self.theirs.index)))
        };
        if notify {
            self.stats.notifications += 1;
        } else {
            self.stats.suppressed += 1;
        }
        notify
    }

    /// Keeps the peer from notifying while this side is awake.
    #[inline(always)]
    pub(super) fn park<M: Window>(&mut self, mine: &M) {
        if self.options.event_idx {
            let size = self.options.size.get();
            if let Some(event) = notify::parked_event(self.event, self.seen, size) {
                self.store_event(mine, event);
            }
        } else if self.flags != AVAIL_NO_INTERRUPT {
            self.store_flags(mine, AVAIL_NO_INTERRUPT);
        }
    }

    /// Asks for a notification of the first entry that was not seen.
    pub(super) fn ask<M: Window>(&mut self, mine: &M) {
        if self.options.event_idx {
            let event = notify::armed_event(self.seen);
            if event != self.event {
                self.store_event(mine, event);
            }
        } else if self.flags != 0 {
            self.store_flags(mine, 0);
        }
    }

    /// R4's sleeper up to its look: returns the peer's index word, which the
    /// caller checks.
    pub(super) fn arm_and_look<M: Window, T: Window>(&mut self, mine: &M, theirs: &T) -> u32 {
        self.ask(mine);
        mine.barrier(Barrier::Full); // D, C: the event word before the look
        match self.options.sleep_flush {
            SleepFlush::ReadBack => {
                self.read_back(mine);
                self.stats.flushes += 1;
            }
            SleepFlush::LookFlushes => {}
        }
        theirs.barrier(Barrier::Read); // E: the flush before the look
        theirs.load(self.theirs.index)
    }

    /// Whether an index word of all ones means that the bus did not answer.
    #[inline(always)]
    pub(super) fn link_lost(&self, word: u32) -> bool {
        word == u32::MAX && self.options.sleep_flush == SleepFlush::LookFlushes
    }

    /// The peer's index out of its index word.
    #[inline(always)]
    pub(super) fn index(word: u32) -> u16 {
        high(word)
    }

    fn store_event<M: Window>(&mut self, mine: &M, event: u16) {
        self.event = event;
        mine.store(self.mine.event, u32::from(event));
    }

    fn store_flags<M: Window>(&mut self, mine: &M, flags: u16) {
        self.flags = flags;
        // With the index that is published, not the one that is being prepared.
        mine.store(self.mine.index, index_word(flags, self.published));
    }

    /// Reads the word that was stored last for the peer's sake. Its value is
    /// of no interest: its completion pushes the posted writes ahead of it.
    fn read_back<M: Window>(&self, mine: &M) {
        let word = if self.options.event_idx { self.mine.event } else { self.mine.index };
        let _: u32 = mine.load(word);
    }
}
