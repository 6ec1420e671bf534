//! The port between two IP stacks of the kernel: the host's behind the tun
//! interface, and one in a namespace of its own that plays the board. The
//! board's resolves neighbours by itself, so it judges the responder too.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use shared::region::Located;
use shared::window::Window;
use shared::wire::net::{FLAG_NEEDS_CSUM, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, HEADER_LEN, NetHeader};

use crate::ip::{IpCounters, IpPort, LinkAddresses, announcement};
use crate::namespace::in_namespace;
use crate::net::tests::grammar::{BOARD_MAC, HOST_MAC};
use crate::net::{
    CHECKED_BYTES, DropCause, FramePort, Offloads, OutboundHeader, Rules, Sanitizer, Sent,
};
use crate::netlink::Netlink;
use crate::tap::tests::peer::TestWindow;
use crate::tap::{Tap, TapOptions};

/// Room for one frame.
const ROOM: u32 = 96 * 1024;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

const HOST_V4: &str = "10.0.0.1";
const BOARD_V4: &str = "10.0.0.2";
const HOST_V6: &str = "fd00::1";
const BOARD_V6: &str = "fd00::2";

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn configure(tap: &Tap, mac: Option<[u8; 6]>, mtu: u32, addresses: [&str; 2]) {
    let mut net = Netlink::open().unwrap();
    let name = tap.name();
    net.no_automatic_address(name).unwrap();
    if let Some(mac) = mac {
        net.set_mac(name, mac).unwrap();
    }
    net.set_mtu(name, mtu).unwrap();
    tap.set_carrier(true).unwrap();
    net.set_up(name).unwrap();
    net.add_address(name, addresses[0].parse().unwrap(), 24).unwrap();
    net.add_address(name, addresses[1].parse().unwrap(), 64).unwrap();
}

/// The link: the port under test with the bridge's checks, and the board's
/// side of a tap in another namespace.
struct Wire {
    port: IpPort,
    board: Tap,
    window: TestWindow,
    outbound: OutboundHeader,
    sanitizer: Sanitizer,
    /// Longest frames without virtio-net header, in each direction.
    longest: [usize; 2],
    /// What was left to the receiver, of frames to the board.
    kinds: Vec<u8>,
}

impl Wire {
    /// The link, and where the board's programs are to be run.
    fn new(offloads: Offloads, mtu: u16, reachable: bool) -> (Self, BoardThread) {
        let tun = Tap::open(&TapOptions::tun("tun0")).unwrap();
        tun.set_offloads(offloads).unwrap();
        configure(&tun, None, mtu.into(), [HOST_V4, HOST_V6]);
        let (thread, board) = BoardThread::new(offloads, mtu);
        let wire = Self {
            port: IpPort::new(tun, LinkAddresses { host: HOST_MAC, board: BOARD_MAC }),
            board,
            window: TestWindow::new(reachable),
            outbound: OutboundHeader::new(offloads, mtu),
            sanitizer: Sanitizer::new(Rules::new(offloads, mtu, Some(BOARD_MAC))),
            longest: [0; 2],
            kinds: Vec::new(),
        };
        (wire, thread)
    }

