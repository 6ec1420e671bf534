//! Frames that come back.

use proptest::test_runner::{RngAlgorithm, TestRng};
use shared::wire::features::{EVENT_IDX, IN_ORDER, INDIRECT_DESC};
use shared::wire::net::{FLAG_NEEDS_CSUM, GSO_TCPV4, GSO_UDP_L4, MAX_FRAME, NetHeader, feature};

use crate::device::net::Echo;
use crate::dma::FakeEngine;
use crate::rig::{Layout, Memory, NetRig, RigOptions, SentFrame, frame_of, random_frame};

const OFFLOADS: u64 = feature::CSUM
    | feature::GUEST_CSUM
    | feature::HOST_TSO4
    | feature::GUEST_TSO4
    | feature::HOST_USO
    | feature::GUEST_USO4
    | feature::GUEST_USO6;

fn rng() -> TestRng {
    TestRng::deterministic_rng(RngAlgorithm::ChaCha)
}

fn segmented(frame_len: usize) -> NetHeader {
    NetHeader {
        flags: FLAG_NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    }
    .clamp_to(frame_len)
}

trait Clamp {
    fn clamp_to(self, frame_len: usize) -> Self;
}

impl Clamp for NetHeader {
    /// An offload that a frame this short can carry.
    fn clamp_to(self, frame_len: usize) -> Self {
        if frame_len >= 54 { self } else { NetHeader::default() }
    }
}

/// Sends frames of random sizes in random batches and expects each back.
fn random_traffic(options: RigOptions, rounds: usize, largest: usize) {
    let mut rig =
        NetRig::with_engine(options, Echo::verbatim(), FakeEngine::<Memory, 48, 2100>::default());
    let mut rng = rng();
    let tso = options.features & feature::GUEST_TSO4 != 0;
    let mut expected = std::collections::VecDeque::new();
    for _ in 0..rounds {
        let batch = 1 + random_frame(&mut rng, 0, 40).len();
        rig.offer(batch * 3);
        for _ in 0..batch {
            if rig.transmit.free() == 0 || expected.len() >= 60 {
                break;
            }
            let frame = random_frame(&mut rng, 60, largest);
            let long = frame.len() > usize::from(options.mtu) + 18;
            let header = if tso && long { segmented(frame.len()) } else { NetHeader::default() };
            let frame = if long && !tso { frame_of(1514, 3) } else { frame };
            rig.send(&header, &frame);
            expected.push_back(SentFrame { header, frame });
        }
        rig.run();
        rig.sent();
        for got in rig.frames() {
            let want = expected.pop_front().expect("a frame nobody sent");
            assert_eq!(got.frame, want.frame);
            assert_eq!(NetHeader { num_buffers: 0, ..got.header }, want.header);
        }
    }
    for _ in 0..20_000 {
        if expected.is_empty() {
            break;
        }
        rig.offer(usize::MAX);
        rig.run();
        rig.sent();
        for got in rig.frames() {
            assert_eq!(got.frame, expected.pop_front().unwrap().frame);
        }
    }
    assert_eq!(expected.len(), 0, "frames that never came back");
    let counters = rig.device.counters();
    assert_eq!(counters.to_board_frames, counters.to_host_frames);
    assert_eq!(counters.to_board_bytes, counters.to_host_bytes);
}

#[test]
fn random_frames_come_back_in_both_layouts_with_and_without_ring_features() {
    for layout in [Layout::Split, Layout::BarOnly] {
        for ring in [0, IN_ORDER, EVENT_IDX, IN_ORDER | EVENT_IDX] {
            let features = ring | feature::MRG_RXBUF;
            random_traffic(RigOptions { layout, features, ..Default::default() }, 300, 9018);
        }
    }
}

#[test]
fn offload_frames_come_back_over_many_buffers() {
    let features = IN_ORDER | EVENT_IDX | feature::MRG_RXBUF | OFFLOADS;
    let options = RigOptions { features, mtu: 1500, ..Default::default() };
    random_traffic(options, 400, MAX_FRAME);
}

#[test]
fn one_buffer_a_frame_without_mergeable_buffers() {
    let ring = IN_ORDER | EVENT_IDX;
    for (pieces, tables) in [(1, 0), (3, 0), (8, 0), (3, INDIRECT_DESC), (12, INDIRECT_DESC)] {
        let features = ring | tables | OFFLOADS;
        let options =
            RigOptions { features, buffer: 65_562, pieces, mtu: 1500, ..Default::default() };
        random_traffic(options, 100, MAX_FRAME);
    }
}

