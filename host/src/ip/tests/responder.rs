//! The responder, fed frames.

use std::net::{IpAddr, Ipv6Addr};

use proptest::prelude::*;

use crate::ip::{IpCounters, LinkAddresses, QUEUE_LEN, Responder, Verdict, announcement};
use crate::net::tests::grammar::{BOARD_MAC, HOST_MAC, L4, Recipe, fold};

const LINK: LinkAddresses = LinkAddresses { host: HOST_MAC, board: BOARD_MAC };

/// Bytes of Ethernet and IPv6 header.
const MESSAGE: usize = 54;

fn responder() -> Responder {
    Responder::new(LINK)
}

/// A request of the board's.
fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(BOARD_MAC);
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(BOARD_MAC);
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

fn ip6(text: &str) -> [u8; 16] {
    text.parse::<Ipv6Addr>().unwrap().octets()
}

/// A solicitation of the board's, with its own MAC address as an option.
fn solicitation(from: &str, to: &str, target: &str) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(ip6(target));
    if from != "::" {
        message.extend([1, 1]);
        message.extend(BOARD_MAC);
    }
    with_message(from, to, 255, message)
}

/// An ICMPv6 message in its frame, with the right checksum.
fn with_message(from: &str, to: &str, hops: u8, message: Vec<u8>) -> Vec<u8> {
    let mut frame = HOST_MAC.to_vec();
    frame.extend(BOARD_MAC);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, message.len() as u8, 58, hops]);
    frame.extend(ip6(from));
    frame.extend(ip6(to));
    frame.extend(message);
    seal(&mut frame);
    frame
}

/// Puts the right checksum into an ICMPv6 message.
fn seal(frame: &mut [u8]) {
    frame[MESSAGE + 2..MESSAGE + 4].fill(0);
    let sum = !icmp_sum(frame);
    frame[MESSAGE + 2..MESSAGE + 4].copy_from_slice(&sum.to_be_bytes());
}

/// All ones where the checksum is right.
fn icmp_sum(frame: &[u8]) -> u16 {
    let mut bytes = frame[22..54].to_vec();
    bytes.extend([0, 0, 0, frame[19], 0, 0, 0, 58]);
    bytes.extend(&frame[MESSAGE..]);
    fold(&bytes)
}

/// What became of a frame, and the answer.
fn judge(frame: &[u8]) -> (Verdict, Option<Vec<u8>>) {
    let mut responder = responder();
    let verdict = responder.judge(frame, false);
    (verdict, responder.next_reply().map(|reply| reply.as_bytes().to_vec()))
}

#[test]
fn a_request_is_answered_with_the_hosts_address() {
    for target in [[10, 0, 0, 1], [10, 0, 0, 77], [192, 168, 9, 9], [1, 1, 1, 1]] {
        let (verdict, reply) = judge(&arp(1, [10, 0, 0, 2], target));
        let mut expected = BOARD_MAC.to_vec();
        expected.extend(HOST_MAC);
        expected.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
        expected.extend(HOST_MAC);
        expected.extend(target);
        expected.extend(BOARD_MAC);
        expected.extend([10, 0, 0, 2]);
        assert_eq!((verdict, reply), (Verdict::Taken, Some(expected)));
    }
    // Padded to Ethernet's least length.
    let mut padded = arp(1, [10, 0, 0, 2], [10, 0, 0, 1]);
    padded.resize(60, 0xAA);
    assert!(judge(&padded).1.is_some());
}

#[test]
fn what_asks_nothing_gets_no_answer() {
    let own = [10, 0, 0, 2];
    for (frame, why) in [
        (arp(1, [0; 4], own), "a probe"),
        (arp(1, [0; 4], [10, 0, 0, 1]), "a probe for the host's address"),
        (arp(1, own, own), "an announcement"),
        (arp(2, own, [10, 0, 0, 1]), "a reply"),
        (arp(8, own, [10, 0, 0, 1]), "inverse ARP"),
        (arp(1, own, [0, 0, 0, 0]), "no address"),
        (arp(1, own, [127, 0, 0, 1]), "loopback"),
        (arp(1, own, [224, 0, 0, 1]), "a group"),
        (arp(1, own, [255; 4]), "everybody"),
        (solicitation("::", "ff02::1:ff00:2", "fd00::2"), "duplicate address detection"),
        (solicitation("fd00::2", "ff02::1:ff00:2", "fd00::2"), "its own address"),
        (solicitation("fd00::2", "ff02::1:ff00:1", "::1"), "loopback"),
        (solicitation("fd00::2", "ff02::1:ff00:0", "::"), "no address"),
        (with_message("fd00::2", "ff02::1", 255, vec![136; 32]), "an advertisement"),
    ] {
        let mut responder = responder();
        assert_eq!(responder.judge(&frame, false), Verdict::Taken, "{why}");
        assert_eq!(responder.next_reply(), None, "{why}");
        let silent = IpCounters { unanswered: 1, ..IpCounters::default() };
        assert_eq!(responder.counters(), silent, "{why}");
    }
}

