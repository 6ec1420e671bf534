//! Bounds on how often something happens that a peer can repeat at will.

use std::fmt;

/// At most so many times in so much time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimit {
    limit: u32,
    period: u64,
    /// When the current period began, and how often it happened since.
    since: u64,
    count: u32,
    /// How often it was refused since it was last admitted.
    refused: u64,
}

impl RateLimit {
    /// At most `limit` times in `period` ms.
    pub(crate) const fn new(limit: u32, period: u64) -> Self {
        Self { limit, period, since: 0, count: 0, refused: 0 }
    }

    /// It happens at `now` (ms). `Some`: within the bound, with how often it
    /// was not since the last time.
    pub(crate) fn admit(&mut self, now: u64) -> Option<u64> {
        if self.count == 0 || now.saturating_sub(self.since) >= self.period {
            (self.since, self.count) = (now, 0);
        }
        if self.count < self.limit {
            self.count += 1;
            return Some(std::mem::take(&mut self.refused));
        }
        self.refused = self.refused.saturating_add(1);
        None
    }

    /// Whether the bound is reached at `now` (ms).
    pub(crate) fn is_reached(&self, now: u64) -> bool {
        self.count >= self.limit && now.saturating_sub(self.since) < self.period
    }
}

/// Lines of one kind in the log that a peer can cause: ten a minute
/// (docs/safety.md, "What holds"). It outlives the peer's sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogLines(RateLimit);

impl LogLines {
    const A_MINUTE: u32 = 10;

    /// The lines of one kind.
    pub(crate) const fn new() -> Self {
        Self(RateLimit::new(Self::A_MINUTE, 60_000))
    }

    /// One more is due at `now` (ms). `Some`: say it, with this at its end.
    pub(crate) fn admit(&mut self, now: u64) -> Option<Untold> {
        self.0.admit(now).map(Untold)
    }
}

/// Lines that were left out since the last one of their kind: nothing, or in
/// brackets how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Untold(u64);

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            untold => write!(f, " ({untold} more like this not shown)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_million_times_in_ten_minutes_are_few() {
        let mut limit = RateLimit::new(10, 60_000);
        let admitted = (0..10_000_000_u64).filter(|i| limit.admit(i * 60 / 1000).is_some()).count();
        assert_eq!(admitted, 100);
    }

    #[test]
    fn what_was_refused_is_told_once() {
        let mut limit = RateLimit::new(2, 1000);
        let told: Vec<_> = (0..5).map(|_| limit.admit(7)).collect();
        assert_eq!(told, [Some(0), Some(0), None, None, None]);
        assert!(limit.is_reached(1006) && !limit.is_reached(1007));
        assert_eq!((limit.admit(1007), limit.admit(1007)), (Some(3), Some(0)));
    }
    #[test]
    fn a_line_says_how_many_were_left_out() {
        let mut lines = LogLines::new();
        let said: Vec<_> = (0..1000).filter_map(|now| lines.admit(now)).collect();
        assert_eq!(said, [Untold(0); 10]);
        let next = lines.admit(60_000).unwrap();
        assert_eq!(
            format!("the link is up{next}"),
            "the link is up (990 more like this not shown)"
        );
        assert_eq!(lines.admit(60_001).unwrap().to_string(), "");
    }
}
