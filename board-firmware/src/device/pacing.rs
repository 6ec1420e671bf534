//! When an interrupt is raised that the driver wants (VirtIO 1.3 §5.1.6.5.7).
//!
//! Guarantee: an interrupt that the driver asked for and that was put off is
//! raised once, at the bounds or before them. Whether the driver wants one is
//! decided when buffers are published, as R4 has it; nothing is decided anew.

use shared::wire::net_control::Coalescing;

use super::Clock;

/// The longest that an interrupt is put off, in microseconds, whatever the
/// driver allows.
pub(crate) const LONGEST_US: u32 = 50_000;

/// The bounds of one queue, and its interrupt if that was put off.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Pacing {
    limits: Coalescing,
    put_off: Option<PutOff>,
}

#[derive(Clone, Copy, Debug)]
struct PutOff {
    /// When the first packet was published.
    since_us: u64,
    packets: u32,
}

impl Pacing {
    /// Sets the bounds. What was put off under others is judged by these.
    pub(crate) fn set(&mut self, limits: Coalescing) {
        self.limits = Coalescing { max_usecs: limits.max_usecs.min(LONGEST_US), ..limits };
    }

    /// So many packets were published, and the driver wants an interrupt for
    /// them or not. `true`: raise it now.
    pub(crate) fn published(&mut self, packets: u32, wanted: bool, clock: Clock) -> bool {
        let first = PutOff { since_us: clock.now_us, packets: 0 };
        match &mut self.put_off {
            // Of a batch that it sleeps through the driver learns once.
            Some(put_off) => put_off.packets = put_off.packets.saturating_add(packets),
            None if wanted => self.put_off = Some(PutOff { packets, ..first }),
            None => return false,
        }
        self.take_due(clock)
    }

    /// Takes the interrupt that was put off if it is due: `true`, raise it now.
    pub(crate) fn take_due(&mut self, clock: Clock) -> bool {
        let Some(put_off) = self.put_off else { return false };
        // The next look may come late, so an interrupt that cannot wait until
        // then does not wait at all.
        let late = clock.now_us.saturating_add(clock.slack_us) >= self.due_of(put_off);
        let due = late || put_off.packets >= self.limits.max_packets;
        due && self.take()
    }

    /// Takes the interrupt that was put off, due or not.
    pub(crate) fn take(&mut self) -> bool {
        self.put_off.take().is_some()
    }

    /// When the interrupt that was put off is to be raised at the latest.
    pub(crate) fn due_us(&self) -> Option<u64> {
        self.put_off.map(|put_off| self.due_of(put_off))
    }

    fn due_of(&self, put_off: PutOff) -> u64 {
        put_off.since_us.saturating_add(self.limits.max_usecs.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXACT: fn(u64) -> Clock = |now_us| Clock { now_us, slack_us: 0 };

    fn paced(max_packets: u32, max_usecs: u32) -> Pacing {
        let mut pacing = Pacing::default();
        pacing.set(Coalescing { max_packets, max_usecs });
        pacing
    }

    #[test]
    fn without_bounds_nothing_is_put_off() {
        for (packets, usecs) in [(0, 0), (0, 1000), (8, 0)] {
            let mut pacing = paced(packets, usecs);
            for now in 0..10 {
                assert!(pacing.published(1, true, EXACT(now)), "{packets} {usecs}");
                assert!(!pacing.published(1, false, EXACT(now)));
                assert_eq!(pacing.due_us(), None);
            }
        }
    }

    #[test]
    fn the_count_ends_the_wait() {
        let mut pacing = paced(8, 50_000);
        for round in 0..100 {
            for packet in 1..=8 {
                // Wanted once, as with event words, or each time, as with flags.
                let wanted = packet == 1 || round % 2 == 0;
                assert_eq!(pacing.published(1, wanted, EXACT(round)), packet == 8);
            }
            assert!(!pacing.published(1, false, EXACT(round)));
        }
        assert!(!pacing.published(3, true, EXACT(0)));
        assert!(pacing.published(64, false, EXACT(0)));
    }

    #[test]
    fn the_time_ends_the_wait() {
        let mut pacing = paced(u32::MAX, 100);
        assert!(!pacing.published(1, true, EXACT(1000)));
        assert_eq!(pacing.due_us(), Some(1100));
        // From the first packet, not from the last.
        assert!(!pacing.published(1, true, EXACT(1099)));
        assert!(!pacing.take_due(EXACT(1099)));
        assert!(pacing.take_due(EXACT(1100)));
        assert!(!pacing.take_due(EXACT(9999)), "raised twice");
        assert_eq!(pacing.due_us(), None);
    }

    #[test]
    fn time_without_end_is_cut() {
        let mut pacing = paced(u32::MAX, u32::MAX);
        assert!(!pacing.published(1, true, EXACT(u64::MAX - 10)));
        assert_eq!(pacing.due_us(), Some(u64::MAX));
        assert!(pacing.take());
        assert!(!pacing.published(1, true, EXACT(0)));
        assert_eq!(pacing.due_us(), Some(50_000));
    }

    #[test]
    fn new_bounds_judge_what_was_put_off() {
        for (limits, due) in [((0, 0), true), ((3, 1000), true), ((4, 1000), false), ((9, 5), true)]
        {
            let mut pacing = paced(15, 10_000);
            assert!(!pacing.published(3, true, EXACT(100)));
            pacing.set(Coalescing { max_packets: limits.0, max_usecs: limits.1 });
            assert_eq!(pacing.take_due(EXACT(105)), due, "{limits:?}");
        }
    }

    proptest! {
        /// Whatever comes, no packet whose interrupt is wanted waits longer than
        /// the bounds, if steps come no later than the clock says.
        #[test]
        fn no_packet_waits_longer_than_the_bounds(
            max_packets in 0_u32..20,
            max_usecs in 0_u32..10_000,
            slack_us in 0_u64..3000,
            steps in prop::collection::vec((0_u32..5, any::<bool>(), 0_u64..4000, 0_u64..3000), 1..200),
        ) {
            let mut pacing = paced(max_packets, max_usecs);
            let (mut now_us, mut waiting) = (0_u64, None);
            let (mut wanted_since, mut raised) = (0_u32, 0_u32);
            for (packets, wanted, pause, late) in steps {
                let clock = Clock { now_us, slack_us };
                if packets > 0 {
                    let raise = pacing.published(packets, wanted, clock);
                    let (since, count) = waiting.unwrap_or((now_us, 0));
                    if wanted || waiting.is_some() {
                        wanted_since += u32::from(waiting.is_none());
                        waiting = Some((since, count + packets));
                    }
                    if raise {
                        raised += 1;
                        prop_assert!(waiting.take().is_some(), "raised for nothing");
                    }
                } else if pacing.take_due(clock) {
                    raised += 1;
                    prop_assert!(waiting.take().is_some(), "raised for nothing");
                }
                prop_assert_eq!(pacing.due_us().is_some(), waiting.is_some());
                if let Some((since, count)) = waiting {
                    prop_assert!(count < max_packets && now_us < since + u64::from(max_usecs));
                }
                // As a service sleeps: until due less the slack, and late by at most that.
                let due = pacing.due_us().map(|due| due.saturating_sub(slack_us).max(now_us));
                let wake = due.map_or(now_us + pause, |due| due.min(now_us + pause));
                now_us = wake + late.min(slack_us);
                if let Some((since, _)) = waiting {
                    prop_assert!(now_us <= since + u64::from(max_usecs), "late");
                }
            }
            prop_assert_eq!(raised + u32::from(waiting.is_some()), wanted_since);
        }
    }
}