    /// Moves a frame to the board, if there is one.
    fn carry_to_board(&mut self) -> bool {
        let Some(len) = self.port.receive(&self.window, 64, ROOM).unwrap() else { return false };
        self.outbound.check(&self.window, 64, len).unwrap();
        let mut bytes = vec![0; len as usize];
        self.window.read(64, &mut bytes);
        let header = NetHeader::decode(&bytes).unwrap();
        self.kinds.push(header.gso_type);
        self.longest[0] = self.longest[0].max(bytes.len() - HEADER_LEN);
        assert_eq!(bytes[18..24], HOST_MAC, "whose frame is this?");
        let nothing: [Located<'_, TestWindow>; 0] = [];
        assert_eq!(self.board.send(&bytes, &nothing).unwrap(), Sent::Whole);
        true
    }

    /// Moves a frame to the host, if there is one.
    fn carry_to_host(&mut self) -> bool {
        let mut bytes = vec![0; ROOM as usize];
        let port: &mut dyn FramePort<TestWindow> = &mut self.board;
        let Some(len) = port.receive_private(&mut bytes).unwrap() else { return false };
        bytes.truncate(len as usize);
        let frame_len = bytes.len() - HEADER_LEN;
        self.longest[1] = self.longest[1].max(frame_len);
        let mut head = bytes[..bytes.len().min(HEADER_LEN + CHECKED_BYTES)].to_vec();
        let checked = self.sanitizer.check(&head, frame_len as u32).unwrap();
        let rest = &bytes[head.len()..];
        self.window.write(7, rest);
        let half = rest.len() as u32 / 2;
        let window = &self.window;
        let rest = [
            Located { window, offset: 7, len: half },
            Located { window, offset: 7 + u64::from(half), len: rest.len() as u32 - half },
        ];
        let sent = self.port.send(checked.head(&mut head), &rest).unwrap();
        // What is for a group that nobody here has joined is the kernel's to drop.
        assert_ne!(sent, Sent::Dropped(DropCause::Refused), "{:x?}", &head[..60]);
        true
    }

    /// Moves frames until `done` says something.
    fn run<T>(&mut self, what: &str, done: &Receiver<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(said) = done.try_recv() {
                return said;
            }
            assert!(Instant::now() < deadline, "{what}: no end; {:?}", self.port.counters());
            if self.carry_to_board() | self.carry_to_host() {
                continue;
            }
            let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut fds = [readable(self.port.as_fd()), readable(self.board.as_fd())];
            poll(&mut fds, PollTimeout::from(5u8)).unwrap();
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
struct BoardThread {
    jobs: std::sync::mpsc::Sender<Job>,
    _thread: JoinHandle<()>,
}

impl BoardThread {
    fn new(offloads: Offloads, mtu: u16) -> (Self, Tap) {
        let (jobs, todo) = channel::<Job>();
        let (give, tap) = channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let tap = Tap::open(&TapOptions::new("board0")).unwrap();
            tap.set_offloads(offloads).unwrap();
            configure(&tap, Some(BOARD_MAC), mtu.into(), [BOARD_V4, BOARD_V6]);
            give.send(tap).unwrap();
            for job in todo {
                job();
            }
        });
        (Self { jobs, _thread: thread }, tap.recv().unwrap())
    }

    /// Runs `job` there, and hands its word on.
    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (say, said) = channel();
        self.jobs.send(Box::new(move || drop(say.send(job())))).unwrap();
        said
    }
}

fn here<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (say, said) = channel();
    thread::spawn(move || drop(say.send(job())));
    said
}

fn address(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(text.parse::<IpAddr>().unwrap(), port)
}

/// Sends `there`, reads until the end, and says what came.
fn exchange(mut stream: TcpStream, there: Vec<u8>) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(&there).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut came = Vec::new();
    stream.read_to_end(&mut came).unwrap();
    writing.join().unwrap();
    came
}

/// A connection that the board opens, megabytes both ways. Returns the wire.
fn streams(offloads: Offloads, mtu: u16, reachable: bool, v6: bool) -> Wire {
    let (mut wire, board) = Wire::new(offloads, mtu, reachable);
    let (down, up) = (pattern(3_000_000), pattern(2_000_003));
    let listener = TcpListener::bind(address(if v6 { HOST_V6 } else { HOST_V4 }, 9)).unwrap();
    let to = listener.local_addr().unwrap();
    let (to_send, expected) = (down.clone(), up.clone());
    let host = here(move || exchange(listener.accept().unwrap().0, to_send));
    let seen = board.run(move || exchange(TcpStream::connect(to).unwrap(), expected));
    assert!(wire.run("the host's stream", &host) == up);
    assert!(wire.run("the board's stream", &seen) == down);
    wire
}

#[test]
fn tcp_in_large_segments() {
    in_namespace("ip::tests::port::tcp_in_large_segments", || {
        for (v6, reachable) in [(false, true), (true, true), (false, false), (true, false)] {
            let wire = streams(Offloads::ALL, 1500, reachable, v6);
            let kind = if v6 { GSO_TCPV6 } else { GSO_TCPV4 };
            assert!(wire.kinds.contains(&kind), "no segmentation was left to the board");
            assert!(wire.longest.iter().all(|len| *len > 30_000), "{:?}", wire.longest);
            assert_eq!(wire.sanitizer.counts().total(), 0);
            assert_eq!(wire.port.interface().counters().bounced > 0, !reachable);
            let counters = wire.port.counters();
            assert!(counters.answered >= 1, "{counters:?}");
            assert_eq!((counters.answers_lost, counters.malformed, counters.not_ip), (0, 0, 0));
        }
    });
}