#[test]
fn a_solicitation_is_answered_with_the_hosts_address() {
    for (to, target) in [
        ("ff02::1:ff00:1", "fd00::1"),
        ("fd00::1", "fd00::1"),
        ("ff02::1:ff34:5678", "fe80::212:34:5678"),
    ] {
        let (verdict, reply) = judge(&solicitation("fd00::2", to, target));
        let reply = reply.unwrap();
        assert_eq!(verdict, Verdict::Taken);
        let mut expected = BOARD_MAC.to_vec();
        expected.extend(HOST_MAC);
        expected.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
        expected.extend(ip6(target));
        expected.extend(ip6("fd00::2"));
        // Router, solicited, override.
        expected.extend([136, 0, reply[56], reply[57], 0xe0, 0, 0, 0]);
        expected.extend(ip6(target));
        expected.extend([2, 1]);
        expected.extend(HOST_MAC);
        assert_eq!(reply, expected);
        assert_eq!(icmp_sum(&reply), 0xffff);
    }
}

#[test]
fn a_solicitation_that_breaks_a_rule_is_dropped() {
    let good = || solicitation("fd00::2", "ff02::1:ff00:1", "fd00::1");
    let with = |at: usize, byte: u8| {
        let mut frame = good();
        frame[at] = byte;
        seal(&mut frame);
        frame
    };
    assert!(judge(&good()).1.is_some());
    let mut cases = vec![
        (with(21, 254), "it passed a router"),
        (with(MESSAGE + 1, 1), "its code"),
        (with(MESSAGE + 25, 0), "an option without length"),
        (with(MESSAGE + 25, 2), "an option that is cut"),
        (with(MESSAGE + 8, 0xff), "its target is a group"),
        (with(22, 0xff), "its source is a group"),
        (with(53, 9), "another group"),
        (with(19, 23), "cut"),
        (with(19, 33), "longer than its frame"),
    ];
    let mut wrong = good();
    wrong[MESSAGE + 2] ^= 1;
    cases.push((wrong, "its checksum"));
    let mut hidden = good();
    hidden.truncate(MESSAGE);
    cases.push((hidden, "where it was not looked at"));
    let mut with_mac = vec![135, 0, 0, 0, 0, 0, 0, 0];
    with_mac.extend(ip6("fd00::1"));
    let without = with_message("::", "fd00::1", 255, with_mac.clone());
    cases.push((without, "from nobody, to one"));
    with_mac.extend([1, 1, 2, 0, 0, 0, 0, 2]);
    let with_mac = with_message("::", "ff02::1:ff00:1", 255, with_mac);
    cases.push((with_mac, "from nobody, with a MAC address"));
    for (frame, why) in cases {
        let mut responder = responder();
        assert_eq!(responder.judge(&frame, false), Verdict::Dropped, "{why}");
        assert_eq!(responder.next_reply(), None, "{why}");
        assert_eq!(responder.counters().malformed, 1, "{why}");
    }
    // A checksum that is left to the receiver is not there yet.
    let mut open = good();
    open[MESSAGE + 2] ^= 1;
    let mut responder = responder();
    assert_eq!(responder.judge(&open, true), Verdict::Taken);
    assert!(responder.next_reply().is_some());
}

#[test]
fn packets_are_the_kernels() {
    for v6 in [false, true] {
        for l4 in [L4::Tcp, L4::Udp, L4::Raw(58), L4::Raw(1)] {
            let frame = Recipe::new(v6, l4, 0).build();
            assert_eq!(judge(&frame), (Verdict::Packet, None));
        }
    }
    // A router advertisement is for whoever wants one.
    let advertisement = with_message("fe80::2", "ff02::1", 255, vec![134; 16]);
    assert_eq!(judge(&advertisement), (Verdict::Packet, None));
}

#[test]
fn frames_for_nobody_here_are_dropped() {
    let counts = |frame: &[u8]| {
        let mut responder = responder();
        assert_eq!(responder.judge(frame, false), Verdict::Dropped);
        let IpCounters { not_ip, other_station, malformed, .. } = responder.counters();
        (not_ip, other_station, malformed)
    };
    let packet = Recipe::new(false, L4::Udp, 10).build();
    let with = |at: usize, bytes: [u8; 2]| {
        let mut frame = packet.clone();
        frame[at..at + 2].copy_from_slice(&bytes);
        frame
    };
    // IPX, LLDP, a length, and one VLAN tag or two.
    for kind in [[0x81, 0x37], [0x88, 0xcc], [0, 46], [0x81, 0], [0x88, 0xa8]] {
        assert_eq!(counts(&with(12, kind)), (1, 0, 0), "{kind:x?}");
    }
    assert_eq!(counts(&with(12, [0x86, 0xdd])), (0, 0, 1), "not version 6");
    assert_eq!(counts(&with(14, [0x65, 0])), (0, 0, 1), "not version 4");
    assert_eq!(counts(&with(0, [0x02, 0x99])), (0, 1, 0), "for another station");
    for len in 0..=14 {
        assert_eq!(counts(&packet[..len]), (0, 0, 1), "{len} bytes");
    }
    let request = arp(1, [10, 0, 0, 2], [10, 0, 0, 1]);
    for len in 14..request.len() {
        assert_eq!(counts(&request[..len]), (0, 0, 1), "{len} bytes of a request");
    }
    for at in [15, 16, 18, 19, 22, 27] {
        let mut other = request.clone();
        other[at] ^= 1;
        assert_eq!(counts(&other), (0, 0, 1), "byte {at}");
    }
}

