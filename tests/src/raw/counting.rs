//! An allocator that counts. Included by `tests/allocations.rs` and
//! `tests/resets.rs`, so that no other test runs with it.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    // Constant and without a destructor, so that its use allocates nothing and
    // it is there as long as its thread.
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count of what it was asked for.
pub(crate) struct Counting;

/// Allocations of the whole process so far, grown ones included.
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.load(Relaxed)
}

/// Bytes that this thread has allocated and not freed: wraps around where it
/// frees what others allocated, so only differences mean something.
pub(crate) fn live_bytes() -> usize {
    LIVE.get()
}

fn live(more: usize, less: usize) {
    LIVE.set(LIVE.get().wrapping_add(more).wrapping_sub(less));
}

// SAFETY: every call goes to `System` unchanged, which keeps the contract; the
// counts are an atomic and a thread's constant cell, and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        live(layout.size(), 0);
        // SAFETY: the caller's layout, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        live(layout.size(), 0);
        // SAFETY: the caller's layout, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        live(new_size, layout.size());
        // SAFETY: a block of `System`'s, as all blocks of this allocator are,
        // with the layout that the caller vouches for.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        live(0, layout.size());
        // SAFETY: as for `realloc`.
        unsafe { System.dealloc(block, layout) }
    }
}
