//! Store buffers: where stores wait, and in which order they may leave.

use std::collections::VecDeque;

use super::data::{Data, Range};
use crate::bus::sim::schedule::Schedule;

/// Something on its way to memory or across the bus.
#[derive(Debug)]
pub(super) enum Cargo {
    Write(Range, Data),
    Doorbell(u16),
    Interrupt(u16),
}

impl Cargo {
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Write(one, _), Self::Write(two, _)) => one.overlaps(two),
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Entry {
    cargo: Cargo,
    remote: bool,
    /// How many write barriers came before.
    era: u64,
}

/// The stores that one initiator has made and that have not left it.
#[derive(Debug, Default)]
pub(super) struct StoreBuffer {
    entries: VecDeque<Entry>,
    era: u64,
}

impl StoreBuffer {
    /// A store that finds this many waiting makes one of them leave.
    pub(super) const CAPACITY: usize = 16;

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= Self::CAPACITY
    }

    pub(super) fn push(&mut self, cargo: Cargo, remote: bool) {
        self.entries.push_back(Entry { cargo, remote, era: self.era });
    }

    /// Later stores leave after all that are here now.
    pub(super) fn fence(&mut self) {
        self.era += 1;
    }

    /// One store leaves: any of the oldest era, unless an older one overlaps it.
    pub(super) fn leave(&mut self, schedule: &mut Schedule) -> Option<(Cargo, bool)> {
        let era = self.entries.front()?.era;
        let count = self.entries.iter().take_while(|entry| entry.era == era).count();
        self.take(schedule.pick(count))
    }

    /// One store leaves of those that must before the last remote one can, or
    /// that one; `None` if there is no remote one.
    pub(super) fn leave_for_remote(&mut self, schedule: &mut Schedule) -> Option<(Cargo, bool)> {
        let last = self.entries.iter().rfind(|entry| entry.remote)?.era;
        let era = self.entries.front()?.era;
        let may = |entry: &Entry| entry.era == era && (era < last || entry.remote);
        let count = self.entries.iter().filter(|entry| may(entry)).count();
        let nth = schedule.pick(count);
        let index = self.entries.iter().enumerate().filter(|(_, entry)| may(entry)).nth(nth)?.0;
        self.take(index)
    }

    /// Takes out entry `index`, or the one that must leave before it because
    /// they overlap, or the one before that, and so on.
    fn take(&mut self, mut index: usize) -> Option<(Cargo, bool)> {
        while let Some(chosen) = self.entries.get(index)
            && let Some(older) = self
                .entries
                .iter()
                .take(index)
                .position(|entry| entry.cargo.overlaps(&chosen.cargo))
        {
            index = older;
        }
        self.entries.remove(index).map(|entry| (entry.cargo, entry.remote))
    }

    /// Puts the initiator's own stores over what it loads from `to`.
    pub(super) fn forward(&self, to: &Range, out: &mut [u8]) {
        for entry in &self.entries {
            if let Cargo::Write(range, data) = &entry.cargo {
                range.overlay(data.bytes(), to, out);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}
