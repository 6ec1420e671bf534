//! Board memory with two mappings: words are never cached, payload may be.
//!
//! A board that maps all of it uncached, or whose cache sees the host's
//! accesses, has one mapping, and then this is [`BusWindow`] twice over.

use shared::raw::BusWindow;
use shared::window::{Barrier, Window, Word};

/// A window whose words and whose bytes go by different addresses.
#[derive(Clone, Debug)]
pub(crate) struct TwoMappings {
    words: BusWindow,
    bytes: BusWindow,
}

impl TwoMappings {
    /// `bytes` shows the same memory as `words`, cached.
    pub(crate) const fn new(words: BusWindow, bytes: BusWindow) -> Self {
        Self { words, bytes }
    }

    /// Memory that is mapped once.
    pub(crate) fn once(all: BusWindow) -> Self {
        Self { words: all.clone(), bytes: all }
    }

    /// Where the caches know it by.
    pub(crate) const fn bytes(&self) -> &BusWindow {
        &self.bytes
    }

    /// Where the DMA engine finds it.
    pub(crate) fn address(&self) -> usize {
        self.words.as_ptr().addr()
    }
}

impl Window for TwoMappings {
    fn len(&self) -> u64 {
        self.words.len()
    }

    fn load<T: Word>(&self, offset: u64) -> T {
        self.words.load(offset)
    }

    fn store<T: Word>(&self, offset: u64, value: T) {
        self.words.store(offset, value);
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        self.bytes.read(offset, into);
    }

    fn write(&self, offset: u64, from: &[u8]) {
        self.bytes.write(offset, from);
    }

    fn barrier(&self, barrier: Barrier) {
        self.words.barrier(barrier);
    }

    fn part(&self, offset: u64, len: u64) -> Option<Self> {
        Some(Self { words: self.words.part(offset, len)?, bytes: self.bytes.part(offset, len)? })
    }
}
