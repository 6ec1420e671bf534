//! The Ethernet header of an IP packet, and the virtio-net header with it or
//! without it.

use std::net::{Ipv4Addr, Ipv6Addr};

use shared::wire::net::{FLAG_NEEDS_CSUM, HEADER_LEN, NetHeader};

/// A MAC address.
pub(super) type Mac = [u8; 6];

/// Bytes of an Ethernet header.
pub(super) const ETHERNET: usize = 14;
/// The same, as virtio-net's fields count.
const DEPTH: u16 = 14;
/// Bytes in front of a packet on its way to the board.
pub(super) const FRONT: usize = HEADER_LEN + ETHERNET;

pub(super) const IPV4: [u8; 2] = [0x08, 0x00];
pub(super) const IPV6: [u8; 2] = [0x86, 0xdd];
pub(super) const ARP: [u8; 2] = [0x08, 0x06];

/// Every station.
pub(super) const BROADCAST: Mac = [0xff; 6];

/// The MAC addresses of the link's two ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkAddresses {
    /// The host interface's, which is virtio-net's `mac`.
    pub host: [u8; 6],
    /// The board's own, from its control block.
    pub board: [u8; 6],
}

impl LinkAddresses {
    /// For a board that names no address for the host (without
    /// VIRTIO_NET_F_MAC): one that is local to this link and not the board's.
    #[must_use]
    pub const fn for_board(board: [u8; 6]) -> Self {
        let [_, b, c, d, e, f] = board;
        Self { host: [0x02, b, c, d, e, f ^ 1], board }
    }
}

/// Puts the link's headers in front of a packet that came from the kernel.
/// `frame` has room for the Ethernet header, then the kernel's virtio-net
/// header and the packet, or as much of it as its IP header has bytes. `None`:
/// this is no IP packet.
pub(super) fn add_front(frame: &mut [u8], link: &LinkAddresses) -> Option<()> {
    let (front, packet) = frame.split_first_chunk_mut::<FRONT>()?;
    let (destination, kind) = destination(packet, link.board)?;
    let header = NetHeader::decode(front.get(ETHERNET..)?)?;
    let (net, ethernet) = front.split_first_chunk_mut::<HEADER_LEN>()?;
    *net = deeper(header).encode();
    ethernet.copy_from_slice(&ethernet_header(destination, link.host, kind));
    Some(())
}

/// An Ethernet header.
pub(super) const fn ethernet_header(to: Mac, from: Mac, kind: [u8; 2]) -> [u8; ETHERNET] {
    let ([a, b, c, d, e, f], [g, h, i, j, k, l], [m, n]) = (to, from, kind);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n]
}

/// Where a packet goes, and its type. A broadcast address of a network, which
/// only its prefix tells, goes to the board's own address: nobody else is there.
fn destination(packet: &[u8], board: Mac) -> Option<(Mac, [u8; 2])> {
    match packet.first()? >> 4 {
        4 => {
            let to = Ipv4Addr::from(*packet.get(16..)?.first_chunk::<4>()?);
            let mac = match to.octets() {
                [255, 255, 255, 255] => BROADCAST,
                // RFC 1112, section 6.4.
                [224..=239, b, c, d] => [0x01, 0x00, 0x5e, b & 0x7f, c, d],
                _ => board,
            };
            Some((mac, IPV4))
        }
        6 => {
            let to = Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?);
            Some((if to.is_multicast() { multicast(to) } else { board }, IPV6))
        }
        _ => None,
    }
}

/// The MAC address of an IPv6 group (RFC 2464, section 7).
pub(super) const fn multicast(group: Ipv6Addr) -> Mac {
    let [.., c, d, e, f] = group.octets();
    [0x33, 0x33, c, d, e, f]
}

/// The header for the packet behind an Ethernet header.
pub(super) const fn deeper(header: NetHeader) -> NetHeader {
    let mut moved = header;
    if header.flags & FLAG_NEEDS_CSUM != 0 {
        // What does not fit is beyond any frame, and refused as such.
        moved.csum_start = header.csum_start.saturating_add(DEPTH);
    }
    if header.hdr_len != 0 {
        moved.hdr_len = header.hdr_len.saturating_add(DEPTH);
    }
    moved
}

/// The header for the packet without its Ethernet header; `None` if a place
/// that it names lies in that.
pub(super) const fn shallower(header: NetHeader) -> Option<NetHeader> {
    let mut moved = header;
    if header.flags & FLAG_NEEDS_CSUM != 0 {
        let Some(start) = header.csum_start.checked_sub(DEPTH) else { return None };
        moved.csum_start = start;
    }
    moved.hdr_len = header.hdr_len.saturating_sub(DEPTH);
    Some(moved)
}
