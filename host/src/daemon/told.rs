//! How loudly a failure that repeats is said.

use std::time::{Duration, Instant};

use log::Level;

/// A failure that stays the same is said this often.
const AGAIN: Duration = Duration::from_secs(600);

/// What was said last of a board: an absent board fails the same way every
/// half minute for as long as the daemon runs.
#[derive(Debug, Default)]
pub(super) struct Told {
    last: Option<(String, Instant)>,
}

impl Told {
    /// At which level to say `text` at `now`.
    pub(super) fn level(&mut self, text: &str, now: Instant) -> Level {
        let said = self
            .last
            .as_ref()
            .is_some_and(|(last, at)| last == text && now.saturating_duration_since(*at) < AGAIN);
        if said {
            return Level::Debug;
        }
        self.last = Some((text.to_owned(), now));
        Level::Warn
    }

    /// All is well: the next failure is news.
    pub(super) fn good(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_that_is_absent_for_a_day_fills_no_log() {
        let (mut told, start) = (Told::default(), Instant::now());
        let lines = (0..24 * 120)
            .filter(|half_minutes| {
                let now = start + Duration::from_secs(half_minutes * 30);
                told.level("no board", now) == Level::Warn
            })
            .count();
        assert_eq!(lines, 24 * 6);
        assert_eq!(told.level("another failure", start), Level::Warn);
        told.good();
        assert_eq!(told.level("another failure", start), Level::Warn);
    }
}
