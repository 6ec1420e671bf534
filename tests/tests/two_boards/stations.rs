//! Who sends frames: a board, and a third station on the bridge.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use board::device::Wake;
use board::device::net::FrameHandler;
use host::net::{FramePort, Sent};
use host::tap::Tap;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shared::raw::RamWindow;
use shared::region::Located;
use shared::wire::net::{HEADER_LEN, NetHeader};

use crate::frames::{Stream, Tally};

/// Frames under way at most: less than an interface's queue holds.
const WINDOW: u64 = 64;

/// After so many ms without a frame coming back, those under way count as lost:
/// while the way there need not be open, and when nothing on it ends, where a
/// busy machine makes frames late.
pub(crate) const PROBING: u64 = 1000;
pub(crate) const FLOWING: u64 = 10_000;

/// How long is waited for a frame of this tally, in ms, where one that has come
/// back is followed by others within `flowing`.
fn patience(tally: &Tally, flowing: u64) -> u64 {
    if tally.back == 0 { PROBING } else { flowing }
}

/// A tally that the test looks at.
#[derive(Clone, Default, Debug)]
pub(crate) struct Seen(Arc<Mutex<Tally>>);

impl Seen {
    pub(crate) fn get(&self) -> Tally {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap()
    }
}

/// A board's own code that sends one stream and sends others back.
#[derive(Debug)]
pub(crate) struct Talker {
    own: Stream,
    /// A stream of others that goes back.
    mirrored: Stream,
    back: VecDeque<Vec<u8>>,
    seen: Seen,
    last: u64,
    /// After so many ms those under way count as lost, once one has come back.
    flowing: u64,
}

impl Talker {
    pub(crate) fn new(own: Stream, mirrored: Stream, seen: Seen, flowing: u64) -> Self {
        Self { own, mirrored, back: VecDeque::new(), seen, last: 0, flowing }
    }
}

/// Exchanges the two MAC addresses.
fn turned(mut frame: Vec<u8>) -> Vec<u8> {
    let (to, rest) = frame.split_at_mut(6);
    to.swap_with_slice(&mut rest[..6]);
    frame
}

impl FrameHandler for Talker {
    fn take(&mut self, now: u64, _header: &NetHeader, frame: &[u8]) {
        if let Some(read) = self.own.read_back(frame) {
            self.seen.lock().take(read);
            self.last = now;
            return;
        }
        // What the other sends looks, turned, like what came back.
        let turned = turned(frame.to_vec());
        if self.mirrored.read_back(&turned).is_some() {
            self.back.push_back(turned);
        }
    }

    fn give(&mut self, now: u64, into: &mut [u8]) -> Option<(NetHeader, usize)> {
        let frame = self.back.pop_front().or_else(|| {
            let mut seen = self.seen.lock();
            if seen.under_way() >= WINDOW && now >= self.last + patience(&seen, self.flowing) {
                seen.give_up();
                self.last = now;
            }
            (seen.under_way() < WINDOW).then(|| {
                seen.sent += 1;
                self.own.frame(seen.sent - 1)
            })
        })?;
        into[..frame.len()].copy_from_slice(&frame);
        Some((NetHeader::default(), frame.len()))
    }

    fn next(&self, _now: u64) -> Wake {
        Wake::At(self.last + patience(&self.seen.lock(), self.flowing))
    }
}

/// A station on the bridge: an interface whose other end is the test.
#[derive(Debug)]
pub(crate) struct Station {
    tap: Tap,
    stream: Stream,
    pub(crate) tally: Tally,
    last: Instant,
}

type NoWindow = RamWindow<()>;

impl Station {
    pub(crate) fn new(tap: Tap, stream: Stream) -> Self {
        Self { tap, stream, tally: Tally::default(), last: Instant::now() }
    }

    /// Sends what the window has room for, takes what is there, waits a little.
    pub(crate) fn step(&mut self) {
        while self.tally.under_way() < WINDOW / 2 {
            let mut frame = NetHeader::default().encode().to_vec();
            frame.extend(self.stream.frame(self.tally.sent));
            let nothing: [Located<'_, NoWindow>; 0] = [];
            if self.tap.send(&frame, &nothing).unwrap() != Sent::Whole {
                break;
            }
            self.tally.sent += 1;
        }
        let mut bytes = [0; 2048];
        while let Some(len) =
            FramePort::<NoWindow>::receive_private(&mut self.tap, &mut bytes).unwrap()
        {
            let frame = &bytes[HEADER_LEN..len as usize];
            if let Some(read) = self.stream.read_back(frame) {
                self.tally.take(read);
                self.last = Instant::now();
            }
        }
        if self.last.elapsed() > Duration::from_millis(patience(&self.tally, FLOWING)) {
            self.tally.give_up();
            self.last = Instant::now();
        }
        // Until something comes, and not too long: others are looked at as well.
        let mut fds = [PollFd::new(self.tap.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(1u8)).unwrap();
    }
}
