//! Whose turn it is, as a seed has it.

use super::random::Random;

/// Turns that make a millisecond while somebody is awake.
const TURNS_A_MS: u64 = 4096;

/// Turns that the sides' shares of them stay as they are, at most.
const LONGEST_MOOD: u64 = 64;

/// The turns of two sides.
#[derive(Debug)]
pub(super) struct Turns {
    random: Random,
    /// The host's share of the turns, out of 16, and for how many more.
    share: u64,
    mood: u64,
    taken: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    /// The host is asked first.
    pub(super) host_first: bool,
    /// Steps that the bus makes before.
    pub(super) bus_steps: u64,
    /// A millisecond has passed.
    pub(super) millisecond: bool,
}

impl Turns {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed ^ 0x5EED_0F70), share: 8, mood: 0, taken: 0 }
    }

    /// Turns so far.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) fn next(&mut self) -> Next {
        self.taken += 1;
        if self.mood == 0 {
            self.mood = 1 + self.random.below(LONGEST_MOOD);
            // Now and then one of them has every turn.
            self.share = self.random.below(17);
        }
        self.mood -= 1;
        let host_first = self.random.below(16) < self.share;
        let bus_steps = if self.random.below(16) == 0 { self.random.below(32) } else { 0 };
        Next { host_first, bus_steps, millisecond: self.taken.is_multiple_of(TURNS_A_MS) }
    }
}
