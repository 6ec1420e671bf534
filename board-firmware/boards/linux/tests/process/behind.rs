//! What lies behind the network device, but kernels.

use std::net::UdpSocket;

use host::daemon::InterfaceMode;
use host::namespace::in_namespace;
use host::session::Layout;

use crate::ping::ping;
use crate::stage::{ADDRESSES, BOARD4, BOARD6, Folder, HOST4, attach, board, has_tun, until, up};

#[test]
fn the_stack_answers_at_its_addresses() {
    in_namespace("behind::the_stack_answers_at_its_addresses", || {
        if !has_tun() {
            return;
        }
        let folder = Folder::new();
        let _board = board(&folder, &["--behind", "stack", "--name", "a stack"]);
        let link = attach(&folder, InterfaceMode::Tap, Layout::Split);
        let status = up(&link, 1);
        assert_eq!(status.terms.unwrap().board.name.as_str(), "a stack");
        ping(BOARD4.into());
        ping(BOARD6.into());
        link.stop().unwrap();
    });
}

#[test]
fn the_echo_sends_every_frame_back() {
    in_namespace("behind::the_echo_sends_every_frame_back", || {
        if !has_tun() {
            return;
        }
        let folder = Folder::new();
        for arguments in [&["--behind", "echo"][..], &["--behind", "echo", "--bar-only"]] {
            let _board = board(&folder, arguments);
            let link = attach(&folder, InterfaceMode::Tun, Layout::BarOnly);
            up(&link, 1);
            // What comes back has the board's MAC address for a source, else the
            // host would refuse it. The kernel makes nothing of the packets in it.
            let socket = UdpSocket::bind((HOST4, 0)).unwrap();
            for number in 0..100_u8 {
                let _ = socket.send_to(&[number; 100], (BOARD4, 7));
            }
            until("frames that come back", || {
                let counters = link.status().counters;
                counters.to_host.frames + counters.to_host.dropped >= 100
            });
            link.stop().unwrap();
        }
    });
}

#[test]
fn a_board_beside_a_server_of_its_own_process_takes_few_vectors_or_many() {
    in_namespace(
        "behind::a_board_beside_a_server_of_its_own_process_takes_few_vectors_or_many",
        || {
            if !has_tun() {
                return;
            }
            let folder = Folder::new();
            for vectors in ["4", "5", "32"] {
                let _board = board(&folder, &[&["--vectors", vectors], &ADDRESSES[..]].concat());
                let link = attach(&folder, InterfaceMode::Tap, Layout::Split);
                up(&link, 1);
                ping(BOARD4.into());
                link.stop().unwrap();
            }
        },
    );
}
