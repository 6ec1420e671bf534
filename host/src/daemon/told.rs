//! How loudly, and how often, what a board can repeat is said.

use log::Level;

use crate::limit::{LogLines, Untold};

/// A failure that stays the same is said this often, in ms.
const AGAIN: u64 = 600_000;

/// What was said last of a board: an absent board fails the same way every
/// half minute for as long as the daemon runs, and another one finds a new way
/// each time.
#[derive(Debug)]
pub(super) struct Told {
    last: Option<(String, u64)>,
    news: LogLines,
    repeats: LogLines,
}

impl Told {
    pub(super) const fn new() -> Self {
        Self { last: None, news: LogLines::new(), repeats: LogLines::new() }
    }

    /// At which level to say `text` at `now` (ms), and what at its end; `None`:
    /// not at all.
    pub(super) fn level(&mut self, text: &str, now: u64) -> Option<(Level, Untold)> {
        let said = self
            .last
            .as_ref()
            .is_some_and(|(last, at)| last == text && now.saturating_sub(*at) < AGAIN);
        if said {
            return self.repeats.admit(now).map(|untold| (Level::Debug, untold));
        }
        self.last = Some((text.to_owned(), now));
        self.news.admit(now).map(|untold| (Level::Warn, untold))
    }

    /// All is well: the next failure is news. It is none the less one of ten.
    pub(super) fn good(&mut self) {
        self.last = None;
    }
}

/// The lines of a kind each that a board can cause without an end.
#[derive(Debug)]
pub(super) struct Lines {
    /// A session came up.
    pub(super) up: LogLines,
    /// Another MAC address than last time.
    pub(super) mac: LogLines,
    /// The network device went.
    pub(super) removed: LogLines,
    /// The console went.
    pub(super) console: LogLines,
    /// Its link went up or down.
    pub(super) link: LogLines,
    /// Its MTU changed.
    pub(super) mtu: LogLines,
    /// The interface could not follow.
    pub(super) interface: LogLines,
}

impl Lines {
    pub(super) const fn new() -> Self {
        const NONE: LogLines = LogLines::new();
        Self {
            up: NONE,
            mac: NONE,
            removed: NONE,
            console: NONE,
            link: NONE,
            mtu: NONE,
            interface: NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warns(told: &mut Told, text: &str, now: u64) -> bool {
        matches!(told.level(text, now), Some((Level::Warn, _)))
    }

    #[test]
    fn a_board_that_is_absent_for_a_day_fills_no_log() {
        let mut told = Told::new();
        let lines = (0..24 * 120).filter(|half| warns(&mut told, "no board", half * 30_000));
        assert_eq!(lines.count(), 24 * 6);
        let now = 24 * 3_600_000;
        assert!(warns(&mut told, "another failure", now));
        told.good();
        assert!(warns(&mut told, "another failure", now));
    }

    /// Each failure has a number of the board's choice in it, or a session that
    /// came up before it.
    #[test]
    fn a_board_that_fails_in_a_new_way_each_time_fills_no_log() {
        let mut told = Told::new();
        let mut said = Vec::new();
        for now in 0..600_000 {
            if now % 2 == 0 {
                told.good();
            }
            let text = if now % 3 == 0 { "the same".to_owned() } else { format!("id {now}") };
            said.extend(told.level(&text, now).map(|(_, untold)| untold.to_string()));
        }
        assert_eq!(said.len(), 100);
        assert_eq!(said[10], " (59990 more like this not shown)");
        let same = (0..600_000_u64).filter(|now| told.level("now", 600_000 + now).is_some());
        assert!((100..=110).contains(&same.count()));
    }
}
