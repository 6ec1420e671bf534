//! Frames by grammar: good ones of every kind, and small lies about them.

use shared::wire::net::{
    FLAG_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, HEADER_LEN, NetHeader,
};

use crate::net::{CHECKED_BYTES, Checked, FrameFault, Offloads, Rules, Sanitizer, Tags};

/// The interface's MAC address: where frames go to.
pub(crate) const HOST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The board's MAC address: where frames come from.
pub(crate) const BOARD_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// A seeded source of numbers (splitmix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn u16(&mut self) -> u16 {
        self.next() as u16
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A transport protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum L4 {
    Tcp,
    Udp,
    /// No checksum that could be left open.
    Raw(u8),
}

/// What a frame is made of.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) tags: usize,
    pub(crate) v6: bool,
    /// Words of IPv4 options, or numbers of IPv6 extension headers.
    pub(crate) options: Vec<u8>,
    pub(crate) fragment: bool,
    pub(crate) l4: L4,
    /// Words of TCP options.
    pub(crate) tcp_options: usize,
    pub(crate) payload: usize,
}

impl Recipe {
    pub(crate) fn new(v6: bool, l4: L4, payload: usize) -> Self {
        let (options, tcp_options) = (Vec::new(), 0);
        Self { tags: 0, v6, options, fragment: false, l4, tcp_options, payload }
    }

    pub(crate) fn random(rng: &mut Rng) -> Self {
        let v6 = rng.one_in(2);
        let l4 = rng.pick(&[L4::Tcp, L4::Tcp, L4::Udp, L4::Udp, L4::Raw(47)]);
        let payload = match rng.below(4) {
            0 => rng.below(64),
            1 => rng.below(1400),
            2 => rng.below(9000),
            _ => rng.below(65_000),
        };
        let mut recipe = Self::new(v6, l4, payload);
        if rng.one_in(8) {
            recipe.tags = 1;
        }
        if rng.one_in(4) {
            let kinds: &[u8] = if v6 { &[0, 43, 60] } else { &[1] };
            recipe.options = (0..1 + rng.below(3)).map(|_| rng.pick(kinds)).collect();
        }
        recipe.fragment = rng.one_in(30);
        recipe.tcp_options = if rng.one_in(2) { rng.below(11) } else { 3 };
        recipe
    }

    /// Where the transport header starts, from the start of the frame.
    pub(crate) fn transport_at(&self) -> usize {
        let ip = match self.v6 {
            false => 20 + 4 * self.options.len(),
            true => 40 + 8 * (self.options.len() + usize::from(self.fragment)),
        };
        14 + 4 * self.tags + ip
    }

