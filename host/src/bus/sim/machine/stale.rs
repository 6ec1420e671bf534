//! What a processor's loads may still see of the past.
//!
//! A load may be carried out before an earlier one, so it may find a word as
//! it was before a delivery that the earlier load has already seen. Each
//! processor remembers, for words that others changed in its memory since its
//! last read barrier, what was there before; a load sees that or the present,
//! at random. Once it has seen the present it never sees the past again.

use std::collections::VecDeque;

use super::data::{Data, Pool, Range};
use crate::bus::sim::schedule::Schedule;

/// One processor's past.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Never two that overlap.
    records: VecDeque<(Range, Data)>,
}

impl Past {
    const CAPACITY: usize = 16;

    /// Somebody else has changed `range`, where `before` was.
    pub(super) fn remember(&mut self, range: Range, before: Data, pool: &mut Pool) {
        self.forget(&range, pool);
        if self.records.len() >= Self::CAPACITY
            && let Some((_, data)) = self.records.pop_front()
        {
            pool.take_back(data);
        }
        self.records.push_back((range, before));
    }

    /// The present of `range` has been seen or written.
    pub(super) fn forget(&mut self, range: &Range, pool: &mut Pool) {
        let mut index = 0;
        while let Some((at, _)) = self.records.get(index) {
            if at.overlaps(range) {
                if let Some((_, data)) = self.records.swap_remove_back(index) {
                    pool.take_back(data);
                }
            } else {
                index += 1;
            }
        }
    }

    /// A read barrier: the past is over.
    pub(super) fn clear(&mut self, pool: &mut Pool) {
        for (_, data) in self.records.drain(..) {
            pool.take_back(data);
        }
    }

    /// Makes `out`, loaded from `to`, what the processor sees.
    pub(super) fn overlay(
        &mut self,
        to: &Range,
        out: &mut [u8],
        schedule: &mut Schedule,
        pool: &mut Pool,
    ) {
        let mut index = 0;
        while let Some((range, data)) = self.records.get(index) {
            if !range.overlaps(to) {
                index += 1;
            } else if schedule.sees_stale() {
                range.overlay(data.bytes(), to, out);
                index += 1;
            } else if let Some((_, data)) = self.records.swap_remove_back(index) {
                pool.take_back(data);
            }
        }
    }
}
