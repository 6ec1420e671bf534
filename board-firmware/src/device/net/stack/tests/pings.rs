//! ARP, neighbour discovery, and both pings, frame by frame.

use shared::wire::net::NetHeader;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv4Repr, Ipv6Address, Ipv6Packet, Ipv6Repr, NdiscRepr,
};

use super::peer::{HOST_IPV4, HOST_IPV6, HOST_MAC, Peer};
use super::{ALL, BOARD_IPV4, BOARD_IPV6, BOARD_MAC, FEATURES};
use crate::device::net::stack::link_local;

pub(super) fn ethernet(to: [u8; 6], ethertype: EthernetProtocol, payload: usize) -> Vec<u8> {
    let mut bytes = vec![0; 14 + payload];
    EthernetRepr { src_addr: EthernetAddress(HOST_MAC), dst_addr: EthernetAddress(to), ethertype }
        .emit(&mut EthernetFrame::new_unchecked(&mut bytes));
    bytes
}

pub(super) fn arp_request() -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(HOST_MAC),
        source_protocol_addr: Ipv4Address::from(HOST_IPV4),
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: Ipv4Address::from(BOARD_IPV4),
    };
    let mut frame = ethernet([0xFF; 6], EthernetProtocol::Arp, repr.buffer_len());
    repr.emit(&mut ArpPacket::new_unchecked(&mut frame[14..]));
    frame
}

pub(super) fn icmpv6(from: [u8; 16], to: [u8; 16], mac: [u8; 6], repr: &Icmpv6Repr<'_>) -> Vec<u8> {
    let (src_addr, dst_addr) = (Ipv6Address::from(from), Ipv6Address::from(to));
    let payload_len = repr.buffer_len();
    let ip = Ipv6Repr {
        src_addr,
        dst_addr,
        next_header: IpProtocol::Icmpv6,
        payload_len,
        hop_limit: 255,
    };
    let mut frame = ethernet(mac, EthernetProtocol::Ipv6, 40 + payload_len);
    ip.emit(&mut Ipv6Packet::new_unchecked(&mut frame[14..]));
    repr.emit(
        &src_addr,
        &dst_addr,
        &mut Icmpv6Packet::new_unchecked(&mut frame[54..]),
        &ChecksumCapabilities::default(),
    );
    frame
}

pub(super) fn solicitation(from: [u8; 16], target: [u8; 16]) -> Vec<u8> {
    let [.., a, b, c] = target;
    let group = [0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF, a, b, c];
    let repr = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
        target_addr: Ipv6Address::from(target),
        lladdr: Some(EthernetAddress(HOST_MAC).into()),
    });
    icmpv6(from, group, [0x33, 0x33, 0xFF, a, b, c], &repr)
}

pub(super) fn ping4(data: &[u8]) -> Vec<u8> {
    let icmp = Icmpv4Repr::EchoRequest { ident: 3, seq_no: 4, data };
    let ip = Ipv4Repr {
        src_addr: Ipv4Address::from(HOST_IPV4),
        dst_addr: Ipv4Address::from(BOARD_IPV4),
        next_header: IpProtocol::Icmp,
        payload_len: icmp.buffer_len(),
        hop_limit: 64,
    };
    let mut frame = ethernet(BOARD_MAC, EthernetProtocol::Ipv4, 20 + icmp.buffer_len());
    let checksums = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &checksums);
    icmp.emit(&mut Icmpv4Packet::new_unchecked(&mut frame[34..]), &checksums);
    frame
}

pub(super) fn ping6(to: [u8; 16], data: &[u8]) -> Vec<u8> {
    icmpv6(HOST_IPV6, to, BOARD_MAC, &Icmpv6Repr::EchoRequest { ident: 3, seq_no: 4, data })
}

#[test]
fn arp_and_ipv4_ping() {
    for features in FEATURES {
        let mut peer = Peer::new(features, 1500);
        let got = peer.exchange(&NetHeader::default(), &arp_request());
        let arp = ArpPacket::new_checked(&got[0].frame[14..]).unwrap();
        let ArpRepr::EthernetIpv4 { operation, source_hardware_addr, source_protocol_addr, .. } =
            ArpRepr::parse(&arp).unwrap()
        else {
            panic!()
        };
        assert_eq!(operation, ArpOperation::Reply);
        assert_eq!(source_hardware_addr, EthernetAddress(BOARD_MAC));
        assert_eq!(source_protocol_addr, Ipv4Address::from(BOARD_IPV4));
        for len in [0, 1, 56, 1471, 1472] {
            let data = vec![0x5A; len];
            let got = peer.exchange(&NetHeader::default(), &ping4(&data));
            assert_eq!(got.len(), 1, "{len}");
            let ip = Ipv4Packet::new_checked(&got[0].frame[14..]).unwrap();
            assert!(ip.verify_checksum());
            let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
            let answer = Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()).unwrap();
            assert_eq!(answer, Icmpv4Repr::EchoReply { ident: 3, seq_no: 4, data: &data });
        }
    }
}

#[test]
fn neighbour_discovery_and_ipv6_ping_at_both_addresses() {
    for features in FEATURES {
        let mut peer = Peer::new(features, 1500);
        for board in [BOARD_IPV6, link_local(BOARD_MAC)] {
            let got = peer.exchange(&NetHeader::default(), &solicitation(HOST_IPV6, board));
            let ip = Ipv6Packet::new_checked(&got[0].frame[14..]).unwrap();
            let (from, to) = (ip.src_addr(), ip.dst_addr());
            let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
            let advert = Icmpv6Repr::parse(&from, &to, &icmp, &ChecksumCapabilities::default());
            let Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, lladdr, .. }) =
                advert.unwrap()
            else {
                panic!()
            };
            assert_eq!(target_addr, Ipv6Address::from(board));
            assert_eq!(lladdr, Some(EthernetAddress(BOARD_MAC).into()));
            for len in [0, 1, 56, 1452] {
                let data = vec![0x5A; len];
                let got = peer.exchange(&NetHeader::default(), &ping6(board, &data));
                assert_eq!(got.len(), 1, "{len}");
                let ip = Ipv6Packet::new_checked(&got[0].frame[14..]).unwrap();
                let (from, to) = (ip.src_addr(), ip.dst_addr());
                let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
                let answer = Icmpv6Repr::parse(&from, &to, &icmp, &ChecksumCapabilities::default());
                let want = Icmpv6Repr::EchoReply { ident: 3, seq_no: 4, data: &data };
                assert_eq!(answer, Ok(want));
            }
        }
    }
}

#[test]
fn a_ping_too_long_to_answer_is_not_answered() {
    let mut peer = Peer::new(ALL, 1500);
    peer.exchange(&NetHeader::default(), &arp_request());
    // Frames beyond the MTU pass the device only with segmentation.
    let frame = ping4(&[1; 1473]);
    assert!(peer.exchange(&NetHeader::default(), &frame).is_empty());
}
