//! Two boards, one process, two real interfaces and the kernel's bridge
//! between them, in a network namespace of the test's own. It says so where it
//! may not make one.
#![allow(clippy::cast_possible_truncation, reason = "bytes of a pattern")]

mod frames;
mod stations;

use std::time::{Duration, Instant};

use board::device::net::{Echo, Port};
use host::bus::sim::SimBus;
use host::daemon::{Board, BoardOptions, InterfaceOptions, LinkState, Stations, WorkerOptions};
use host::namespace::in_namespace;
use host::netlink::Netlink;
use host::tap::{Tap, TapOptions};
use virtio_phys_tests::board_thread::BoardThread;
use virtio_phys_tests::rig::RigOptions;

use frames::Stream;
use stations::{FLOWING, PROBING, Seen, Station, Talker};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

const A: [u8; 6] = [0x02, 0x76, 0x70, 0x68, 0xA0, 2];
const B: [u8; 6] = [0x02, 0x76, 0x70, 0x68, 0xB0, 2];
const THIRD: [u8; 6] = [0x02, 0x76, 0x70, 0x68, 0xC0, 2];

/// Board A's frames to board B, which sends them back.
const BETWEEN_BOARDS: Stream = Stream { name: 1, from: A, to: B };
/// A third station's frames to board A, which sends them back.
const TO_A: Stream = Stream { name: 2, from: THIRD, to: A };

/// A board with its bus, under the daemon's care.
struct Slot {
    bus: SimBus,
    link: Board,
    board: BoardThread,
}

impl Slot {
    fn new(
        name: &str,
        board: impl FnOnce(&SimBus, RigOptions) -> BoardThread,
        mac: [u8; 6],
    ) -> Self {
        let mut options = RigOptions::counted();
        options.board.mac = mac;
        options.board.host_mac = [mac[0], mac[1], mac[2], mac[3], mac[4], 1];
        let bus = SimBus::new(options.sim).unwrap();
        let board = board(&bus, options);
        let link = Board::start(
            bus.host(),
            BoardOptions {
                name: name.to_owned(),
                interface: InterfaceOptions::new(name),
                session: options.session,
                worker: WorkerOptions::default(),
                console: None,
                stations: Stations::default(),
            },
        );
        Self { bus, link: link.unwrap(), board }
    }

    fn is_up(&self) -> bool {
        self.link.status().state == LinkState::Up
    }
}

/// Everything, with both links up and on the bridge.
struct Site {
    a: Slot,
    b: Slot,
    seen: Seen,
    third: Station,
    net: Netlink,
}

impl Site {
    /// Board A waits so many ms for a frame that is under way.
    fn new(patience: u64) -> Self {
        let seen = Seen::default();
        let talks = seen.clone();
        let a = Slot::new(
            "a",
            |bus, options| {
                BoardThread::start(bus, options, move |_| {
                    Port::new(Talker::new(BETWEEN_BOARDS, TO_A, talks.clone(), patience), 0)
                })
            },
            A,
        );
        let b = Slot::new(
            "b",
            |bus, options| BoardThread::start(bus, options, |_| Echo::swapping()),
            B,
        );
        let tap = Tap::open(&TapOptions::new("third")).unwrap();
        tap.set_carrier(true).unwrap();
        let mut net = Netlink::open().unwrap();
        net.add_bridge("bridge").unwrap();
        for name in ["a", "b", "third"] {
            net.no_automatic_address(name).unwrap();
            net.add_to_bridge(name, "bridge").unwrap();
        }
        net.set_up("third").unwrap();
        net.set_up("bridge").unwrap();
        let mut site = Self { a, b, seen, third: Station::new(tap, TO_A), net };
        site.until("both links", |site| site.a.is_up() && site.b.is_up());
        // The bridge hears of carriers by and by, and drops frames until then.
        site.until("both streams", |site| site.back() > 100 && site.third.tally.back > 100);
        site.third.tally.lost.clear();
        site
    }

    /// Lets the third station work until `done`.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: not yet; {:?}; {:?}; {:?}; {:?}",
                self.seen.get(),
                self.third.tally,
                self.a.link.status(),
                self.b.link.status()
            );
            self.third.step();
        }
    }

    /// Frames of board A that have come back.
    fn back(&self) -> u64 {
        self.seen.get().back
    }

    fn nothing_is_wrong(&self) {
        for tally in [&self.seen.get(), &self.third.tally] {
            assert!(tally.wrong.is_empty(), "{:?}", tally.wrong);
        }
    }
}

#[test]
fn every_byte_there_and_back() {
    in_namespace("every_byte_there_and_back", || {
        const FRAMES: u64 = 50_000;
        let mut site = Site::new(FLOWING);
        let early = site.seen.get();
        site.until("frames of A", |site| site.back() >= early.back + FRAMES);
        let late = site.seen.get();
        site.nothing_is_wrong();
        assert_eq!(late.lost, early.lost, "lost on the way there and back");
        assert!(site.third.tally.lost.is_empty(), "{:?}", site.third.tally);
        // They went through both interfaces.
        for slot in [&site.a, &site.b] {
            let counters = slot.link.status().counters;
            assert!(counters.to_board.frames >= FRAMES && counters.to_host.frames >= FRAMES);
            assert_eq!(counters.to_host.completion_polled, 0);
        }
        for slot in [site.a, site.b] {
            slot.link.stop().unwrap();
            assert_eq!(slot.bus.shared_bytes(), 0);
        }
    });
}

/// Board B reboots in mid-traffic. What is between it and A is lost; what
/// others say to A is not, and B comes back by itself, on the same interface.
#[test]
fn a_board_reboots_and_the_other_does_not_notice() {
    in_namespace("a_board_reboots_and_the_other_does_not_notice", || {
        // With each reboot what is under way is lost.
        let mut site = Site::new(PROBING);
        let index = site.net.link("b").unwrap().index;
        for round in 1..=5 {
            let before = site.third.tally.back;
            site.b.bus.reboot_board();
            site.until("board B again", |site| {
                // The interface never goes, whatever becomes of the link.
                assert_eq!(site.net.link("b").unwrap().index, index);
                let status = site.b.link.status();
                site.b.board.boots() > round && status.sessions > round && site.b.is_up()
            });
            // The other stream went on meanwhile.
            assert!(site.third.tally.back > before, "{:?}", site.third.tally);
            let back = site.back();
            site.until("A's stream again", |site| site.back() > back + 1000);
            assert!(site.net.link("b").unwrap().carrier);
        }
        site.nothing_is_wrong();
        assert!(site.third.tally.lost.is_empty(), "{:?}", site.third.tally);
        let a = site.a.link.status();
        assert_eq!((a.sessions, a.failures), (1, 0));
        assert_eq!(a.counters.to_host.completion_polled, 0);
        assert_eq!(site.a.board.boots(), 1);
        for slot in [site.a, site.b] {
            slot.link.stop().unwrap();
        }
    });
}
