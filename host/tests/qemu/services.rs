//! What a board's IP stack is asked for, through this machine's own.

use std::io::{IoSliceMut, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recvmsg, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::process::{HANGS, until};

const ECHO: u16 = 7;
const HTTP: u16 = 80;

/// How long one answer is waited for before it is asked for again.
const AGAIN: Duration = Duration::from_millis(500);

/// When what is under way and has not come back is lost, and as much more is
/// sent: sooner, on a busy machine, both together are more than the board keeps.
const LOST: Duration = Duration::from_secs(10);

/// Bytes on their way to the echo service and back at most: with both windows
/// closed TCP goes on by timers only.
const UNDERWAY: usize = 128 << 10;

/// A board's addresses: IPv4, IPv6.
pub(crate) fn addresses(number: u8) -> [IpAddr; 2] {
    let number = u16::from(number);
    [format!("10.77.{number}.2").parse().unwrap(), format!("fd77:{number:x}::2").parse().unwrap()]
}

/// Waits until the board answers pings, then sends `count` and demands an
/// answer to each: their round-trip times, sorted.
pub(crate) fn ping(to: IpAddr, count: u16) -> Vec<Duration> {
    let socket = icmp(to);
    until(&format!("a first answer from {to}"), || round(&socket, to, 0).is_some());
    let mut times: Vec<_> =
        (1..=count).map(|n| round(&socket, to, n).expect("an answer to each ping")).collect();
    times.sort_unstable();
    times
}

fn icmp(to: IpAddr) -> OwnedFd {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 20_000)).unwrap();
    socket
}

/// One echo request; `None`: not answered in time (RFC 792, RFC 4443 §4.1).
fn round(socket: &OwnedFd, to: IpAddr, number: u16) -> Option<Duration> {
    let mut request = vec![if to.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0x76, 0x70];
    request.extend(number.to_be_bytes());
    request.extend(0..56);
    if to.is_ipv4() {
        let words = request.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum: u32 = words.sum();
        let sum = !u16::try_from((sum & 0xFFFF) + (sum >> 16)).unwrap();
        request[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let start = Instant::now();
    let address = SockaddrStorage::from(SocketAddr::new(to, 0));
    // Without a neighbour yet, or a carrier, it is lost.
    sendto(socket.as_raw_fd(), &request, &address, MsgFlags::empty()).ok()?;
    let patience = if number == 0 { AGAIN } else { HANGS };
    let mut buffer = [0; 2048];
    while start.elapsed() < patience {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let fd = socket.as_raw_fd();
        let Ok(got) = recvmsg::<SockaddrStorage>(fd, &mut parts, None, MsgFlags::empty()) else {
            continue;
        };
        let got = got.bytes;
        let header = if to.is_ipv4() { usize::from(buffer[0] & 0xF) * 4 } else { 0 };
        let reply = buffer.get(header..got).unwrap_or(&[]);
        let kind = if to.is_ipv4() { 0 } else { 129 };
        if reply.first() == Some(&kind) && reply.get(4..) == Some(&request[4..]) {
            return Some(start.elapsed());
        }
    }
    None
}

/// A table-driven CRC-32C, as the control block has it, over a whole stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Checksum(u32);

impl Checksum {
    pub(crate) const fn new() -> Self {
        Self(!0)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        const TABLE: [u32; 256] = {
            let mut table = [0; 256];
            let mut at = 0_u32;
            while at < 256 {
                let (mut value, mut bit) = (at, 0);
                while bit < 8 {
                    value = value >> 1 ^ if value & 1 == 1 { 0x82F6_3B78 } else { 0 };
                    bit += 1;
                }
                table[at as usize] = value;
                at += 1;
            }
            table
        };
        for byte in bytes {
            self.0 = self.0 >> 8 ^ TABLE[usize::from(self.0.to_le_bytes()[0] ^ byte)];
        }
    }
}

/// Bytes without a pattern, from a seed (xorshift64).
fn noise(state: &mut u64, into: &mut [u8]) {
    for eight in into.chunks_mut(8) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        eight.copy_from_slice(&state.to_le_bytes()[..eight.len()]);
    }
}

/// Sends `bytes` of noise to the echo service, and takes as many from it: both
/// streams have the same checksum. How long it took.
pub(crate) fn echo_tcp(to: IpAddr, bytes: usize) -> Duration {
    let mut stream = TcpStream::connect(SocketAddr::new(to, ECHO)).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    stream.set_write_timeout(Some(HANGS)).unwrap();
    let start = Instant::now();
    let (mut sent, mut came) = (Checksum::new(), Checksum::new());
    let (mut seed, mut out, mut back) = (bytes as u64 | 1, 0, 0);
    let mut buffer = vec![0; UNDERWAY];
    while back < bytes {
        let room = (bytes - out).min(UNDERWAY - (out - back)) / 2;
        let room = if out + 16 > bytes { bytes - out } else { room & !7 };
        noise(&mut seed, &mut buffer[..room]);
        stream.write_all(&buffer[..room]).unwrap();
        sent.add(&buffer[..room]);
        out += room;
        let got = stream.read(&mut buffer).unwrap();
        assert!(got > 0, "the echo service closed after {back} of {bytes} bytes");
        came.add(&buffer[..got]);
        back += got;
    }
    assert_eq!((back, came), (bytes, sent), "what came back is not what was sent");
    start.elapsed()
}

/// Sends `count` datagrams to the echo service, a window of them at a time: how
/// many did not come back, and how long it took. What comes back is compared.
pub(crate) fn echo_udp(to: IpAddr, count: u32) -> (u32, Duration) {
    /// As many as the board's stack keeps, less some for what is late.
    const WINDOW: u32 = 24;
    let datagram = |number: u32| -> Vec<u8> {
        let mut bytes = vec![0; 8 + number as usize * 37 % 600];
        noise(&mut (u64::from(number) + 1), &mut bytes);
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    socket.connect(SocketAddr::new(to, ECHO)).unwrap();
    socket.set_read_timeout(Some(LOST)).unwrap();
    let start = Instant::now();
    let (mut came, mut sent, mut next, mut back) = (vec![false; count as usize], 0, 0, 0);
    let mut buffer = [0; 2048];
    while next < count {
        while sent < count && sent - next < WINDOW {
            socket.send(&datagram(sent)).unwrap();
            sent += 1;
        }
        let Ok(got) = socket.recv(&mut buffer) else {
            // What is not here by now is lost.
            next = sent;
            continue;
        };
        let number = u32::from_be_bytes(*buffer.first_chunk().unwrap());
        assert!(number < sent && buffer[..got] == datagram(number), "{number} is damaged");
        let first = !std::mem::replace(&mut came[number as usize], true);
        assert!(first, "{number} came twice");
        back += 1;
        next = next.max(number + 1);
    }
    (count - back, start.elapsed())
}

/// The board's status page.
pub(crate) fn status_page(of: IpAddr) -> String {
    let mut stream = TcpStream::connect(SocketAddr::new(of, HTTP)).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}