#[test]
fn tcp_without_offloads_and_with_other_mtus() {
    in_namespace("ip::tests::port::tcp_without_offloads_and_with_other_mtus", || {
        let checksum = Offloads { checksum: true, ..Offloads::NONE };
        for (offloads, mtu, v6) in [
            (Offloads::NONE, 1500, false),
            (Offloads::NONE, 1280, true),
            (checksum, 9000, true),
            (Offloads::ALL, 65_521, false),
        ] {
            let wire = streams(offloads, mtu, true, v6);
            if offloads != Offloads::ALL {
                assert!(wire.kinds.iter().all(|kind| *kind == 0));
                assert_eq!(wire.longest, [usize::from(mtu) + 14; 2], "{offloads:?} {mtu}");
            }
            assert_eq!(wire.sanitizer.counts().total(), 0);
        }
    });
}

/// One call's datagrams as one frame, both ways and with both IP versions.
#[test]
fn segmented_udp() {
    in_namespace("ip::tests::port::segmented_udp", || {
        let (mut wire, board) = Wire::new(Offloads::ALL, 1500, true);
        if !wire.port.interface().supported().uso4 {
            eprintln!("no segmented UDP: it came with Linux 6.2");
            return;
        }
        for (host, other) in [(HOST_V4, BOARD_V4), (HOST_V6, BOARD_V6)] {
            wire.kinds.clear();
            wire.longest = [0; 2];
            let bind = move |ip, to| {
                let socket = UdpSocket::bind(address(ip, 7)).unwrap();
                socket.connect(address(to, 7)).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                setsockopt(&socket, UdpGsoSegment, &1000).unwrap();
                socket
            };
            let talk = |socket: UdpSocket| {
                let mut came: Vec<u8> = Vec::new();
                let mut buffer = [0; 2000];
                // The first word resolves the neighbour; the rest is one frame.
                for _ in 0..21 {
                    let len = socket.recv(&mut buffer).unwrap();
                    came.extend(&buffer[..len]);
                }
                came
            };
            let data = pattern(20_500);
            let (first, second) = (data.clone(), data.clone());
            let ready = board.run(move || bind(other, host));
            let theirs = wire.run("the board's socket", &ready);
            let ours = bind(host, other);
            let sender = ours.try_clone().unwrap();
            let seen = board.run(move || {
                let came = talk(theirs.try_clone().unwrap());
                theirs.send(&second).unwrap();
                came
            });
            sender.send(&first).unwrap();
            assert!(wire.run("the board's datagrams", &seen) == data);
            let back = here(move || talk(ours));
            assert!(wire.run("the host's datagrams", &back) == data);
            assert!(wire.kinds.contains(&GSO_UDP_L4));
            assert!(wire.longest.iter().all(|len| *len > 20_500), "{:?}", wire.longest);
        }
    });
}

/// The next datagram's frame, by one of the three ways into memory.
fn datagram(port: &mut IpPort, way: usize, udp_at: usize) -> (NetHeader, Vec<u8>) {
    let deadline = Instant::now() + PATIENCE;
    let window = TestWindow::new(way == 0);
    loop {
        assert!(Instant::now() < deadline, "no datagram");
        let mut bytes = vec![0xEE; ROOM as usize];
        let received = if way < 2 {
            let received = port.receive(&window, 64, ROOM).unwrap();
            window.read(64, &mut bytes);
            received
        } else {
            FramePort::<TestWindow>::receive_private(port, &mut bytes).unwrap()
        };
        let Some(len) = received else { continue };
        bytes.truncate(len as usize);
        let frame = bytes.split_off(HEADER_LEN);
        // The kernel has words of its own for groups.
        if frame.get(udp_at + 2..udp_at + 4) == Some(&[0, 9]) {
            return (NetHeader::decode(&bytes).unwrap(), frame);
        }
    }
}

#[test]
fn each_packet_gets_its_ethernet_header() {
    in_namespace("ip::tests::port::each_packet_gets_its_ethernet_header", || {
        let tun = Tap::open(&TapOptions::tun("tun0")).unwrap();
        tun.set_offloads(Offloads::ALL).unwrap();
        configure(&tun, None, 1500, [HOST_V4, HOST_V6]);
        let mut port = IpPort::new(tun, LinkAddresses { host: HOST_MAC, board: BOARD_MAC });
        let index = Netlink::open().unwrap().link("tun0").unwrap().index;
        for (to, mac) in [
            (BOARD_V4, BOARD_MAC),
            // Only its prefix says that it is everybody's.
            ("10.0.0.255", BOARD_MAC),
            ("239.129.2.3", [0x01, 0, 0x5e, 1, 2, 3]),
            (BOARD_V6, BOARD_MAC),
            ("ff02::1:2", [0x33, 0x33, 0, 1, 0, 2]),
        ] {
            let v6 = to.contains(':');
            let (from, kind, udp_at) =
                if v6 { (HOST_V6, [0x86, 0xdd], 54) } else { (HOST_V4, [0x08, 0x00], 34) };
            let socket = UdpSocket::bind(address(from, 0)).unwrap();
            socket.set_broadcast(true).unwrap();
            let mut target = address(to, 9);
            if let (SocketAddr::V6(target), true) = (&mut target, to.starts_with("ff")) {
                target.set_scope_id(index);
            }
            for (way, len) in [(0, 100), (1, 100), (2, 100), (0, 0), (0, 1), (0, 1400)] {
                let data = pattern(len);
                socket.send_to(&data, target).unwrap();
                let (header, frame) = datagram(&mut port, way, udp_at);
                let expected = NetHeader {
                    flags: FLAG_NEEDS_CSUM,
                    csum_start: udp_at as u16,
                    csum_offset: 6,
                    ..NetHeader::default()
                };
                assert_eq!(NetHeader { hdr_len: 0, ..header }, expected, "{to} {way}");
                assert_eq!((&frame[..6], &frame[6..12]), (&mac[..], &HOST_MAC[..]), "{to}");
                assert_eq!((&frame[12..14], &frame[udp_at + 8..]), (&kind[..], &data[..]));
            }
        }
    });
}

