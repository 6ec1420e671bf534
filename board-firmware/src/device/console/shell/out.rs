//! Text on its way to the host.

use core::fmt;

/// Bytes that wait at most. What a step of the shell writes at once has to fit.
pub(super) const OUT_MAX: usize = 320;

/// A buffer that is filled when it is empty, or has room, and emptied in pieces.
#[derive(Debug)]
pub(super) struct Out {
    bytes: [u8; OUT_MAX],
    from: usize,
    to: usize,
}

impl Out {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; OUT_MAX], from: 0, to: 0 }
    }

    pub(super) const fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    /// Bytes that still fit.
    pub(super) const fn room(&self) -> usize {
        if self.is_empty() { OUT_MAX } else { OUT_MAX - self.to }
    }

    /// Adds bytes; what does not fit is cut.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.is_empty() {
            self.clear();
        }
        let rest = self.bytes.get_mut(self.to..).unwrap_or_default();
        for (place, byte) in rest.iter_mut().zip(bytes) {
            *place = *byte;
            self.to += 1;
        }
    }

    /// Moves bytes out, as many as there are and fit.
    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let there = self.bytes.get(self.from..self.to).unwrap_or_default();
        let mut count = 0;
        for (place, byte) in into.iter_mut().zip(there) {
            *place = *byte;
            count += 1;
        }
        self.from += count;
        count
    }
}

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}
