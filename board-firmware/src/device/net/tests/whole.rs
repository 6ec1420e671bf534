//! Backends over a kernel: frames with their header in front, and the end of
//! a driver's time.

use shared::msg::device::DeviceModel;
use shared::wire::net::{FLAG_NEEDS_CSUM, HEADER_LEN, NetHeader};

use crate::device::Wake;
use crate::device::net::{Either, FrameSink, Negotiated, NetBackend, Packet};
use crate::rig::{NetRig, RigOptions, frame_of};

/// What a kernel would say and hear.
#[derive(Default)]
struct Kernel {
    /// Header and frame in one, and the length that it claims.
    gives: Vec<(Vec<u8>, usize)>,
    took: Vec<Vec<u8>>,
    calls: Vec<&'static str>,
}

impl NetBackend for Kernel {
    fn features(&self) -> u64 {
        0
    }

    fn start(&mut self, _now: u64, _negotiated: Negotiated) {
        self.calls.push("start");
    }

    fn stop(&mut self) {
        self.calls.push("stop");
    }

    fn frame<S: FrameSink>(
        &mut self,
        _now: u64,
        header: &NetHeader,
        packet: &mut Packet<'_>,
        _sink: &mut S,
    ) {
        let ours = NetHeader { csum_start: 7, ..*header };
        self.took.push(packet.with_header(&ours).to_vec());
    }

    fn poll<S: FrameSink>(&mut self, _now: u64, sink: &mut S) -> Wake {
        while sink.ready()
            && let Some((bytes, len)) = self.gives.pop()
        {
            sink.build_whole(|into| {
                into[..bytes.len()].copy_from_slice(&bytes);
                (Some(len), ())
            });
        }
        Wake::Idle
    }
}

fn rig() -> NetRig<Kernel> {
    let mut rig = NetRig::new(RigOptions::default(), Kernel::default());
    rig.offer(usize::MAX);
    rig
}

#[test]
fn frames_pass_with_their_header_in_front() {
    let mut rig = rig();
    let frame = frame_of(100, 3);
    let header = NetHeader { num_buffers: 9, ..NetHeader::default() };
    let bytes = [&header.encode()[..], &frame].concat();
    let len = bytes.len();
    rig.device.backend().gives.push((bytes, len));
    rig.send(&NetHeader::default(), &frame);
    rig.run();
    let got = rig.frames();
    assert!(got.len() == 1 && got[0].frame == frame);
    assert_eq!(got[0].header, NetHeader { num_buffers: 1, ..header }, "counted anew");
    let took = &rig.device.backend().took;
    let ours = NetHeader { csum_start: 7, ..NetHeader::default() };
    assert!(*took == [[&ours.encode()[..], &frame].concat()]);
}

#[test]
fn lengths_that_cannot_be_and_offloads_that_nobody_took_are_dropped() {
    let offloaded = NetHeader { flags: FLAG_NEEDS_CSUM, ..NetHeader::default() };
    for (header, len) in [
        (NetHeader::default(), 0),
        (NetHeader::default(), HEADER_LEN - 1),
        (NetHeader::default(), 1 << 20),
        (NetHeader::default(), usize::MAX),
        (offloaded, HEADER_LEN + 60),
    ] {
        let mut rig = rig();
        let bytes = [&header.encode()[..], &frame_of(60, 1)].concat();
        rig.device.backend().gives.push((bytes, len));
        rig.run();
        assert_eq!((rig.frames().len(), rig.device.counters().dropped_unfit), (0, 1), "{len}");
    }
}

#[test]
fn a_backend_hears_when_its_driver_goes_and_only_then() {
    for other in [false, true] {
        let kernel = Kernel::default();
        let backend = if other { Either::Other(kernel) } else { Either::One(kernel) };
        let mut rig = NetRig::new(RigOptions::default(), backend);
        let mut calls = |reset| {
            if reset {
                rig.device.reset();
            } else {
                rig.run();
            }
            let (Either::One(kernel) | Either::Other(kernel)) = rig.device.backend();
            kernel.calls.clone()
        };
        assert_eq!(calls(false), ["start"]);
        assert_eq!(calls(true), ["start", "stop"]);
        assert_eq!(calls(true), ["start", "stop"], "it had gone already");
    }
}
