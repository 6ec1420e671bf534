//! Either side goes and comes back, again and again, at random moments and
//! under load: frames flow again in time, none comes twice or damaged, and
//! nothing is lost but the frames that were on their way: no buffer, message
//! token, file descriptor or byte of memory.

use std::collections::BTreeSet;
use std::fs;

use host::bus::sim::Profile;
use host::session::Layout;
use nix::sched::{CloneFlags, unshare};
use shared::link::Heartbeat;
use shared::link::backoff::{FIRST_MS, GOOD_SESSION_MS};
use shared::wire::net::{HEADER_LEN, NetHeader};
use virtio_phys_tests::rig::{
    BOARD_MAC, HOST_MAC, LastingRig, QueuePort, Random, RigOptions, Turn, firmware_memory,
};

#[path = "../src/raw/counting.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod counting;

use counting::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HEARTBEAT: Heartbeat = Heartbeat { interval_ms: 500, misses: 4 };

/// The detection bound, the first back-off with its jitter, and a second.
const AGAIN: u64 = 500 * 4 + FIRST_MS * 5 / 4 + 1_000;

/// The instrument keeps what was there before, and buffers for what is on its
/// way; after so many resets that goes up and down, and does not grow. A bound
/// on it, in bytes. On a counted bus, and when all is over, each byte is counted.
const FULLEST: u64 = 12;
const IN_BUFFERS: isize = 128 << 10;

/// A probe is sent this often while nothing comes back, in ms.
const PROBE: u64 = 20;

/// What happens to one of the sides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Reset {
    /// The board's processor starts over, with an epoch that it may have had before.
    BoardReboots,
    /// Its firmware hangs; the host has the bus reset it, or a watchdog does.
    BoardHangs,
    /// The host's process is killed; another one begins some time later.
    HostVanishes,
    /// The host detaches, and begins again some time later.
    HostLeaves,
    /// A transfer of the board's fails, and it asks for a reset.
    BoardGivesUp,
    /// The bus answers all ones for a while.
    AllOnes,
}

const RESETS: [Reset; 6] = [
    Reset::BoardReboots,
    Reset::BoardHangs,
    Reset::HostVanishes,
    Reset::HostLeaves,
    Reset::BoardGivesUp,
    Reset::AllOnes,
];

/// Frames with a number, and every byte from it.
#[derive(Debug, Default)]
struct Stream {
    sent: u64,
    /// The number of the last one that came back.
    last: Option<u64>,
    came: u64,
}

impl Stream {
    /// Frame `number`: its length and its bytes follow from the number.
    fn frame(number: u64, into: &mut Vec<u8>) {
        let mut random = Random::new(number ^ 0x0F12_3456);
        let len = random.between(60, 1514);
        into.clear();
        into.extend_from_slice(&HOST_MAC);
        into.extend_from_slice(&BOARD_MAC);
        into.extend_from_slice(&[0x88, 0xB5]);
        into.extend_from_slice(&number.to_le_bytes());
        while into.len() < len {
            into.extend_from_slice(&random.next().to_le_bytes());
        }
        into.truncate(len);
    }

    fn send(&mut self, rig: &mut LastingRig, scratch: &mut Vec<u8>) {
        Self::frame(self.sent, scratch);
        rig.port.send(&NetHeader::default(), scratch);
        self.sent += 1;
    }

    /// Takes what came: frames that were sent, whole, by rising number.
    fn take(&mut self, rig: &mut LastingRig, scratch: &mut Vec<u8>) {
        while let Some(bytes) = rig.port.take() {
            let frame = &bytes[HEADER_LEN..];
            let number = u64::from_le_bytes(frame[14..22].try_into().unwrap());
            assert!(number < self.sent, "a frame that was never sent: {rig:?}");
            let again = self.last.is_some_and(|last| number <= last);
            assert!(!again, "frame {number} behind {:?}: {rig:?}", self.last);
            Self::frame(number, scratch);
            assert!(frame == scratch, "frame {number} is damaged: {rig:?}");
            self.last = Some(number);
            self.came += 1;
            rig.port.recycle(bytes);
        }
    }
}

/// A rig, its stream, and what a session of it has at hand.
struct Test {
    rig: LastingRig,
    stream: Stream,
    random: Random,
    scratch: Vec<u8>,
    kind: Kind,
    /// Shared bytes, open regions and the rest of a session that is up.
    held: Option<((u64, usize), Belongings)>,
    checks: u64,
    hosts: u32,
}

impl Test {
    fn new(options: RigOptions, kind: Kind) -> Self {
        let mut test = Self {
            rig: LastingRig::new(options),
            stream: Stream::default(),
            random: Random::new(options.seed ^ 0x2E5E75),
            scratch: Vec::new(),
            kind,
            held: None,
            checks: 0,
            hosts: 0,
        };
        test.begin_host();
        test
    }

    fn begin_host(&mut self) {
        self.hosts += 1;
        self.rig.start_host(self.hosts.wrapping_mul(0x9E37_79B9));
    }

