//! The board processor's cache, on boards where nothing keeps it coherent:
//! it does not see what the host and the DMA engine write to board memory, and
//! they do not see what is dirty in it.
//!
//! Lines come and go by themselves too: a processor fetches ahead, and evicts
//! what it likes. A line that is evicted or cleaned is written whole, also
//! where others have changed a part of it in the meantime.

use super::accesses::{Target, change};
use super::{Cargo, Fault, Machine, Range};
use crate::bus::bill::Initiator;
use crate::bus::sim::access::AccessKind;

/// Bytes of a line.
pub(in crate::bus::sim) const LINE: usize = 64;

/// Lines that it holds; each has its one place.
const LINES: usize = 4096;

/// How far the processor fetches ahead, in lines.
const AHEAD: usize = 8;

#[derive(Clone, Debug)]
struct Line {
    /// Its memory, and which of that memory's lines it is.
    place: (usize, usize),
    dirty: bool,
    bytes: [u8; LINE],
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Empty until it is used.
    lines: Vec<Option<Line>>,
    /// The last line used.
    last: (usize, usize),
}

impl Cache {
    fn slot(&mut self, number: usize) -> &mut Option<Line> {
        if self.lines.is_empty() {
            self.lines.resize(LINES, None);
        }
        &mut self.lines[number % LINES]
    }

    fn find(&mut self, place: (usize, usize)) -> Option<&mut Line> {
        self.slot(place.1).as_mut().filter(|line| line.place == place)
    }

    pub(super) fn clear(&mut self) {
        self.lines.clear();
    }
}

/// The lines that a range touches: numbers, and the part of the range in each.
fn lines(range: Range) -> impl Iterator<Item = (usize, Range)> {
    let last = (range.at + range.len).div_ceil(LINE);
    (range.at / LINE..last).map(move |number| {
        let from = range.at.max(number * LINE);
        let end = (range.at + range.len).min((number + 1) * LINE);
        (number, Range { at: from, len: end - from, ..range })
    })
}

fn whole(place: (usize, usize)) -> Range {
    Range { memory: place.0, at: place.1 * LINE, len: LINE }
}

impl Machine {
    /// What happens in a cache by itself, in one step.
    pub(super) fn cache_step(&mut self) {
        if self.cache.lines.is_empty() {
            return;
        }
        if self.schedule.evicts() {
            let slot = self.schedule.index_below(LINES);
            self.evict(slot);
        }
        if self.schedule.fetches_ahead() {
            let (memory, number) = self.cache.last;
            let number = number + self.schedule.index_below(AHEAD);
            if (number + 1) * LINE <= self.places[memory].bytes.len() {
                self.fill((memory, number));
            }
        }
    }

    /// Writes a line back if it is dirty, and forgets it.
    fn evict(&mut self, slot: usize) {
        if let Some(line) = self.cache.lines[slot].take()
            && line.dirty
        {
            self.write_back(&line);
        }
    }

    fn write_back(&mut self, line: &Line) {
        let data = self.pool.copy_of(&line.bytes);
        let cargo = Cargo::Write(whole(line.place), data);
        self.accept(Initiator::BoardCpu, cargo, false, None);
    }

    /// The line of `place`, fetched if it is not there.
    fn fill(&mut self, place: (usize, usize)) -> &mut Line {
        self.cache.last = place;
        let missing = self.cache.find(place).is_none();
        if missing {
            self.evict(place.1 % LINES);
        }
        let mut bytes = [0; LINE];
        if missing {
            self.load_local(Initiator::BoardCpu, whole(place), &mut bytes);
        }
        self.cache.slot(place.1).get_or_insert(Line { place, dirty: false, bytes })
    }

    pub(in crate::bus::sim) fn read_cached(&mut self, target: Target<'_>, into: &mut [u8]) {
        self.step();
        let range = target.range(into.len());
        for (number, part) in lines(range) {
            let line = self.fill((range.memory, number));
            let bytes = &line.bytes[part.at % LINE..][..part.len];
            into[part.at - range.at..][..part.len].copy_from_slice(bytes);
        }
        let fault = self.fault_at(target, AccessKind::PayloadLoad, into);
        change(into, fault);
        if fault == Some(Fault::Drop) {
            into.fill(0xFF);
        }
    }

    pub(in crate::bus::sim) fn write_cached(&mut self, target: Target<'_>, from: &[u8]) {
        self.step();
        let fault = self.fault_at(target, AccessKind::PayloadStore, from);
        if fault == Some(Fault::Drop) {
            return;
        }
        let mut data = self.pool.copy_of(from);
        change(data.bytes_mut(), fault);
        let range = target.range(from.len());
        for (number, part) in lines(range) {
            let line = self.fill((range.memory, number));
            line.dirty = true;
            let bytes = &data.bytes()[part.at - range.at..][..part.len];
            line.bytes[part.at % LINE..][..part.len].copy_from_slice(bytes);
        }
        self.pool.take_back(data);
    }

    /// Dirty lines that the range touches go to memory, whole; they stay.
    pub(in crate::bus::sim) fn clean(&mut self, target: Target<'_>, len: usize) {
        self.step();
        for (number, _) in lines(target.range(len)) {
            if let Some(line) = self.cache.find((target.memory.id, number))
                && line.dirty
            {
                line.dirty = false;
                let line = line.clone();
                self.write_back(&line);
            }
        }
    }

    /// Lines that the range touches are forgotten, whole; what is dirty is lost.
    pub(in crate::bus::sim) fn invalidate(&mut self, target: Target<'_>, len: usize) {
        self.step();
        for (number, _) in lines(target.range(len)) {
            if self.cache.find((target.memory.id, number)).is_some() {
                *self.cache.slot(number) = None;
            }
        }
    }
}
