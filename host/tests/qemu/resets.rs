//! Boards that are reset, or lose their power, in the middle of traffic.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;
use shared::address::BusAddress;
use shared::window::Window;
use shared::wire::control::{LIVE_OFFSET, live};
use virtio_phys_host::bus::ivshmem::{IvshmemBoard, IvshmemWindow};
use virtio_phys_host::namespace::in_namespace;

use crate::command::{Machine, VECTORS};
use crate::interfaces::Interfaces;
use crate::process::{HANGS, until};
use crate::rack::{ADDRESSES, Rack};
use crate::stream::Stream;
use crate::survivor::{Belongings, Survivor};

/// Presses of the reset button, all machines together.
const PRESSES: usize = 100;
const PRESSES_LONG: usize = 1000;

/// Rounds: fifty losses of power, and the others.
const ROUNDS: usize = 50 + STANDS_STILL.len();

/// The rounds in which the board only stands still until it counts as dead. A
/// killed QEMU leaves its server, which is noticed at once; this is what only the
/// heartbeat tells.
const STANDS_STILL: [usize; 3] = [0, 51, 52];

/// Descriptors of each queue. Less than a load: every buffer is under way.
const QUEUE: u64 = 16;

/// After so many rounds a process has all the memory that it will ever have.
const GROWN_UP: usize = 5;

/// Datagrams that are under way when it happens.
const LOAD: u64 = 64;

const MACHINES: [Machine; 3] = [Machine::QemuAarch64, Machine::QemuRiscv64, Machine::QemuPowerpc];

/// The reset buttons are pressed at any instant of the boards' lives: with
/// traffic, and with whatever the last boot was at.
fn reset_buttons(presses: usize) {
    let mut rack = Rack::new(&MACHINES, ADDRESSES);
    rack.start_daemon();
    for slot in &mut rack.slots {
        slot.start();
    }
    let mut streams = Vec::new();
    for (slot, number) in (0..MACHINES.len()).zip(0..) {
        rack.link_is_up(slot, 1);
        streams.push(Stream::new(number));
    }
    for stream in &mut streams {
        stream.flows(10);
    }
    let mut pressed = 0;
    while pressed < presses {
        let before: Vec<_> = (0..streams.len()).map(|slot| rack.sessions(slot)).collect();
        for (slot, stream) in streams.iter_mut().enumerate() {
            stream.load(LOAD);
            // Every third time again at once, while it boots.
            for _ in 0..=usize::from(pressed % 9 == 0) {
                rack.slots[slot].press_reset();
                pressed += 1;
            }
        }
        for (slot, stream) in streams.iter_mut().enumerate() {
            rack.link_is_up(slot, before[slot] + 1);
            stream.flows(3);
        }
    }
    println!("{pressed} resets, sessions {:?}", [0, 1, 2].map(|slot| rack.sessions(slot)));
    rack.end();
}

/// How many frames the daemon has handed to its only board, over all sessions.
fn handed_over(rack: &Rack) -> u64 {
    let stats: Value = serde_json::from_str(&rack.ask(&["stats", "--json"])).unwrap();
    stats["boards"][0]["to_board"]["frames"].as_u64().unwrap()
}

/// SIGKILL for QEMU in the middle of traffic, and another QEMU, or SIGSTOP
/// until it counts as dead: the carrier goes down and up, traffic flows, and
/// nobody has more than before, nor fewer buffers.
fn power_losses() {
    let interfaces = Interfaces::new();
    let keys = format!("queue_size = {{ to_host = {QUEUE}, to_board = {QUEUE} }}\n{ADDRESSES}");
    let mut rack = Rack::up_with(Machine::QemuAarch64, &keys);
    let mut stream = Stream::new(0);
    stream.flows(10);
    let index = interfaces.read("vphys0", "ifindex");
    assert!(index.is_some());
    let mut daemon = Survivor::new(rack.daemon.as_ref().unwrap());
    let mut server = Survivor::new(&rack.slots[0].server);
    let mut rooms = Vec::new();
    for round in 0..ROUNDS {
        let sessions = rack.sessions(0);
        let changes = interfaces.read("vphys0", "carrier_changes").unwrap();
        let stands_still = STANDS_STILL.contains(&round);
        let before = stands_still.then(|| {
            rack.slots[0].signal(Signal::SIGSTOP);
            handed_over(&rack)
        });
        stream.load(LOAD);
        if !stands_still {
            rack.slots[0].kill();
        }
        until("the loss", || rack.status(0)["state"] != "up");
        until("the carrier's loss", || interfaces.read("vphys0", "carrier") == Some(0));
        if let Some(before) = before {
            rooms.push(handed_over(&rack) - before);
            rack.slots[0].signal(Signal::SIGCONT);
        } else {
            rack.slots[0].start();
        }
        rack.link_is_up(0, sessions + 1);
        stream.flows(10);
        assert_eq!(interfaces.read("vphys0", "ifindex"), index, "the interface stays");
        assert!(interfaces.read("vphys0", "carrier_changes").unwrap() >= changes + 2);
        daemon.has_not_grown(&format!("the daemon, round {round}"), round < GROWN_UP);
        server.has_not_grown(&format!("the server, round {round}"), round < GROWN_UP);
    }
    println!("room for frames to a board that stands still: {rooms:?}");
    // The kernel may have sent one of its own just before, hence one of two.
    let [_, last @ ..] = &rooms[..] else { panic!("no round") };
    assert!(last.contains(&QUEUE), "buffers to the board: {rooms:?}");
    let log = rack.end();
    assert!(log.contains("all ones; the card is gone or switched off"), "{log}");
    assert!(log.contains("the board's heartbeat stands still"), "{log}");
}

