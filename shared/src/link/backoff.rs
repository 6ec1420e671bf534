//! How long to wait before the next attach.

/// The first wait, in milliseconds.
pub const FIRST_MS: u64 = 100;
/// The longest wait without its jitter, in milliseconds.
pub const LONGEST_MS: u64 = 30_000;
/// A session of this length makes the next wait the first again, in milliseconds.
pub const GOOD_SESSION_MS: u64 = 10_000;

/// Waits that double up to [`LONGEST_MS`] and never end: a board that comes
/// back after hours is attached to again (docs/protocol.md, "Timers").
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    wait_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff {
    /// The first wait is next.
    #[must_use]
    pub const fn new() -> Self {
        Self { wait_ms: FIRST_MS }
    }

    /// How long to wait now: the wait and up to a quarter of it, taken from
    /// `random`, so that boards that fell together do not rise together.
    pub fn next_ms(&mut self, random: u32) -> u64 {
        let wait = self.wait_ms;
        self.wait_ms = (wait * 2).min(LONGEST_MS);
        wait + u64::from(random) % (wait / 4 + 1)
    }

    /// A session that lasted so long is over.
    pub const fn session_lasted(&mut self, ms: u64) {
        if ms >= GOOD_SESSION_MS {
            self.wait_ms = FIRST_MS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_that_reboots_a_thousand_times_a_second_for_a_day() {
        let (mut backoff, mut now, mut attempts) = (Backoff::new(), 0_u64, 0_u64);
        let mut random = 1_u32;
        while now < 24 * 3_600_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let wait = backoff.next_ms(random);
            assert!((FIRST_MS..=LONGEST_MS * 5 / 4).contains(&wait));
            now += wait + 1;
            backoff.session_lasted(1);
            attempts += 1;
        }
        assert!((2_300..=2_900).contains(&attempts), "{attempts}");
        backoff.session_lasted(GOOD_SESSION_MS);
        assert!(backoff.next_ms(0) == FIRST_MS);
    }
}
