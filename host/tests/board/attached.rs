//! The daemon's own code attached to a board process.

use std::net::IpAddr;
use std::path::Path;

use nix::sys::signal::Signal;
use virtio_phys_host::bus::ivshmem::{IvshmemBus, IvshmemOptions};
use virtio_phys_host::daemon::{
    Board, BoardOptions, BoardStatus, InterfaceOptions, LinkState, Stations, WorkerOptions,
};
use virtio_phys_host::namespace::in_namespace;
use virtio_phys_host::session::{Layout, SessionConfig};

use crate::process::{Folder, board, until};
use crate::traffic::{HOST, echo};

fn attach(socket: &Path, layout: Layout) -> Board {
    let bus = IvshmemBus::new(IvshmemOptions::new(socket));
    let options = BoardOptions {
        name: "b0".to_owned(),
        interface: InterfaceOptions {
            addresses: vec![(IpAddr::V4(HOST.0), HOST.1)],
            ..InterfaceOptions::new("vphys0")
        },
        session: SessionConfig { layout, ..SessionConfig::default() },
        worker: WorkerOptions::default(),
        console: None,
        stations: Stations::default(),
    };
    Board::start(bus, options).unwrap()
}

/// Waits until the link is up for the time of this number.
fn up(link: &Board, sessions: u64) -> BoardStatus {
    let is_up = || {
        let status = link.status();
        status.state == LinkState::Up && status.sessions >= sessions
    };
    until(&format!("session {sessions}"), is_up);
    link.status()
}

fn has_tun() -> bool {
    let there = Path::new("/dev/net/tun").exists();
    if !there {
        eprintln!("skipped: no /dev/net/tun");
    }
    there
}

#[test]
fn a_board_process_carries_frames_in_every_layout() {
    in_namespace("attached::a_board_process_carries_frames_in_every_layout", || {
        if !has_tun() {
            return;
        }
        let folder = Folder::new();
        for (layout, arguments) in [
            (Layout::Split, &[][..]),
            (Layout::AllHost, &[]),
            (Layout::BarOnly, &[]),
            (Layout::BarOnly, &["--bar-only"]),
        ] {
            let _board = board(&folder.path("socket"), arguments);
            let link = attach(&folder.path("socket"), layout);
            let status = up(&link, 1);
            let terms = status.terms.unwrap();
            assert_eq!(
                (terms.layout, terms.board.outbound.is_none()),
                (layout, !arguments.is_empty())
            );
            echo(200, false);
            let status = link.status();
            assert_eq!((status.failures, status.last_failure), (0, None));
            assert_eq!(status.counters.to_host.completion_polled, 0, "a wake-up was lost");
            link.stop().unwrap();
        }
    });
}

#[test]
fn the_daemon_may_be_there_first() {
    in_namespace("attached::the_daemon_may_be_there_first", || {
        if !has_tun() {
            return;
        }
        let folder = Folder::new();
        let link = attach(&folder.path("socket"), Layout::Split);
        until("a failed attempt", || link.status().last_failure.is_some());
        let failure = link.status().last_failure.unwrap();
        assert!(failure.contains("start the board"), "{failure}");
        let _board = board(&folder.path("socket"), &[]);
        up(&link, 1);
        echo(20, true);
        link.stop().unwrap();
    });
}

/// However a board starts over, the link comes back by itself.
#[test]
fn a_board_that_starts_over_is_attached_again() {
    in_namespace("attached::a_board_that_starts_over_is_attached_again", || {
        if !has_tun() {
            return;
        }
        let folder = Folder::new();
        let mut process = board(&folder.path("socket"), &[]);
        let link = attach(&folder.path("socket"), Layout::Split);
        up(&link, 1);
        echo(20, false);

        process.signal(Signal::SIGUSR1);
        up(&link, 2);
        echo(20, true);

        link.reset();
        up(&link, 3);
        echo(20, true);

        process.signal(Signal::SIGKILL);
        process.end();
        process = board(&folder.path("socket"), &["--name", "second"]);
        let status = up(&link, 4);
        assert_eq!(status.terms.unwrap().board.name.as_str(), "second");
        echo(20, true);

        // Past the heartbeat's bound of two seconds: it counts as dead.
        process.signal(Signal::SIGSTOP);
        until("the loss of a board that stands still", || link.status().state != LinkState::Up);
        process.signal(Signal::SIGCONT);
        up(&link, 5);
        echo(20, true);
        link.stop().unwrap();
    });
}

#[test]
fn an_idle_link_takes_no_processor_time() {
    in_namespace("attached::an_idle_link_takes_no_processor_time", || {
        if !has_tun() {
            return;
        }
        let folder = Folder::new();
        let process = board(&folder.path("socket"), &[]);
        let link = attach(&folder.path("socket"), Layout::Split);
        up(&link, 1);
        echo(20, false);
        // A second after the last frame both sides look no more every 10 ms.
        let mut quietest = u64::MAX;
        until("an idle link's three seconds of at most two ticks", || {
            let before = process.ticks();
            std::thread::sleep(std::time::Duration::from_secs(3));
            quietest = process.ticks() - before;
            quietest <= 2
        });
        println!("an idle board took {quietest} ticks in three seconds");
        link.stop().unwrap();
    });
}