#[test]
fn the_queue_is_bounded_and_keeps_its_order() {
    let mut responder = responder();
    for last in 1..=QUEUE_LEN as u8 + 5 {
        responder.judge(&arp(1, [10, 0, 1, 2], [10, 0, 0, last]), false);
    }
    let counters = responder.counters();
    assert_eq!((counters.answered, counters.answers_lost), (QUEUE_LEN as u64, 5));
    for last in 1..=QUEUE_LEN as u8 {
        assert_eq!(responder.next_reply().unwrap().as_bytes()[31], last);
    }
    assert_eq!(responder.next_reply(), None);
}

#[test]
fn announcements_are_asked_by_nobody() {
    let v4 = announcement(HOST_MAC, IpAddr::from([10, 0, 0, 1]));
    let mut expected = vec![0xff; 6];
    expected.extend(HOST_MAC);
    expected.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    expected.extend(HOST_MAC);
    expected.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
    assert_eq!(v4.as_bytes(), expected);

    let v6 = announcement(HOST_MAC, "fd00::1".parse().unwrap());
    let mut expected = vec![0x33, 0x33, 0, 0, 0, 1];
    expected.extend(HOST_MAC);
    expected.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
    expected.extend(ip6("fd00::1"));
    expected.extend(ip6("ff02::1"));
    expected.extend([136, 0, v6.as_bytes()[56], v6.as_bytes()[57], 0xa0, 0, 0, 0]);
    expected.extend(ip6("fd00::1"));
    expected.extend([2, 1]);
    expected.extend(HOST_MAC);
    assert_eq!(v6.as_bytes(), expected);
    assert_eq!(icmp_sum(v6.as_bytes()), 0xffff);
}

/// A good question, with a few bytes changed and a cut.
fn nearly_a_question() -> impl Strategy<Value = Vec<u8>> {
    let good = prop_oneof![
        Just(arp(1, [10, 0, 0, 2], [10, 0, 0, 1])),
        Just(solicitation("fd00::2", "ff02::1:ff00:1", "fd00::1")),
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (good, changes, any::<bool>(), 0..100usize).prop_map(|(mut frame, changes, sealed, cut)| {
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if sealed && frame.len() > MESSAGE {
            seal(&mut frame);
        }
        frame.truncate(frame.len().saturating_sub(cut.saturating_sub(50)));
        frame
    })
}

fn holds(responder: &mut Responder, frame: &[u8], partial: bool) -> Result<(), TestCaseError> {
    let before = responder.counters();
    let verdict = responder.judge(frame, partial);
    let after = responder.counters();
    let counted = [
        after.answered - before.answered,
        after.answers_lost - before.answers_lost,
        after.unanswered - before.unanswered,
        after.not_ip - before.not_ip,
        after.other_station - before.other_station,
        after.malformed - before.malformed,
    ];
    prop_assert_eq!(counted.iter().sum::<u64>(), u64::from(verdict != Verdict::Packet));
    if let Some(reply) = responder.next_reply() {
        let reply = reply.as_bytes();
        prop_assert_eq!(verdict, Verdict::Taken);
        prop_assert_eq!(&reply[..6], &BOARD_MAC);
        prop_assert_eq!(&reply[6..12], &HOST_MAC);
        prop_assert!(reply.len() == 42 || reply.len() == 86 && icmp_sum(reply) == 0xffff);
        prop_assert!(responder.next_reply().is_none());
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes(frames in prop::collection::vec(
        (prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..40,
    )) {
        let mut responder = responder();
        for (frame, partial) in frames {
            holds(&mut responder, &frame, partial)?;
        }
    }

    #[test]
    fn nearly_questions(frame in nearly_a_question(), partial: bool) {
        holds(&mut responder(), &frame, partial)?;
    }

    /// Options of every shape behind a solicitation.
    #[test]
    fn any_options(options in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
        message.extend(ip6("fd00::1"));
        message.extend(&options);
        let frame = with_message("fd00::2", "ff02::1:ff00:1", 255, message);
        let mut responder = responder();
        holds(&mut responder, &frame, false)?;
        // By another reading of the same bytes.
        let (mut at, mut good) = (0, true);
        while good && at < options.len() {
            let units = options.get(at + 1).copied().unwrap_or(0);
            good = units > 0;
            at += usize::from(units) * 8;
        }
        let good = good && at == options.len();
        prop_assert_eq!(responder.counters().malformed, u64::from(!good));
    }
}
