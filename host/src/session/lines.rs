//! What a board can have said in the log, a kind each. They belong to the board,
//! not to one session: with a new one it would begin to count anew.

use crate::limit::LogLines;

/// The lines of each kind, and the time by which they are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// When the session was stepped last, in ms.
    pub(super) now: u64,
    /// Faults that the board reports.
    pub(super) faults: LogLines,
    /// Devices that are left alone.
    pub(super) devices: LogLines,
    /// Its other events.
    pub(super) events: LogLines,
    /// What it cannot be asked for.
    pub(super) unable: LogLines,
    /// What it did as asked.
    pub(super) done: LogLines,
    /// What it refused.
    pub(super) refused: LogLines,
    /// Resets that failed.
    pub(super) resets: LogLines,
}

impl Lines {
    /// Nothing was said yet.
    pub(super) const fn new() -> Self {
        const NONE: LogLines = LogLines::new();
        Self {
            now: 0,
            faults: NONE,
            devices: NONE,
            events: NONE,
            unable: NONE,
            done: NONE,
            refused: NONE,
            resets: NONE,
        }
    }
}
