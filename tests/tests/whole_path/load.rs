//! Frames in random batches, compared byte for byte at the far end.

use board::device::Wake;
use board::device::net::{Echo, FrameHandler, NetBackend, Port};
use board::trace::NetCounters;
use shared::wire::net::{HEADER_LEN, NetHeader};
use virtio_phys_tests::rig::frames::{Frames, Sizes};
use virtio_phys_tests::rig::{Random, Rig, Turn};

/// Longest batch that is queued at once: more than a step moves and than most
/// of the rings here hold.
const LONGEST_BATCH: u64 = 150;

/// Frames of a stream that may be under way or wait.
const WINDOW: u64 = 400;

/// Steps without a frame after which a test counts as hanging.
const PATIENCE: u64 = 200_000;

/// When the next batch of a stream is due.
struct Batches {
    random: Random,
    /// Wait until both ends sleep.
    pause: bool,
}

impl Batches {
    fn new(seed: u64) -> Self {
        Self { random: Random::new(seed ^ 0xBA7C), pause: false }
    }

    /// The next batch: 0 frames if it is not due yet. One in eight waits until
    /// both ends sleep.
    fn next(&mut self, turn: Turn, left: u64) -> u64 {
        // Who never sleeps goes on after a while.
        let over = turn == Turn::Slept || self.random.below(512) == 0;
        self.pause &= !over;
        if left == 0 || self.pause {
            return 0;
        }
        self.pause = self.random.below(8) == 0;
        let longest = if self.random.below(2) == 0 { 8 } else { LONGEST_BATCH };
        left.min(1 + self.random.below(longest))
    }
}

/// Sends `count` frames and awaits each of them back.
pub(crate) fn echo(rig: &mut Rig<Echo>, count: u64, sizes: Sizes) {
    let before = rig.board.counters();
    let mut sent = Frames::new(rig.options.seed, sizes);
    let mut came = sent.clone();
    let mut batches = Batches::new(rig.options.seed);
    let (mut scratch, mut waited, mut turn) = (Vec::new(), 0, Turn::Taken);
    while came.number() < count {
        let out = sent.number() - came.number();
        if rig.port.waiting() == 0 && out < WINDOW {
            for _ in 0..batches.next(turn, count - sent.number()) {
                rig.port.send_with(|into| _ = sent.next(into));
            }
        }
        turn = rig.step().unwrap();
        waited += 1;
        while let Some(frame) = rig.port.take() {
            came.check(&frame, &mut scratch);
            rig.port.recycle(frame);
            waited = 0;
        }
        assert!(waited < PATIENCE, "frame {} does not come back: {rig:?}", came.number());
    }
    finish(rig);
    assert_nothing_dropped(rig, count, &before);
}

/// Sends `count` frames each way, two streams that have nothing to do with
/// each other.
pub(crate) fn streams(rig: &mut Rig<Port<Streams>>, count: u64, sizes: Sizes) {
    let before = rig.board.counters();
    Traffic::new(rig.options.seed, sizes).run(rig, count);
    finish(rig);
    assert_nothing_dropped(rig, count, &before);
}

/// The host's end of two streams.
pub(crate) struct Traffic {
    sent: Frames,
    came: Frames,
    down: Batches,
    up: Batches,
    /// Frames that the board was asked for.
    asked: u64,
}

impl Traffic {
    /// The near end for a rig of this seed, with [`Streams`] at the far one.
    pub(crate) fn new(seed: u64, sizes: Sizes) -> Self {
        Self {
            sent: Frames::new(seed, sizes),
            came: Frames::new(!seed, sizes),
            down: Batches::new(seed),
            up: Batches::new(!seed),
            asked: 0,
        }
    }

