//! A link with a real kernel at both ends: the daemon's interface in one network
//! namespace, the board's in another.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use host::bridge::BridgeCounters;
use host::daemon::{Board, InterfaceMode};
use host::namespace::in_namespace;
use host::session::Layout;

use crate::ping::ping;
use crate::stage::{
    ADDRESSES, BOARD4, BOARD6, Folder, HANGS, HOST4, HOST6, Process, attach, attach_as, board,
    has_tun, until, up,
};

/// Bytes that go through each connection.
const BYTES: usize = 16 << 20;

/// A stretch of a stream: another one at each place.
fn stretch(at: usize, into: &mut [u8]) {
    for (place, number) in into.chunks_mut(8).zip(at as u64 / 8..) {
        let word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        place.copy_from_slice(&word[..place.len()]);
    }
}

const PIECE: usize = 64 << 10;

fn send(mut stream: TcpStream) {
    let mut piece = vec![0; PIECE];
    for at in (0..BYTES).step_by(PIECE) {
        stretch(at, &mut piece);
        stream.write_all(&piece).unwrap();
    }
}

/// Takes all of it, and compares each byte.
fn take(mut stream: TcpStream) {
    stream.set_read_timeout(Some(HANGS)).unwrap();
    let (mut piece, mut expected) = (vec![0; PIECE], vec![0; PIECE]);
    for at in (0..BYTES).step_by(PIECE) {
        stream.read_exact(&mut piece).unwrap();
        stretch(at, &mut expected);
        assert!(piece == expected, "bytes from {at} on are not those that were sent");
    }
    assert_eq!(stream.read(&mut piece).unwrap(), 0, "more than was sent");
}

/// Connects as soon as the link carries it.
fn connect(to: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + HANGS;
    loop {
        match TcpStream::connect_timeout(&to, Duration::from_secs(5)) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{to}: {error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Frames and bytes each way so far: to the board, to the host.
fn moved(link: &Board) -> [(u64, u64); 2] {
    let BridgeCounters { to_board, to_host } = link.status().counters;
    [(to_board.frames, to_board.bytes), (to_host.frames, to_host.bytes)]
}

/// Waits until the way's counters show all of a stream, and looks at its frames:
/// longer than any packet, so the sending kernel left segmentation, and with it
/// the checksums, to the other end.
fn in_long_frames(link: &Board, way: usize, before: [(u64, u64); 2]) {
    let since = || {
        let (now, before) = (moved(link)[way], before[way]);
        (now.0 - before.0, now.1 - before.1)
    };
    until("a stream's counters", || since().1 >= BYTES as u64);
    let (frames, bytes) = since();
    assert!(bytes / frames > 2 * 1514, "way {way}: {bytes} bytes in {frames} frames");
}

/// One stream from the host to the board and one back.
fn streams(board: &Process, link: &Board, (there, here): (IpAddr, IpAddr)) {
    let before = moved(link);
    let listener = board.inside(|| TcpListener::bind((there, 0)).unwrap());
    let taking = thread::spawn({
        let listener = listener.try_clone().unwrap();
        move || take(listener.accept().unwrap().0)
    });
    send(connect(listener.local_addr().unwrap()));
    taking.join().unwrap();
    in_long_frames(link, 0, before);

    let before = moved(link);
    let listener = TcpListener::bind((here, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let stream = board.inside(|| connect(address));
    let sending = thread::spawn(|| send(stream));
    take(listener.accept().unwrap().0);
    sending.join().unwrap();
    in_long_frames(link, 1, before);
}

fn datagrams(board: &Process) {
    let there = board.inside(|| UdpSocket::bind((BOARD4, 0)).unwrap());
    let to = there.local_addr().unwrap();
    let here = UdpSocket::bind((HOST4, 0)).unwrap();
    for socket in [&here, &there] {
        socket.set_read_timeout(Some(HANGS)).unwrap();
    }
    let mut buffer = [0; 2048];
    for number in 0..200_usize {
        let sent: Vec<u8> = (0..=250).cycle().skip(number).take(number * 7).collect();
        here.send_to(&sent, to).unwrap();
        let (len, from) = there.recv_from(&mut buffer).unwrap();
        there.send_to(&buffer[..len], from).unwrap();
        assert_eq!(here.recv(&mut buffer).unwrap(), sent.len());
        assert_eq!(buffer[..sent.len()], sent);
    }
}

fn carried(board: &Process, link: &Board) {
    for address in [IpAddr::V4(BOARD4), IpAddr::V6(BOARD6)] {
        ping(address);
    }
    board.inside(|| {
        ping(HOST4.into());
        ping(HOST6.into());
    });
    datagrams(board);
    streams(board, link, (BOARD4.into(), HOST4.into()));
    streams(board, link, (BOARD6.into(), HOST6.into()));
    let status = link.status();
    let BridgeCounters { to_board, to_host } = status.counters;
    assert_eq!((to_host.refused, to_host.dropped, to_board.dropped), (0, 0, 0));
    assert_eq!((status.failures, status.last_failure), (0, None));
}

#[test]
fn two_kernels_talk_over_two_taps() {
    in_namespace("kernels::two_kernels_talk_over_two_taps", || {
        if !has_tun() {
            return;
        }
        let folder = Folder::new();
        for (layout, more) in
            [(Layout::Split, &[][..]), (Layout::AllHost, &[]), (Layout::BarOnly, &["--bar-only"])]
        {
            let arguments = [&["--behind", "tap:board0"], &ADDRESSES[..], more].concat();
            let board = board(&folder, &arguments);
            let link = attach(&folder, InterfaceMode::Tap, layout);
            up(&link, 1);
            carried(&board, &link);
            link.stop().unwrap();
        }
    });
}

#[test]
fn two_kernels_talk_over_two_tuns() {
    in_namespace("kernels::two_kernels_talk_over_two_tuns", || {
        if !has_tun() {
            return;
        }
        let folder = Folder::new();
        let arguments = [&["--behind", "tun:board0"], &ADDRESSES[..]].concat();
        let board = board(&folder, &arguments);
        let link = attach(&folder, InterfaceMode::Tun, Layout::Split);
        up(&link, 1);
        carried(&board, &link);
        link.stop().unwrap();
    });
}

/// A tun has no address of its own: it learns the host's from the host's frames.
#[test]
fn a_tun_finds_a_host_of_any_address() {
    in_namespace("kernels::a_tun_finds_a_host_of_any_address", || {
        if !has_tun() {
            return;
        }
        let folder = Folder::new();
        let arguments = [&["--behind", "tun:board0"], &ADDRESSES[..]].concat();
        let board = board(&folder, &arguments);
        let mac = Some([2, 0, 0, 0x12, 0x34, 0x56]);
        let link = attach_as(&folder, InterfaceMode::Tap, Layout::Split, mac);
        up(&link, 1);
        // It has heard of the host when that asks first.
        ping(BOARD4.into());
        carried(&board, &link);
        link.stop().unwrap();
    });
}
