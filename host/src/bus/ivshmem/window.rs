//! Shared memory as a window that knows whether its board is still there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::MmapRaw;
use shared::raw::RamWindow;
use shared::window::{Barrier, Window, Word};

use crate::bus::KernelMemory;
use crate::raw::KernelRange;

/// A part of the shared memory. The kernel may copy into and out of it: it is
/// ordinary memory, on both sides.
///
/// A window of the board's half reads all ones once the board has gone, as a
/// BAR does whose card was pulled, and takes no more stores.
#[derive(Clone, Debug)]
pub struct IvshmemWindow {
    memory: RamWindow<Arc<MmapRaw>>,
    /// Set when the board has gone; host memory does not go.
    gone: Option<Arc<AtomicBool>>,
}

impl IvshmemWindow {
    pub(super) const fn new(
        memory: RamWindow<Arc<MmapRaw>>,
        gone: Option<Arc<AtomicBool>>,
    ) -> Self {
        Self { memory, gone }
    }

    #[inline]
    fn is_gone(&self) -> bool {
        self.gone.as_ref().is_some_and(|gone| gone.load(Ordering::Relaxed))
    }
}

impl Window for IvshmemWindow {
    fn len(&self) -> u64 {
        self.memory.len()
    }

    #[inline]
    fn load<T: Word>(&self, offset: u64) -> T {
        if self.is_gone() { T::ALL_ONES } else { self.memory.load(offset) }
    }

    #[inline]
    fn store<T: Word>(&self, offset: u64, value: T) {
        if !self.is_gone() {
            self.memory.store(offset, value);
        }
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        if self.is_gone() {
            into.fill(0xFF);
        } else {
            self.memory.read(offset, into);
        }
    }

    fn write(&self, offset: u64, from: &[u8]) {
        if !self.is_gone() {
            self.memory.write(offset, from);
        }
    }

    #[inline]
    fn barrier(&self, barrier: Barrier) {
        self.memory.barrier(barrier);
    }

    fn part(&self, offset: u64, len: u64) -> Option<Self> {
        Some(Self { memory: self.memory.part(offset, len)?, gone: self.gone.clone() })
    }
}

impl KernelMemory for IvshmemWindow {
    fn kernel_range(&self, offset: u64, len: usize) -> Option<KernelRange<'_>> {
        if self.is_gone() { None } else { KernelRange::of(&self.memory, offset, len) }
    }
}
