//! A station that originates traffic: numbered frames to another station,
//! which is to send each back. Every byte of what comes back is compared.

use shared::wire::net::NetHeader;

use super::port::FrameHandler;
use crate::device::Wake;

/// A type that nobody else uses (IEEE 802 local experimental).
const KIND: [u8; 2] = [0x88, 0xb5];

/// Bytes of an Ethernet header, and of it with a frame's number.
const ETHERNET: usize = 14;
const FIXED: usize = ETHERNET + 8;

/// Bytes of the shortest frame.
const SHORTEST: usize = 60;

/// Frames under way at most: less than an interface's queue holds.
const WINDOW: u64 = 64;

/// Time between two frames, in ms, while nobody answers yet.
const PROBE: u64 = 10;

/// What the talker is to do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Task {
    /// Nothing; what is under way still counts.
    #[default]
    Wait,
    /// A frame now and then, until one comes back.
    Probe,
    /// As many frames as there is room for.
    Stream,
}

/// What has become of a talker's frames.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Frames sent.
    pub sent: u64,
    /// Frames that came back as they were.
    pub back: u64,
    /// Bytes of those, Ethernet header included.
    pub bytes: u64,
    /// Frames that came back changed, twice, or out of their order.
    pub wrong: u64,
    /// Frames that a later one overtook.
    pub lost: u64,
    /// The number that is to come back next: those before it came, or are lost.
    next: u64,
}

impl Tally {
    /// Frames that may still come back.
    pub const fn under_way(&self) -> u64 {
        self.sent - self.next
    }

    fn take(&mut self, number: u64, len: usize, right: bool) {
        if !right || !(self.next..self.sent).contains(&number) {
            self.wrong += 1;
            return;
        }
        self.lost += number - self.next;
        self.next = number + 1;
        self.back += 1;
        self.bytes += len as u64;
    }
}

/// Stretches of the pattern that frames have, one after the other: a prime, so
/// that lengths and stretches meet in every way.
const STRETCHES: u64 = 251;

/// Byte `at` of the pattern that every payload is a stretch of.
const fn pattern(at: u64) -> u8 {
    let [low, ..] = at.to_le_bytes();
    low.wrapping_mul(29) ^ low.wrapping_mul(7) ^ (at >> 8).to_le_bytes()[0]
}

/// A station that talks to another one.
#[derive(Clone, Debug)]
pub struct Talker {
    from: [u8; 6],
    to: [u8; 6],
    /// Bytes of its longest frame.
    longest: u64,
    task: Task,
    tally: Tally,
    probed: Option<u64>,
}

impl Talker {
    /// The station `from`, which talks to the station `to` over a link of this
    /// MTU in bytes; it has nothing to do yet.
    #[must_use]
    pub fn new(from: [u8; 6], to: [u8; 6], mtu: u16) -> Self {
        let longest = (u64::from(mtu) + ETHERNET as u64).max(SHORTEST as u64);
        Self { from, to, longest, task: Task::Wait, tally: Tally::default(), probed: None }
    }

    /// From now on it does this. It looks every 10 ms while it has nothing to do.
    pub const fn set(&mut self, task: Task) {
        self.task = task;
    }

    /// What has become of its frames so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// What is under way counts as lost.
    pub const fn give_up(&mut self) {
        self.tally.lost += self.tally.under_way();
        self.tally.next = self.tally.sent;
    }

    /// The first bytes of frame `number`.
    fn head(number: u64, from: [u8; 6], to: [u8; 6]) -> [u8; FIXED] {
        let mut head = [0; FIXED];
        let bytes = to.iter().chain(&from).chain(&KIND).copied().chain(number.to_be_bytes());
        for (place, byte) in head.iter_mut().zip(bytes) {
            *place = byte;
        }
        head
    }

