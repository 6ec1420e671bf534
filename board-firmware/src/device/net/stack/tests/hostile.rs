//! What a hostile host puts into frames.

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use shared::wire::net::{FLAG_NEEDS_CSUM, GSO_TCPV4, GSO_TCPV6, NetHeader};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetProtocol, IpAddress, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, Ipv6Address,
    Ipv6Packet, Ipv6Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::peer::{HOST_IPV4, HOST_IPV6, Peer};
use super::pings::{arp_request, ethernet, ping4, ping6, solicitation};
use super::{ALL, BOARD_IPV4, BOARD_IPV6, BOARD_MAC, FEATURES};

fn ipv4(protocol: IpProtocol, payload: usize) -> (Vec<u8>, IpAddress, IpAddress) {
    let (src_addr, dst_addr) = (Ipv4Address::from(HOST_IPV4), Ipv4Address::from(BOARD_IPV4));
    let ip =
        Ipv4Repr { src_addr, dst_addr, next_header: protocol, payload_len: payload, hop_limit: 64 };
    let mut frame = ethernet(BOARD_MAC, EthernetProtocol::Ipv4, 20 + payload);
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &ChecksumCapabilities::default());
    (frame, src_addr.into(), dst_addr.into())
}

fn ipv6(protocol: IpProtocol, payload: usize) -> (Vec<u8>, IpAddress, IpAddress) {
    let (src_addr, dst_addr) = (Ipv6Address::from(HOST_IPV6), Ipv6Address::from(BOARD_IPV6));
    let ip =
        Ipv6Repr { src_addr, dst_addr, next_header: protocol, payload_len: payload, hop_limit: 64 };
    let mut frame = ethernet(BOARD_MAC, EthernetProtocol::Ipv6, 40 + payload);
    ip.emit(&mut Ipv6Packet::new_unchecked(&mut frame[14..]));
    (frame, src_addr.into(), dst_addr.into())
}