    /// Sends probes until one comes back that was sent from now on.
    fn until_frames_flow(&mut self, limit_ms: u64, what: &str) {
        let (from, first) = (self.rig.now, self.stream.sent);
        let mut next = from;
        while self.stream.last.is_none_or(|last| last < first) {
            assert!(
                self.rig.now - from <= limit_ms,
                "{what}: no frame for {} ms: {:?}",
                self.rig.now - from,
                self.rig
            );
            if self.rig.now >= next && self.rig.port.waiting() < 8 {
                self.stream.send(&mut self.rig, &mut self.scratch);
                next = self.rig.now + PROBE;
            }
            self.rig.step(next);
            self.stream.take(&mut self.rig, &mut self.scratch);
        }
    }

    /// Sends until the session is over, and returns how long that took, in ms.
    fn until_down(&mut self, limit_ms: u64) -> u64 {
        let from = self.rig.now;
        while self.rig.is_up() {
            assert!(self.rig.now - from <= limit_ms, "still up: {:?}", self.rig);
            if self.rig.port.waiting() < 8 {
                self.stream.send(&mut self.rig, &mut self.scratch);
            }
            self.rig.step(u64::MAX);
            self.stream.take(&mut self.rig, &mut self.scratch);
        }
        self.rig.now - from
    }

    /// In a session that stands each frame comes back, more than the rings hold.
    fn all_come_back(&mut self, frames: u64) {
        // What the last session left behind comes or does not.
        self.wait(100);
        let (came, until) = (self.stream.came, self.rig.now + 60_000);
        let faults = self.rig.board.counters().peer_faults;
        for sent in 0..frames {
            self.stream.send(&mut self.rig, &mut self.scratch);
            if sent % 16 == 0 {
                self.rig.step(u64::MAX);
                self.stream.take(&mut self.rig, &mut self.scratch);
            }
        }
        while self.stream.came - came < frames {
            assert!(
                self.rig.now < until,
                "{} of {frames}: {:?}",
                self.stream.came - came,
                self.rig
            );
            self.rig.step(u64::MAX);
            self.stream.take(&mut self.rig, &mut self.scratch);
        }
        assert_eq!(self.rig.board.counters().peer_faults, faults);
        self.nothing_is_lost();
    }

    /// In a session that stands with nothing under way: it has what each one had.
    fn nothing_is_lost(&mut self) {
        assert_eq!(self.rig.tokens(), (0, 0), "tokens in flight, in quarantine: {:?}", self.rig);
        let regions = self.rig.board.service.support().open_regions().len();
        let shared = (self.rig.bus.shared_bytes(), regions);
        // The test's own memory grows with what it has seen.
        assert_eq!((self.rig.port.waiting(), self.rig.port.arrived()), (0, 0));
        self.rig.port = QueuePort::default();
        self.rig.endings.clear();
        self.scratch = Vec::new();
        self.rig.bus.settle();
        let now = Belongings::now();
        self.checks += 1;
        let (first_shared, first) = *self.held.get_or_insert((shared, now));
        if self.checks == FULLEST {
            self.held = Some((first_shared, Belongings { heap: now.heap, ..first }));
        }
        assert_eq!(shared, first_shared, "shared memory, regions: {:?}", self.rig);
        assert_eq!(now.descriptors, first.descriptors, "{:?}", self.rig);
        let more = now.heap.wrapping_sub(first.heap).cast_signed();
        match self.kind {
            Kind::Counted => assert_eq!(more, 0, "bytes of heap: {:?}", self.rig),
            Kind::Instrument(_) if self.checks < FULLEST => {}
            Kind::Instrument(_) => assert!(more < IN_BUFFERS, "{more} bytes: {:?}", self.rig),
        }
    }

    /// Long enough that the next back-off is the first again.
    fn idle(&mut self) {
        let until = self.rig.now + GOOD_SESSION_MS + self.random.below(1_000);
        while self.rig.now < until {
            self.rig.step(until);
        }
        assert!(self.rig.is_up(), "{:?}", self.rig);
    }

    /// Frames on their way, to a random moment.
    fn load(&mut self) {
        for _ in 0..self.random.below(600) {
            if self.random.below(3) == 0 && self.rig.port.waiting() < 32 {
                self.stream.send(&mut self.rig, &mut self.scratch);
            }
            self.rig.step(u64::MAX);
            self.stream.take(&mut self.rig, &mut self.scratch);
        }
    }

    /// Lets `ms` pass, whatever happens.
    fn wait(&mut self, ms: u64) {
        let until = self.rig.now + ms;
        while self.rig.now < until {
            self.rig.step(until);
            self.stream.take(&mut self.rig, &mut self.scratch);
        }
    }

