//! What a board's configuration asks of the interface, a few times a second at
//! most: each change takes the kernel's lock for all of its interfaces.

use crate::net_control::NetConfigChange;

/// Changes are at least so far apart, in ms.
const PACE: u64 = 250;

/// Changes that wait. Of each kind the last one holds, and none is forgotten.
#[derive(Debug)]
pub(super) struct Changes {
    waiting: NetConfigChange,
    /// When the next one may be made.
    next: u64,
}

impl Changes {
    pub(super) const fn new() -> Self {
        let waiting = NetConfigChange { link_up: None, mtu: None, announce: false };
        Self { waiting, next: 0 }
    }

    /// The board says so.
    pub(super) fn add(&mut self, change: NetConfigChange) {
        let waiting = &mut self.waiting;
        waiting.link_up = change.link_up.or(waiting.link_up);
        waiting.mtu = change.mtu.or(waiting.mtu);
        waiting.announce |= change.announce;
    }

    /// What is to be done at `now` (ms).
    pub(super) fn due(&mut self, now: u64) -> Option<NetConfigChange> {
        if now < self.due_at()? {
            return None;
        }
        self.next = now.saturating_add(PACE);
        Some(std::mem::take(&mut self.waiting))
    }

    /// When something is to be done, if anything is.
    pub(super) fn due_at(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.next)
    }

    /// The device is gone, or comes anew: what it said means nothing any more.
    pub(super) fn forget(&mut self) {
        self.waiting = NetConfigChange::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: NetConfigChange = NetConfigChange { link_up: None, mtu: None, announce: false };

    #[test]
    fn a_single_change_is_made_at_once() {
        let mut changes = Changes::new();
        assert_eq!((changes.due(5), changes.due_at()), (None, None));
        let down = NetConfigChange { link_up: Some(false), ..NONE };
        changes.add(down);
        assert_eq!((changes.due(5), changes.due(5)), (Some(down), None));
        let smaller = NetConfigChange { mtu: Some(1280), ..NONE };
        changes.add(smaller);
        assert_eq!((changes.due(254), changes.due_at()), (None, Some(255)));
        changes.forget();
        assert_eq!((changes.due(255), changes.due_at()), (None, None));
    }

    /// A thousand times a second for a minute, then no more.
    #[test]
    fn of_a_board_that_flaps_the_last_word_holds() {
        let mut changes = Changes::new();
        let (mut made, mut last, mut announced) = (0, NONE, 0);
        for now in 0..70_000_u64 {
            if now < 60_000 {
                let mtu = u16::try_from(1280 + now % 101).ok();
                changes.add(NetConfigChange { link_up: Some(now % 2 == 0), mtu, announce: true });
            }
            if let Some(change) = changes.due(now) {
                made += 1;
                announced += u32::from(change.announce);
                last = change;
            }
        }
        assert_eq!((made, announced), (241, 241));
        let mtu = u16::try_from(1280 + 59_999 % 101).ok();
        assert_eq!(last, NetConfigChange { link_up: Some(false), mtu, announce: true });
        assert_eq!(changes.due_at(), None);
    }
}
