//! The real daemon and a board in another process, over a real interface:
//! either is killed, stopped, or starts over, again and again, and traffic
//! flows again each time.
#![cfg(feature = "emulated-board")]

mod idle;
mod interfaces;
#[path = "../board/process.rs"]
#[allow(dead_code, reason = "the board's tests use the rest")]
mod process;
mod stage;
mod stream;
mod survivor;
mod taken;

use std::net::UdpSocket;
use std::path::Path;

use nix::sys::signal::Signal;
use virtio_phys_host::namespace::in_namespace;

use interfaces::Interfaces;
use process::until;
use stage::Stage;
use stream::Stream;
use survivor::{Belongings, Survivor};

/// Rounds of each of the two tests: fifty in all.
const ROUNDS: usize = 25;

/// After so many rounds a process has all the memory that it will ever have.
const GROWN_UP: usize = 5;

/// Datagrams that are under way when it happens.
const LOAD: u64 = 64;

/// What happens to a board under a daemon that lives on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blow {
    /// It starts over by itself.
    Reboots,
    /// The operator has it reset.
    Reset,
    /// SIGKILL for its process, and a new one.
    Killed,
    /// SIGSTOP for its process, until it counts as dead.
    Stopped,
}

const BLOWS: [Blow; 7] = [
    Blow::Reboots,
    Blow::Reset,
    Blow::Killed,
    Blow::Reboots,
    Blow::Killed,
    Blow::Reset,
    Blow::Stopped,
];

/// What the operator reads of it.
const LOG: [&str; 3] = [
    "b0: step 20 (run): the board booted again; if that goes on, look at its log and its power; ",
    "b0: step 20 (run): the bus answers all ones; the card is gone or switched off, put it back; ",
    "b0: step 20 (run): the board's heartbeat stands still; reset it; next attempt in ",
];

fn has_tun() -> bool {
    let there = Path::new("/dev/net/tun").exists();
    if !there {
        eprintln!("skipped: no /dev/net/tun");
    }
    there
}

/// The daemon is killed and another one started: its interface goes, the board
/// notices and forgets it, and serves the next as it did the first.
fn daemons() {
    let interfaces = Interfaces::new();
    let mut stage = Stage::new(0, "");
    stage.start_board();
    let alone = Belongings::settled(stage.board.as_ref().unwrap());
    stage.start_daemon();
    stage.up(1);
    let mut stream = Stream::new(0);
    stream.flows(10);
    let mut board = Survivor::new(stage.board.as_ref().unwrap());
    let first = Belongings::at_rest(stage.daemon.as_ref().unwrap());
    for round in 0..ROUNDS {
        stream.load(LOAD);
        stage.kill_daemon();
        assert_eq!(interfaces.read("vphys0", "ifindex"), None, "its interface goes with it");
        alone.come_again("the board, alone", stage.board.as_ref().unwrap());
        stage.start_daemon();
        stage.up(1);
        stream.flows(10);
        first.come_again("a daemon", stage.daemon.as_ref().unwrap());
        board.has_not_grown(&format!("the board, round {round}"), round < GROWN_UP);
    }
    stage.end();
    assert_eq!(interfaces.read("vphys0", "ifindex"), None);
}

/// A board goes and comes back, under one daemon all the time: the interface
/// stays, with its number and address.
fn boards() {
    let interfaces = Interfaces::new();
    let mut stage = Stage::new(0, "");
    stage.start_board();
    stage.start_daemon();
    stage.up(1);
    let mut stream = Stream::new(0);
    stream.flows(10);
    let read = |what: &str| interfaces.read("vphys0", what);
    let has_address = || UdpSocket::bind(("10.77.0.1", 0)).is_ok();
    let index = read("ifindex");
    assert!(index.is_some());
    let mut daemon = Survivor::new(stage.daemon.as_ref().unwrap());
    let board = Belongings::at_rest(stage.board.as_ref().unwrap());
    for round in 0..ROUNDS {
        let blow = BLOWS[round % BLOWS.len()];
        let (sessions, changes) = (stage.sessions(), read("carrier_changes").unwrap());
        stream.load(LOAD);
        match blow {
            Blow::Reboots => stage.signal_board(Signal::SIGUSR1),
            Blow::Reset => drop(stage.ask(&["reset", "b0"])),
            Blow::Killed | Blow::Stopped => {
                if blow == Blow::Killed {
                    stage.kill_board();
                } else {
                    stage.signal_board(Signal::SIGSTOP);
                }
                // The daemon answers all the same, and says what is wrong.
                until("the loss", || stage.status()["state"] != "up");
                until("the carrier's loss", || read("carrier") == Some(0));
                assert_eq!(read("ifindex"), index, "{blow:?}: the interface stays");
                assert!(has_address(), "{blow:?}: its address stays");
                if blow == Blow::Killed {
                    stage.start_board();
                } else {
                    stage.signal_board(Signal::SIGCONT);
                }
            }
        }
        stage.up(sessions + 1);
        stream.flows(10);
        assert_eq!(read("ifindex"), index, "{blow:?}: the interface stays");
        assert!(has_address(), "{blow:?}: its address stays");
        let changes = read("carrier_changes").unwrap() - changes;
        assert!(changes >= 2, "{blow:?}: the carrier went down and up: {changes} changes");
        assert_eq!(read("carrier"), Some(1));
        daemon.has_not_grown(&format!("the daemon, round {round}, {blow:?}"), round < GROWN_UP);
        board.come_again("the board", stage.board.as_ref().unwrap());
    }
    let log = stage.end();
    assert!(LOG.iter().all(|text| log.contains(text)), "{log}");
    assert_eq!(read("ifindex"), None);
}

#[test]
fn traffic_flows_again_with_twenty_five_daemons() {
    in_namespace("traffic_flows_again_with_twenty_five_daemons", || {
        if has_tun() {
            daemons();
        }
    });
}

#[test]
fn traffic_flows_again_after_twenty_five_losses_of_the_board() {
    in_namespace("traffic_flows_again_after_twenty_five_losses_of_the_board", || {
        if has_tun() {
            boards();
        }
    });
}

/// A daemon that is asked to end waits for its board in vain, and says so.
#[test]
fn a_board_that_does_not_let_go() {
    in_namespace("a_board_that_does_not_let_go", || {
        if !has_tun() {
            return;
        }
        let mut stage = Stage::new(0, "");
        stage.start_board();
        stage.start_daemon();
        stage.up(1);
        stage.signal_board(Signal::SIGSTOP);
        let daemon = stage.daemon.as_mut().unwrap();
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success());
        let log = std::fs::read_to_string(stage.path("log")).unwrap();
        let text = "b0: the board could not be reset: it was asked to reboot and did not. ";
        assert!(log.contains(text), "{log}");
    });
}
