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
