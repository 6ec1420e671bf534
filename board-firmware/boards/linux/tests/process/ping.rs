//! Echo requests over raw sockets.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv,
    sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::stage::HANGS;

/// Pings `to` until it answers.
pub(crate) fn ping(to: IpAddr) {
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100)).unwrap();
    let deadline = Instant::now() + HANGS;
    for number in 0..=u16::MAX {
        assert!(Instant::now() < deadline, "{to} does not answer");
        let mut message = [request, 0, 0, 0, 0x76, 0x70, 0, 0, 1, 2, 3, 4];
        message[6..8].copy_from_slice(&number.to_be_bytes());
        if to.is_ipv4() {
            // The kernel sums ICMPv6 itself (RFC 3542 §3.1).
            let words = message.as_chunks::<2>().0.iter().map(|two| u16::from_be_bytes(*two));
            let sum: u32 = words.map(u32::from).sum();
            let sum = u16::try_from((sum & 0xFFFF) + (sum >> 16)).unwrap();
            message[2..4].copy_from_slice(&(!sum).to_be_bytes());
        }
        if send(&socket, to, &message) && answered(&socket, to, reply, &message[4..]) {
            return;
        }
    }
}

/// Whether it went out: without a carrier it does not.
fn send(socket: &OwnedFd, to: IpAddr, message: &[u8]) -> bool {
    let fd = socket.as_raw_fd();
    let sent = match SocketAddr::new(to, 0) {
        SocketAddr::V4(to) => sendto(fd, message, &SockaddrIn::from(to), MsgFlags::empty()),
        SocketAddr::V6(to) => sendto(fd, message, &SockaddrIn6::from(to), MsgFlags::empty()),
    };
    if sent.is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    sent.is_ok()
}

fn answered(socket: &OwnedFd, to: IpAddr, kind: u8, rest: &[u8]) -> bool {
    let mut buffer = [0; 2048];
    // Raw sockets see every ICMP message of the namespace: some are others'.
    while let Ok(len) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        let header = if to.is_ipv4() { usize::from(buffer[0] & 0xF) * 4 } else { 0 };
        let message = buffer.get(header..len).unwrap_or(&[]);
        if message.first() == Some(&kind) && message.get(4..) == Some(rest) {
            return true;
        }
    }
    false
}
