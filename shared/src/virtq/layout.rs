//! Where each word of a queue lies, by queue size.

use core::fmt;

use super::SetupError;
use crate::wire::virtq::{
    AVAIL_ENTRY_SIZE, DESCRIPTOR_SIZE, DESCRIPTOR_TAIL, EVENT_SIZE, RING_ENTRIES, USED_ENTRY_LEN,
    USED_ENTRY_SIZE,
};

/// A queue's size: a power of two from 2 to 32768.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueSize(u16);

impl QueueSize {
    /// The smallest queue: two ring entries share one 32-bit word.
    pub const MIN: Self = Self(2);
    /// The largest queue (VirtIO 1.3 §2.7).
    pub const MAX: Self = Self(1 << 15);

    /// Entries.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Takes an index to its place in the rings.
    #[must_use]
    pub const fn mask(self) -> u16 {
        self.0 - 1
    }

    /// Bytes of the descriptor table.
    #[must_use]
    pub const fn descriptor_table_len(self) -> u64 {
        DESCRIPTOR_SIZE * self.0 as u64
    }

    /// Bytes of the avail ring, the event word and its padding included.
    #[must_use]
    pub const fn avail_len(self) -> u64 {
        used_event(0, self) + EVENT_SIZE
    }

    /// Bytes of the used ring, the event word and its padding included.
    #[must_use]
    pub const fn used_len(self) -> u64 {
        avail_event(0, self) + EVENT_SIZE
    }
}

impl TryFrom<u32> for QueueSize {
    type Error = SetupError;

    fn try_from(size: u32) -> Result<Self, SetupError> {
        match u16::try_from(size) {
            Ok(size) if size.is_power_of_two() && size >= 2 => Ok(Self(size)),
            _ => Err(SetupError::Size { size }),
        }
    }
}

impl From<QueueSize> for u32 {
    fn from(size: QueueSize) -> Self {
        Self::from(size.0)
    }
}

impl fmt::Debug for QueueSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for QueueSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A descriptor's first half.
#[inline(always)]
pub(super) const fn descriptor_address(index: u16) -> u64 {
    DESCRIPTOR_SIZE * index as u64
}

/// A descriptor's second half.
#[inline(always)]
pub(super) const fn descriptor_tail(index: u16) -> u64 {
    descriptor_address(index) + DESCRIPTOR_TAIL
}

/// The 32-bit word that holds the avail entry `slot` of a ring at `avail_at`,
/// and its neighbour.
#[inline(always)]
pub(super) const fn avail_pair(avail_at: u64, slot: u16) -> u64 {
    avail_at + RING_ENTRIES + AVAIL_ENTRY_SIZE * (slot & !1) as u64
}

/// The used entry `slot` of a ring at `used_at`: its `id`.
#[inline(always)]
pub(super) const fn used_id(used_at: u64, slot: u16) -> u64 {
    used_at + RING_ENTRIES + USED_ENTRY_SIZE * slot as u64
}

/// The `len` of the used entry `slot`.
#[inline(always)]
pub(super) const fn used_len(used_at: u64, slot: u16) -> u64 {
    used_id(used_at, slot) + USED_ENTRY_LEN
}

/// Whether the used entries of a ring at `used_at` are single 64-bit words.
#[inline(always)]
pub(super) const fn used_is_wide(used_at: u64) -> bool {
    used_id(used_at, 0).is_multiple_of(USED_ENTRY_SIZE)
}

/// used_event, at the end of the avail ring at `avail_at`.
#[inline(always)]
pub(super) const fn used_event(avail_at: u64, size: QueueSize) -> u64 {
    avail_at + RING_ENTRIES + AVAIL_ENTRY_SIZE * size.0 as u64
}

/// avail_event, at the end of the used ring at `used_at`.
#[inline(always)]
pub(super) const fn avail_event(used_at: u64, size: QueueSize) -> u64 {
    used_at + RING_ENTRIES + USED_ENTRY_SIZE * size.0 as u64
}

/// An index word from its halves.
#[inline(always)]
pub(super) const fn index_word(flags: u16, index: u16) -> u32 {
    flags as u32 | (index as u32) << 16
}

/// The low 16 bits of a word.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "takes the halves apart")]
pub(super) const fn low(word: u32) -> u16 {
    word as u16
}

/// The high 16 bits of a word.
#[inline(always)]
pub(super) const fn high(word: u32) -> u16 {
    low(word >> 16)
}

/// A descriptor's second half from its fields.
#[inline(always)]
pub(super) const fn tail_word(len: u32, flags: u16, next: u16) -> u64 {
    len as u64 | (flags as u64) << 32 | (next as u64) << 48
}

/// A used entry as one word.
#[inline(always)]
pub(super) const fn used_word(id: u32, len: u32) -> u64 {
    id as u64 | (len as u64) << 32
}

/// The fields of a used entry: `id`, `len`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
pub(super) const fn used_fields(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// The fields of a descriptor's second half: `len`, `flags`, `next`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
pub(super) const fn tail_fields(word: u64) -> (u32, u16, u16) {
    (word as u32, (word >> 32) as u16, (word >> 48) as u16)
}
