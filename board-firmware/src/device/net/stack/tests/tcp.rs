//! Echo, discard, chargen and the status page, over TCP.

use shared::wire::net::feature;
use smoltcp::socket::tcp::State;
use smoltcp::wire::IpAddress;

use super::peer::{Peer, board_addresses};
use super::{ALL, FEATURES};
use crate::device::Wake;
use crate::rig::frame_of;

/// Sends `data` to `port`, closes, and returns all that came until the board
/// closed too.
fn talk(peer: &mut Peer, to: IpAddress, port: u16, local: u16, data: &[u8]) -> Vec<u8> {
    let handle = peer.tcp(to, port, local);
    let (mut sent, mut got, mut closed) = (0, Vec::new(), false);
    peer.until(60_000, |peer| {
        let socket = peer.socket(handle);
        if socket.can_send() && sent < data.len() {
            sent += socket.send_slice(&data[sent..]).unwrap();
        }
        if sent == data.len() && !closed && socket.may_send() {
            socket.close();
            closed = true;
        }
        while socket.can_recv() {
            socket
                .recv(|bytes| {
                    got.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
        closed && matches!(socket.state(), State::Closed | State::TimeWait)
    });
    // The last acknowledgement goes out after smoltcp's delay of 10 ms.
    for _ in 0..12 {
        peer.round();
    }
    peer.close(handle);
    got
}

#[test]
fn echo_returns_every_byte_over_each_address_and_feature_set() {
    for features in FEATURES {
        for mtu in [1500, 9000] {
            let mut peer = Peer::new(features, mtu);
            for (n, address) in (0_u16..).zip(board_addresses()) {
                let data = frame_of(700_001, 5 + u64::from(n));
                let got = talk(&mut peer, address, 7, 40_000 + n, &data);
                assert!(got == data, "{} bytes, {features:#x}, {address}", got.len());
            }
            let counters = peer.rig.device.counters();
            assert_eq!((counters.dropped_checksum, counters.dropped_header), (0, 0));
            assert_eq!(counters.dropped_unfit, 0);
            let (from_board, from_here) = peer.large;
            assert_eq!(from_board > 0, features == ALL, "large frames to the host");
            assert_eq!(from_here > 0, features == ALL, "large frames to the board");
        }
    }
}

/// The driver takes other offloads in the middle of a connection (VirtIO 1.3
/// §5.1.6.5.6): it goes on, and so do those behind it, with what is taken now.
#[test]
fn connections_outlive_other_offloads() {
    let all = feature::GUEST_CSUM | feature::GUEST_TSO4;
    for offloads in [0, feature::GUEST_CSUM] {
        let control = feature::CTRL_VQ | feature::CTRL_GUEST_OFFLOADS;
        let mut peer = Peer::new(ALL | control, 1500);
        let data = frame_of(300_000, 4);
        let handle = peer.tcp(board_addresses()[0], 7, 40_000);
        let (mut sent, mut got) = (0, Vec::new());
        let mut more = |peer: &mut Peer, until: usize| {
            peer.until(2000, |peer| {
                let socket = peer.socket(handle);
                if socket.can_send() {
                    sent += socket.send_slice(&data[sent..]).unwrap();
                }
                while socket.can_recv() {
                    socket
                        .recv(|bytes| {
                            got.extend_from_slice(bytes);
                            (bytes.len(), ())
                        })
                        .unwrap();
                }
                got.len() >= until
            });
            assert!(got == data[..got.len()]);
        };
        more(&mut peer, 50_000);
        peer.take_offloads(offloads);
        let (large, _) = peer.large;
        more(&mut peer, 200_000);
        let address = board_addresses()[1];
        assert!(talk(&mut peer, address, 7, 41_000, &data) == data, "{offloads:#x}");
        assert_eq!(peer.large.0, large, "{offloads:#x}");
        peer.take_offloads(all);
        more(&mut peer, data.len());
        let address = board_addresses()[0];
        assert!(talk(&mut peer, address, 7, 42_000, &data) == data, "{offloads:#x}");
        assert!(peer.large.0 > large, "{offloads:#x}: not taken up again");
        // At most the frame that waited for buffers.
        assert!(peer.rig.device.counters().dropped_unfit <= 1, "{offloads:#x}");
    }
}

#[test]
fn echo_survives_loss() {
    for features in FEATURES {
        let mut peer = Peer::new(features, 1500);
        peer.lossy = 13;
        let data = frame_of(120_000, 3);
        assert!(talk(&mut peer, board_addresses()[0], 7, 40_000, &data) == data);
    }
}

#[test]
fn discard_takes_everything_and_closes_behind_the_peer() {
    let mut peer = Peer::new(ALL, 1500);
    let mut sum = 0;
    for (n, address) in (0..).zip(board_addresses()) {
        let data = frame_of(2_000_000, 1);
        assert_eq!(talk(&mut peer, address, 9, 41_000 + n, &data), []);
        sum += data.len() as u64;
        assert_eq!(peer.rig.device.backend().discarded(), sum);
    }
}

#[test]
fn chargen_sends_the_pattern_of_rfc_864() {
    let mut want = Vec::new();
    'lines: for line in 0.. {
        for column in 0..72 {
            want.push(32 + u8::try_from((line + column) % 95).unwrap());
        }
        want.extend_from_slice(b"\r\n");
        if want.len() > 3_000_000 {
            break 'lines;
        }
    }
    assert_eq!(&want[..5], b" !\"#$");
    for features in FEATURES {
        for address in board_addresses() {
            let mut peer = Peer::new(features, 1500);
            let handle = peer.tcp(address, 19, 42_000);
            let mut got = Vec::new();
            peer.until(20_000, |peer| {
                while peer.socket(handle).can_recv() {
                    peer.socket(handle)
                        .recv(|bytes| {
                            got.extend_from_slice(bytes);
                            (bytes.len(), ())
                        })
                        .unwrap();
                }
                got.len() > 2_500_000
            });
            assert!(got == want[..got.len()]);
            // A peer that closes has had enough: the board closes too.
            peer.socket(handle).close();
            peer.until(5000, |peer| {
                let socket = peer.socket(handle);
                while socket.can_recv() {
                    socket.recv(|bytes| (bytes.len(), ())).unwrap();
                }
                matches!(socket.state(), State::Closed | State::TimeWait)
            });
        }
    }
}

fn get(peer: &mut Peer, local: u16, request: &[u8]) -> String {
    let handle = peer.tcp(board_addresses()[usize::from(local) % 3], 80, local);
    let (mut asked, mut got) = (false, Vec::new());
    peer.until(2000, |peer| {
        let socket = peer.socket(handle);
        if socket.can_send() && !asked {
            // In pieces, as a slow client would.
            for piece in request.chunks(7) {
                socket.send_slice(piece).unwrap();
            }
            asked = true;
        }
        while socket.can_recv() {
            socket
                .recv(|bytes| {
                    got.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
        if socket.state() == State::CloseWait {
            socket.close();
        }
        asked && socket.state() == State::Closed
    });
    peer.close(handle);
    String::from_utf8(got).unwrap()
}

#[test]
fn the_status_page_has_the_counters() {
    let mut peer = Peer::new(ALL, 1500);
    talk(&mut peer, board_addresses()[0], 9, 41_000, &[1; 12_345]);
    let answer = get(&mut peer, 43_000, b"GET / HTTP/1.1\r\nHost: board\r\n\r\n");
    let (header, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(header.starts_with("HTTP/1.0 200 OK\r\n"), "{header}");
    assert!(header.contains(&format!("Content-Length: {}", body.len())), "{header}");
    assert!(header.contains("text/plain"), "{header}");
    assert!(body.contains("board: test board\n"), "{body}");
    assert!(body.contains("discard_bytes: 12345\n"), "{body}");
    let counters = *peer.rig.device.counters();
    for (name, _) in counters.named() {
        let line = body.lines().find(|line| line.starts_with(name)).expect(name);
        let value: u64 = line.split_once(": ").unwrap().1.parse().unwrap();
        if name == "to_board_frames" {
            assert!(value > 5 && value <= counters.to_board_frames);
        }
    }
    // Room is left for more counters.
    assert!(answer.len() < super::super::page::LONGEST - 256, "{}", answer.len());
}

#[test]
fn other_methods_and_endless_requests_are_answered_too() {
    let mut peer = Peer::new(ALL, 1500);
    assert!(get(&mut peer, 43_000, b"POST / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 405"));
    let head = get(&mut peer, 43_001, b"HEAD / HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.0 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(get(&mut peer, 43_002, &[b'x'; 1024]).starts_with("HTTP/1.0 405"));
}

#[test]
fn sockets_are_served_again_and_again() {
    let mut peer = Peer::new(ALL, 1500);
    for n in 0..60 {
        assert!(get(&mut peer, 43_000 + n, b"GET / HTTP/1.0\r\n\r\n").len() > 200);
        let data = frame_of(1000, u64::from(n));
        let addresses = board_addresses();
        assert_eq!(talk(&mut peer, addresses[usize::from(n) % 3], 7, 50_000 + n, &data), data);
    }
}

#[test]
fn a_peer_that_vanishes_loses_its_connections_and_the_next_one_is_served() {
    let mut peer = Peer::new(ALL, 1500);
    // Both echo sockets taken, and the peer forgets them.
    for local in [44_000, 44_001] {
        let handle = peer.tcp(board_addresses()[0], 7, local);
        peer.until(100, |peer| peer.socket(handle).state() == State::Established);
        peer.round();
        peer.lossy = 1;
        peer.close(handle);
        peer.lossy = 0;
    }
    peer.rig.run_at(peer.now);
    peer.rig.frames();
    // A minute later, timer by timer.
    let mut timers = 0;
    let start = peer.now;
    while peer.now < start + 70_000 {
        peer.rig.offer(usize::MAX);
        let ran = peer.rig.run_at(peer.now);
        peer.rig.frames();
        match ran.wake {
            Wake::At(due) => peer.now = due.max(peer.now + 1),
            Wake::Again => peer.now += 1,
            Wake::Idle => break,
        }
        timers += 1;
    }
    assert!(timers < 200, "{timers} wake-ups in a minute of silence");
    let data = frame_of(1000, 1);
    assert_eq!(talk(&mut peer, board_addresses()[0], 7, 45_000, &data), data);
}

#[test]
fn a_new_driver_finds_no_old_connections() {
    use shared::msg::device::DeviceModel;
    let mut peer = Peer::new(ALL, 1500);
    let handle = peer.tcp(board_addresses()[0], 7, 44_000);
    peer.until(100, |peer| peer.socket(handle).state() == State::Established);
    peer.rig.device.reset();
    let fresh = Peer::new(ALL, 1500);
    let old = std::mem::replace(&mut peer, fresh);
    // The old device, with new rings.
    peer.rig.device = old.rig.device;
    peer.rig.start();
    let data = frame_of(5000, 2);
    assert_eq!(talk(&mut peer, board_addresses()[0], 7, 44_000, &data), data);
}

#[test]
fn idle_means_idle() {
    let mut peer = Peer::new(ALL, 1500);
    talk(&mut peer, board_addresses()[1], 7, 44_000, &[7; 5000]);
    for _ in 0..200 {
        peer.round();
    }
    assert_eq!(peer.round().wake, Wake::Idle);
}
