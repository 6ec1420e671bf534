//! Frames to and from the board's own code.

use std::collections::VecDeque;

use shared::wire::features::{EVENT_IDX, IN_ORDER};
use shared::wire::net::{FLAG_NEEDS_CSUM, GSO_TCPV4, NetHeader, feature};

use crate::device::Wake;
use crate::device::net::{FrameHandler, Port};
use crate::rig::{NetRig, RigOptions, SentFrame, frame_of};

#[derive(Default)]
struct Queues {
    taken: Vec<SentFrame>,
    to_give: VecDeque<SentFrame>,
    due: Option<u64>,
}

impl FrameHandler for Queues {
    fn take(&mut self, _now: u64, header: &NetHeader, frame: &[u8]) {
        self.taken.push(SentFrame { header: *header, frame: frame.to_vec() });
    }

    fn give(&mut self, _now: u64, into: &mut [u8]) -> Option<(NetHeader, usize)> {
        let SentFrame { header, frame } = self.to_give.pop_front()?;
        into[..frame.len()].copy_from_slice(&frame);
        Some((header, frame.len()))
    }

    fn next(&self, _now: u64) -> Wake {
        self.due.map_or(Wake::Idle, Wake::At)
    }
}

fn plain(n: u64) -> SentFrame {
    SentFrame { header: NetHeader::default(), frame: frame_of(60 + usize::try_from(n).unwrap(), n) }
}

#[test]
fn frames_pass_both_ways_within_budget() {
    let options = RigOptions { size: 256, buffer: 2048, ..Default::default() };
    let mut rig = NetRig::new(options, Port::new(Queues::default(), 0));
    rig.offer(usize::MAX);
    for n in 0..100 {
        rig.send(&NetHeader::default(), &plain(n).frame);
        rig.device.backend().handler().to_give.push_back(plain(n));
    }
    // 64 frames from the host and 32 to it in a run, then the rest.
    assert_eq!(rig.run().wake, Wake::Again);
    assert_eq!((rig.sent(), rig.frames().len()), (64, 32));
    for _ in 0..4 {
        rig.run();
    }
    assert_eq!((rig.sent(), rig.frames().len()), (36, 68));
    let taken = &rig.device.backend().handler().taken;
    assert!(*taken == (0..100).map(plain).collect::<Vec<_>>());
    assert_eq!(rig.run().wake, Wake::Idle);
    rig.device.backend().handler().due = Some(77);
    assert_eq!(rig.run().wake, Wake::At(77));
}

#[test]
fn the_handler_keeps_its_frames_while_the_host_has_no_buffers() {
    let mut rig = NetRig::new(RigOptions::default(), Port::new(Queues::default(), 0));
    for n in 0..10 {
        rig.device.backend().handler().to_give.push_back(plain(n));
    }
    rig.offer(3);
    assert_eq!(rig.run().wake, Wake::Idle);
    assert_eq!(rig.frames().len(), 3);
    // One waits with the device, the others with their owner.
    assert_eq!(rig.device.backend().handler().to_give.len(), 6);
    rig.offer(usize::MAX);
    rig.run();
    let got: Vec<_> = rig.frames().into_iter().map(|frame| frame.frame).collect();
    assert!(got == (3..10).map(|n| plain(n).frame).collect::<Vec<_>>());
    assert_eq!(rig.device.counters().dropped_unfit, 0);
}

#[test]
fn an_offload_that_the_driver_did_not_accept_does_not_leave() {
    let header = NetHeader {
        flags: FLAG_NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    };
    let offer = feature::GUEST_CSUM | feature::GUEST_TSO4;
    let base = IN_ORDER | EVENT_IDX | feature::MRG_RXBUF;
    for (accepted, passes) in
        [(0, false), (feature::GUEST_CSUM, false), (feature::GUEST_TSO4, false), (offer, true)]
    {
        let features = base | accepted;
        let options = RigOptions { features, ..Default::default() };
        let mut rig = NetRig::new(options, Port::new(Queues::default(), offer));
        rig.offer(usize::MAX);
        let frame = SentFrame { header, frame: frame_of(9000, 1) };
        rig.device.backend().handler().to_give.push_back(frame);
        rig.run();
        assert_eq!(rig.frames().len(), usize::from(passes));
        assert_eq!(rig.device.counters().dropped_unfit, u64::from(!passes));
    }
}

#[test]
fn what_a_handler_claims_beyond_the_buffer_is_dropped() {
    struct Liar(bool);
    impl FrameHandler for Liar {
        fn take(&mut self, _: u64, _: &NetHeader, _: &[u8]) {}
        fn give(&mut self, _: u64, into: &mut [u8]) -> Option<(NetHeader, usize)> {
            let len = into.len() + 1;
            core::mem::take(&mut self.0).then_some((NetHeader::default(), len))
        }
        fn next(&self, _: u64) -> Wake {
            Wake::Idle
        }
    }
    let mut rig = NetRig::new(RigOptions::default(), Port::new(Liar(true), 0));
    rig.offer(usize::MAX);
    rig.run();
    assert_eq!((rig.frames().len(), rig.device.counters().dropped_unfit), (0, 1));
}
