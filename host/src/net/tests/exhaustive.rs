//! Every place of a checksum, and every segment size.

use super::grammar::{L4, Recipe, Sample, open_rules};
use crate::net::{FrameFault, Sanitizer};

/// Every `csum_start` with every `csum_offset` that could reach the frame or
/// wrap, for frames around every limit.
#[test]
fn every_checksum_place() {
    let rules = open_rules(1500);
    for (v6, l4, payload) in
        [(false, L4::Tcp, 0), (false, L4::Tcp, 300), (true, L4::Udp, 1), (false, L4::Raw(47), 250)]
    {
        let recipe = Recipe::new(v6, l4, payload);
        let frame = recipe.build();
        let (at, len) = (recipe.transport_at() as u32, frame.len() as u32);
        let mut sanitizer = Sanitizer::new(rules);
        let mut head = Sample { header: recipe.header(None), frame }.head();
        head[0] = 1;
        let offsets = (0..320u16).chain((0..=u16::MAX).step_by(257)).chain(65_200..=u16::MAX);
        let offsets: Vec<u16> = offsets.collect();
        for start in 0..=u16::MAX {
            head[6..8].copy_from_slice(&start.to_le_bytes());
            for offset in &offsets {
                head[8..10].copy_from_slice(&offset.to_le_bytes());
                let end = u32::from(start) + u32::from(*offset) + 2;
                let inside = u32::from(start) >= at && end <= len.min(256);
                let place = match l4 {
                    L4::Tcp => u32::from(start) == at && *offset == 16,
                    L4::Udp => u32::from(start) == at && *offset == 6 || u32::from(start) >= at + 8,
                    L4::Raw(_) => true,
                };
                let expected = match (inside, place) {
                    (false, _) => Err(FrameFault::ChecksumRange),
                    (true, false) => Err(FrameFault::ChecksumPlace),
                    (true, true) => Ok((start, *offset)),
                };
                let verdict = sanitizer
                    .check(&head, len)
                    .map(|checked| (checked.header().csum_start, checked.header().csum_offset));
                assert_eq!(verdict, expected, "{l4:?} {start} + {offset} of {len}");
            }
        }
    }
}

#[test]
fn every_segment_size() {
    for (v6, l4, payload) in [(false, L4::Tcp, 30_000), (true, L4::Udp, 12_800)] {
        let recipe = Recipe::new(v6, l4, payload);
        let frame = recipe.build();
        for size in 0..=u16::MAX {
            let header = recipe.header(Some(usize::from(size)));
            let sample = Sample { header, frame: frame[..512.min(frame.len())].to_vec() };
            let verdict =
                Sanitizer::new(open_rules(9000)).check(&sample.head(), frame.len() as u32);
            let expected = match (l4, size) {
                (_, 0 | 0xFFFF) | (L4::Tcp, 1..32) => Err(FrameFault::SegmentSize),
                _ if recipe.headers() + usize::from(size) > 9014 => Err(FrameFault::SegmentTooLong),
                (L4::Udp, 1..100) => Err(FrameFault::TooManySegments),
                _ => Ok(size),
            };
            assert_eq!(verdict.map(|checked| checked.header().gso_size), expected, "{size}");
        }
    }
}

/// Every type and every flag byte.
#[test]
fn every_type_and_flag() {
    let recipe = Recipe::new(false, L4::Tcp, 3000);
    let frame = recipe.build();
    for (kind, flags) in (0..=u8::MAX).flat_map(|kind| (0..=u8::MAX).map(move |f| (kind, f))) {
        let mut header = recipe.header(Some(1000));
        (header.gso_type, header.flags) = (kind, flags);
        let sample = Sample { header, frame: frame.clone() };
        let verdict =
            sample.check(open_rules(1500)).map(|c| (c.header().gso_type, c.header().flags));
        let expected = match (kind, flags & 1) {
            (0, _) => Err(FrameFault::TooLong),
            (0x80, _) => Err(FrameFault::EcnFlag),
            (1 | 0x81, 1) => Ok((kind, 1)),
            (1 | 0x81 | 4 | 0x84 | 5, 0) => Err(FrameFault::SegmentationWithoutChecksum),
            (4 | 0x84 | 5, _) => Err(FrameFault::ProtocolMismatch),
            (0x85, _) => Err(FrameFault::EcnFlag),
            (3 | 0x83, _) => Err(FrameFault::SegmentationNotNegotiated),
            _ => Err(FrameFault::SegmentationType),
        };
        assert_eq!(verdict, expected, "type {kind:#x}, flags {flags:#x}");
    }
}
