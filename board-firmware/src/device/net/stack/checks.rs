//! Checksums on both ways, with smoltcp's own wire types.

use shared::wire::net::{FLAG_NEEDS_CSUM, GSO_TCPV4, GSO_TCPV6, NetHeader, feature};
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpCidr, IpProtocol, Ipv4Packet, Ipv6Packet,
    TcpPacket, UdpPacket,
};

use crate::device::net::backend::Negotiated;
use crate::device::net::checksum::{ETHERNET_HEADER, sum};

/// Why a frame does not reach smoltcp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// A checksum does not hold.
    Checksum,
    /// Its headers contradict each other.
    Malformed,
    /// A legitimate frame that nothing here has a use for.
    NotForUs,
}

/// TCP or UDP inside a frame: where it lies and between whom.
struct Transport<'f> {
    protocol: IpProtocol,
    source: IpAddress,
    target: IpAddress,
    bytes: &'f [u8],
    offset: usize,
}

/// Finds TCP or UDP. `None` for everything else, which smoltcp checks itself.
fn transport(frame: &[u8]) -> Result<Option<Transport<'_>>, Refused> {
    let ethernet = EthernetFrame::new_checked(frame).map_err(|_| Refused::Malformed)?;
    let found = match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet =
                Ipv4Packet::new_checked(ethernet.payload()).map_err(|_| Refused::Malformed)?;
            // Nothing here puts fragments together, and none is a packet.
            if packet.more_frags() || packet.frag_offset() != 0 {
                return Err(Refused::NotForUs);
            }
            // No DHCP here: nobody without an address has business with us.
            if packet.src_addr().is_unspecified() {
                return Err(Refused::NotForUs);
            }
            Transport {
                protocol: packet.next_header(),
                source: packet.src_addr().into(),
                target: packet.dst_addr().into(),
                bytes: packet.payload(),
                offset: ETHERNET_HEADER + usize::from(packet.header_len()),
            }
        }
        EthernetProtocol::Ipv6 => {
            let packet =
                Ipv6Packet::new_checked(ethernet.payload()).map_err(|_| Refused::Malformed)?;
            // smoltcp walks past one hop-by-hop header, and what hides behind
            // it was not checked here. Nothing that we serve needs one.
            if packet.next_header() == IpProtocol::HopByHop {
                return Err(Refused::NotForUs);
            }
            Transport {
                protocol: packet.next_header(),
                source: packet.src_addr().into(),
                target: packet.dst_addr().into(),
                bytes: packet.payload(),
                offset: ETHERNET_HEADER + packet.header_len(),
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(found).filter(|t| matches!(t.protocol, IpProtocol::Tcp | IpProtocol::Udp)))
}

/// Checks a frame from the host before smoltcp, which was told not to look at
/// TCP and UDP checksums, gets it. `own`: the board's addresses.
pub(super) fn check(
    header: &NetHeader,
    frame: &[u8],
    own: &[Option<IpCidr>],
) -> Result<(), Refused> {
    let Some(transport) = transport(frame)? else {
        return Ok(());
    };
    // To everybody: smoltcp would answer from everybody's address (RFC 1122 §3.2.1.3).
    if !own.iter().flatten().any(|cidr| cidr.address() == transport.target) {
        return Err(Refused::NotForUs);
    }
    if header.flags & FLAG_NEEDS_CSUM != 0 {
        // Partial: it must be this packet's checksum that is left to us, or
        // the mark would let any other one through unchecked.
        let field = match transport.protocol {
            IpProtocol::Tcp => 16,
            _ => 6,
        };
        let here = usize::from(header.csum_start) == transport.offset
            && usize::from(header.csum_offset) == field;
        return if here { Ok(()) } else { Err(Refused::Malformed) };
    }
    let holds = match transport.protocol {
        IpProtocol::Tcp => {
            let packet = TcpPacket::new_checked(transport.bytes).map_err(|_| Refused::Malformed)?;
            packet.verify_checksum(&transport.source, &transport.target)
        }
        _ => {
            let packet = UdpPacket::new_checked(transport.bytes).map_err(|_| Refused::Malformed)?;
            // UDP over IPv6 has to have a checksum (RFC 8200 §8.1).
            let none = packet.checksum() == 0;
            let optional = matches!(transport.source, IpAddress::Ipv4(_));
            (!none || optional) && packet.verify_checksum(&transport.source, &transport.target)
        }
    };
    if holds { Ok(()) } else { Err(Refused::Checksum) }
}

/// The virtio-net header of a frame that smoltcp has built, and the partial
/// checksum that goes with it.
pub(super) fn offload(
    frame: &mut [u8],
    segment: Option<u16>,
    negotiated: &Negotiated,
) -> NetHeader {
    if !negotiated.has(feature::GUEST_CSUM) {
        return NetHeader::default();
    }
    let Ok(Some(found)) = transport(frame) else {
        // Neither TCP nor UDP: smoltcp has filled the checksum.
        return NetHeader::default();
    };
    let (offset, len) = (found.offset, found.bytes.len());
    let mut pseudo = sum(0, &[0, u8::from(found.protocol)]);
    let mut add = |bytes: &[u8]| pseudo = sum(pseudo, bytes);
    for address in [found.source, found.target] {
        match address {
            IpAddress::Ipv4(address) => add(&address.octets()),
            IpAddress::Ipv6(address) => add(&address.octets()),
        }
    }
    add(&u32::try_from(len).unwrap_or(0).to_be_bytes());
    let ipv4 = matches!(found.source, IpAddress::Ipv4(_));
    let tcp = found.protocol == IpProtocol::Tcp;
    let transport_header = match TcpPacket::new_checked(found.bytes) {
        Ok(packet) if tcp => usize::from(packet.header_len()),
        _ => 8,
    };
    let field: u16 = if tcp { 16 } else { 6 };
    let at = offset + usize::from(field);
    if let Some(checksum) = frame.get_mut(at..at + 2) {
        checksum.copy_from_slice(&pseudo.to_be_bytes());
    }
    let mut header = NetHeader {
        flags: FLAG_NEEDS_CSUM,
        csum_start: u16::try_from(offset).unwrap_or(0),
        csum_offset: field,
        ..NetHeader::default()
    };
    if let Some(size) = segment {
        header.gso_type = if ipv4 { GSO_TCPV4 } else { GSO_TCPV6 };
        header.gso_size = size;
        header.hdr_len = u16::try_from(offset + transport_header).unwrap_or(0);
    }
    header
}
