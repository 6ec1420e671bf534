//! Frames whose every byte follows from a seed and a number, so that the far
//! end can tell each of them without being told.

use shared::wire::net::{FLAG_NEEDS_CSUM, GSO_NONE, GSO_TCPV4, HEADER_LEN, NetHeader};

use super::random::Random;
use super::{BOARD_MAC, HOST_MAC};

/// Shortest and longest plain frame of the tests, in bytes.
pub const SHORTEST: usize = 60;
/// An Ethernet header and an MTU of 9004 bytes.
pub const LONGEST: usize = 9018;
/// Longest frame with offloads: an IPv4 packet of 65535 bytes.
pub const LARGEST: usize = 65_549;

/// Ethernet, IPv4 and TCP headers without options.
const TCP_HEADERS: usize = 54;

/// A sequence of frames: the same for sender and receiver.
#[derive(Clone, Debug)]
pub struct Frames {
    random: Random,
    sizes: Sizes,
    number: u64,
    pattern: Vec<u8>,
}

/// How long the frames of a sequence are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Shortest plain frame, at least [`SHORTEST`].
    pub from: usize,
    /// Longest plain frame.
    pub to: usize,
    /// One in so many frames is a TCP frame to be segmented, up to
    /// [`LARGEST`] bytes; 0: none.
    pub large_one_in: u64,
    /// Of plain frames one in so many is short, below 300 bytes; 0: none.
    pub short_one_in: u64,
}

impl Sizes {
    /// Plain frames of every length alike.
    pub const PLAIN: Self = Self { from: SHORTEST, to: LONGEST, large_one_in: 0, short_one_in: 0 };
}

impl Sizes {
    /// The same up to an MTU of 1500 bytes.
    pub const ETHERNET: Self = Self { to: 1514, ..Self::PLAIN };
}

impl Frames {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64, sizes: Sizes) -> Self {
        let mut random = Random::new(seed);
        let words = (0..(2 * LARGEST).div_ceil(8)).map(|_| random.next());
        let pattern = words.flat_map(u64::to_le_bytes).collect();
        Self { random, sizes, number: 0, pattern }
    }

    /// How many frames have been made.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The next frame, its virtio-net header first, at the end of `into`.
    /// Returns the header.
    pub fn next(&mut self, into: &mut Vec<u8>) -> NetHeader {
        let number = self.number;
        self.number += 1;
        let Sizes { from, to, large_one_in, short_one_in } = self.sizes;
        let large = large_one_in > 0 && self.random.below(large_one_in) == 0;
        let short = short_one_in > 0 && self.random.below(short_one_in) == 0;
        let len = match (large, short) {
            (true, _) => self.random.between(LARGEST - 4096, LARGEST),
            (_, true) => self.random.between(from, 300.clamp(from, to)),
            _ => self.random.between(from, to),
        };
        let header = if large { tcp_header() } else { NetHeader::default() };
        let shift = self.random.between(0, self.pattern.len() - len);
        let start = into.len();
        into.extend_from_slice(&header.encode());
        into.extend_from_slice(&self.pattern[shift..shift + len]);
        let frame = &mut into[start + HEADER_LEN..];
        frame[..6].copy_from_slice(&HOST_MAC);
        frame[6..12].copy_from_slice(&BOARD_MAC);
        if large {
            ip_and_tcp(frame);
        } else {
            // A type for experiments: no stack takes it for anything.
            frame[12..14].copy_from_slice(&[0x88, 0xB5]);
        }
        let end = frame.len();
        frame[end - 4..].copy_from_slice(&low_half(number).to_le_bytes());
        header
    }

    /// Asserts that `found`, header first, is the next frame of the sequence.
    /// `scratch` is memory to make it in.
    ///
    /// # Panics
    /// It is not.
    pub fn check(&mut self, found: &[u8], scratch: &mut Vec<u8>) {
        scratch.clear();
        self.next(scratch);
        let number = self.number - 1;
        assert_eq!(found.len(), scratch.len(), "length of frame {number}");
        if found != scratch.as_slice() {
            let at = found.iter().zip(scratch.iter()).position(|(a, b)| a != b);
            panic!("frame {number} of {} bytes differs from byte {at:?} on", found.len());
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half of a counter")]
const fn low_half(number: u64) -> u32 {
    number as u32
}

/// The header of a TCP frame to be segmented.
#[must_use]
pub const fn tcp_header() -> NetHeader {
    NetHeader {
        flags: FLAG_NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    }
}

/// Whether a header asks for segmentation.
#[must_use]
pub const fn is_large(header: &NetHeader) -> bool {
    header.gso_type != GSO_NONE
}

/// Makes `frame` an IPv4 packet with a TCP segment.
fn ip_and_tcp(frame: &mut [u8]) {
    assert!(frame.len() > TCP_HEADERS);
    let total = u16::try_from(frame.len() - 14).expect("an IPv4 packet");
    frame[12..14].copy_from_slice(&[0x08, 0]);
    let ip = &mut frame[14..34];
    ip.copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    // Data offset and flags: five words, ACK.
    frame[46..48].copy_from_slice(&[0x50, 0x10]);
}