#[test]
fn answers_go_out_before_packets() {
    in_namespace("ip::tests::port::answers_go_out_before_packets", || {
        let tun = Tap::open(&TapOptions::tun("tun0")).unwrap();
        configure(&tun, None, 1500, [HOST_V4, HOST_V6]);
        let mut port = IpPort::new(tun, LinkAddresses { host: HOST_MAC, board: BOARD_MAC });
        let socket = UdpSocket::bind(address(HOST_V4, 0)).unwrap();
        socket.send_to(&pattern(10), address(BOARD_V4, 9)).unwrap();
        let window = TestWindow::new(true);
        let words = [announcement(HOST_MAC, [10, 0, 0, 1].into()); 3];
        for word in words {
            port.enqueue(word);
        }
        let len = HEADER_LEN + words[0].as_bytes().len();
        let mut expected = NetHeader::default().encode().to_vec();
        expected.extend(words[0].as_bytes());
        assert_eq!(port.receive(&window, 0, ROOM).unwrap(), Some(len as u32));
        let mut bytes = vec![0; len];
        window.read(0, &mut bytes);
        assert_eq!(bytes, expected);
        let mut private = vec![0; 2000];
        let received = FramePort::<TestWindow>::receive_private(&mut port, &mut private).unwrap();
        assert_eq!((received, &private[..len]), (Some(len as u32), &expected[..]));
        // One that does not fit is lost and holds up nothing.
        let received = port.receive(&window, 0, len as u32 - 1).unwrap();
        assert!(received.is_none_or(|len| len > 26), "{received:?}");
        let counters = port.counters();
        assert_eq!((counters.answered, counters.answers_lost), (3, 1));
    });
}

#[test]
fn what_is_no_packet_stays_out_of_the_kernel() {
    in_namespace("ip::tests::port::what_is_no_packet_stays_out_of_the_kernel", || {
        let tun = Tap::open(&TapOptions::tun("tun0")).unwrap();
        configure(&tun, None, 1500, [HOST_V4, HOST_V6]);
        let mut port = IpPort::new(tun, LinkAddresses { host: HOST_MAC, board: BOARD_MAC });
        let refused = Sent::Dropped(DropCause::Refused);
        let mut send = |header: NetHeader, frame: &[u8]| {
            let mut head = header.encode().to_vec();
            head.extend(frame);
            let nothing: [Located<'_, TestWindow>; 0] = [];
            port.send(&head, &nothing).unwrap()
        };
        let mut frame = HOST_MAC.to_vec();
        frame.extend(BOARD_MAC);
        frame.extend([0x81, 0, 0, 5, 0x08, 0]);
        frame.resize(60, 0x45);
        assert_eq!(send(NetHeader::default(), &frame), refused);
        for len in 0..14 {
            assert_eq!(send(NetHeader::default(), &frame[..len]), refused);
        }
        // A checksum in the Ethernet header, past our own check.
        let inside = NetHeader { flags: FLAG_NEEDS_CSUM, csum_start: 13, ..NetHeader::default() };
        frame[12..14].copy_from_slice(&[0x08, 0]);
        frame[14] = 0x45;
        assert_eq!(send(inside, &frame), refused);
        let nothing: [Located<'_, TestWindow>; 0] = [];
        assert_eq!(port.send(&[0; 11], &nothing).unwrap(), refused);
        let expected = IpCounters { not_ip: 1, malformed: 14, ..IpCounters::default() };
        assert_eq!(port.counters(), expected);
    });
}
