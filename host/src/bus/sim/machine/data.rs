//! Bytes on their way, and which bytes of which memory they are.

/// A stretch of one memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub(super) memory: usize,
    pub(super) at: usize,
    pub(super) len: usize,
}

impl Range {
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.memory == other.memory
            && self.at < other.at + other.len
            && other.at < self.at + self.len
    }

    /// The parts before and after `first` bytes; the second is empty where
    /// `first` is too large.
    pub(super) fn split(&self, first: usize) -> (Self, Self) {
        let first = first.min(self.len);
        let second = Self { at: self.at + first, len: self.len - first, ..*self };
        (Self { len: first, ..*self }, second)
    }

    /// Copies that part of `bytes`, which lie at `self`, into `out` at `to`
    /// that both ranges have.
    pub(super) fn overlay(&self, bytes: &[u8], to: &Self, out: &mut [u8]) {
        let from = self.at.max(to.at);
        let end = (self.at + self.len).min(to.at + to.len);
        if self.memory == to.memory && from < end {
            out[from - to.at..end - to.at].copy_from_slice(&bytes[from - self.at..end - self.at]);
        }
    }
}

/// What a store carries.
#[derive(Debug)]
pub(super) enum Data {
    /// A word of up to eight bytes.
    Word([u8; 8], usize),
    /// Payload, in a buffer of the [`Pool`]'s.
    Block(Vec<u8>),
}

impl Data {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Word(word, len) => &word[..*len],
            Self::Block(block) => block,
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Word(word, len) => &mut word[..*len],
            Self::Block(block) => block,
        }
    }
}

/// Buffers for payload that is under way, kept for the next.
#[derive(Debug, Default)]
pub(super) struct Pool(Vec<Vec<u8>>);

impl Pool {
    const KEPT: usize = 256;

    pub(super) fn copy_of(&mut self, bytes: &[u8]) -> Data {
        let mut block = self.0.pop().unwrap_or_default();
        block.clear();
        block.extend_from_slice(bytes);
        Data::Block(block)
    }

    pub(super) fn take_back(&mut self, data: Data) {
        if let Data::Block(block) = data
            && self.0.len() < Self::KEPT
        {
            self.0.push(block);
        }
    }
}
