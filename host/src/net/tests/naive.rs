//! The rules once more, said as plainly as possible and by another hand's
//! means: over the whole frame, in 64 bits, with indexing.

use shared::wire::net::NetHeader;

use crate::net::{Rules, Tags};

fn word(frame: &[u8], at: usize) -> u64 {
    u64::from(frame[at]) << 8 | u64::from(frame[at + 1])
}

/// Panics unless `out` is a header that the kernel may see for this frame.
pub(super) fn assert_rules(rules: &Rules, header: &NetHeader, frame: &[u8], out: &NetHeader) {
    let len = frame.len() as u64;
    assert!(len >= 14);
    let tagged = matches!(word(frame, 12), 0x8100 | 0x88a8);
    assert!(!tagged || rules.tags == Tags::All);
    if let Some(source) = rules.source {
        assert_eq!(&frame[6..12], &source);
    }
    let bridge = frame[..5] == [1, 0x80, 0xc2, 0, 0] && frame[5] < 16;
    assert!(!bridge || rules.bridge_control);
    let limit = u64::from(rules.mtu) + if tagged { 18 } else { 14 };

    assert_eq!(out.num_buffers, 0);
    assert!(matches!(out.flags, 0..=2));
    assert!(out.flags != 2 || rules.trust_checksums && header.flags & 2 != 0);
    if out.flags & 1 == 0 {
        assert_eq!(header.flags & 1, 0, "a checksum left open was forgotten");
        assert_eq!((out.gso_type, out.gso_size, out.hdr_len), (0, 0, 0));
        assert_eq!((out.csum_start, out.csum_offset), (0, 0));
    }
    if out.gso_type == 0 {
        assert_eq!(header.gso_type, 0, "segmentation was forgotten");
        assert!(len <= limit);
    }
    if out.flags & 1 == 1 {
        assert!(rules.offloads.checksum);
        assert_eq!((out.csum_start, out.csum_offset), (header.csum_start, header.csum_offset));
        let start = u64::from(out.csum_start);
        let end = start + u64::from(out.csum_offset) + 2;
        assert!(start >= 34 && end <= len && end <= 256);
        assert!(u64::from(out.hdr_len) >= end && u64::from(out.hdr_len) <= len);
        transport(frame, out, tagged);
    }
    if out.gso_type != 0 {
        segmentation(rules, header, frame, out, limit);
    }
}

/// Where the open checksum lies, by walking the IP headers.
fn transport(frame: &[u8], out: &NetHeader, tagged: bool) {
    let mut at = if tagged { 18 } else { 14 };
    if tagged && matches!(word(frame, 16), 0x8100 | 0x88a8) {
        at = 22;
    }
    let mut protocol;
    if word(frame, at - 2) == 0x0800 {
        assert_eq!(frame[at] >> 4, 4);
        protocol = frame[at + 9];
        at += usize::from(frame[at] % 16) * 4;
    } else {
        assert_eq!(word(frame, at - 2), 0x86dd);
        assert_eq!(frame[at] >> 4, 6);
        protocol = frame[at + 6];
        at += 40;
        while [0, 43, 60].contains(&protocol) {
            protocol = frame[at];
            at += 8 * (usize::from(frame[at + 1]) + 1);
        }
        assert_ne!(protocol, 44);
    }
    let start = usize::from(out.csum_start);
    assert!(start >= at);
    if protocol == 6 {
        assert_eq!((start, out.csum_offset), (at, 16));
    }
    if protocol == 17 && start < at + 8 {
        assert_eq!((start, out.csum_offset), (at, 6));
    }
    if out.gso_type != 0 {
        let v6 = frame[if tagged { 18 } else { 14 }] >> 4 == 6 || word(frame, 12) == 0x86dd;
        match out.gso_type & 0x7F {
            1 => assert_eq!((protocol, v6), (6, false)),
            4 => assert_eq!((protocol, v6), (6, true)),
            5 => assert_eq!(protocol, 17),
            other => panic!("gso_type {other}"),
        }
        assert_eq!(start, at);
        let header = if protocol == 6 { usize::from(frame[at + 12] >> 4) * 4 } else { 8 };
        assert_eq!(usize::from(out.hdr_len), at + header);
    }
}

fn segmentation(rules: &Rules, header: &NetHeader, frame: &[u8], out: &NetHeader, limit: u64) {
    let set = rules.offloads;
    assert_eq!(out.flags, 1);
    assert_eq!((out.gso_type, out.gso_size), (header.gso_type, header.gso_size));
    let ecn = out.gso_type & 0x80 != 0;
    match out.gso_type & 0x7F {
        1 => assert!(set.tso4),
        4 => assert!(set.tso6),
        _ => assert!((set.uso4 || set.uso6) && !ecn),
    }
    assert!(!ecn || set.ecn);
    assert!(out.gso_size > 0 && out.gso_size < 0xFFFF);
    assert!(u64::from(out.hdr_len) + u64::from(out.gso_size) <= limit);
    let payload = frame.len() as u64 - u64::from(out.hdr_len);
    assert!(payload > 0);
    if out.gso_type == 5 {
        assert!(payload <= u64::from(out.gso_size) * u64::from(rules.udp_segments));
    } else {
        assert!(out.gso_size >= 32);
    }
}
