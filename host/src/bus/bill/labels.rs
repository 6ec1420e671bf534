//! Which memory, and which notifications, belong to which direction's queue.

use std::ops::Range;
use std::sync::OnceLock;

use super::party::Plane;
use crate::bus::Stretch;

/// What belongs to one direction's queue.
#[derive(Clone, Copy, Debug)]
pub struct Label<'a> {
    /// The plane to bill it to.
    pub plane: Plane,
    /// Its memory.
    pub stretches: &'a [Stretch],
    /// Its doorbell and its vector.
    pub notification: u32,
}

/// The labels of one memory: set once.
#[derive(Debug)]
pub(in crate::bus) struct MemoryLabels {
    /// Offsets below this that no label names are billed as the link's.
    link_len: u64,
    ranges: OnceLock<Vec<(Range<u64>, Plane)>>,
}

impl MemoryLabels {
    pub(in crate::bus) const fn new(link_len: u64) -> Self {
        Self { link_len, ranges: OnceLock::new() }
    }

    /// Takes those of `labels` that lie in this memory: `len` bytes from
    /// `base` of the BAR, or of host memory. Where it has some, nothing changes.
    pub(in crate::bus) fn set(&self, labels: &[Label<'_>], bar: Option<u8>, base: u64, len: u64) {
        let stretches = labels.iter().flat_map(|label| {
            let plane = label.plane;
            label.stretches.iter().map(move |stretch| (*stretch, plane))
        });
        let ranges = stretches
            .filter(|(stretch, _)| stretch.bar == bar)
            .filter_map(|(stretch, plane)| {
                let start = stretch.start.checked_sub(base)?;
                let end = start.checked_add(stretch.len)?;
                (end <= len).then_some((start..end, plane))
            })
            .collect();
        let _ = self.ranges.set(ranges);
    }

    /// What the access at `offset` serves.
    pub(in crate::bus) fn plane(&self, offset: u64) -> Plane {
        let ranges = self.ranges.get().map_or(&[][..], Vec::as_slice);
        let label = ranges.iter().find(|(range, _)| range.contains(&offset));
        let other = if offset < self.link_len { Plane::Link } else { Plane::Data };
        label.map_or(other, |(_, plane)| *plane)
    }
}

/// The labels of doorbells and vectors: set once.
#[derive(Debug, Default)]
pub(in crate::bus) struct NotificationLabels(OnceLock<Vec<(u32, Plane)>>);

impl NotificationLabels {
    /// Where there are some, nothing changes.
    pub(in crate::bus) fn set(&self, labels: &[Label<'_>]) {
        let numbers = labels.iter().map(|label| (label.notification, label.plane));
        let _ = self.0.set(numbers.collect());
    }

    /// What doorbell, or vector, `number` serves.
    pub(in crate::bus) fn plane(&self, number: u32) -> Plane {
        let labels = self.0.get().map_or(&[][..], Vec::as_slice);
        let label = labels.iter().find(|(labelled, _)| *labelled == number);
        label.map_or(Plane::of_notification(number), |(_, plane)| *plane)
    }
}
