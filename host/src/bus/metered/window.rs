//! A window that counts.

use std::sync::Arc;

use shared::raw::StoreWidth;
use shared::window::{Barrier, Window, Word, fits};

use super::Books;
use crate::bus::KernelMemory;
use crate::bus::bill::{Initiator, MemoryLabels, Metered};
use crate::raw::KernelRange;

/// What a window is part of.
#[derive(Debug)]
pub(super) struct Memory {
    /// Tells memories apart.
    pub(super) id: usize,
    /// `None`: host memory.
    pub(super) bar: Option<u8>,
    /// Bus address of host memory's first byte.
    pub(super) base: u64,
    pub(super) len: u64,
    pub(super) labels: MemoryLabels,
    /// What a BAR takes.
    pub(super) widest: StoreWidth,
}

/// A window whose accesses are counted, and otherwise are those of `W`.
#[derive(Clone, Debug)]
pub struct MeteredWindow<W> {
    window: W,
    books: Arc<Books>,
    memory: Arc<Memory>,
    /// Offset of this window in the memory.
    start: u64,
}

impl<W: Window> MeteredWindow<W> {
    pub(super) fn new(window: W, books: Arc<Books>, memory: Arc<Memory>) -> Self {
        Self { window, books, memory, start: 0 }
    }

    /// The access as the meter sees it; `None` where the window drops it.
    #[inline]
    fn access(&self, offset: u64, len: u64, align: u64) -> Option<Metered> {
        if !fits(self.window.len(), offset, len) || !offset.is_multiple_of(align) {
            return None;
        }
        let at = self.start + offset;
        Some(Metered {
            who: Initiator::HostCpu,
            plane: self.memory.labels.plane(at),
            remote: self.memory.bar.is_some(),
            memory: self.memory.id,
            at,
            len,
            piece: if self.memory.widest == StoreWidth::Bits32 { 4 } else { 8 },
        })
    }
}

impl<W: Window> Window for MeteredWindow<W> {
    fn len(&self) -> u64 {
        self.window.len()
    }

    #[inline]
    fn load<T: Word>(&self, offset: u64) -> T {
        if let Some(access) = self.access(offset, T::BYTES, T::BYTES) {
            self.books.meter.load(access);
        }
        self.window.load(offset)
    }

    #[inline]
    fn store<T: Word>(&self, offset: u64, value: T) {
        if let Some(access) = self.access(offset, T::BYTES, T::BYTES) {
            // A bus that takes 32-bit words gets two.
            for at in (0..T::BYTES).step_by(if access.piece < T::BYTES { 4 } else { 8 }) {
                let len = T::BYTES.min(access.piece);
                self.books.meter.store(Metered { at: access.at + at, len, ..access });
            }
        }
        self.window.store(offset, value);
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        if let Some(access) = self.access(offset, into.len() as u64, 1) {
            self.books.meter.payload_load(access);
        }
        self.window.read(offset, into);
    }

    fn write(&self, offset: u64, from: &[u8]) {
        if let Some(access) = self.access(offset, from.len() as u64, 1) {
            self.books.meter.payload_store(access);
        }
        self.window.write(offset, from);
    }

    #[inline]
    fn barrier(&self, barrier: Barrier) {
        if barrier != Barrier::Read {
            self.books.meter.close(Initiator::HostCpu);
        }
        self.window.barrier(barrier);
    }

    fn part(&self, offset: u64, len: u64) -> Option<Self> {
        let window = self.window.part(offset, len)?;
        let (books, memory) = (Arc::clone(&self.books), Arc::clone(&self.memory));
        Some(Self { window, books, memory, start: self.start + offset })
    }
}

impl<W: KernelMemory> KernelMemory for MeteredWindow<W> {
    /// In host memory, where `W` allows it.
    fn kernel_range(&self, offset: u64, len: usize) -> Option<KernelRange<'_>> {
        match self.memory.bar {
            None => self.window.kernel_range(offset, len),
            Some(_) => None,
        }
    }
}
