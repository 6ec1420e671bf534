//! The interface itself, and what happens to frames that cannot pass.

use std::net::UdpSocket;

use shared::region::Located;
use shared::window::Window;
use shared::wire::net::NetHeader;

use super::peer::{Peer, TestWindow};
use crate::namespace::in_namespace;
use crate::net::tests::grammar::{L4, Recipe};
use crate::net::{DropCause, FramePort, Offloads, PortError, Sent};
use crate::netlink::Netlink;
use crate::raw::MAX_PIECES;
use crate::tap::{Tap, TapCounters, TapOptions};

#[test]
fn a_new_interface_is_down_without_carrier() {
    in_namespace("tap::tests::frames::a_new_interface_is_down_without_carrier", || {
        let tap = Tap::open(&TapOptions::new("vphys%d")).unwrap();
        assert_eq!(tap.name(), "vphys0");
        let mut net = Netlink::open().unwrap();
        let link = net.link("vphys0").unwrap();
        assert!(!link.up && !link.carrier);
        net.set_up("vphys0").unwrap();
        assert!(net.link("vphys0").unwrap().up);
        assert!(!net.link("vphys0").unwrap().carrier);
        tap.set_carrier(true).unwrap();
        assert!(net.link("vphys0").unwrap().carrier);
        tap.set_carrier(false).unwrap();
        assert!(!net.link("vphys0").unwrap().carrier);
    });
}

#[test]
fn offloads_are_what_the_kernel_has() {
    in_namespace("tap::tests::frames::offloads_are_what_the_kernel_has", || {
        let tap = Tap::open(&TapOptions::new("vphys0")).unwrap();
        let supported = tap.supported();
        assert!(supported.checksum && supported.tso4 && supported.tso6 && supported.ecn);
        // USO came with Linux 6.2.
        for offloads in [Offloads::NONE, supported] {
            tap.set_offloads(offloads).unwrap();
        }
    });
}

#[test]
fn more_queues_of_one_interface() {
    in_namespace("tap::tests::frames::more_queues_of_one_interface", || {
        let options = TapOptions { multi_queue: true, ..TapOptions::new("vphys0") };
        let first = Tap::open(&options).unwrap();
        let second = first.add_queue().unwrap();
        assert_eq!((second.name(), second.supported()), ("vphys0", first.supported()));
        // The interface lives as long as one of them.
        drop(first);
        let mut net = Netlink::open().unwrap();
        net.link("vphys0").unwrap();
        drop(second);
        net.link("vphys0").unwrap_err();
        let single = Tap::open(&TapOptions::new("vphys0")).unwrap();
        single.add_queue().unwrap_err();
    });
}

/// A datagram to the board, so that a frame waits at the tap.
fn make_frames(count: usize, len: usize) {
    let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
    socket.set_broadcast(true).unwrap();
    for _ in 0..count {
        socket.send_to(&vec![1; len], "10.0.0.255:9").unwrap();
    }
}

#[test]
fn a_frame_that_does_not_fit_is_dropped_and_the_next_taken() {
    let name = "tap::tests::frames::a_frame_that_does_not_fit_is_dropped_and_the_next_taken";
    in_namespace(name, || {
        for reachable in [true, false] {
            let mut peer = Peer::new(Offloads::NONE, reachable);
            let before = [0x55; 64];
            peer.window.write(64 + 112, &before);
            make_frames(3, 500);
            make_frames(1, 58);
            // 12 + 14 + 20 + 8 + 58 bytes: exactly.
            assert_eq!(peer.tap.receive(&peer.window, 64, 112).unwrap(), Some(112));
            assert_eq!(peer.tap.counters().oversized, 3);
            let mut after = [0; 64];
            peer.window.read(64 + 112, &mut after);
            assert_eq!(after, before, "written beyond the capacity");
            make_frames(1, 59);
            assert_eq!(peer.tap.receive(&peer.window, 64, 112).unwrap(), None);
            make_frames(1, 59);
            let mut private = [0; 113];
            let port: &mut dyn FramePort<TestWindow> = &mut peer.tap;
            assert_eq!(port.receive_private(&mut private).unwrap(), Some(113));
            assert_eq!(port.receive_private(&mut private).unwrap(), None);
        }
    });
}

