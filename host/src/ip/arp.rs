//! ARP for Ethernet and IPv4 (RFC 826), the answering half.

use std::net::Ipv4Addr;

use super::ethernet::{ARP, BROADCAST, LinkAddresses, Mac, ethernet_header};
use super::reply::Reply;
use super::responder::Answer;

/// Ethernet, IPv4, addresses of 6 and 4 bytes.
const KINDS: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// Bytes of a message.
const LEN: usize = 28;

/// What to say to `message`, the part of a board's frame behind its Ethernet
/// header.
pub(super) fn answer(message: &[u8], link: &LinkAddresses) -> Answer {
    let Some(&[a, b, c, d, e, f, g, h, ref addresses @ ..]) = message.first_chunk::<LEN>() else {
        return Answer::Malformed;
    };
    let [s0, s1, s2, s3, s4, s5, i, j, k, l, _, _, _, _, _, _, m, n, o, p] = *addresses;
    let (from, sender) = ([s0, s1, s2, s3, s4, s5], Ipv4Addr::new(i, j, k, l));
    let target = Ipv4Addr::new(m, n, o, p);
    if [a, b, c, d, e, f] != KINDS || from != link.board {
        return Answer::Malformed;
    }
    // A probe, sent from no address, asks whether the target is taken; an
    // announcement asks for the sender's own (RFC 5227, sections 2.1, 2.3).
    let asks = sender != Ipv4Addr::UNSPECIFIED && sender != target;
    if [g, h] != REQUEST || !asks || !may_be_a_station(target) {
        return Answer::Silence;
    }
    Answer::Reply(message_of(link.board, REPLY, (link.host, target), (link.board, sender)))
}

/// "`address` is at `host`", to everybody, as a request (RFC 5227, section 2.3).
pub(super) fn announcement(host: Mac, address: Ipv4Addr) -> Reply {
    message_of(BROADCAST, REQUEST, (host, address), ([0; 6], address))
}

fn message_of(
    to: Mac,
    operation: [u8; 2],
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
) -> Reply {
    Reply::of(&[
        &ethernet_header(to, sender.0, ARP),
        &KINDS,
        &operation,
        &sender.0,
        &sender.1.octets(),
        &target.0,
        &target.1.octets(),
    ])
}

/// Not "this network", loopback, groups, or the range above them.
const fn may_be_a_station(address: Ipv4Addr) -> bool {
    !matches!(address.octets(), [0 | 127 | 224.., ..])
}