#[test]
fn every_length_of_an_offload_frame_near_the_buffer_boundaries() {
    let features = IN_ORDER | feature::MRG_RXBUF | OFFLOADS;
    let mut rig = NetRig::new(RigOptions { features, ..Default::default() }, Echo::verbatim());
    let boundaries = (1..=32).map(|n| n * 2048 - 12).filter(|at| *at < MAX_FRAME);
    let near = boundaries.flat_map(|at| at - 2..=(at + 2).min(MAX_FRAME));
    for len in near.chain([MAX_FRAME]) {
        let sent = SentFrame { header: segmented(len), frame: frame_of(len, len as u64) };
        rig.offer(64);
        rig.send(&sent.header, &sent.frame);
        rig.run();
        assert_eq!(rig.sent(), 1);
        let got = rig.frames();
        assert_eq!(got.len(), 1, "{len}");
        assert_eq!(got[0].frame, sent.frame, "{len}");
        let buffers = (len + 12).div_ceil(2048);
        assert_eq!(usize::from(got[0].header.num_buffers), buffers, "{len}");
    }
}

#[test]
fn a_mergeable_packet_across_the_rings_end() {
    // 8 buffers of 2 KiB, packets of 3: each lap wraps at another place.
    let options = RigOptions { size: 8, ..Default::default() };
    let mut rig = NetRig::new(options, Echo::verbatim());
    let mut crossed = 0;
    let mut position = 0;
    for round in 0..64 {
        rig.offer(8);
        let frame = frame_of(5000, round);
        rig.send(&NetHeader::default(), &frame);
        rig.run();
        rig.sent();
        let got = rig.frames();
        assert_eq!(got[0].frame, frame);
        assert_eq!(got[0].header.num_buffers, 3);
        crossed += u32::from(position % 8 > 5);
        position += 3;
    }
    assert!(crossed >= 16);
}

#[test]
fn a_frame_waits_for_buffers_and_the_host_waits_with_it() {
    let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
    let frames: Vec<_> = (0..5).map(|n| frame_of(5000, n)).collect();
    for frame in &frames {
        rig.send(&NetHeader::default(), frame);
    }
    rig.offer(2);
    rig.run();
    // The first was taken and waits, the others were not touched.
    assert_eq!((rig.sent(), rig.frames().len()), (1, 0));
    let posts = rig.device.counters().posts;
    rig.run();
    assert_eq!(rig.device.counters().posts, posts, "tried again in vain");
    let mut got = Vec::new();
    for _ in 0..20 {
        rig.offer(1);
        rig.run();
        got.extend(rig.frames().into_iter().map(|frame| frame.frame));
    }
    assert_eq!(got, frames);
    assert_eq!(rig.sent(), 4);
    // Each takes 3 buffers and a header; all but the first were tried once with 1 buffer.
    assert_eq!(rig.device.counters().posts, posts + 5 * 4 + 4);
}

#[test]
fn what_never_fits_is_dropped_and_counted() {
    let options = RigOptions { size: 2, ..Default::default() };
    let mut rig = NetRig::new(options, Echo::verbatim());
    rig.offer(2);
    rig.send(&NetHeader::default(), &frame_of(9000, 1));
    rig.run();
    assert_eq!(rig.device.counters().dropped_unfit, 1);
    rig.send(&NetHeader::default(), &frame_of(3000, 2));
    rig.run();
    assert_eq!(rig.frames()[0].frame, frame_of(3000, 2));
}

