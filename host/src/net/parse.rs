//! Our own reading of a frame's headers, Ethernet to transport, over private
//! bytes. Not for fields that no check needs.

use byteorder::{BigEndian, ByteOrder};

/// Bytes of an Ethernet header.
pub(super) const ETHERNET: usize = 14;
/// Bytes of one VLAN tag.
pub(super) const VLAN: usize = 4;
/// IPv6 extension headers that are followed at most.
const MAX_EXTENSIONS: usize = 8;

mod ether_type {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const IPV6: u16 = 0x86dd;
    pub(super) const VLAN: u16 = 0x8100;
    pub(super) const SERVICE_VLAN: u16 = 0x88a8;
}

mod ip_protocol {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const TCP: u8 = 6;
    pub(super) const UDP: u8 = 17;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const DESTINATION: u8 = 60;
}

/// The transport protocol found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    /// TCP, with its header's length in bytes.
    Tcp {
        /// Bytes, options included.
        header: u16,
    },
    /// UDP, with its length field.
    Udp {
        /// What the length field says, in bytes.
        length: u16,
    },
    /// Something else, or a part of it (a fragment).
    Other {
        /// The IP protocol number.
        protocol: u8,
        /// Whether the packet is a fragment.
        fragment: bool,
    },
}

/// An IP packet in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Parsed {
    /// IPv6 (else IPv4).
    pub(super) v6: bool,
    /// Where the IP header starts, from the start of the frame.
    pub(super) network: u16,
    /// Where the IP packet ends by its own length field, likewise.
    pub(super) end: u32,
    /// Where the transport header starts, likewise.
    pub(super) transport_at: u16,
    /// What it is.
    pub(super) transport: Transport,
}

impl Parsed {
    /// Bytes of all headers up to the payload; `None` where the transport is
    /// not TCP or UDP.
    #[must_use]
    pub(super) fn header_len(&self) -> Option<u16> {
        let header = match self.transport {
            Transport::Tcp { header } => header,
            Transport::Udp { .. } => 8,
            Transport::Other { .. } => return None,
        };
        self.transport_at.checked_add(header)
    }
}

/// Number of VLAN tags and the type behind them; `None`: cut off, or more
/// than two tags.
pub(super) fn ether_type(frame: &[u8]) -> Option<(usize, u16)> {
    for tags in 0..=2 {
        let kind = be16(frame, ETHERNET - 2 + tags * VLAN)?;
        if !matches!(kind, ether_type::VLAN | ether_type::SERVICE_VLAN) {
            return Some((tags, kind));
        }
    }
    None
}

/// Reads the headers of an IP packet in `frame`, which may be cut off behind
/// them. `None`: no IP packet, malformed, or cut off too early.
pub(super) fn parse(frame: &[u8]) -> Option<Parsed> {
    let (tags, kind) = ether_type(frame)?;
    let network = ETHERNET + tags * VLAN;
    match kind {
        ether_type::IPV4 => parse_v4(frame, network),
        ether_type::IPV6 => parse_v6(frame, network),
        _ => None,
    }
}

fn parse_v4(frame: &[u8], network: usize) -> Option<Parsed> {
    let first = *frame.get(network)?;
    let header = usize::from(first & 0xF) * 4;
    if first >> 4 != 4 || header < 20 {
        return None;
    }
    let total = be16(frame, network + 2)?;
    if usize::from(total) < header {
        return None;
    }
    // More fragments, or not the first.
    let fragment = be16(frame, network + 6)? & 0x3FFF != 0;
    let protocol = *frame.get(network + 9)?;
    finish(frame, false, network, u32::from(total), network + header, protocol, fragment)
}

fn parse_v6(frame: &[u8], network: usize) -> Option<Parsed> {
    if *frame.get(network)? >> 4 != 6 {
        return None;
    }
    let total = 40 + u32::from(be16(frame, network + 4)?);
    let mut next = *frame.get(network + 6)?;
    let mut at = network + 40;
    for _ in 0..MAX_EXTENSIONS {
        match next {
            ip_protocol::HOP_BY_HOP | ip_protocol::ROUTING | ip_protocol::DESTINATION => {
                next = *frame.get(at)?;
                at += (usize::from(*frame.get(at + 1)?) + 1) * 8;
            }
            ip_protocol::FRAGMENT => {
                let protocol = *frame.get(at)?;
                return finish(frame, true, network, total, at + 8, protocol, true);
            }
            _ => return finish(frame, true, network, total, at, next, false),
        }
    }
    None
}

fn finish(
    frame: &[u8],
    v6: bool,
    network: usize,
    total: u32,
    transport_at: usize,
    protocol: u8,
    fragment: bool,
) -> Option<Parsed> {
    let network = u16::try_from(network).ok()?;
    let end = u32::from(network) + total;
    let at = u16::try_from(transport_at).ok()?;
    let left = end.checked_sub(u32::from(at))?;
    let transport = match protocol {
        ip_protocol::TCP if !fragment => {
            let header = u16::from(*frame.get(transport_at + 12)? >> 4) * 4;
            if header < 20 || u32::from(header) > left {
                return None;
            }
            Transport::Tcp { header }
        }
        ip_protocol::UDP if !fragment => {
            if left < 8 {
                return None;
            }
            Transport::Udp { length: be16(frame, transport_at + 4)? }
        }
        _ => Transport::Other { protocol, fragment },
    };
    let parsed = Parsed { v6, network, end, transport_at: at, transport };
    // Every header byte is among those that were handed in.
    let seen = usize::from(parsed.header_len().unwrap_or(at)) <= frame.len();
    seen.then_some(parsed)
}

fn be16(frame: &[u8], at: usize) -> Option<u16> {
    Some(BigEndian::read_u16(frame.get(at..at + 2)?))
}
