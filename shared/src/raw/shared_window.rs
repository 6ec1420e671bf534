//! A window over memory that is mapped into this address space.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering as Atomic};

use super::barrier::{AcrossBus, BetweenCpus, Ordering};
use crate::window::{Barrier, Window, Word, fits};

/// The widest store that the bus behind a window takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum StoreWidth {
    /// 32-bit stores only: the narrowest bus that the protocol supports.
    Bits32,
    /// 32-bit and 64-bit stores.
    Bits64,
}

/// Mapped memory that the peer also sees. `O` says who the peer is, `K` keeps
/// the mapping alive (an `Arc` on the host, `()` for a board's static memory).
#[derive(Debug)]
pub struct SharedWindow<O, K = ()> {
    start: NonNull<u8>,
    len: usize,
    widest: StoreWidth,
    keep: K,
    ordering: PhantomData<O>,
}

/// Memory shared with another CPU of this machine.
pub type RamWindow<K = ()> = SharedWindow<BetweenCpus, K>;

/// A mapped BAR, an outbound window, or local memory that a peer across the
/// bus reads and writes.
pub type BusWindow<K = ()> = SharedWindow<AcrossBus, K>;

// SAFETY: the window is a plain address with a length. Every access through it
// is a relaxed atomic, so threads of this program may race, and no reference
// into the memory is ever handed out. (Where two of them access the same bytes
// in different widths at a time, the value is a mix of old and new bytes on
// every processor there is; all that is decided on is read in the width that
// it was written in.) `O` is a type without a value: nothing of it is sent.
unsafe impl<O, K: Send> Send for SharedWindow<O, K> {}
// SAFETY: as for Send; all methods take `&self` and hold no state of their own.
unsafe impl<O, K: Sync> Sync for SharedWindow<O, K> {}

impl<O, K: Clone> Clone for SharedWindow<O, K> {
    fn clone(&self) -> Self {
        Self {
            start: self.start,
            len: self.len,
            widest: self.widest,
            keep: self.keep.clone(),
            ordering: PhantomData,
        }
    }
}

impl<O: Ordering, K: Clone> SharedWindow<O, K> {
    /// Makes a window of `len` bytes at `start`.
    ///
    /// # Safety
    /// - `start` is aligned to 8 bytes, and `len` bytes from it are mapped for
    ///   reading and writing as long as `keep` or a clone of it lives.
    /// - No Rust reference to any of those bytes exists while a window does,
    ///   and threads of this program touch them through windows (or hand them
    ///   to the kernel) only.
    #[must_use]
    pub const unsafe fn new(start: NonNull<u8>, len: usize, widest: StoreWidth, keep: K) -> Self {
        Self { start, len, widest, keep, ordering: PhantomData }
    }

    /// Where the memory is mapped, for the kernel and for DMA engines: reading
    /// or writing through the pointer is the caller's promise to make.
    #[must_use]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The pointer to `len` bytes at `offset`, if they fit and `offset` is a
    /// multiple of `align`.
    #[inline(always)]
    fn at(&self, offset: u64, len: u64, align: u64) -> Option<*mut u8> {
        if !fits(self.len as u64, offset, len) || !offset.is_multiple_of(align) {
            return None;
        }
        let offset = usize::try_from(offset).ok()?;
        // SAFETY: `offset + len <= self.len`, so the result stays inside the
        // mapping that `new` was promised.
        Some(unsafe { self.start.as_ptr().add(offset) })
    }
}

/// Loads a 32-bit word: relaxed atomic, one access, byte order as in memory.
///
/// # Safety
/// `at` is mapped and aligned to 4 bytes.
#[inline(always)]
unsafe fn load32(at: *mut u8) -> u32 {
    // SAFETY: mapped and aligned by contract; the atomic makes a race with
    // another thread defined, and a peer outside this program only changes values.
    u32::from_le(unsafe { AtomicU32::from_ptr(at.cast()) }.load(Atomic::Relaxed))
}

/// Stores a 32-bit word.
///
/// # Safety
/// As for [`load32`].
#[inline(always)]
unsafe fn store32(at: *mut u8, value: u32) {
    // SAFETY: as in `load32`.
    unsafe { AtomicU32::from_ptr(at.cast()) }.store(value.to_le(), Atomic::Relaxed);
}

#[cfg(target_has_atomic = "64")]
mod wide {
    use core::sync::atomic::{AtomicU64, Ordering as Atomic};

    /// # Safety
    /// `at` is mapped and aligned to 8 bytes.
    #[inline(always)]
    pub(super) unsafe fn load64(at: *mut u8) -> u64 {
        // SAFETY: as in `load32`.
        u64::from_le(unsafe { AtomicU64::from_ptr(at.cast()) }.load(Atomic::Relaxed))
    }

    /// # Safety
    /// `at` is mapped and aligned to 8 bytes.
    #[inline(always)]
    pub(super) unsafe fn store64(at: *mut u8, value: u64) {
        // SAFETY: as in `load32`.
        unsafe { AtomicU64::from_ptr(at.cast()) }.store(value.to_le(), Atomic::Relaxed);
    }
}

#[cfg(not(target_has_atomic = "64"))]
mod wide {
    use super::load32;

    /// # Safety
    /// `at` is mapped and aligned to 8 bytes.
    #[inline(always)]
    pub(super) unsafe fn load64(at: *mut u8) -> u64 {
        // SAFETY: both halves lie in the 8 bytes that the contract covers.
        let (low, high) = unsafe { (load32(at), load32(at.add(4))) };
        u64::from(low) | u64::from(high) << 32
    }