    /// Resets, and waits until frames flow again.
    fn reset(&mut self, reset: Reset) {
        let sessions = self.rig.sessions();
        let faults = self.rig.bus.bill().iommu_faults;
        let mut limit = AGAIN;
        match reset {
            Reset::BoardReboots => self.rig.reboot_board(),
            Reset::BoardHangs => {
                self.rig.board_hangs = true;
                if self.rig.options.session.layout == Layout::BarOnly || self.random.below(2) == 0 {
                    let wait = self.random.below(3_000);
                    self.wait(wait);
                    if self.rig.board_hangs {
                        self.rig.reboot_board();
                    } else {
                        limit -= wait;
                    }
                }
            }
            Reset::HostVanishes => {
                self.rig.kill_host();
                self.wait_for_host();
            }
            Reset::HostLeaves => {
                self.rig.stop_host().unwrap();
                assert_eq!(self.rig.bus.shared_bytes(), 0);
                self.wait_for_host();
            }
            Reset::BoardGivesUp => {
                self.rig.board.service.dma().fails = true;
                limit -= self.until_down(1_000);
            }
            Reset::AllOnes => {
                self.rig.bus.kill_board();
                if self.random.below(2) == 0 {
                    // Over before anybody has looked, maybe, but writes are lost
                    // without a trace: a link that went down resets the card.
                    let ms = self.random.below(600);
                    self.wait(ms);
                    self.rig.reboot_board();
                } else {
                    // Long enough to be seen in any layout.
                    let ms = 600 + self.random.below(1_000);
                    self.wait(ms);
                    assert!(!self.rig.is_up());
                }
                self.rig.bus.revive_board();
            }
        }
        self.until_frames_flow(limit, &format!("{reset:?}"));
        let now = self.rig.sessions();
        match reset {
            // Another host.
            Reset::HostVanishes | Reset::HostLeaves => assert_eq!(now, 1),
            _ => assert_eq!(now, sessions + 1, "{reset:?}: {:?}", self.rig),
        }
        // Only a host that is killed leaves memory behind that the board still writes to.
        let more = self.rig.bus.bill().iommu_faults - faults;
        assert!(more == 0 || reset == Reset::HostVanishes, "{reset:?}: {more} IOMMU faults");
    }

    fn wait_for_host(&mut self) {
        let ms = self.random.below(3_000);
        self.wait(ms);
        self.begin_host();
    }

    /// Ends it all; nothing is left.
    fn end(mut self) {
        self.rig.stop_host().unwrap();
        for _ in 0..10_000 {
            if self.rig.step(u64::MAX) == Turn::Slept {
                break;
            }
        }
        assert_eq!(self.rig.bus.shared_bytes(), 0);
        let open = self.rig.board.service.support().open_regions();
        assert_eq!(*open, BTreeSet::new());
    }
}

/// What a thread has. Descriptors are counted in a table of its own, so that
/// what other tests open does not matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Belongings {
    descriptors: usize,
    heap: usize,
}

impl Belongings {
    fn now() -> Self {
        let descriptors = fs::read_dir("/proc/thread-self/fd").unwrap().count();
        let heap = counting::live_bytes().wrapping_sub(firmware_memory());
        Self { descriptors, heap }
    }
}

/// What kind of bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Plain memory and eventfds.
    Counted,
    /// Stores are delayed and reordered.
    Instrument(Profile),
}

const KINDS: [Kind; 3] =
    [Kind::Counted, Kind::Instrument(Profile::Eager), Kind::Instrument(Profile::Adversarial)];

fn options(seed: u64, layout: Layout, kind: Kind) -> RigOptions {
    let options = match kind {
        Kind::Counted => RigOptions { seed, ..RigOptions::counted() },
        Kind::Instrument(profile) => RigOptions::instrument(seed, profile),
    };
    let mut options = options.layout(layout).sizes(32, 32);
    options.board.heartbeat = HEARTBEAT;
    options.board.queue_entries = 32;
    options
}

fn run(resets: u64, seed: u64, layout: Layout, kind: Kind) {
    let mut test = Test::new(options(seed, layout, kind), kind);
    test.until_frames_flow(1_000, "the first attach");
    for _ in 0..resets {
        test.all_come_back(100);
        test.idle();
        test.load();
        let reset = RESETS[usize::try_from(test.random.below(6)).unwrap()];
        test.reset(reset);
    }
    test.all_come_back(100);
    test.end();
}

/// A third of the thousand: 336, on every kind of bus.
fn resets_in(layout: Layout, seed: u64) {
    unshare(CloneFlags::CLONE_FILES).unwrap();
    for (kind, seed) in KINDS.into_iter().zip(seed..) {
        let before = Belongings::now();
        run(112, seed, layout, kind);
        assert_eq!(Belongings::now(), before, "{layout}, {kind:?}: when all is over");
    }
}

#[test]
fn a_thousand_resets_in_layout_split() {
    resets_in(Layout::Split, 1);
}

#[test]
fn a_thousand_resets_in_layout_bar_only() {
    resets_in(Layout::BarOnly, 11);
}

#[test]
fn a_thousand_resets_in_layout_all_host() {
    resets_in(Layout::AllHost, 21);
}
