//! When things happen: the seeded schedule.

/// How long stores stay in store buffers and posted writes on the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Nearly everything arrives at once.
    Eager,
    /// Most things take tens of steps.
    Lazy,
    /// Moods that change: one side frozen while the other runs, newest stores
    /// first, long queues that empty at once.
    Adversarial,
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, and equal seeds give equal
/// runs on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Chances out of [`ALWAYS`].
type Chance = u16;

const ALWAYS: Chance = 256;

/// A copy of payload falls apart into two.
const TEAR: Chance = 32;

/// A line of a cache is evicted, or fetched ahead.
const CACHE: Chance = 16;

/// What the schedule is up to just now.
#[derive(Clone, Copy, Debug)]
struct Mood {
    /// A store leaves the initiator's buffer.
    leave: [Chance; 3],
    /// The oldest posted write of a direction arrives.
    arrive: [Chance; 2],
    /// A load sees a word as it was before the last delivery.
    stale: Chance,
    newest_first: bool,
}

impl Mood {
    const fn steady(leave: Chance, arrive: Chance, stale: Chance) -> Self {
        Self { leave: [leave; 3], arrive: [arrive; 2], stale, newest_first: false }
    }
}

/// Decides what happens in each step.
#[derive(Debug)]
pub(super) struct Schedule {
    random: Random,
    profile: Profile,
    mood: Mood,
    /// Steps until the mood changes.
    left: u64,
}

impl Schedule {
    pub(super) fn new(seed: u64, profile: Profile) -> Self {
        let mood = match profile {
            Profile::Eager => Mood::steady(224, 224, 16),
            Profile::Lazy => Mood::steady(16, 16, 64),
            Profile::Adversarial => Mood::steady(64, 64, 64),
        };
        Self { random: Random(seed), profile, mood, left: 0 }
    }

    /// One step passes.
    pub(super) fn step(&mut self) {
        if self.profile != Profile::Adversarial {
            return;
        }
        if self.left > 0 {
            self.left -= 1;
            return;
        }
        self.left = 1 + self.below(64);
        let mut pick = |choices: [Chance; 4]| {
            let at = usize::try_from(self.random.next() % 4).unwrap_or(0);
            choices[at]
        };
        const SPEEDS: [Chance; 4] = [0, 8, 96, 250];
        self.mood = Mood {
            leave: [pick(SPEEDS), pick(SPEEDS), pick(SPEEDS)],
            arrive: [pick(SPEEDS), pick(SPEEDS)],
            stale: pick([0, 64, 192, 240]),
            newest_first: pick([0, 0, 0, 1]) == 1,
        };
    }

    fn chance(&mut self, chance: Chance) -> bool {
        chance != 0 && self.random.next() % u64::from(ALWAYS) < u64::from(chance)
    }

    /// A number below `limit`, which is not 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.random.next() % limit.max(1)
    }

    pub(super) fn index_below(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(0)
    }

    /// Whether a store leaves the buffer of initiator `index` now.
    pub(super) fn leaves(&mut self, index: usize) -> bool {
        self.chance(self.mood.leave[index])
    }

    /// Whether the oldest posted write towards side `index` arrives now.
    pub(super) fn arrives(&mut self, index: usize) -> bool {
        self.chance(self.mood.arrive[index])
    }

    /// Whether a load sees what was there before.
    pub(super) fn sees_stale(&mut self) -> bool {
        self.chance(self.mood.stale)
    }

    /// Whether a line of the board processor's cache goes.
    pub(super) fn evicts(&mut self) -> bool {
        self.chance(CACHE)
    }

    /// Whether the board's processor fetches a line that nobody asked for.
    pub(super) fn fetches_ahead(&mut self) -> bool {
        self.chance(CACHE)
    }

    /// Where a copy of `len` bytes falls apart into two, in bytes; `len` where
    /// it does not. Words never do.
    pub(super) fn tear(&mut self, len: usize) -> usize {
        if len > 8 && self.chance(TEAR) {
            8 * (1 + self.index_below(len.div_ceil(8) - 1))
        } else {
            len
        }
    }

    /// Which of `count` stores that may leave does.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        if self.mood.newest_first { count - 1 } else { self.index_below(count) }
    }
}
