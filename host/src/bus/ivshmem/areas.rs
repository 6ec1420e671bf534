//! Which part of the host's half a session gets.
//!
//! The half is two areas, which take turns: what a board that has not heard of
//! the end of a session still writes for it hits none of the next one's memory.

/// The host's half, in bytes from its start.
#[derive(Debug)]
pub(super) struct Areas {
    half: u64,
    second: bool,
    used: u64,
}

/// Shared memory is a multiple of this, in bytes; IOVA 0 stays free.
pub(super) const PAGE: u64 = 4096;

impl Areas {
    pub(super) const fn new(half: u64) -> Self {
        Self { half, second: false, used: 0 }
    }

    /// The area whose turn it is: its first byte and the one behind it.
    fn area(&self) -> (u64, u64) {
        let middle = self.half / 2;
        if self.second { (middle, self.half) } else { (PAGE, middle) }
    }

    /// The next free place for `len` bytes, aligned to `len` rounded up to a
    /// power of two.
    pub(super) fn take(&mut self, len: u64) -> Option<u64> {
        let (start, end) = self.area();
        let align = len.checked_next_power_of_two()?;
        let at = self.used.max(start).checked_next_multiple_of(align)?;
        let next = at.checked_add(len)?;
        if next > end {
            return None;
        }
        self.used = next;
        Some(at)
    }

    /// All of it is free again, and the other area's turn comes.
    pub(super) fn turn(&mut self) {
        if self.used > 0 {
            (self.second, self.used) = (!self.second, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_follow_each_other_share_no_byte() {
        let mut areas = Areas::new(64 << 20);
        let mut last: Vec<(u64, u64)> = Vec::new();
        for _ in 0..5 {
            let mut now = Vec::new();
            for len in [5 << 20, 1 << 20, 4096, 3 << 20] {
                let at = areas.take(len).unwrap();
                assert!(at > 0 && at + len <= 64 << 20);
                assert_eq!(at % len.next_power_of_two(), 0);
                now.push((at, at + len));
            }
            for (i, a) in now.iter().enumerate() {
                let others = last.iter().chain(now.iter().take(i));
                assert!(others.into_iter().all(|b| a.1 <= b.0 || b.1 <= a.0), "{now:?} {last:?}");
            }
            last = now;
            areas.turn();
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut areas = Areas::new(8 << 20);
        assert_eq!(areas.take(4 << 20), None);
        assert!(areas.take(2 << 20).is_some());
        assert_eq!(areas.take(2 << 20), None);
        assert_eq!(areas.take(u64::MAX), None);
        areas.turn();
        assert_eq!(areas.take(4 << 20), Some(4 << 20));
    }
}