fn udp(v6: bool, payload: &[u8]) -> Vec<u8> {
    let len = 8 + payload.len();
    let (mut frame, from, to) =
        if v6 { ipv6(IpProtocol::Udp, len) } else { ipv4(IpProtocol::Udp, len) };
    let at = frame.len() - len;
    UdpRepr { src_port: 1000, dst_port: 7 }.emit(
        &mut UdpPacket::new_unchecked(&mut frame[at..]),
        &from,
        &to,
        payload.len(),
        |place| place.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    frame
}

fn segment(v6: bool, repr: &TcpRepr<'_>) -> Vec<u8> {
    let len = repr.buffer_len();
    let (mut frame, from, to) =
        if v6 { ipv6(IpProtocol::Tcp, len) } else { ipv4(IpProtocol::Tcp, len) };
    let at = frame.len() - len;
    let mut packet = TcpPacket::new_unchecked(&mut frame[at..]);
    repr.emit(&mut packet, &from, &to, &ChecksumCapabilities::default());
    frame
}

fn syn(mss: Option<u16>) -> TcpRepr<'static> {
    TcpRepr {
        src_port: 2000,
        dst_port: 19,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(100),
        ack_number: None,
        window_len: 60_000,
        window_scale: None,
        max_seg_size: mss,
        sack_permitted: true,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

/// A peer that the board knows, so that it answers.
fn known(features: u64) -> Peer {
    let mut peer = Peer::new(features, 1500);
    peer.exchange(&NetHeader::default(), &arp_request());
    peer.exchange(&NetHeader::default(), &solicitation(HOST_IPV6, BOARD_IPV6));
    peer
}

#[test]
fn a_wrong_checksum_does_not_reach_a_socket() {
    for features in FEATURES {
        for v6 in [false, true] {
            let mut peer = known(features);
            let frame = udp(v6, b"0123456789");
            assert_eq!(peer.exchange(&NetHeader::default(), &frame).len(), 1);
            for at in frame.len() - 18..frame.len() {
                // The first half of the UDP length must agree or it is malformed.
                let mut bad = frame.clone();
                bad[at] ^= 0x40;
                assert!(peer.exchange(&NetHeader::default(), &bad).is_empty(), "byte {at}");
            }
            let counters = peer.rig.device.counters();
            assert_eq!(counters.dropped_checksum + counters.dropped_header, 18);
            assert!(counters.dropped_checksum >= 16);

            let frame = segment(v6, &syn(None));
            let mut bad = frame.clone();
            *bad.last_mut().unwrap() ^= 1;
            assert!(peer.exchange(&NetHeader::default(), &bad).is_empty());
            assert_eq!(peer.exchange(&NetHeader::default(), &frame).len(), 1);
        }
    }
}

#[test]
fn udp_without_a_checksum_is_for_ipv4_only() {
    for (v6, answers) in [(false, 1), (true, 0)] {
        let mut peer = known(ALL);
        let mut frame = udp(v6, b"0123456789");
        let at = frame.len() - 12;
        frame[at..at + 2].fill(0);
        assert_eq!(peer.exchange(&NetHeader::default(), &frame).len(), answers);
    }
}

/// "Partial" speaks for one checksum only: it must be this packet's own.
#[test]
fn a_mark_elsewhere_does_not_let_a_wrong_checksum_through() {
    let mut peer = known(ALL);
    let mut frame = udp(false, b"0123456789");
    let last = frame.len() - 1;
    frame[last] ^= 1;
    let header = NetHeader {
        flags: FLAG_NEEDS_CSUM,
        csum_start: 34,
        csum_offset: 6,
        ..NetHeader::default()
    };
    assert_eq!(peer.exchange(&header, &frame).len(), 1, "partial is trusted");
    for (start, offset) in [(34, 16), (34, 4), (14, 10), (38, 6)] {
        let header = NetHeader { csum_start: start, csum_offset: offset, ..header };
        assert!(peer.exchange(&header, &frame).is_empty(), "{start} {offset}");
    }
}

/// What hides behind an extension header was not checked, so it goes nowhere.
#[test]
fn a_wrong_checksum_behind_a_hop_by_hop_header() {
    let mut peer = known(ALL);
    let plain = udp(true, b"0123456789");
    let len = plain.len() - 54 + 8;
    let (mut frame, _, _) = ipv6(IpProtocol::HopByHop, len);
    // Next header UDP, one unit, six bytes of padding.
    frame[54..62].copy_from_slice(&[17, 0, 1, 4, 0, 0, 0, 0]);
    frame[62..].copy_from_slice(&plain[54..]);
    *frame.last_mut().unwrap() ^= 1;
    assert!(peer.exchange(&NetHeader::default(), &frame).is_empty());
    assert_eq!(peer.rig.device.counters().ignored, 1);
}

#[test]
fn a_tiny_segment_size_with_segmentation_offload() {
    for mss in [None, Some(0), Some(1), Some(12), Some(48), Some(65_535)] {
        for v6 in [false, true] {
            let mut peer = known(ALL);
            let answer = peer.exchange(&NetHeader::default(), &segment(v6, &syn(mss)));
            let at = if v6 { 54 } else { 34 };
            let frame = &answer[0].frame[at..];
            let theirs = TcpPacket::new_checked(frame).unwrap().seq_number();
            let ack = TcpRepr {
                control: TcpControl::None,
                seq_number: TcpSeqNumber(101),
                ack_number: Some(theirs + 1),
                max_seg_size: None,
                sack_permitted: false,
                ..syn(None)
            };
            let got = peer.exchange(&NetHeader::default(), &segment(v6, &ack));
            assert!(!got.is_empty());
            // Out of order, so that the next one carries SACK options.
            let late = TcpRepr { seq_number: TcpSeqNumber(150), payload: b"late", ..ack };
            peer.exchange(&NetHeader::default(), &segment(v6, &late));
            for _ in 0..40 {
                peer.round();
            }
        }
    }
}

#[test]
fn senders_without_an_address_are_ignored() {
    let mut peer = known(ALL);
    let mut frame = udp(false, b"0123456789");
    frame[26..30].fill(0);
    frame[24..26].fill(0);
    let sum = crate::device::net::checksum::sum(0, &frame[14..34]);
    frame[24..26].copy_from_slice(&(!sum).to_be_bytes());
    frame[40..42].fill(0);
    assert!(peer.exchange(&NetHeader::default(), &frame).is_empty());
    assert_eq!(peer.rig.device.counters().ignored, 1);
    // Duplicate address detection against the board's own address.
    let probe = solicitation([0; 16], BOARD_IPV6);
    peer.exchange(&NetHeader::default(), &probe);
    let mut frame = udp(true, b"0123456789");
    frame[22..38].fill(0);
    peer.exchange(&NetHeader::default(), &frame);
}

/// smoltcp without reassembly takes a fragment for a packet, and its first
/// bytes for ports.
#[test]
fn fragments_are_no_packets() {
    // More fragments; the last of 1488 bytes; both; the longest offset.
    for (number, fragment) in (1..).zip([0x2000_u16, 186, 0x20BA, 0x1FFF]) {
        for mut frame in [udp(false, b"0123456789"), ping4(&[7; 40])] {
            let mut peer = known(ALL);
            assert_eq!(peer.exchange(&NetHeader::default(), &frame).len(), 1, "whole");
            frame[20..22].copy_from_slice(&fragment.to_be_bytes());
            frame[24..26].fill(0);
            let sum = crate::device::net::checksum::sum(0, &frame[14..34]);
            frame[24..26].copy_from_slice(&(!sum).to_be_bytes());
            assert!(peer.exchange(&NetHeader::default(), &frame).is_empty(), "fragment {number}");
            assert_eq!(peer.rig.device.counters().ignored, 1);
        }
    }
}

/// A datagram for everybody would be answered from everybody's address, one
/// from a service of its kind for ever.
#[test]
fn echo_answers_one_asker_for_itself() {
    let answers = |frame: &[u8]| known(ALL).exchange(&NetHeader::default(), frame).len();
    let set_sum = |frame: &mut [u8]| {
        frame[24..26].fill(0);
        let sum = crate::device::net::checksum::sum(0, &frame[14..34]);
        frame[24..26].copy_from_slice(&(!sum).to_be_bytes());
        // No checksum of UDP.
        frame[40..42].fill(0);
    };
    let plain = udp(false, b"0123456789");
    for (to, expected) in [
        (BOARD_IPV4, 1),
        ([10, 0, 0, 255], 0),
        ([255; 4], 0),
        ([224, 0, 0, 1], 0),
        ([10, 0, 0, 3], 0),
    ] {
        let mut frame = plain.clone();
        frame[30..34].copy_from_slice(&to);
        set_sum(&mut frame);
        assert_eq!(answers(&frame), expected, "to {to:?}");
    }
    for (port, expected) in [(1000_u16, 1), (7, 0), (13, 0), (17, 0), (19, 0), (37, 0), (38, 1)] {
        let mut frame = plain.clone();
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        set_sum(&mut frame);
        assert_eq!(answers(&frame), expected, "from port {port}");
    }
    // All nodes of the link.
    let (mut frame, from, _) = ipv6(IpProtocol::Udp, 18);
    let all = Ipv6Address::new(0xFF02, 0, 0, 0, 0, 0, 0, 1);
    frame[38..54].copy_from_slice(&all.octets());
    UdpRepr { src_port: 1000, dst_port: 7 }.emit(
        &mut UdpPacket::new_unchecked(&mut frame[54..]),
        &from,
        &all.into(),
        10,
        |place| place.fill(1),
        &ChecksumCapabilities::default(),
    );
    assert_eq!(answers(&frame), 0);
}

#[test]
fn large_frames_of_every_kind_are_survived() {
    let mut peer = known(ALL);
    for gso_type in [GSO_TCPV4, GSO_TCPV6] {
        for frame in [
            ping4(&[1; 60_000]),
            ping6(BOARD_IPV6, &[1; 60_000]),
            udp(false, &[1; 60_000]),
            udp(true, &[1; 60_000]),
            segment(false, &TcpRepr { payload: &[1; 60_000], ..syn(None) }),
            segment(true, &TcpRepr { payload: &[1; 60_000], ..syn(None) }),
        ] {
            let at = if frame[12] == 0x08 { 34 } else { 54 };
            for (csum_start, csum_offset) in [(at, 16), (at, 6), (at, 2)] {
                let header = NetHeader {
                    flags: FLAG_NEEDS_CSUM,
                    gso_type,
                    gso_size: 1000,
                    csum_start,
                    csum_offset,
                    ..NetHeader::default()
                };
                for answer in peer.exchange(&header, &frame) {
                    assert!(answer.frame.len() <= 1514);
                }
            }
        }
    }
    assert_eq!(peer.exchange(&NetHeader::default(), &ping4(b"still there")).len(), 1);
}

/// Bytes changed at random in frames of every kind, with headers at random.
#[test]
fn mutated_frames_are_survived() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for features in FEATURES {
        let mut peer = known(features);
        let seeds = [
            arp_request(),
            solicitation(HOST_IPV6, BOARD_IPV6),
            ping4(b"0123456789"),
            ping6(BOARD_IPV6, b"0123456789"),
            udp(false, b"0123456789"),
            udp(true, b"0123456789"),
            segment(false, &syn(Some(1460))),
            segment(true, &TcpRepr { dst_port: 7, payload: b"hello", ..syn(Some(10)) }),
        ];
        for round in 0..20_000_usize {
            let mut frame = seeds[round % seeds.len()].clone();
            for _ in 0..rng.next_u32() % 4 {
                let at = rng.next_u32() as usize % frame.len();
                frame[at] = rng.next_u32().to_le_bytes()[0];
            }
            if rng.next_u32().is_multiple_of(8) {
                let len = 14 + rng.next_u32() as usize % (frame.len() - 13);
                frame.truncate(len);
            }
            // Mostly partial, so that changed bytes get past the checksum.
            let tcp = frame.get(23) == Some(&6) || frame.get(20) == Some(&6);
            let at = if frame[12] == 0x08 { 34 } else { 54 };
            let partial = NetHeader {
                flags: FLAG_NEEDS_CSUM,
                csum_start: at,
                csum_offset: if tcp { 16 } else { 6 },
                ..NetHeader::default()
            };
            let header =
                if rng.next_u32().is_multiple_of(4) { NetHeader::default() } else { partial };
            peer.exchange(&header, &frame);
            if round.is_multiple_of(500) {
                peer.now += 5000;
            }
        }
        peer.now += 200_000;
        for _ in 0..50 {
            peer.rig.offer(usize::MAX);
            peer.rig.run_at(peer.now);
            peer.rig.frames();
        }
        peer.exchange(&NetHeader::default(), &arp_request());
        assert_eq!(peer.exchange(&NetHeader::default(), &ping4(b"still there")).len(), 1);
    }
}
