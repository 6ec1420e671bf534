//! The check of a frame's virtio-net header against the frame itself.
//!
//! Every byte that a check reads is private: the caller copies the header and
//! the first [`CHECKED_BYTES`](super::CHECKED_BYTES) of the frame out of shared memory once, and what
//! reaches the kernel of them is that copy. Nothing behind them is ever looked
//! at. docs/safety.md lists the rules with their reasons.

use shared::wire::net::{FLAG_DATA_VALID, FLAG_NEEDS_CSUM, GSO_NONE, GSO_UDP_L4, NetHeader};

use super::check::{Facts, checked_part, frame_limit};
use super::fault::{FaultCounts, FrameFault};
use super::offload::Offloads;
use super::parse::ether_type;
use super::vlans::{Tags, Vlans};

/// Least `gso_size` taken from a board for TCP, in bytes: 64 KiB make at most
/// 2048 packets. No path with IPv4's least MTU of 576 comes near it.
const LEAST_TCP_SEGMENT: u16 = 32;

/// Segments of a UDP frame that kernels since 6.9 take (UDP_MAX_SEGMENTS).
const UDP_SEGMENTS: u16 = 128;

/// The same before 6.9.
const UDP_SEGMENTS_OLD: u16 = 64;

/// What a board's frames may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// What was negotiated for the direction to the host.
    pub offloads: Offloads,
    /// The interface's MTU, in bytes.
    pub mtu: u16,
    /// The one source address allowed; `None`: any.
    pub source: Option<[u8; 6]>,
    /// Which VLAN tags pass.
    pub tags: Tags,
    /// Whether frames to bridges (01:80:c2:00:00:0x: STP, LLDP, pause) pass.
    pub bridge_control: bool,
    /// Whether the board's word that a checksum is good (DATA_VALID) passes.
    pub trust_checksums: bool,
    /// Most segments of a UDP frame that the kernel takes.
    pub udp_segments: u16,
}

impl Rules {
    /// The safe defaults: source address locked to `source`, no VLAN tags, no
    /// bridge control, checksums verified by the kernel.
    #[must_use]
    pub const fn new(offloads: Offloads, mtu: u16, source: Option<[u8; 6]>) -> Self {
        Self {
            offloads: offloads.closed(),
            mtu,
            source,
            tags: Tags::These(Vlans::NONE),
            bridge_control: false,
            trust_checksums: false,
            udp_segments: UDP_SEGMENTS,
        }
    }

    /// The same for a kernel of this release (`uname -r`): older ones take
    /// fewer UDP segments and would refuse the frame.
    #[must_use]
    pub fn for_kernel(mut self, release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next().and_then(|text| text.parse::<u32>().ok());
        let recent =
            matches!((number(), number()), (Some(major), Some(minor)) if (major, minor) >= (6, 9));
        self.udp_segments = if recent { UDP_SEGMENTS } else { UDP_SEGMENTS_OLD };
        self
    }
}

/// A frame passed: the header to send it with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Checked {
    header: NetHeader,
}

impl Checked {
    /// The header made from our own reading of the frame.
    #[must_use]
    pub const fn header(&self) -> NetHeader {
        self.header
    }

    /// Puts the header over the board's in `head`, the private bytes that were
    /// checked, and returns what to send from private memory: all of them.
    #[must_use]
    pub fn head<'a>(&self, head: &'a mut [u8]) -> &'a [u8] {
        if let Some(place) = head.first_chunk_mut() {
            *place = self.header.encode();
        }
        head
    }
}

/// Checks a board's frames before the kernel sees them, and counts refusals.
#[derive(Clone, Debug)]
pub struct Sanitizer {
    rules: Rules,
    counts: FaultCounts,
}

impl Sanitizer {
    /// A check by these rules.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, counts: FaultCounts::default() }
    }

    /// Checks a frame of `frame_len` bytes (without the header). `head` is the
    /// private copy of the header and of the frame's first [`CHECKED_BYTES`](super::CHECKED_BYTES),
    /// or of all of it.
    ///
    /// # Errors
    /// Why the frame must be dropped; it has been counted.
    pub fn check(&mut self, head: &[u8], frame_len: u32) -> Result<Checked, FrameFault> {
        check_to_host(&self.rules, head, frame_len).inspect_err(|fault| self.counts.count(*fault))
    }

    /// Frames refused so far, by cause.
    #[must_use]
    pub const fn counts(&self) -> &FaultCounts {
        &self.counts
    }

    /// The rules.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }
}

fn check_to_host(rules: &Rules, head: &[u8], frame_len: u32) -> Result<Checked, FrameFault> {
    let header = NetHeader::decode(head).ok_or(FrameFault::TooShort)?;
    let frame = checked_part(head, frame_len)?;
    let tags = check_ethernet(rules, frame)?;
    let limit = frame_limit(rules.mtu, tags);
    let least_segment = LEAST_TCP_SEGMENT;
    let facts = Facts { offloads: rules.offloads, frame, frame_len, limit, least_segment };

    let rebuilt = if header.gso_type != GSO_NONE {
        let (rebuilt, segments) = facts.segmented(header)?;
        if rebuilt.gso_type == GSO_UDP_L4 && segments > u32::from(rules.udp_segments) {
            return Err(FrameFault::TooManySegments);
        }
        rebuilt
    } else if frame_len > limit {
        return Err(FrameFault::TooLong);
    } else if header.flags & FLAG_NEEDS_CSUM != 0 {
        facts.partial_checksum(header)?
    } else if header.flags & FLAG_DATA_VALID != 0
        && rules.trust_checksums
        && rules.offloads.checksum
    {
        NetHeader { flags: FLAG_DATA_VALID, ..NetHeader::default() }
    } else {
        NetHeader::default()
    };
    Ok(Checked { header: rebuilt })
}

/// Addresses and tags; returns the number of VLAN tags.
fn check_ethernet(rules: &Rules, frame: &[u8]) -> Result<usize, FrameFault> {
    let (tags, _) = ether_type(frame).ok_or(FrameFault::Headers)?;
    if !rules.tags.admit(frame, tags) {
        return Err(FrameFault::VlanTag);
    }
    if rules.source.is_some_and(|source| frame.get(6..12) != Some(source.as_slice())) {
        return Err(FrameFault::SourceAddress);
    }
    let to_bridges = matches!(frame, [0x01, 0x80, 0xc2, 0, 0, 0..=0x0f, ..]);
    if to_bridges && !rules.bridge_control {
        return Err(FrameFault::BridgeControl);
    }
    Ok(tags)
}