#[test]
fn an_interface_that_is_down_takes_and_gives_nothing() {
    in_namespace("tap::tests::frames::an_interface_that_is_down_takes_and_gives_nothing", || {
        let mut peer = Peer::new(Offloads::ALL, true);
        Netlink::open().unwrap().set_down("vphys0").unwrap();
        let frame = Recipe::new(false, L4::Udp, 100).build();
        let sent = peer.try_send(NetHeader::default(), &frame);
        assert_eq!(sent, Sent::Dropped(DropCause::Down));
        assert_eq!(peer.tap.receive(&peer.window, 0, 2000).unwrap(), None);
        assert_eq!(peer.tap.counters(), TapCounters { down: 1, ..TapCounters::default() });
        Netlink::open().unwrap().set_up("vphys0").unwrap();
        peer.send(NetHeader::default(), &frame);
    });
}

#[test]
fn a_deleted_interface_is_gone() {
    in_namespace("tap::tests::frames::a_deleted_interface_is_gone", || {
        let mut peer = Peer::new(Offloads::ALL, true);
        Netlink::open().unwrap().delete("vphys0").unwrap();
        let window = &peer.window;
        let received = peer.tap.receive(window, 0, 2000);
        assert!(matches!(received, Err(PortError::Gone)), "{received:?}");
        let sent = peer.tap.send(&[0; 100], &[Located { window, offset: 0, len: 0 }]);
        assert!(matches!(sent, Err(PortError::Gone)), "{sent:?}");
        assert_eq!(
            PortError::Gone.to_string(),
            "the network interface has been deleted; the next session makes it again"
        );
    });
}

#[test]
fn a_malformed_frame_is_a_counted_drop() {
    in_namespace("tap::tests::frames::a_malformed_frame_is_a_counted_drop", || {
        let mut peer = Peer::new(Offloads::ALL, true);
        let rest = [Located { window: &peer.window, offset: 0, len: 60 }];
        // A type that nobody knows, past our own check.
        let header = NetHeader { gso_type: 0x42, gso_size: 1, ..NetHeader::default() };
        let sent = peer.tap.send(&header.encode(), &rest).unwrap();
        assert_eq!(sent, Sent::Dropped(DropCause::Refused));
        // And a header without a frame.
        let empty = [Located { len: 0, ..rest[0] }];
        let sent = peer.tap.send(&NetHeader::default().encode(), &empty).unwrap();
        assert_eq!(sent, Sent::Dropped(DropCause::Refused));
        assert_eq!(peer.tap.counters().refused, 2);
    });
}

#[test]
fn any_number_of_pieces() {
    in_namespace("tap::tests::frames::any_number_of_pieces", || {
        let mut peer = Peer::new(Offloads::ALL, true);
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        let mut frame = Recipe::new(false, L4::Udp, 1000).build();
        frame[36..38].copy_from_slice(&socket.local_addr().unwrap().port().to_be_bytes());
        // No checksum, which UDP over IPv4 may leave out.
        frame[40..42].copy_from_slice(&[0, 0]);
        peer.window.write(0, &frame[42..]);
        let mut head = NetHeader::default().encode().to_vec();
        head.extend(&frame[..42]);
        for count in [1, 2, MAX_PIECES, MAX_PIECES + 1, 500, 1000] {
            let each = 1000 / count;
            let piece = |i: usize| Located {
                window: &peer.window,
                offset: (i * each) as u64,
                len: (if i + 1 == count { 1000 - i * each } else { each }) as u32,
            };
            let rest: Vec<_> = (0..count).map(piece).collect();
            assert_eq!(peer.tap.send(&head, &rest).unwrap(), Sent::Whole);
            let mut buffer = [0; 1100];
            let len = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], &frame[42..]);
        }
        assert_eq!(peer.tap.counters().bounced, 3);
        // More bytes than a frame can have.
        let most = Located { window: &peer.window, offset: 0, len: 65_000 };
        let sent = peer.tap.send(&head, &[most; MAX_PIECES + 1]).unwrap();
        assert_eq!(sent, Sent::Dropped(DropCause::Short));
    });
}

#[test]
fn ranges_stay_inside_their_window() {
    use crate::bus::KernelMemory;
    let window = TestWindow::new(true);
    let len = window.len();
    let there = |offset, bytes| window.kernel_range(offset, bytes).map(|range| range.len());
    assert_eq!(there(0, 10), Some(10));
    assert_eq!(there(len - 10, 10), Some(10));
    assert_eq!(there(len, 0), Some(0));
    assert_eq!(there(len - 10, 11), None);
    assert_eq!(there(len + 1, 0), None);
    assert_eq!(there(u64::MAX, 1), None);
    assert_eq!(there(1, usize::MAX), None);
}
