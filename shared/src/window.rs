//! Windows: the only way to touch memory that the peer also sees.
//!
//! Guarantee: no method panics, and none reads or writes outside the window.
//! An access that does not fit behaves like an unclaimed access on the bus:
//! loads give all ones, stores are dropped. Callers check ranges first (with
//! the region table or at set-up), so this is the last line, not the first.
//!
//! Implementations: [`crate::raw::SharedWindow`] (RAM and mapped BARs), the
//! simulated bus (host crate), and test fakes.

#[cfg(test)]
pub(crate) mod testing;

/// What a barrier orders, for the initiator that calls it (R8). The letters
/// are those of the table in docs/protocol-rings.md, "Order".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Barrier {
    /// Earlier stores are visible to the peer, and earlier loads done, before
    /// later stores (publish: what is published may be a buffer just read).
    Write,
    /// Earlier loads are done before later loads (observe).
    Read,
    /// Earlier stores have been accepted by the bus before later loads, and
    /// all of the above. Stronger than any fence between CPUs.
    Full,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

/// A word that a window loads and stores whole: `u32` or `u64`.
pub trait Word: sealed::Sealed + Copy + Eq {
    /// Size and alignment in bytes.
    const BYTES: u64;
    /// What an unclaimed load returns.
    const ALL_ONES: Self;
    /// Widens to 64 bits.
    fn to_u64(self) -> u64;
    /// Keeps the low bits.
    fn from_u64(value: u64) -> Self;
}

impl Word for u32 {
    const BYTES: u64 = 4;
    const ALL_ONES: Self = u32::MAX;
    fn to_u64(self) -> u64 {
        u64::from(self)
    }
    #[expect(clippy::cast_possible_truncation, reason = "keeps the low bits by contract")]
    fn from_u64(value: u64) -> Self {
        value as Self
    }
}

impl Word for u64 {
    const BYTES: u64 = 8;
    const ALL_ONES: Self = u64::MAX;
    fn to_u64(self) -> u64 {
        self
    }
    fn from_u64(value: u64) -> Self {
        value
    }
}

/// A stretch of memory that the peer also sees.
///
/// Words are little-endian in memory whatever the CPU is; `load` and `store`
/// convert. A word access is one access of its own width, aligned to it,
/// except that a window whose bus takes only 32-bit stores splits a `u64`
/// into two, low half first. Handles are cheap to clone.
///
/// # Implementation contract
/// - Out of range or misaligned: loads give [`Word::ALL_ONES`], `read` fills
///   with `0xFF`, stores and `write` do nothing. Never a panic.
/// - `load` goes to memory each time: never cached, never merged.
/// - `barrier` orders accesses through *any* window of the calling initiator.
#[expect(clippy::len_without_is_empty, reason = "a window is never asked whether it is empty")]
pub trait Window: Sized {
    /// Length in bytes.
    fn len(&self) -> u64;
    /// Loads the word at `offset`.
    fn load<T: Word>(&self, offset: u64) -> T;
    /// Stores the word at `offset`.
    fn store<T: Word>(&self, offset: u64, value: T);
    /// Copies payload from the window into private memory; any alignment.
    fn read(&self, offset: u64, into: &mut [u8]);
    /// Copies payload from private memory into the window; any alignment,
    /// with the widest aligned stores that the bus takes. What of it is not
    /// whole 32-bit words is stored in bytes: across a bus that takes words
    /// only, callers keep offset and length to multiples of four.
    fn write(&self, offset: u64, from: &[u8]);
    /// Orders this initiator's accesses; see [`Barrier`].
    fn barrier(&self, barrier: Barrier);
    /// The part of this window at `offset`, or `None` if it does not fit.
    fn part(&self, offset: u64, len: u64) -> Option<Self>;
}

/// Whether `len` bytes at `offset` lie in a window of `window_len` bytes.
#[must_use]
pub const fn fits(window_len: u64, offset: u64, len: u64) -> bool {
    match offset.checked_add(len) {
        Some(end) => end <= window_len,
        None => false,
    }
}