#[test]
fn offloads_that_the_driver_does_not_take_back() {
    let features = IN_ORDER | feature::MRG_RXBUF | feature::CSUM | feature::HOST_TSO4;
    let mut rig = NetRig::new(RigOptions { features, ..Default::default() }, Echo::verbatim());
    rig.offer(64);
    rig.send(&segmented(3000), &frame_of(3000, 1));
    rig.run();
    assert_eq!((rig.frames().len(), rig.device.counters().dropped_unfit), (0, 1));

    // A partial checksum is completed: ones' complement over all from csum_start.
    let header = NetHeader {
        flags: FLAG_NEEDS_CSUM,
        csum_start: 34,
        csum_offset: 6,
        ..NetHeader::default()
    };
    let mut frame = frame_of(61, 7);
    frame[40..42].copy_from_slice(&[0x12, 0x34]);
    rig.send(&header, &frame);
    rig.run();
    let got = rig.frames().remove(0);
    assert_eq!(NetHeader { num_buffers: 0, ..got.header }, NetHeader::default());
    // The field held 0x1234 for the pseudo header; with it the sum is all ones.
    let sum = got.frame[34..].chunks(2).fold(0x1234_u32, |sum, pair| {
        let sum = sum + (u32::from(pair[0]) << 8) + u32::from(*pair.get(1).unwrap_or(&0));
        (sum & 0xFFFF) + (sum >> 16)
    });
    assert_eq!(sum, 0xFFFF);
}

#[test]
fn the_swapping_echo_exchanges_addresses_only() {
    let mut rig = NetRig::new(RigOptions::default(), Echo::swapping());
    rig.offer(64);
    let frame = frame_of(100, 5);
    rig.send(&NetHeader::default(), &frame);
    rig.run();
    let got = rig.frames().remove(0).frame;
    assert_eq!((&got[..6], &got[6..12]), (&frame[6..12], &frame[..6]));
    assert_eq!(got[12..], frame[12..]);
}

#[test]
fn one_interrupt_a_batch_and_none_while_the_driver_is_awake() {
    let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
    rig.offer(64);
    for round in 0..32 {
        rig.send(&NetHeader::default(), &frame_of(200, round));
    }
    rig.run();
    // The first entry either way is notified: one for each queue.
    assert_eq!(rig.board.raised, [2, 1]);
    rig.board.raised.clear();
    assert_eq!((rig.sent(), rig.frames().len()), (32, 32));
    rig.receive.park();
    rig.transmit.park();
    rig.offer(64);
    for round in 0..32 {
        rig.send(&NetHeader::default(), &frame_of(200, round));
    }
    rig.run();
    assert_eq!(rig.board.raised, []);
    assert_eq!((rig.sent(), rig.frames().len()), (32, 32));
    assert_eq!(rig.device.counters().interrupts, 2);
}

#[test]
fn one_copy_a_frame_each_way() {
    let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
    rig.offer(64);
    for round in 0..32 {
        rig.send(&NetHeader::default(), &frame_of(1514, round));
    }
    rig.run();
    let counters = *rig.device.counters();
    assert_eq!((counters.fetches, counters.posts), (32, 32));
}

/// Each piece that is read is invalidated, each piece that is written is
/// invalidated where it begins and ends, and cleaned.
#[test]
fn the_cache_is_maintained_for_every_piece() {
    let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
    rig.offer(64);
    for round in 0..32 {
        rig.send(&NetHeader::default(), &frame_of(1514, round));
    }
    rig.run();
    let dropped = &rig.board.invalidated;
    let whole = |(_, len): &&(u64, u32)| *len == 1526;
    assert_eq!(dropped.iter().filter(whole).count(), 32);
    let edges: Vec<u64> = dropped.iter().filter(|c| !whole(c)).map(|(at, _)| *at).collect();
    let written = rig.board.cleaned.iter().flat_map(|(at, len)| {
        assert_eq!(*len, 1526);
        [*at, at + 1525]
    });
    assert_eq!(edges, written.collect::<Vec<_>>());
    assert_eq!((rig.board.cleaned.len(), dropped.len()), (32, 96));
}

#[test]
fn udp_segmentation_needs_both_guest_bits() {
    let base = IN_ORDER | feature::MRG_RXBUF | feature::CSUM | feature::GUEST_CSUM;
    let header = NetHeader {
        flags: FLAG_NEEDS_CSUM,
        gso_type: GSO_UDP_L4,
        gso_size: 1000,
        csum_start: 34,
        csum_offset: 6,
        ..NetHeader::default()
    };
    for (guest, back) in [
        (0, 0),
        (feature::GUEST_USO4, 0),
        (feature::GUEST_USO6, 0),
        (feature::GUEST_USO4 | feature::GUEST_USO6, 1),
    ] {
        let features = base | feature::HOST_USO | guest;
        let mut rig = NetRig::new(RigOptions { features, ..Default::default() }, Echo::verbatim());
        rig.offer(64);
        rig.send(&header, &frame_of(5000, 1));
        rig.run();
        assert_eq!(rig.frames().len(), back);
    }
}