    /// Goes on until `count` frames have gone each way since the beginning.
    pub(crate) fn run(&mut self, rig: &mut Rig<Port<Streams>>, count: u64) {
        let Self { sent, came, down, up, asked } = self;
        let (mut scratch, mut waited, mut turn) = (Vec::new(), 0, Turn::Taken);
        loop {
            let taken = rig.board.backend().handler().took.number();
            if came.number() == count && taken == count {
                return;
            }
            if rig.port.waiting() == 0 && sent.number() - taken < WINDOW {
                for _ in 0..down.next(turn, count - sent.number()) {
                    rig.port.send_with(|into| _ = sent.next(into));
                }
            }
            if *asked - came.number() < WINDOW {
                let batch = up.next(turn, count - *asked);
                *asked += batch;
                rig.board.backend().handler().quota += batch;
                if batch > 0 {
                    rig.board.kick();
                }
            }
            turn = rig.step().unwrap();
            waited += 1;
            while let Some(frame) = rig.port.take() {
                came.check(&frame, &mut scratch);
                rig.port.recycle(frame);
                waited = 0;
            }
            if rig.board.backend().handler().took.number() != taken {
                waited = 0;
            }
            assert!(waited < PATIENCE, "{} of {count} came, {taken} went: {rig:?}", came.number());
        }
    }
}

/// Lets the last buffers come back, and asserts that no timer found anything.
fn finish<B: NetBackend + std::fmt::Debug>(rig: &mut Rig<B>) {
    // Time enough for what a timer found to be counted.
    rig.idle_for(1500).unwrap();
    assert_eq!(rig.port.arrived(), 0, "frames that nobody sent");
    rig.assert_nothing_polled();
    assert_eq!(rig.bill().iommu_faults, 0, "accesses to memory that is not the board's to use");
    assert_eq!(rig.bill().width_faults, 0, "stores that the BAR does not take");
}

/// Asserts that the session carried `count` frames each way, and that neither
/// end has dropped one since `before`.
fn assert_nothing_dropped<B: NetBackend>(rig: &mut Rig<B>, count: u64, before: &NetCounters) {
    let (host, board) = (rig.host.counters(), rig.board.counters());
    assert_eq!((host.to_board.frames, host.to_host.frames), (count, count));
    assert_eq!((host.to_board.dropped, host.to_host.dropped, host.to_host.refused), (0, 0, 0));
    for ((name, value), (_, before)) in board.named().zip(before.named()) {
        let bad = name.starts_with("dropped") || name == "peer_faults";
        assert!(!bad || value == before, "{name}: {}", value - before);
    }
    assert_eq!(rig.port.too_long, 0);
}

/// The board's own code at the other end of [`streams`].
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    give: Frames,
    /// Frames that it may still give.
    pub(crate) quota: u64,
    pub(crate) took: Frames,
    scratch: [Vec<u8>; 2],
}

impl Streams {
    /// The far end for a rig of this seed.
    pub(crate) fn new(seed: u64, sizes: Sizes) -> Self {
        Self {
            give: Frames::new(!seed, sizes),
            quota: 0,
            took: Frames::new(seed, sizes),
            scratch: Default::default(),
        }
    }
}

impl FrameHandler for Streams {
    fn take(&mut self, _now: u64, header: &NetHeader, frame: &[u8]) {
        let [found, scratch] = &mut self.scratch;
        found.clear();
        found.extend_from_slice(&header.encode());
        found.extend_from_slice(frame);
        self.took.check(found, scratch);
    }

    fn give(&mut self, _now: u64, into: &mut [u8]) -> Option<(NetHeader, usize)> {
        self.quota = self.quota.checked_sub(1)?;
        let [bytes, _] = &mut self.scratch;
        bytes.clear();
        let header = self.give.next(bytes);
        let frame = &bytes[HEADER_LEN..];
        into[..frame.len()].copy_from_slice(frame);
        Some((header, frame.len()))
    }

    fn next(&self, _now: u64) -> Wake {
        if self.quota > 0 { Wake::Again } else { Wake::Idle }
    }
}