    /// The payload of frame `number`.
    fn payload(&self, number: u64) -> impl Iterator<Item = u8> {
        let lengths = self.longest - SHORTEST as u64 + 1;
        let len = (SHORTEST - FIXED) as u64 + number.wrapping_mul(37) % lengths;
        let start = number % STRETCHES;
        (start..start + len).map(pattern)
    }
}

impl FrameHandler for Talker {
    fn take(&mut self, _now: u64, _header: &NetHeader, frame: &[u8]) {
        let Some((head, payload)) = frame.split_first_chunk::<FIXED>() else { return };
        let Some(number) = head.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)) else {
            return;
        };
        // The kernel has words of its own for everybody.
        if head.get(12..ETHERNET) != Some(KIND.as_slice()) {
            return;
        }
        let right = Self::head(number, self.to, self.from) == *head
            && self.payload(number).eq(payload.iter().copied());
        self.tally.take(number, frame.len(), right);
    }

    fn give(&mut self, now: u64, into: &mut [u8]) -> Option<(NetHeader, usize)> {
        let due = match self.task {
            Task::Wait => false,
            Task::Probe => self.probed.is_none_or(|at| now >= at.saturating_add(PROBE)),
            Task::Stream => self.tally.under_way() < WINDOW,
        };
        if !due {
            return None;
        }
        let number = self.tally.sent;
        let (head, room) = into.split_first_chunk_mut::<FIXED>()?;
        *head = Self::head(number, self.from, self.to);
        let mut len = FIXED;
        let mut room = room.iter_mut();
        for byte in self.payload(number) {
            *room.next()? = byte;
            len += 1;
        }
        self.tally.sent += 1;
        self.probed = Some(now);
        Some((NetHeader::default(), len))
    }

    fn next(&self, now: u64) -> Wake {
        match self.task {
            // A frame that comes back makes room for the next.
            Task::Stream => Wake::Idle,
            Task::Wait | Task::Probe => Wake::At(now.saturating_add(PROBE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn turned(frame: &[u8]) -> Vec<u8> {
        [&frame[6..12], &frame[..6], &frame[12..]].concat()
    }

    #[test]
    fn what_comes_back_is_compared_and_counted() {
        let mut talker = Talker::new(A, B, 1500);
        let header = NetHeader::default();
        let mut into = [0; 2000];
        assert_eq!(talker.give(0, &mut into), None);
        talker.set(Task::Stream);
        let mut frames = Vec::new();
        while let Some((_, len)) = talker.give(0, &mut into) {
            frames.push(into[..len].to_vec());
        }
        assert_eq!(frames.len() as u64, WINDOW);
        assert!(frames.iter().all(|frame| (SHORTEST..=1514).contains(&frame.len())));
        for frame in &frames[..10] {
            talker.take(0, &header, &turned(frame));
        }
        let bytes = frames[..10].iter().map(|frame| frame.len() as u64).sum();
        let tally = talker.tally();
        assert_eq!((tally.back, tally.bytes, tally.lost, tally.wrong), (10, bytes, 0, 0));
        // Each byte of a frame counts, its end and its addresses too.
        for at in [0, 6, 21, 22, 59] {
            let mut wrong = turned(&frames[10]);
            wrong[at] ^= 1;
            talker.take(0, &header, &wrong);
        }
        let mut longer = turned(&frames[10]);
        longer.push(0);
        talker.take(0, &header, &longer);
        talker.take(0, &header, &turned(&frames[3]));
        assert_eq!((talker.tally().back, talker.tally().wrong), (10, 7));
        // The eleventh is overtaken.
        talker.take(0, &header, &turned(&frames[11]));
        assert_eq!((talker.tally().back, talker.tally().lost), (11, 1));
        talker.give_up();
        assert_eq!((talker.tally().under_way(), talker.tally().lost), (0, WINDOW - 11));
        // Others' frames are none of its business.
        talker.take(0, &header, &[0; 60]);
        assert_eq!(talker.tally().wrong, 7);
    }
}
