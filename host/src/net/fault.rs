//! Why a frame was dropped, and how often.

use std::fmt;

/// What is wrong with a frame. Each is counted, none is logged one by one: a
/// peer decides how many there are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum FrameFault {
    /// Shorter than the virtio-net header and an Ethernet header.
    TooShort,
    /// Longer than the interface's MTU allows without segmentation.
    TooLong,
    /// A partial checksum, which was not negotiated.
    ChecksumNotNegotiated,
    /// The checksum's place leaves the frame or its headers.
    ChecksumRange,
    /// The checksum's place is not that of the protocol found there.
    ChecksumPlace,
    /// `gso_type` is none that the standard knows.
    SegmentationType,
    /// A kind of segmentation that was not negotiated.
    SegmentationNotNegotiated,
    /// The ECN flag with something other than TCP, or not negotiated.
    EcnFlag,
    /// Segmentation without a partial checksum.
    SegmentationWithoutChecksum,
    /// `gso_size` is zero, reserved by the kernel, or below the minimum.
    SegmentSize,
    /// Segments would exceed the interface's MTU.
    SegmentTooLong,
    /// More UDP segments than a frame may have.
    TooManySegments,
    /// Segmentation of a frame that carries no payload.
    NothingToSegment,
    /// The frame's protocols are not those that the header names.
    ProtocolMismatch,
    /// IP or transport lengths contradict the frame's.
    LengthMismatch,
    /// Headers are malformed or reach beyond the checked bytes.
    Headers,
    /// The source address is not the interface's.
    SourceAddress,
    /// Addressed to bridges (01:80:c2:00:00:0x), which a board may not steer.
    BridgeControl,
    /// A VLAN tag that is not wanted.
    VlanTag,
}

impl FrameFault {
    /// Every cause, in the order of their counters.
    pub const ALL: [Self; 19] = [
        Self::TooShort,
        Self::TooLong,
        Self::ChecksumNotNegotiated,
        Self::ChecksumRange,
        Self::ChecksumPlace,
        Self::SegmentationType,
        Self::SegmentationNotNegotiated,
        Self::EcnFlag,
        Self::SegmentationWithoutChecksum,
        Self::SegmentSize,
        Self::SegmentTooLong,
        Self::TooManySegments,
        Self::NothingToSegment,
        Self::ProtocolMismatch,
        Self::LengthMismatch,
        Self::Headers,
        Self::SourceAddress,
        Self::BridgeControl,
        Self::VlanTag,
    ];

    /// The counter's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::ChecksumNotNegotiated => "checksum_not_negotiated",
            Self::ChecksumRange => "checksum_range",
            Self::ChecksumPlace => "checksum_place",
            Self::SegmentationType => "segmentation_type",
            Self::SegmentationNotNegotiated => "segmentation_not_negotiated",
            Self::EcnFlag => "ecn_flag",
            Self::SegmentationWithoutChecksum => "segmentation_without_checksum",
            Self::SegmentSize => "segment_size",
            Self::SegmentTooLong => "segment_too_long",
            Self::TooManySegments => "too_many_segments",
            Self::NothingToSegment => "nothing_to_segment",
            Self::ProtocolMismatch => "protocol_mismatch",
            Self::LengthMismatch => "length_mismatch",
            Self::Headers => "headers",
            Self::SourceAddress => "source_address",
            Self::BridgeControl => "bridge_control",
            Self::VlanTag => "vlan_tag",
        }
    }
}

impl fmt::Display for FrameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "the frame is shorter than its headers",
            Self::TooLong => "the frame is longer than the MTU allows",
            Self::ChecksumNotNegotiated => "a partial checksum was not negotiated",
            Self::ChecksumRange => "the checksum lies outside the frame's headers",
            Self::ChecksumPlace => "the checksum lies where its protocol has none",
            Self::SegmentationType => "the segmentation type is unknown",
            Self::SegmentationNotNegotiated => "this kind of segmentation was not negotiated",
            Self::EcnFlag => "the ECN flag does not belong here",
            Self::SegmentationWithoutChecksum => "segmentation needs a partial checksum",
            Self::SegmentSize => "the segment size is not possible",
            Self::SegmentTooLong => "segments would exceed the MTU",
            Self::TooManySegments => "the frame would make too many segments",
            Self::NothingToSegment => "the frame has no payload to segment",
            Self::ProtocolMismatch => "the frame's protocols are not those of its header",
            Self::LengthMismatch => "IP or transport lengths contradict the frame's",
            Self::Headers => "the frame's headers are malformed or too long",
            Self::SourceAddress => "the source address is not the interface's",
            Self::BridgeControl => "the frame is addressed to bridges",
            Self::VlanTag => "its VLAN is not wanted",
        })
    }
}

impl std::error::Error for FrameFault {}

/// How many frames were dropped, by cause.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FaultCounts([u64; FrameFault::ALL.len()]);

impl FaultCounts {
    /// Counts one frame.
    pub const fn count(&mut self, fault: FrameFault) {
        self.0[fault as usize] += 1;
    }

    /// Frames dropped for this cause.
    #[must_use]
    pub const fn of(&self, fault: FrameFault) -> u64 {
        self.0[fault as usize]
    }

    /// Frames dropped for any cause.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each cause with its count.
    pub fn iter(&self) -> impl Iterator<Item = (FrameFault, u64)> + '_ {
        FrameFault::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_cause_has_its_own_counter_and_texts() {
        let mut names = HashSet::new();
        let mut texts = HashSet::new();
        for (place, fault) in FrameFault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, place, "{fault:?} is out of order in ALL");
            assert!(names.insert(fault.name()) && texts.insert(fault.to_string()));
            let mut counts = FaultCounts::default();
            counts.count(fault);
            assert_eq!((counts.of(fault), counts.total()), (1, 1));
        }
    }
}
