//! How deep the stack has ever been.

/// What the start-up code paints the whole stack with, 64 bits at a time.
pub const PAINT: u64 = 0x5AA5_C33C_5AA5_C33C;

/// A stack that was painted with [`PAINT`] before it was used.
#[derive(Clone, Copy, Debug)]
pub struct PaintedStack {
    start: *const u64,
    words: usize,
}

impl PaintedStack {
    /// The stack that grows down from `end` to `start`, both multiples of 8.
    ///
    /// # Safety
    /// All of it can be read until the next reset.
    #[must_use]
    pub unsafe fn new(start: *const u8, end: *const u8) -> Self {
        let words = end.addr().saturating_sub(start.addr()) / size_of::<u64>();
        Self { start: start.cast(), words }
    }

    /// Bytes of it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.words * size_of::<u64>()
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.words == 0
    }

    /// Bytes of it that have been used at one time or another, as far as the
    /// paint shows: one that was reserved and not written keeps its paint.
    #[must_use]
    pub fn deepest(&self) -> usize {
        // SAFETY: within the stack, which `new` was promised can be read, and
        // aligned. Volatile, because live frames may lie there: any value will do.
        let untouched = |at: &usize| unsafe { self.start.add(*at).read_volatile() == PAINT };
        let free = (0..self.words).take_while(untouched).count();
        (self.words - free) * size_of::<u64>()
    }
}