    pub(crate) fn headers(&self) -> usize {
        self.transport_at()
            + match self.l4 {
                L4::Tcp => 20 + 4 * self.tcp_options,
                L4::Udp => 8,
                L4::Raw(_) => 0,
            }
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(self.headers() + self.payload);
        frame.extend(HOST_MAC);
        frame.extend(BOARD_MAC);
        for _ in 0..self.tags {
            frame.extend([0x81, 0, 0, 5]);
        }
        frame.extend(if self.v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        let protocol = match self.l4 {
            L4::Tcp => 6,
            L4::Udp => 17,
            L4::Raw(number) => number,
        };
        let l4_len = self.headers() - self.transport_at() + self.payload;
        if self.v6 {
            self.ipv6(&mut frame, protocol, l4_len);
        } else {
            self.ipv4(&mut frame, protocol, l4_len);
        }
        assert_eq!(frame.len(), self.transport_at());
        match self.l4 {
            L4::Tcp => {
                frame.extend([0x30, 0x39, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1]);
                frame.extend([(5 + self.tcp_options as u8) << 4, 0x10, 0x20, 0, 0, 0, 0, 0]);
                frame.resize(frame.len() + 4 * self.tcp_options, 1);
            }
            L4::Udp => {
                frame.extend([0x30, 0x39, 0, 9]);
                frame.extend((l4_len as u16).to_be_bytes());
                frame.extend([0, 0]);
            }
            L4::Raw(_) => {}
        }
        // The pseudo-header's sum, which the receiver completes.
        let at = self.transport_at();
        if let Some(place) = self.checksum_offset() {
            let sum = pseudo_sum(&frame, self, protocol, l4_len);
            frame[at + place..at + place + 2].copy_from_slice(&sum.to_be_bytes());
        }
        frame.extend((0..self.payload).map(|i| i as u8));
        frame
    }

    pub(crate) fn checksum_offset(&self) -> Option<usize> {
        match self.l4 {
            L4::Tcp => Some(16),
            L4::Udp => Some(6),
            L4::Raw(_) => None,
        }
    }

    fn ipv4(&self, frame: &mut Vec<u8>, protocol: u8, l4_len: usize) {
        let start = frame.len();
        let header = 20 + 4 * self.options.len();
        frame.extend([0x40 | (header / 4) as u8, 0]);
        frame.extend(((header + l4_len) as u16).to_be_bytes());
        frame.extend([0, 0, if self.fragment { 0x20 } else { 0x40 }, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 0, 2, 10, 0, 0, 1]);
        frame.resize(start + header, 1);
        let sum = !fold(&frame[start..]);
        frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
    }

    fn ipv6(&self, frame: &mut Vec<u8>, protocol: u8, l4_len: usize) {
        let mut chain = self.options.clone();
        if self.fragment {
            chain.push(44);
        }
        let extensions = 8 * chain.len();
        chain.push(protocol);
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(((extensions + l4_len) as u16).to_be_bytes());
        frame.extend([chain[0], 64]);
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        for pair in chain.windows(2) {
            let body = if pair[0] == 44 { [0, 1, 0, 0, 0, 7] } else { [1, 4, 0, 0, 0, 0] };
            frame.extend([pair[1], 0]);
            frame.extend(body);
        }
    }

    /// The header that a good sender puts before this frame, where it leaves
    /// checksum and segmentation to the receiver.
    pub(crate) fn header(&self, segment: Option<usize>) -> NetHeader {
        let Some(offset) = self.checksum_offset() else { return NetHeader::default() };
        let gso_type = match (segment, self.l4, self.v6) {
            (None, ..) => GSO_NONE,
            (_, L4::Tcp, false) => GSO_TCPV4,
            (_, L4::Tcp, true) => GSO_TCPV6,
            _ => GSO_UDP_L4,
        };
        NetHeader {
            flags: FLAG_NEEDS_CSUM,
            gso_type,
            hdr_len: self.headers() as u16,
            gso_size: segment.unwrap_or(0) as u16,
            csum_start: self.transport_at() as u16,
            csum_offset: offset as u16,
            num_buffers: 1,
        }
    }
}

/// The one's complement sum of big-endian words.
pub(crate) fn fold(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

fn pseudo_sum(frame: &[u8], recipe: &Recipe, protocol: u8, l4_len: usize) -> u16 {
    let network = 14 + 4 * recipe.tags;
    let addresses = if recipe.v6 { network + 8..network + 40 } else { network + 12..network + 20 };
    let mut bytes = frame[addresses].to_vec();
    bytes.extend((l4_len as u32).to_be_bytes());
    bytes.extend([0, protocol]);
    fold(&bytes)
}

/// A frame with its header.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) header: NetHeader,
    pub(crate) frame: Vec<u8>,
}

impl Sample {
    /// A sample of which most are good, and the rest lie in a place or two.
    pub(crate) fn random(rng: &mut Rng, mtu: usize) -> Self {
        let mut recipe = Recipe::random(rng);
        let room = (14 + 4 * recipe.tags + mtu).saturating_sub(recipe.headers());
        let segment = match recipe.l4 {
            L4::Raw(_) => None,
            _ if rng.one_in(3) => None,
            _ => Some(if rng.one_in(2) { room } else { rng.below(room) }),
        };
        if segment.is_none() && !rng.one_in(10) {
            recipe.payload = recipe.payload.min(room);
        }
        if recipe.l4 == L4::Udp && !rng.one_in(10) {
            recipe.payload = recipe.payload.min(128 * segment.unwrap_or(room));
        }
        let mut header = recipe.header(segment);
        if segment.is_some() && recipe.l4 == L4::Tcp && rng.one_in(4) {
            header.gso_type |= GSO_ECN;
        }
        let mut sample = Self { header, frame: recipe.build() };
        if rng.one_in(3) {
            for _ in 0..1 + rng.below(2) {
                sample.lie(rng);
            }
        }
        sample
    }

    fn lie(&mut self, rng: &mut Rng) {
        let small = rng.below(16) as u16;
        let header = &mut self.header;
        match rng.below(12) {
            0 => header.flags = rng.next() as u8,
            1 => header.gso_type = rng.pick(&[0, 1, 3, 4, 5, 2, 6, 0x80, 0x81, 0x85, 0xFF]),
            2 => header.hdr_len = rng.u16(),
            3 => header.gso_size = rng.pick(&[0, 1, 31, 32, 0xFFFE, 0xFFFF]),
            4 => header.csum_start = header.csum_start.wrapping_add(small).wrapping_sub(8),
            5 => header.csum_start = rng.u16(),
            6 => header.csum_offset = rng.pick(&[0, 6, 16, 0xFFFF, small]),
            7 => self.frame.truncate(rng.below(self.frame.len() + 1)),
            8 => self.frame.extend(vec![0; usize::from(small)]),
            _ => {
                // Among the headers, where it hurts.
                let at = rng.below(self.frame.len().min(96));
                if let Some(byte) = self.frame.get_mut(at) {
                    *byte = rng.next() as u8;
                }
            }
        }
    }

    /// The private copy that the caller of the check makes.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = self.header.encode().to_vec();
        head.extend(self.frame.iter().take(CHECKED_BYTES));
        assert!(head.len() <= HEADER_LEN + CHECKED_BYTES);
        head
    }

    pub(crate) fn check(&self, rules: Rules) -> Result<Checked, FrameFault> {
        Sanitizer::new(rules).check(&self.head(), self.frame.len() as u32)
    }
}

/// Rules that leave nothing out but what is never allowed.
pub(crate) fn open_rules(mtu: u16) -> Rules {
    Rules { tags: Tags::All, ..Rules::new(Offloads::ALL, mtu, Some(BOARD_MAC)) }
}
