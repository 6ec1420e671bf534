//! Neighbour discovery (RFC 4861), the answering half.

use std::net::Ipv6Addr;

use super::ethernet::{IPV6, LinkAddresses, Mac, ethernet_header, multicast};
use super::reply::Reply;
use super::responder::Answer;

/// Bytes of an IPv6 header.
const IP_HEADER: usize = 40;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// Of every message: it has passed no router.
const HOP_LIMIT: u8 = 255;

/// Bytes of a solicitation or advertisement without options.
const LEN: usize = 24;

/// The option with the sender's, or the target's, MAC address.
const TARGET_MAC: [u8; 2] = [2, 1];

/// Flags of an advertisement: the sender is a router, was asked, and is to be
/// believed. For the board the host is the way to everybody else. One that it
/// has learnt from a router advertisement must not be told otherwise, or it drops its
/// default route (RFC 4861, section 7.2.5).
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// What to say to `packet`, the first bytes of a board's IPv6 packet.
/// `partial`: its checksum is left to the receiver.
pub(super) fn answer(packet: &[u8], partial: bool, link: &LinkAddresses) -> Answer {
    let Some((header, rest)) = packet.split_first_chunk::<IP_HEADER>() else {
        return Answer::Malformed;
    };
    let &[_, _, _, _, high, low, next, hops, ref addresses @ ..] = header;
    match (next, rest.first()) {
        (ICMPV6, Some(&SOLICITATION)) => {}
        (ICMPV6, Some(&ADVERTISEMENT)) => return Answer::Silence,
        // Whatever it is: it lies where it was not looked at.
        (ICMPV6, None) if [high, low] != [0, 0] => return Answer::Malformed,
        _ => return Answer::NotAsked,
    }
    // All of it is among the bytes that were handed in, or it is too long.
    let Some(message) = rest.get(..usize::from(u16::from_be_bytes([high, low]))) else {
        return Answer::Malformed;
    };
    let ([from, to], _) = addresses.as_chunks() else { return Answer::Malformed };
    let addresses = [*from, *to];
    let Some(question) = Question::read(addresses, message) else { return Answer::Malformed };
    let sum = checksum(&addresses, message);
    if hops != HOP_LIMIT || !(partial || sum == 0) || !question.is_valid() {
        return Answer::Malformed;
    }
    let Question { from, target, .. } = question;
    // Without a source the board asks whether the address is taken, which it
    // is not: that everybody else's packets come from here is no conflict.
    let nobody = target.is_unspecified() || target.is_loopback();
    if from.is_unspecified() || from == target || nobody {
        return Answer::Silence;
    }
    Answer::Reply(advertisement(link.board, link.host, from, target, ROUTER | SOLICITED | OVERRIDE))
}

/// "`address` is at `host`", to every node (RFC 4861, section 7.2.6).
pub(super) fn announcement(host: Mac, address: Ipv6Addr) -> Reply {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    advertisement(multicast(all_nodes), host, all_nodes, address, ROUTER | OVERRIDE)
}

/// A solicitation.
struct Question {
    from: Ipv6Addr,
    to: Ipv6Addr,
    target: Ipv6Addr,
    /// Whether code and options are as they must be.
    well_formed: bool,
    /// Whether it has the option with the sender's MAC address.
    has_mac: bool,
}

impl Question {
    fn read([from, to]: [[u8; 16]; 2], message: &[u8]) -> Option<Self> {
        let (fixed, mut options) = message.split_first_chunk::<LEN>()?;
        let &[_, code, _, _, _, _, _, _, ref target @ ..] = fixed;
        let (mut well_formed, mut has_mac) = (code == 0, false);
        // Each turn takes eight bytes at least.
        while let [kind, units, ..] = options {
            has_mac |= *kind == 1;
            match options.get(usize::from(*units) * 8..) {
                Some(rest) if *units > 0 => options = rest,
                _ => break,
            }
        }
        well_formed &= options.is_empty();
        let (from, to) = (Ipv6Addr::from(from), Ipv6Addr::from(to));
        Some(Self { from, to, target: Ipv6Addr::from(*target), well_formed, has_mac })
    }

    /// RFC 4861, section 7.1.1, but for what the packet's header says.
    fn is_valid(&self) -> bool {
        let group = solicited_node(self.target);
        let addressed = self.to == group || self.to == self.target;
        let from_nobody = self.from.is_unspecified();
        self.well_formed
            && addressed
            && !self.target.is_multicast()
            && !self.from.is_multicast()
            && !(from_nobody && (self.has_mac || self.to != group))
    }
}

/// The group of all nodes whose address ends as `target` does (RFC 4291,
/// section 2.7.1).
const fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., high, last] = target.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, last)
}

fn advertisement(to_mac: Mac, host: Mac, to: Ipv6Addr, target: Ipv6Addr, flags: u8) -> Reply {
    let (from, to) = (target.octets(), to.octets());
    let message = |[high, low]: [u8; 2]| {
        let fixed = [ADVERTISEMENT, 0, high, low, flags, 0, 0, 0];
        Reply::of(&[&fixed, &target.octets(), &TARGET_MAC, &host])
    };
    let open = message([0, 0]);
    let sum = checksum(&[from, to], open.as_bytes());
    let len = u8::try_from(open.as_bytes().len()).unwrap_or(u8::MAX);
    let ip = [0x60, 0, 0, 0, 0, len, ICMPV6, HOP_LIMIT];
    let whole = message(sum.to_be_bytes());
    Reply::of(&[&ethernet_header(to_mac, host, IPV6), &ip, &from, &to, whole.as_bytes()])
}

/// The checksum that belongs into `message`; 0 if the right one is there
/// (RFC 4443, section 2.3). `addresses` are source and destination.
fn checksum(addresses: &[[u8; 16]; 2], message: &[u8]) -> u16 {
    // Every part has an even number of bytes, but for the end of the last.
    let len = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let pseudo = [0, 0, len[0], len[1], 0, 0, 0, ICMPV6];
    let bytes = addresses.as_flattened().iter().chain(&pseudo).chain(message);
    // A message has less than 2^16 bytes: 32 bits do not overflow.
    let sum = bytes.enumerate().fold(0u32, |sum, (at, byte)| {
        sum + if at % 2 == 0 { u32::from(*byte) << 8 } else { u32::from(*byte) }
    });
    let [a, b, c, d] = sum.to_be_bytes();
    let folded = u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]));
    let [_, carry, c, d] = folded.to_be_bytes();
    !(u16::from_be_bytes([c, d]) + u16::from(carry))
}