/// Another peer of the board's server, which only looks.
struct Onlooker {
    /// The board's live words.
    live: IvshmemWindow,
    /// All of the host's half.
    host: IvshmemWindow,
    /// It stays: one that goes is something for every other peer to deal with.
    _peer: IvshmemBoard,
}

impl Onlooker {
    fn new(socket: &Path) -> Self {
        let peer = IvshmemBoard::connect(socket, VECTORS - 1, HANGS).unwrap();
        Self {
            live: peer.memory(LIVE_OFFSET.into(), live::LEN).unwrap(),
            host: peer.outbound(BusAddress::new(0), peer.reach().size).unwrap(),
            _peer: peer,
        }
    }

    fn host_memory(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.host.len()).unwrap()];
        self.host.read(0, &mut bytes);
        bytes
    }

    /// The board whose daemon has died in this state of its memory notices,
    /// lives on, and writes to none of it any more.
    fn is_let_go_of(&self, loaded: &[u8]) {
        until("the board without a host", || self.live.load::<u32>(live::ACCEPTED) == 0);
        let left = self.host_memory();
        assert!(left != loaded, "what the board writes is in this memory");
        let beat = || self.live.load::<u32>(live::HEARTBEAT);
        let first = beat();
        until("three beats", || beat().wrapping_sub(first) >= 3);
        let written = left.iter().zip(self.host_memory()).position(|(was, is)| *was != is);
        assert_eq!(written, None, "a byte of a dead host's memory that the board wrote");
    }
}

/// SIGKILL for the daemon in the middle of traffic, and another daemon: the
/// board forgets the first one, and serves the second.
fn daemons_die() {
    let mut rack = Rack::new(&[Machine::QemuAarch64], ADDRESSES);
    let onlooker = Onlooker::new(&rack.slots[0].socket());
    rack.slots[0].start();
    rack.start_daemon();
    rack.link_is_up(0, 1);
    let mut stream = Stream::new(0);
    stream.flows(10);
    let first = Belongings::settled(rack.daemon.as_ref().unwrap());
    for round in 0..10 {
        stream.load(LOAD);
        let loaded = onlooker.host_memory();
        let mut daemon = rack.daemon.take().unwrap();
        daemon.signal(Signal::SIGKILL);
        daemon.end();
        // In the other rounds the next daemon finds the board in the session.
        if round == 5 {
            onlooker.is_let_go_of(&loaded);
        }
        rack.start_daemon();
        rack.link_is_up(0, 1);
        stream.flows(10);
        first.come_again("a daemon", rack.daemon.as_ref().unwrap());
    }
    rack.end();
}

#[test]
fn boards_are_reset_a_hundred_times() {
    in_namespace("resets::boards_are_reset_a_hundred_times", || reset_buttons(PRESSES));
}

#[test]
#[ignore = "minutes"]
fn boards_are_reset_a_thousand_times() {
    in_namespace("resets::boards_are_reset_a_thousand_times", || reset_buttons(PRESSES_LONG));
}

#[test]
fn a_board_loses_its_power_fifty_times() {
    in_namespace("resets::a_board_loses_its_power_fifty_times", power_losses);
}

#[test]
fn a_board_survives_its_daemons() {
    in_namespace("resets::a_board_survives_its_daemons", daemons_die);
}
