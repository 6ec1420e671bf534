//! Headers cut over descriptors, and lengths at every edge.

use core::ops::Range;

use shared::virtq::Segment;
use shared::wire::features::{EVENT_IDX, IN_ORDER, INDIRECT_DESC};
use shared::wire::net::{FLAG_NEEDS_CSUM, GSO_TCPV4, HEADER_LEN, MAX_FRAME, NetHeader, feature};

use crate::device::net::{Echo, NetError, NetMemory, NetOptions};
use crate::rig::{Memory, NetRig, RigOptions, frame_of, leak};

/// Where the rig has the transmitq's indirect tables.
const TABLES: Range<u64> = 0xB_0000..0xC_0000;

/// Every way to cut the 12 header bytes over up to 12 descriptors: 2^12 cuts,
/// the one behind the header included.
#[test]
fn a_header_cut_in_every_way() {
    cut_in_every_way(RigOptions::default());
}

/// The same in indirect tables; the thirteenth piece makes a chain of it.
#[test]
fn a_header_cut_in_every_way_in_a_table() {
    let plain = RigOptions::default();
    cut_in_every_way(RigOptions { features: plain.features | INDIRECT_DESC, ..plain });
}

fn cut_in_every_way(options: RigOptions) {
    let mut rig = NetRig::new(options, Echo::verbatim());
    let mut in_tables = 0;
    for cuts in 0_u32..1 << HEADER_LEN {
        let cuts: Vec<_> =
            (0..HEADER_LEN).filter(|at| cuts & (1 << at) != 0).map(|at| at + 1).collect();
        let frame = frame_of(60 + cuts.len(), cuts.len() as u64);
        rig.offer(64);
        rig.send_cut(&NetHeader::default(), &frame, &cuts);
        rig.run();
        assert_eq!(rig.sent(), 1);
        assert_eq!(rig.frames()[0].frame, frame, "{cuts:?}");
        // One piece needs no table, and thirteen do not fit into one.
        in_tables += if (1..12).contains(&cuts.len()) { cuts.len() + 1 } else { 0 };
    }
    // What is read of them is made visible to the CPU before, as payload is.
    let seen = rig.board.invalidated.iter().filter(|(offset, _)| TABLES.contains(offset));
    let expected = if rig.options.features & INDIRECT_DESC != 0 { in_tables } else { 0 };
    assert_eq!(seen.count(), expected);
}

#[test]
fn zero_length_descriptors_between_the_others() {
    let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
    rig.offer(64);
    let frame = frame_of(100, 9);
    rig.send_cut(&NetHeader::default(), &frame, &[0, 0, 12, 12, 50, 50, 112]);
    rig.run();
    assert_eq!(rig.frames()[0].frame, frame);
}

/// Buffers to the host that are cut in every way within their first 14 bytes.
#[test]
fn a_header_written_over_every_cut() {
    for (pieces, tables) in (1..=16).flat_map(|pieces| [(pieces, 0), (pieces, INDIRECT_DESC)]) {
        let features = IN_ORDER | EVENT_IDX | tables;
        let options = RigOptions { size: 64, buffer: 80, pieces, features, ..Default::default() };
        let mut rig = NetRig::new(options, Echo::verbatim());
        rig.offer(1);
        let frame = frame_of(68, 4);
        rig.send(&NetHeader::default(), &frame);
        rig.run();
        let got = rig.frames();
        assert_eq!((got[0].frame.as_slice(), got[0].header.num_buffers), (frame.as_slice(), 1));
    }
}

#[test]
fn too_short_is_dropped_and_its_buffer_returned() {
    let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
    rig.offer(64);
    for len in 0..HEADER_LEN + 14 {
        let address = rig.place(&[0; 64]);
        let segment = Segment { address, len: u32::try_from(len).unwrap(), writable: false };
        rig.transmit.add(&[segment]).unwrap();
        let _ = rig.transmit.publish();
        rig.run();
        assert_eq!((rig.sent(), rig.frames().len()), (1, 0), "{len}");
    }
    assert_eq!(rig.device.counters().dropped_short, 26);
    rig.send(&NetHeader::default(), &frame_of(14, 1));
    rig.run();
    assert_eq!(rig.frames().len(), 1);
}

