//! Frames that the kit sends, and those that it knows again.

use std::net::Ipv4Addr;

use super::Answers;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Ethertypes: the first for experiments, IPv4, ARP.
const EXPERIMENT: u16 = 0x88B5;
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;

/// The shortest frame that is asked for.
pub(super) const SHORTEST: usize = 60;

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

/// Who talks to whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stations {
    pub(super) host: [u8; 6],
    pub(super) board: [u8; 6],
}

impl Stations {
    fn ethernet(&self, to: [u8; 6], kind: u16) -> Vec<u8> {
        [&to[..], &self.host, &kind.to_be_bytes()].concat()
    }

    /// A frame of `len` bytes that is answered by a frame of as many, with
    /// `number` in it; `len` is at least [`SHORTEST`].
    pub(super) fn question(&self, answers: Answers, number: u16, len: usize) -> Vec<u8> {
        let payload = |bytes: usize| (0..).map(pattern).take(bytes);
        match answers {
            Answers::Address(to) => {
                let mut icmp = vec![8, 0, 0, 0, 0x76, 0x70];
                icmp.extend(number.to_be_bytes());
                icmp.extend(payload(len - ETHERNET - 28));
                let sum = checksum(&icmp);
                icmp[2..4].copy_from_slice(&sum);
                let total = u16::try_from(20 + icmp.len()).unwrap_or(u16::MAX);
                let mut ip = vec![0x45, 0];
                ip.extend(total.to_be_bytes());
                ip.extend([0, 0, 0, 0, 64, 1, 0, 0]);
                ip.extend(neighbour(to).octets());
                ip.extend(to.octets());
                let sum = checksum(&ip);
                ip[10..12].copy_from_slice(&sum);
                [self.ethernet(self.board, IPV4), ip, icmp].concat()
            }
            Answers::Echo | Answers::FindOut => {
                let mut frame = self.ethernet(self.board, EXPERIMENT);
                frame.extend(number.to_be_bytes());
                frame.extend(payload(len - frame.len()));
                frame
            }
        }
    }

    /// Whether `frame` answers question `number` of `len` bytes.
    pub(super) fn is_answer(
        &self,
        answers: Answers,
        number: u16,
        len: usize,
        frame: &[u8],
    ) -> bool {
        let asked = self.question(answers, number, len);
        if frame.len() != asked.len() {
            return false;
        }
        match answers {
            // Type, identifier, number and payload; what the stack chooses is its own.
            Answers::Address(_) => {
                frame[12..14] == IPV4.to_be_bytes()
                    && frame[23] == 1
                    && frame[34] == 0
                    && frame[38..] == asked[38..]
            }
            Answers::Echo | Answers::FindOut => frame[12..] == asked[12..],
        }
    }

    /// An ARP request for `wanted`, which also says who asks.
    pub(super) fn arp(&self, wanted: Ipv4Addr) -> Vec<u8> {
        let mut frame = self.ethernet([0xFF; 6], ARP);
        frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(self.host);
        frame.extend(neighbour(wanted).octets());
        frame.extend([0; 6]);
        frame.extend(wanted.octets());
        frame.resize(SHORTEST, 0);
        frame
    }

    /// Whether `frame` is the answer to that: the MAC address of `wanted`.
    pub(super) fn arp_answer(wanted: Ipv4Addr, frame: &[u8]) -> Option<[u8; 6]> {
        let reply = frame.get(12..14)? == ARP.to_be_bytes()
            && frame.get(20..22)? == [0, 2]
            && frame.get(28..32)? == wanted.octets();
        reply.then(|| frame.get(22..28)?.try_into().ok()).flatten()
    }
}

/// An address on the same link.
const fn neighbour(address: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d ^ 1)
}

fn pattern(at: u32) -> u8 {
    let [low, high, ..] = at.wrapping_mul(167).to_le_bytes();
    low ^ high
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATIONS: Stations = Stations { host: [2, 0, 0, 0, 0, 1], board: [2, 0, 0, 0, 0, 2] };

    #[test]
    fn questions_have_their_length_and_their_number() {
        for answers in [Answers::Echo, Answers::Address(Ipv4Addr::new(10, 77, 0, 2))] {
            for len in [SHORTEST, 61, 1514] {
                let asked = STATIONS.question(answers, 7, len);
                assert_eq!(asked.len(), len);
                let mut answer = asked.clone();
                if matches!(answers, Answers::Address(_)) {
                    assert_eq!(checksum(&asked[14..34]), [0, 0]);
                    assert_eq!(checksum(&asked[34..]), [0, 0]);
                    assert!(!STATIONS.is_answer(answers, 7, len, &answer), "its own question");
                    answer[34] = 0;
                }
                assert!(STATIONS.is_answer(answers, 7, len, &answer));
                assert!(!STATIONS.is_answer(answers, 8, len, &answer));
                let last = answer.len() - 1;
                answer[last] ^= 1;
                assert!(!STATIONS.is_answer(answers, 7, len, &answer));
            }
        }
    }

    #[test]
    fn arp_is_answered_by_the_one_that_was_asked() {
        let wanted = Ipv4Addr::new(10, 77, 0, 2);
        let mut frame = STATIONS.arp(wanted);
        assert_eq!((frame.len(), Stations::arp_answer(wanted, &frame)), (SHORTEST, None));
        frame[21] = 2;
        frame[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        frame[28..32].copy_from_slice(&wanted.octets());
        assert_eq!(Stations::arp_answer(wanted, &frame), Some([2, 0, 0, 0, 0, 9]));
        assert_eq!(Stations::arp_answer(Ipv4Addr::new(10, 77, 0, 3), &frame), None);
    }
}
