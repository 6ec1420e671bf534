//! How a board ends, and what is left of it.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use host::bus::ivshmem::{Server, ServerOptions};
use host::daemon::{InterfaceMode, LinkState};
use host::namespace::in_namespace;
use host::netlink::Netlink;
use host::session::Layout;
use nix::sys::signal::Signal;

use crate::ping::ping;
use crate::stage::{
    ADDRESSES, BOARD4, Folder, Process, attach, board, has_tun, program, until, up,
};

const FOUR: ServerOptions =
    ServerOptions { memory: 64 << 20, huge_pages: false, vectors: 4, peers: 4 };

#[test]
fn whoever_ends_it_finds_its_socket_gone() {
    in_namespace("endings::whoever_ends_it_finds_its_socket_gone", || {
        let folder = Folder::new();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            let mut board = board(&folder, &["--behind", "echo"]);
            board.signal(signal);
            assert_eq!(board.end().code(), Some(0), "{signal}");
            assert!(!folder.socket().exists(), "{signal}");
        }
    });
}

#[test]
fn without_its_server_it_ends_and_says_so() {
    let folder = Folder::new();
    let server = Server::bind(folder.socket(), FOUR).unwrap().start().unwrap();
    let mut command = program(&folder.socket(), &["--behind", "echo"]);
    let mut board = Process(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut says = board.0.stderr.take().unwrap();
    // Its first line comes when it is connected.
    let mut said = vec![0; 5];
    says.read_exact(&mut said).unwrap();
    drop(server);
    assert_eq!(board.end().code(), Some(1));
    says.read_to_end(&mut said).unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("the ivshmem server has ended"), "{said}");
}

#[test]
fn nobody_need_read_what_it_says() {
    let folder = Folder::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut board = Process(program(&folder.socket(), &["--serve"]).stderr(full).spawn().unwrap());
    until("its socket", || folder.socket().exists());
    board.signal(Signal::SIGTERM);
    assert!(board.end().success());
}

/// The carrier of the board's interface follows the host, and frames the
/// carrier; a reboot keeps the interface.
#[test]
fn a_board_reboots_and_its_interface_stays() {
    in_namespace("endings::a_board_reboots_and_its_interface_stays", || {
        if !has_tun() {
            return;
        }
        let folder = Folder::new();
        let mut board = board(&folder, &[&["--behind", "tap:board0"], &ADDRESSES[..]].concat());
        let state = || {
            board.inside(|| {
                let link = Netlink::open().unwrap().link("board0").unwrap();
                (link.index, link.carrier)
            })
        };
        let (index, carrier) = state();
        assert!(!carrier, "nobody is there yet");
        let link = attach(&folder, InterfaceMode::Tap, Layout::Split);
        up(&link, 1);
        ping(BOARD4.into());
        until("the carrier", || state() == (index, true));
        board.signal(Signal::SIGUSR1);
        up(&link, 2);
        ping(BOARD4.into());
        link.reset();
        up(&link, 3);
        ping(BOARD4.into());
        assert_eq!(state(), (index, true));
        link.stop().unwrap();
        until("the carrier's end", || state() == (index, false));

        // Somebody deletes it.
        let link = attach(&folder, InterfaceMode::Tap, Layout::Split);
        up(&link, 1);
        board.inside(|| Netlink::open().unwrap().delete("board0").unwrap());
        assert_eq!(board.end().code(), Some(1));
        until("the loss", || link.status().state != LinkState::Up);
        link.stop().unwrap();
    });
}

#[test]
fn an_idle_board_takes_no_processor_time() {
    in_namespace("endings::an_idle_board_takes_no_processor_time", || {
        if !has_tun() {
            return;
        }
        let folder = Folder::new();
        let board = board(&folder, &[&["--behind", "tap:board0"], &ADDRESSES[..]].concat());
        // Frames that nobody takes keep nobody awake, nor those that somebody took.
        let link = attach(&folder, InterfaceMode::Tap, Layout::Split);
        up(&link, 1);
        ping(BOARD4.into());
        until("three seconds of at most two ticks", || {
            let before = board.ticks();
            std::thread::sleep(std::time::Duration::from_secs(3));
            board.ticks() - before <= 2
        });
        link.stop().unwrap();
        until("three seconds of at most two ticks without a host", || {
            let before = board.ticks();
            std::thread::sleep(std::time::Duration::from_secs(3));
            board.ticks() - before <= 2
        });
    });
}