#[test]
fn too_long_is_dropped_and_its_buffer_returned() {
    let tso = feature::CSUM | feature::GUEST_CSUM | feature::HOST_TSO4 | feature::GUEST_TSO4;
    let features = IN_ORDER | feature::MRG_RXBUF | tso;
    let options = RigOptions { features, mtu: 1500, ..Default::default() };
    let mut rig = NetRig::new(options, Echo::verbatim());
    let large = NetHeader {
        flags: FLAG_NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
        ..NetHeader::default()
    };
    for (header, len, passes) in [
        (NetHeader::default(), 1518, true),
        (NetHeader::default(), 1519, false),
        (large, MAX_FRAME, true),
        (large, MAX_FRAME + 1, false),
        (large, 69_000, false),
    ] {
        rig.offer(64);
        rig.send(&header, &frame_of(len, 1));
        rig.run();
        assert_eq!((rig.sent(), rig.frames().len()), (1, usize::from(passes)), "{len}");
    }
    assert_eq!(rig.device.counters().dropped_long, 3);
}

#[test]
fn a_header_that_contradicts_itself_is_dropped() {
    let all = feature::CSUM
        | feature::GUEST_CSUM
        | feature::HOST_TSO4
        | feature::HOST_TSO6
        | feature::GUEST_TSO4
        | feature::GUEST_TSO6;
    let good = NetHeader {
        flags: FLAG_NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1000,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    };
    let with = |change: fn(&mut NetHeader)| {
        let mut header = good;
        change(&mut header);
        header
    };
    let base = IN_ORDER | feature::MRG_RXBUF;
    for (features, header, passes) in [
        (base | all, good, true),
        // Flags that a driver does not set are ignored (VirtIO 1.3 §5.1.6.2.2).
        (base | all, with(|h| h.flags = 0xFF), true),
        (base | all, with(|h| h.flags = 0), false),
        (base | all, with(|h| h.gso_type = 2), false),
        (base | all, with(|h| h.gso_type = 3), false),
        (base | all, with(|h| h.gso_type = 5), false),
        (base | all, with(|h| h.gso_type = 0x80), false),
        (base | all, with(|h| h.gso_type = 0x81), false),
        (base | all, with(|h| h.gso_size = 0), false),
        (base | all, with(|h| h.gso_size = 0xFFFF), false),
        (base | all, with(|h| h.csum_start = 13), false),
        (base | all, with(|h| h.csum_start = 3000 - 17), false),
        (base | all, with(|h| h.csum_start = 3000 - 18), true),
        (base | all, with(|h| h.csum_start = 0xFFFF), false),
        (base | all, with(|h| h.csum_offset = 0xFFFF), false),
        (base | all & !feature::HOST_TSO4, good, false),
        (base | all & !feature::CSUM, good, false),
    ] {
        let mut rig = NetRig::new(RigOptions { features, ..Default::default() }, Echo::verbatim());
        rig.offer(64);
        rig.send(&header, &frame_of(3000, 1));
        rig.run();
        assert_eq!(rig.sent(), 1);
        assert_eq!(rig.frames().len(), usize::from(passes), "{header:?}");
        assert_eq!(rig.device.counters().dropped_header, u64::from(!passes), "{header:?}");
    }
}

#[test]
fn a_device_that_cannot_work_is_not_made() {
    let make = |mtu, slots: usize, bytes| {
        let memory = NetMemory {
            slots: [leak(slots), leak(64)],
            frame: leak(bytes),
            waiting: leak(NetMemory::FRAME_BYTES),
        };
        let options = NetOptions { mac: [2; 6], mtu, withhold: 0 };
        crate::device::net::NetDevice::<Memory, _>::new(&options, memory, Echo::verbatim()).err()
    };
    assert_eq!(make(1500, 64, 1530), None);
    assert_eq!(make(1500, 64, 1529), Some(NetError::Frame { found: 1529, needed: 1530 }));
    assert_eq!(make(1500, 1, 1530), Some(NetError::Slots));
    assert_eq!(make(67, 64, 1530), Some(NetError::Mtu));
}
