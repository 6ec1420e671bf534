//! A board's own code that originates traffic: numbered frames to another
//! station, which is to send each back. Every byte of what comes back is compared.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use board::device::Wake;
use board::device::net::FrameHandler;
use shared::wire::net::NetHeader;

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
pub(crate) enum Task {
    /// Nothing; what is under way still counts.
    #[default]
    Wait,
    /// A frame now and then, until one comes back.
    Probe,
    /// As many frames as there is room for.
    Stream,
}

/// What has become of a talker's frames.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    /// Frames sent.
    pub(crate) sent: u64,
    /// Frames that came back as they were.
    pub(crate) back: u64,
    /// Bytes of those, Ethernet header included.
    pub(crate) bytes: u64,
    /// Frames that came back changed, twice, or out of their order.
    pub(crate) wrong: u64,
    /// The number that is to come back next: those before it came, or are lost.
    next: u64,
    /// Lost ones are those that a later one overtook.
    pub(crate) lost: u64,
}

impl Tally {
    /// Frames that may still come back.
    pub(crate) const fn under_way(&self) -> u64 {
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

/// The talker as the rest of the program sees it.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    /// Whom it talks to.
    to: [u8; 6],
    /// Bytes of its longest frame.
    longest: usize,
    state: Arc<Mutex<(Task, Tally)>>,
}

impl Talk {
    /// With the station `to`, over a link of this MTU.
    pub(crate) fn new(to: [u8; 6], mtu: u32) -> Self {
        let longest = usize::try_from(mtu).unwrap_or(usize::MAX).saturating_add(ETHERNET);
        Self { to, longest: longest.max(SHORTEST), state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, (Task, Tally)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it does this. It looks every 10 ms while it has nothing to do.
    pub(crate) fn set(&self, task: Task) {
        self.state().0 = task;
    }

    /// What has become of its frames so far.
    pub(crate) fn tally(&self) -> Tally {
        self.state().1
    }

    /// What is under way counts as lost.
    pub(crate) fn give_up(&self) {
        let tally = &mut self.state().1;
        tally.lost += tally.under_way();
        tally.next = tally.sent;
    }
}

/// The talker behind a board's network device.
#[derive(Debug)]
pub(crate) struct Talker {
    talk: Talk,
    from: [u8; 6],
    /// Each frame's payload is a stretch of it, another one each time.
    pattern: Vec<u8>,
    probed: Option<u64>,
}

/// Stretches that frames have, one after the other: a prime, so that lengths
/// and stretches meet in every way.
const STRETCHES: usize = 251;

impl Talker {
    /// For a board of this address.
    pub(crate) fn new(talk: Talk, from: [u8; 6]) -> Self {
        let bytes = (0..=u8::MAX).cycle().step_by(29).zip((0..=u8::MAX).cycle().step_by(7));
        let pattern = bytes.map(|(a, b)| a ^ b).take(talk.longest + STRETCHES).collect();
        Self { talk, from, pattern, probed: None }
    }

    /// What frame `number` is made of: its first bytes from `from` to `to`, and
    /// its payload.
    fn frame(&self, number: u64, from: [u8; 6], to: [u8; 6]) -> ([u8; FIXED], &[u8]) {
        let mut fixed = [0; FIXED];
        let bytes = to.iter().chain(&from).chain(&KIND).copied().chain(number.to_be_bytes());
        for (place, byte) in fixed.iter_mut().zip(bytes) {
            *place = byte;
        }
        let lengths = (self.talk.longest - SHORTEST + 1) as u64;
        let len =
            SHORTEST - FIXED + usize::try_from(number.wrapping_mul(37) % lengths).unwrap_or(0);
        let start = usize::try_from(number % STRETCHES as u64).unwrap_or(0);
        (fixed, self.pattern.get(start..start + len).unwrap_or(&[]))
    }
}

impl FrameHandler for Talker {
    fn take(&mut self, _now: u64, _header: &NetHeader, frame: &[u8]) {
        let Some((fixed, payload)) = frame.split_first_chunk::<FIXED>() else { return };
        let Some(number) = fixed.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)) else {
            return;
        };
        // The kernel has words of its own for everybody.
        if fixed.get(12..ETHERNET) != Some(KIND.as_slice()) {
            return;
        }
        let right = self.frame(number, self.talk.to, self.from) == (*fixed, payload);
        self.talk.state().1.take(number, frame.len(), right);
    }

    fn give(&mut self, now: u64, into: &mut [u8]) -> Option<(NetHeader, usize)> {
        let mut state = self.talk.state();
        let (task, tally) = &mut *state;
        let due = match task {
            Task::Wait => false,
            Task::Probe => self.probed.is_none_or(|at| now >= at + PROBE),
            Task::Stream => tally.under_way() < WINDOW,
        };
        if !due {
            return None;
        }
        let (fixed, payload) = self.frame(tally.sent, self.from, self.talk.to);
        let len = fixed.len() + payload.len();
        let (start, rest) = into.get_mut(..len)?.split_first_chunk_mut::<FIXED>()?;
        *start = fixed;
        rest.copy_from_slice(payload);
        tally.sent += 1;
        drop(state);
        self.probed = Some(now);
        Some((NetHeader::default(), len))
    }

    fn next(&self, now: u64) -> Wake {
        match self.talk.state().0 {
            // A frame that comes back makes room for the next.
            Task::Stream => Wake::Idle,
            Task::Wait | Task::Probe => Wake::At(now + PROBE),
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
        let talk = Talk::new(B, 1500);
        let mut talker = Talker::new(talk.clone(), A);
        let header = NetHeader::default();
        let mut into = [0; 2000];
        assert_eq!(talker.give(0, &mut into), None);
        talk.set(Task::Stream);
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
        let tally = talk.tally();
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
        assert_eq!((talk.tally().back, talk.tally().wrong), (10, 7));
        // The eleventh is overtaken.
        talker.take(0, &header, &turned(&frames[11]));
        assert_eq!((talk.tally().back, talk.tally().lost), (11, 1));
        talk.give_up();
        assert_eq!((talk.tally().under_way(), talk.tally().lost), (0, WINDOW - 11));
        // Others' frames are none of its business.
        talker.take(0, &header, &[0; 60]);
        assert_eq!(talk.tally().wrong, 7);
    }
}
