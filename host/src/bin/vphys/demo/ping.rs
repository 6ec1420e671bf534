//! Pings the board through the kernel's own IP stack.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    SockaddrStorage, recvmsg, sendto, socket,
};

use super::watch::Watch;

/// How long one answer may take. Longer than the board's heartbeat may stand
/// still, which says more.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long the board's first answer is waited for before it is asked again.
const RESOLVED_WITHIN: Duration = Duration::from_millis(200);

/// Bytes behind the ICMP header, as ping(8) sends.
const PAYLOAD: u8 = 56;

const HEADER: usize = 8;

/// An ICMP socket towards one address.
pub(crate) struct Pinger<'a> {
    watch: Watch<'a>,
    socket: OwnedFd,
    to: SocketAddr,
    identifier: u16,
}

impl<'a> Pinger<'a> {
    /// Opens a raw ICMP socket, which the demo's own namespace allows.
    pub(crate) fn new(watch: Watch<'a>, address: IpAddr) -> Result<Self> {
        let (family, protocol) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .context("cannot open a raw ICMP socket (CAP_NET_RAW)")?;
        Ok(Self { watch, socket, to: SocketAddr::new(address, 0), identifier: 0x7670 })
    }

    /// Waits until the board answers at all. Its stack may have to ask first
    /// where this host is, and need not keep the answer until it knows.
    pub(crate) fn first(&self) -> Result<()> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        while Instant::now() < deadline {
            if self.round(0, RESOLVED_WITHIN)?.is_some() {
                return Ok(());
            }
        }
        self.ping(0).map(drop)
    }

    /// Sends one echo request and waits for its reply: the round-trip time.
    pub(crate) fn ping(&self, sequence: u16) -> Result<Duration> {
        let Some(time) = self.round(sequence, ANSWER_WITHIN)? else {
            bail!("no echo reply from {} within {} s", self.to.ip(), ANSWER_WITHIN.as_secs());
        };
        Ok(time)
    }

    /// One request, and the time that its reply took; `None`: longer than `longest`.
    fn round(&self, sequence: u16, longest: Duration) -> Result<Option<Duration>> {
        let request = self.request(sequence);
        let start = Instant::now();
        let fd = self.socket.as_raw_fd();
        match self.to {
            SocketAddr::V4(to) => sendto(fd, &request, &SockaddrIn::from(to), MsgFlags::empty()),
            SocketAddr::V6(to) => sendto(fd, &request, &SockaddrIn6::from(to), MsgFlags::empty()),
        }
        .with_context(|| format!("cannot send an echo request to {}", self.to.ip()))?;
        let deadline = start + longest;
        let mut buffer = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.watch.wait(self.socket.as_fd(), PollFlags::POLLIN, left)? {
                return Ok(None);
            }
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let received = recvmsg::<SockaddrStorage>(fd, &mut parts, None, MsgFlags::MSG_DONTWAIT)
                .context("cannot receive echo replies")?
                .bytes;
            let elapsed = start.elapsed();
            // Raw sockets see every ICMP message of the namespace: skip the others.
            if self.answers(buffer.get(..received).unwrap_or(&[]), &request) {
                return Ok(Some(elapsed));
            }
        }
    }

    fn request(&self, sequence: u16) -> Vec<u8> {
        let kind = if self.to.is_ipv4() { 8 } else { 128 };
        let mut message = vec![kind, 0, 0, 0];
        message.extend(self.identifier.to_be_bytes());
        message.extend(sequence.to_be_bytes());
        message.extend(0..PAYLOAD);
        if self.to.is_ipv4() {
            // The kernel sums ICMPv6 itself (RFC 3542 §3.1).
            let sum = internet_checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        message
    }

    /// Whether `packet` is the reply to `request`, payload and all.
    fn answers(&self, packet: &[u8], request: &[u8]) -> bool {
        let (reply, kind) = if self.to.is_ipv4() {
            let header = packet.first().map_or(0, |first| usize::from(first & 0xF) * 4);
            (packet.get(header..).unwrap_or(&[]), 0)
        } else {
            (packet, 129)
        };
        reply.len() == HEADER + usize::from(PAYLOAD)
            && reply[0] == kind
            && reply[4..] == request[4..]
    }
}

/// The Internet checksum (RFC 1071).
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    // At most 0xFFFF now.
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The value below which `percent` of the sorted times lie, in microseconds.
pub(crate) fn percentile_us(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get(last * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