    /// # Safety
    /// `at` is mapped and aligned to 8 bytes.
    #[inline(always)]
    pub(super) unsafe fn store64(at: *mut u8, value: u64) {
        // SAFETY: as in `load64`.
        unsafe { super::store_halves(at, value) }
    }
}

/// Stores a 64-bit word as two 32-bit words, low half first.
///
/// # Safety
/// `at` is mapped for 8 bytes and aligned to 4.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "takes the halves apart")]
unsafe fn store_halves(at: *mut u8, value: u64) {
    // SAFETY: both halves lie in the 8 bytes that the contract covers.
    unsafe {
        store32(at, value as u32);
        store32(at.add(4), (value >> 32) as u32);
    }
}

impl<O: Ordering, K: Clone> Window for SharedWindow<O, K> {
    #[inline(always)]
    fn len(&self) -> u64 {
        self.len as u64
    }

    #[inline(always)]
    fn load<T: Word>(&self, offset: u64) -> T {
        let Some(at) = self.at(offset, T::BYTES, T::BYTES) else {
            return T::ALL_ONES;
        };
        // SAFETY: `at` is inside the mapping and aligned to the word.
        T::from_u64(unsafe { if T::BYTES == 8 { wide::load64(at) } else { u64::from(load32(at)) } })
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a u32 was widened by to_u64")]
    fn store<T: Word>(&self, offset: u64, value: T) {
        let Some(at) = self.at(offset, T::BYTES, T::BYTES) else {
            return;
        };
        let value = value.to_u64();
        // SAFETY: `at` is inside the mapping and aligned to the word.
        unsafe {
            match (T::BYTES, self.widest) {
                (8, StoreWidth::Bits64) => wide::store64(at, value),
                (8, StoreWidth::Bits32) => store_halves(at, value),
                _ => store32(at, value as u32),
            }
        }
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        let Some(mut at) = self.at(offset, into.len() as u64, 1) else {
            into.fill(0xFF);
            return;
        };
        let head = at.align_offset(8).min(into.len());
        let (head, rest) = into.split_at_mut(head);
        let (words, tail) = rest.as_chunks_mut::<8>();
        // SAFETY: `at` starts inside the mapping, the three parts add up to the
        // length that `at()` checked, and `at` is aligned to 8 where words start.
        unsafe {
            at = read_bytes(at, head);
            for word in words {
                *word = wide::load64(at).to_le_bytes();
                at = at.add(8);
            }
            read_bytes(at, tail);
        }
    }

    fn write(&self, offset: u64, from: &[u8]) {
        let Some(mut at) = self.at(offset, from.len() as u64, 1) else {
            return;
        };
        let align = match self.widest {
            StoreWidth::Bits32 => 4,
            StoreWidth::Bits64 => 8,
        };
        let (head, rest) = from.split_at(at.align_offset(align).min(from.len()));
        // SAFETY: `at` starts inside the mapping and the parts add up to the
        // length that `at()` checked. Behind the head `at` is aligned to the
        // words that are stored, and it stays so.
        unsafe {
            at = write_words_and_bytes(at, head);
            let rest = match self.widest {
                StoreWidth::Bits32 => rest,
                StoreWidth::Bits64 => {
                    let (words, rest) = rest.as_chunks::<8>();
                    for word in words {
                        wide::store64(at, u64::from_le_bytes(*word));
                        at = at.add(8);
                    }
                    rest
                }
            };
            write_words_and_bytes(at, rest);
        }
    }

    #[inline(always)]
    fn barrier(&self, barrier: Barrier) {
        O::barrier(barrier);
    }

    fn part(&self, offset: u64, len: u64) -> Option<Self> {
        let start = NonNull::new(self.at(offset, len, 8)?)?;
        Some(Self {
            start,
            len: usize::try_from(len).ok()?,
            widest: self.widest,
            keep: self.keep.clone(),
            ordering: PhantomData,
        })
    }
}

/// Copies single bytes out and returns the address behind them.
///
/// # Safety
/// `at` is mapped for `into.len()` bytes.
unsafe fn read_bytes(mut at: *mut u8, into: &mut [u8]) -> *mut u8 {
    for byte in into {
        // SAFETY: one byte inside the range that the contract covers; atomic,
        // as in `load32`.
        unsafe {
            *byte = AtomicU8::from_ptr(at).load(Atomic::Relaxed);
            at = at.add(1);
        }
    }
    at
}

/// Copies bytes in, in 32-bit words from the first aligned one on.
///
/// # Safety
/// `at` is mapped for `from.len()` bytes.
unsafe fn write_words_and_bytes(mut at: *mut u8, from: &[u8]) -> *mut u8 {
    let (head, rest) = from.split_at(at.align_offset(4).min(from.len()));
    let (words, tail) = rest.as_chunks::<4>();
    // SAFETY: the three parts add up to the length that the contract covers,
    // and `at` is aligned to 4 where words start.
    unsafe {
        at = write_bytes(at, head);
        for word in words {
            store32(at, u32::from_le_bytes(*word));
            at = at.add(4);
        }
        write_bytes(at, tail)
    }
}

/// Copies single bytes in and returns the address behind them.
///
/// # Safety
/// `at` is mapped for `from.len()` bytes.
unsafe fn write_bytes(mut at: *mut u8, from: &[u8]) -> *mut u8 {
    for byte in from {
        // SAFETY: as in `read_bytes`.
        unsafe {
            AtomicU8::from_ptr(at).store(*byte, Atomic::Relaxed);
            at = at.add(1);
        }
    }
    at
}
