//! What a board asks of a running daemon, and a daemon of a running board: one
//! simulated board, the real daemon, a tap in a network namespace of the test's
//! own. It says so where it may not make one.

mod says;

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use board::device::net::{Echo, Port};
use host::bus::sim::SimBus;
use host::daemon::{
    Board, BoardOptions, InterfaceOptions, LinkState, LiveOptions, Stations, WorkerOptions,
};
use host::namespace::in_namespace;
use host::net_control::Receive;
use host::netlink::Netlink;
use shared::wire::net::feature;
use virtio_phys_tests::board_thread::{BoardThread, Happening};
use virtio_phys_tests::rig::{BOARD_MAC, RigOptions};

use says::Says;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// An address, by whose group the board's frames ask.
const ADDRESS: &str = "fd00:9::1";

#[track_caller]
fn until(what: &str, link: &Board, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not come: {:?}", link.status());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[track_caller]
fn state(link: &Board, state: LinkState) {
    until(&state.to_string(), link, || link.status().state == state);
}

fn options(name: &str, rig: &RigOptions) -> BoardOptions {
    let mut interface = InterfaceOptions::new(name);
    interface.addresses.push((ADDRESS.parse().unwrap(), 64));
    BoardOptions {
        name: name.to_owned(),
        interface,
        session: rig.session,
        worker: WorkerOptions::default(),
        console: None,
        stations: Stations::default(),
    }
}

fn carrier() -> bool {
    Netlink::open().unwrap().link("b0").unwrap().carrier
}

#[test]
fn the_interface_follows_the_boards_link() {
    in_namespace("the_interface_follows_the_boards_link", || {
        let rig = RigOptions::counted();
        let bus = SimBus::new(rig.sim).unwrap();
        let board = BoardThread::start(&bus, rig, |_| Echo::swapping());
        let link = Board::start(bus.host(), options("b0", &rig)).unwrap();
        state(&link, LinkState::Up);
        until("the carrier", &link, carrier);
        board.happens(Happening::Link(false));
        state(&link, LinkState::NoLink);
        until("no carrier", &link, || !carrier());
        board.happens(Happening::Link(true));
        state(&link, LinkState::Up);
        until("the carrier", &link, carrier);
        // Faster than anybody needs to know: the last word holds.
        for up in [false, true, false, true, false, true, false] {
            board.happens(Happening::Link(up));
        }
        state(&link, LinkState::NoLink);
        until("no carrier", &link, || !carrier());
        board.happens(Happening::Link(true));
        state(&link, LinkState::Up);
        // The host announces itself, and says that it has: one command more.
        let (commands, frames) = (board.counters().commands, board.counters().to_board_frames);
        board.happens(Happening::Announce);
        until("the announcement", &link, || board.counters().commands == commands + 1);
        until("its frame", &link, || board.counters().to_board_frames > frames);
        assert_eq!((link.status().sessions, link.status().failures), (1, 0));
        link.stop().unwrap();
    });
}

#[test]
fn an_interface_that_somebody_deletes_comes_back() {
    in_namespace("an_interface_that_somebody_deletes_comes_back", || {
        let rig = RigOptions::counted();
        let bus = SimBus::new(rig.sim).unwrap();
        let _board = BoardThread::start(&bus, rig, |_| Echo::swapping());
        let link = Board::start(bus.host(), options("b0", &rig)).unwrap();
        state(&link, LinkState::Up);
        Netlink::open().unwrap().delete("b0").unwrap();
        until("the next session", &link, || link.status().sessions == 2);
        state(&link, LinkState::Up);
        until("the carrier", &link, carrier);
        let why = link.status().last_failure.unwrap();
        assert!(why.contains("has been deleted; the next session makes it again"), "{why}");
        link.stop().unwrap();
    });
}

#[test]
fn the_network_device_goes_and_comes() {
    in_namespace("the_network_device_goes_and_comes", || {
        let mut rig = RigOptions::counted();
        let bus = SimBus::new(rig.sim).unwrap();
        let first = BoardThread::start(&bus, rig, |_| Echo::swapping());
        let folder = std::env::temp_dir().join(format!("vphys-live-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let console = folder.join("console");
        let mut daemon = options("b0", &rig);
        daemon.console = Some(console.clone());
        let link = Board::start(bus.host(), daemon).unwrap();
        for _ in 0..3 {
            state(&link, LinkState::Up);
            until("the carrier", &link, carrier);
            first.happens(Happening::Net(false));
            state(&link, LinkState::NoLink);
            until("no carrier", &link, || !carrier());
            first.happens(Happening::Net(true));
        }
        state(&link, LinkState::Up);
        assert_eq!((link.status().sessions, link.status().terms.unwrap().device), (4, 0));
        drop(first);
        // Another firmware: what was the network device's number is the console's,
        // and goes while no network device has come up.
        rig.board.console_first = true;
        (rig.board.console, rig.board.net) = (true, false);
        let second = BoardThread::start(&bus, rig, |_| Echo::swapping());
        let mut user = fs::File::options().write(true).open(&console).unwrap();
        let mut listens = || {
            let before = second.typed();
            let mut looks = 0;
            until("somebody who listens", &link, || {
                // What is typed while nobody is there is forgotten. Not so much of
                // it that the terminal is full.
                if looks % 50 == 0 {
                    user.write_all(b"\x15").unwrap();
                }
                looks += 1;
                second.typed() > before
            });
        };
        listens();
        second.happens(Happening::Console(false));
        second.happens(Happening::Console(true));
        listens();
        assert_eq!(link.status().state, LinkState::Attaching);
        second.happens(Happening::Net(true));
        state(&link, LinkState::Up);
        assert_eq!(link.status().terms.unwrap().device, 1);
        link.stop().unwrap();
        fs::remove_dir_all(&folder).unwrap();
    });
}

/// Each setting, changed while the link is up, and in the next session.
#[test]
fn a_board_sends_what_is_wanted() {
    in_namespace("a_board_sends_what_is_wanted", || {
        let rig = RigOptions::counted();
        let bus = SimBus::new(rig.sim).unwrap();
        let says = Says::default();
        let speaker = says.clone();
        let board =
            BoardThread::start(&bus, rig, move |_| Port::new(speaker.clone(), feature::GUEST_CSUM));
        let link = Board::start(bus.host(), options("b0", &rig)).unwrap();
        state(&link, LinkState::Up);
        // Frames of a round that reach the host, are not wanted, and are unfit.
        let round = || {
            let before = board.counters();
            says.round();
            board.happens(Happening::Look);
            let counted = || {
                let now = board.counters();
                [
                    now.to_host_frames - before.to_host_frames,
                    now.filtered - before.filtered,
                    now.dropped_unfit - before.dropped_unfit,
                ]
            };
            let all = || counted().iter().sum::<u64>() == Says::FRAMES as u64;
            until("a round", &link, || says.is_done() && all());
            counted()
        };
        let [on, off] = [true, false];
        let receive =
            |promiscuous, all_multicast, offloads| Receive { promiscuous, all_multicast, offloads };
        let wants = |receive, addresses: &[&str]| {
            link.apply(LiveOptions {
                addresses: addresses.iter().map(|text| (text.parse().unwrap(), 64)).collect(),
                worker: WorkerOptions::default(),
                coalescing: None,
                receive,
            });
        };
        assert_eq!(round(), [7, 0, 0]);
        for (receive, addresses, counted) in [
            (receive(off, on, on), &[ADDRESS][..], [6, 1, 0]),
            (receive(off, off, on), &[ADDRESS], [5, 2, 0]),
            (receive(off, off, on), &["fd00:9::2"], [4, 3, 0]),
            (receive(off, off, off), &[ADDRESS], [4, 2, 1]),
            (receive(on, off, off), &[ADDRESS], [6, 0, 1]),
            (receive(on, on, on), &[ADDRESS], [7, 0, 0]),
            (receive(off, off, off), &[ADDRESS], [4, 2, 1]),
        ] {
            wants(receive, addresses);
            until(&format!("{receive:?} {addresses:?}"), &link, || round() == counted);
        }
        // A board that boots again has forgotten all of it, and is told.
        link.reset();
        until("the next session", &link, || link.status().sessions == 2);
        state(&link, LinkState::Up);
        until("the settings", &link, || round() == [4, 2, 1]);
        assert_eq!(board.counters().commands_refused, 0);
        link.stop().unwrap();
    });
}

/// Frames of a VLAN that was named reach the kernel. Others are dropped: by the
/// board, which was told, and by the host, if the board sends them all the same.
#[test]
fn frames_of_wanted_vlans_pass() {
    in_namespace("frames_of_wanted_vlans_pass", || {
        let rig = RigOptions::counted();
        let bus = SimBus::new(rig.sim).unwrap();
        let says = Says::default();
        let speaker = says.clone();
        let board = BoardThread::start(&bus, rig, move |_| Port::new(speaker.clone(), 0));
        let mut with = options("b0", &rig);
        for id in [10, 4094] {
            assert!(with.session.vlans.insert(id));
        }
        let link = Board::start(bus.host(), with).unwrap();
        state(&link, LinkState::Up);
        let counted = || {
            let to_host = link.status().counters.to_host;
            [to_host.frames, to_host.refused, board.counters().filtered]
        };
        let receive = |promiscuous| {
            link.apply(LiveOptions {
                addresses: vec![(ADDRESS.parse().unwrap(), 64)],
                worker: WorkerOptions::default(),
                coalescing: None,
                receive: Receive { promiscuous, ..Receive::default() },
            });
        };
        // Each tag, and where its frame ends.
        for (promiscuous, tag, end) in [
            (true, 10, 0),
            (true, 0xE00A, 0),
            (true, 4094, 0),
            (true, 11, 1),
            (true, 0x2000, 1),
            (false, 10, 0),
            (false, 11, 2),
        ] {
            receive(promiscuous);
            until("what becomes of a frame", &link, || {
                let before = counted();
                says.tagged(tag);
                board.happens(Happening::Look);
                let sum = |counts: [u64; 3]| counts.iter().sum::<u64>();
                until("a frame", &link, || says.is_done() && sum(counted()) > sum(before));
                // The switch takes a moment.
                counted()[end] > before[end]
            });
        }
        assert_eq!(board.counters().commands_refused, 0);
        link.stop().unwrap();
    });
}

#[test]
fn another_board_is_refused() {
    in_namespace("another_board_is_refused", || {
        let rig = RigOptions::counted();
        let stations = Stations::default();
        let boards = ["b0", "b1"].map(|name| {
            let bus = SimBus::new(rig.sim).unwrap();
            let board = BoardThread::start(&bus, rig, |_| Echo::swapping());
            (name, bus, board)
        });
        let start = |at: usize, board_mac| {
            let (name, bus, _) = &boards[at];
            let mut options = options(name, &rig);
            options.interface.addresses = vec![(IpAddr::from([10, 0, 0, 1]), 32)];
            options.session.board_mac = board_mac;
            options.stations = stations.clone();
            Board::start(bus.host(), options).unwrap()
        };
        let fails = |link: &Board, why: &str| {
            let text = || link.status().last_failure.unwrap_or_default();
            until(why, link, || text().contains(why));
        };
        let link = start(0, Some([2, 0, 0, 0, 0, 9]));
        fails(
            &link,
            "the board says that its MAC address is 02:76:70:68:79:02, and the configuration wants \
             02:00:00:00:00:09: another board is in the slot",
        );
        link.stop().unwrap();
        let link = start(0, Some(BOARD_MAC));
        state(&link, LinkState::Up);
        let other = start(1, None);
        fails(&other, "which is that of the board b0: one of the two is not what it says");
        assert_eq!(other.status().sessions, 0);
        link.stop().unwrap();
        // Nobody has it any more.
        state(&other, LinkState::Up);
        other.stop().unwrap();
    });
}
