//! Broken rules and failing engines: the policy, and nothing else.

use std::cell::Cell;
use std::rc::Rc;

use shared::address::BusAddress;
use shared::fault::PeerFault;
use shared::msg::device::DeviceModel;
use shared::virtq::Segment;
use shared::window::Window;
use shared::wire::features::INDIRECT_DESC;
use shared::wire::net::NetHeader;
use shared::wire::virtq::DESC_INDIRECT;

use crate::device::net::{Echo, RECEIVEQ, TRANSMITQ};
use crate::device::{BoardDevice, Stop, Wake};
use crate::dma::{DmaEngine, DmaError, FakeEngine, Fault};
use crate::rig::{MEMORY, Memories, Memory, NetRig, RigOptions, frame_of};

type Engine = FakeEngine<Memory, 48, 2100>;

fn readable(address: BusAddress, len: u32) -> Segment {
    Segment { address, len, writable: false }
}

/// A bad chain on the transmitq ends as stated, the receiveq goes on.
#[test]
fn a_bad_address_stops_the_transmitq_only() {
    let end = |base: BusAddress| base.checked_add(MEMORY - 16).unwrap();
    for (segments, fault) in [
        (
            vec![readable(BusAddress::new(0x9999_0000), 100)],
            PeerFault::AddressUnmapped { address: 0x9999_0000 },
        ),
        (
            vec![readable(Memories::WRITTEN, 100)],
            PeerFault::AddressRights { address: Memories::WRITTEN.bits() },
        ),
        (
            vec![readable(end(Memories::READ), 100)],
            PeerFault::AddressUnmapped { address: Memories::READ.bits() + MEMORY },
        ),
        (
            vec![readable(BusAddress::new(u64::MAX - 10), 100)],
            PeerFault::AddressWraps { address: u64::MAX - 10, length: 100 },
        ),
        (
            vec![readable(Memories::READ, 60), readable(BusAddress::new(0), 100)],
            PeerFault::AddressUnmapped { address: 0 },
        ),
    ] {
        let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
        rig.offer(64);
        rig.send(&NetHeader::default(), &frame_of(100, 1));
        rig.transmit.add(&segments).unwrap();
        rig.send(&NetHeader::default(), &frame_of(100, 2));
        rig.run();
        assert_eq!(rig.device.take_stop(), Some((TRANSMITQ, Stop::Peer(fault))));
        assert_eq!(rig.device.take_stop(), None);
        assert_eq!(rig.device.counters().peer_faults, 1);
        // What came before the fault was answered, what came behind it was not read.
        assert_eq!(rig.frames().len(), 1);
        assert_eq!(rig.sent(), 0, "a stopped queue announces nothing");
        let before = rig.memories.written.snapshot();
        rig.run();
        assert!(rig.device.arm());
        assert_eq!(rig.device.take_stop(), None, "told twice");
        assert!(rig.memories.written.snapshot() == before, "a stopped device wrote");

        // A reset mends it.
        rig.device.reset();
        assert_eq!(rig.run().wake, Wake::Idle);
    }
}

/// An indirect table is looked up with the right to read it, in one region.
#[test]
fn a_bad_table_stops_the_transmitq_only() {
    let memory_end = Memories::board_base().checked_add(MEMORY - 16).unwrap().bits();
    let written = Memories::WRITTEN.bits();
    for (address, len, fault) in [
        (0x9999_0000, 32, PeerFault::AddressUnmapped { address: 0x9999_0000 }),
        (written, 32, PeerFault::AddressRights { address: written }),
        (memory_end, 32, PeerFault::AddressStraddles { address: memory_end }),
        (u64::MAX - 15, 32, PeerFault::AddressWraps { address: u64::MAX - 15, length: 32 }),
        (Memories::READ.bits(), 8, PeerFault::IndirectLength { length: 8 }),
    ] {
        let plain = RigOptions::default();
        let features = plain.features | INDIRECT_DESC;
        let mut rig = NetRig::new(RigOptions { features, ..plain }, Echo::verbatim());
        rig.offer(64);
        rig.send(&NetHeader::default(), &frame_of(100, 1));
        let head = rig.transmit.next_head().unwrap();
        rig.send(&NetHeader::default(), &frame_of(100, 2));
        let setup = rig.setup(TRANSMITQ);
        let at = setup.descriptors.offset_from(Memories::board_base()).unwrap();
        rig.memories.board.store(at + 16 * u64::from(head), address);
        let tail = len | u64::from(DESC_INDIRECT) << 32;
        rig.memories.board.store(at + 16 * u64::from(head) + 8, tail);
        rig.run();
        assert_eq!(rig.device.take_stop(), Some((TRANSMITQ, Stop::Peer(fault))));
        assert_eq!(rig.frames().len(), 1);
        assert_eq!(rig.device.take_stop(), None);
    }
}

#[test]
fn a_bad_address_stops_the_receiveq_only() {
    let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
    let segment = Segment { address: Memories::READ, len: 2048, writable: true };
    rig.receive.add(&[segment]).unwrap();
    let _ = rig.receive.publish();
    let before = rig.memories.read.snapshot();
    rig.run();
    for round in 0..3 {
        rig.send(&NetHeader::default(), &frame_of(100, round));
    }
    let after = rig.memories.read.snapshot();
    rig.run();
    let address = Memories::READ.bits();
    let stop = Stop::Peer(PeerFault::AddressRights { address });
    assert_eq!(rig.device.take_stop(), Some((RECEIVEQ, stop)));
    assert!(before != after);
    assert!(rig.memories.read.snapshot() == after, "it wrote where it must not");
    // The transmitq goes on; its frames have nowhere to go and are counted.
    assert_eq!(rig.sent(), 3);
    assert_eq!(rig.device.counters().dropped_unfit, 2);
}

#[test]
fn a_buffer_without_room_for_a_header_stops_the_receiveq() {
    for len in 0..12 {
        let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
        let segment = Segment { address: Memories::WRITTEN, len, writable: true };
        rig.receive.add(&[segment]).unwrap();
        let _ = rig.receive.publish();
        rig.send(&NetHeader::default(), &frame_of(100, 1));
        rig.run();
        let fault = PeerFault::ChainTooShort { found: len, needed: 12 };
        assert_eq!(rig.device.take_stop(), Some((RECEIVEQ, Stop::Peer(fault))));
    }
}

#[test]
fn a_readable_descriptor_in_the_receiveq_is_left_alone() {
    let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
    let writable = Segment { address: Memories::WRITTEN, len: 2048, writable: true };
    rig.receive.add(&[readable(Memories::READ, 100), writable]).unwrap();
    let _ = rig.receive.publish();
    rig.send(&NetHeader::default(), &frame_of(100, 1));
    let before = rig.memories.read.snapshot();
    rig.run();
    assert!(rig.memories.read.snapshot() == before);
    assert_eq!(rig.receive.take().unwrap().unwrap().len, 112);
}

#[test]
fn a_writable_descriptor_in_the_transmitq_is_not_read() {
    let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
    rig.offer(64);
    let bytes: Vec<u8> = [vec![0; 12], frame_of(100, 1)].concat();
    let address = rig.place(&bytes);
    let writable = Segment { address: Memories::WRITTEN, len: 2048, writable: true };
    rig.transmit.add(&[readable(address, 112), writable]).unwrap();
    let _ = rig.transmit.publish();
    rig.run();
    assert_eq!(rig.frames()[0].frame, frame_of(100, 1));
    assert_eq!(rig.sent(), 1);
}

#[test]
fn a_failed_fetch_loses_its_frame_only() {
    for fault in [Fault::Fail(DmaError::Timeout), Fault::Fail(DmaError::Bus), Fault::AllOnes] {
        let mut rig =
            NetRig::with_engine(RigOptions::default(), Echo::verbatim(), Engine::default());
        rig.offer(64);
        // Fetch, post, fetch, post: the third transfer is the second fetch.
        rig.dma.fail_after(2, fault);
        for round in 0..4 {
            rig.send(&NetHeader::default(), &frame_of(100, round));
        }
        rig.run();
        assert_eq!(rig.sent(), 4);
        let got: Vec<_> = rig.frames().into_iter().map(|frame| frame.frame).collect();
        assert_eq!(got, [frame_of(100, 0), frame_of(100, 2), frame_of(100, 3)]);
        let counters = rig.device.counters();
        // A dead bus reads as all ones, and no header is all ones.
        assert_eq!(counters.dropped_dma + counters.dropped_header, 1);
        assert_eq!(rig.device.take_stop(), None);
    }
}

#[test]
fn a_failed_post_loses_its_frame_and_no_buffer() {
    for nth in [1, 3, 5] {
        let mut rig =
            NetRig::with_engine(RigOptions::default(), Echo::verbatim(), Engine::default());
        rig.offer(4);
        rig.dma.fail_after(nth, Fault::Fail(DmaError::Bus));
        for round in 0..5 {
            rig.send(&NetHeader::default(), &frame_of(100, round));
        }
        rig.run();
        // 4 buffers, 5 frames, one lost: all arrive.
        let got: Vec<_> = rig.frames().into_iter().map(|frame| frame.frame).collect();
        let lost = u64::from(nth / 2);
        let want: Vec<_> = (0..5).filter(|n| *n != lost).map(|n| frame_of(100, n)).collect();
        assert_eq!(got, want);
        assert_eq!(rig.device.counters().dropped_dma, 1);
    }
}

#[test]
fn a_failed_finish_announces_nothing() {
    let mut rig = NetRig::with_engine(RigOptions::default(), Echo::verbatim(), Engine::default());
    rig.offer(64);
    rig.dma.fail_after(4, Fault::Fail(DmaError::Timeout));
    for round in 0..2 {
        rig.send(&NetHeader::default(), &frame_of(100, round));
    }
    rig.run();
    assert_eq!(rig.device.take_stop(), Some((RECEIVEQ, Stop::Dma(DmaError::Timeout))));
    assert_eq!(rig.frames().len(), 0);
    assert_eq!(rig.sent(), 2);
}

/// Counts what is under way where the board sees it.
struct Counting {
    engine: Engine,
    under_way: Rc<Cell<usize>>,
}

impl Counting {
    fn rig(options: RigOptions) -> NetRig<Echo, Self> {
        let under_way = Rc::new(Cell::new(0));
        let engine = Self { engine: Engine::default(), under_way: Rc::clone(&under_way) };
        let mut rig = NetRig::with_engine(options, Echo::verbatim(), engine);
        rig.board.under_way = under_way;
        rig
    }
}

impl DmaEngine<Memory> for Counting {
    fn fetch(&mut self, from: &Memory, offset: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.engine.fetch(from, offset, into)
    }

    fn post(&mut self, from: &[u8], to: &Memory, offset: u64) -> Result<(), DmaError> {
        self.under_way.set(self.under_way.get() + 1);
        self.engine.post(from, to, offset)
    }

    fn finish(&mut self) -> Result<(), DmaError> {
        self.under_way.set(0);
        DmaEngine::<Memory>::finish(&mut self.engine)
    }

    fn drain(&mut self) {
        self.under_way.set(0);
        DmaEngine::<Memory>::drain(&mut self.engine);
    }
}

/// The engine holds what is posted until it is finished: nothing is announced
/// before, and nothing is under way after a run.
#[test]
fn payload_is_there_before_it_is_announced() {
    let mut rig = Counting::rig(RigOptions::default());
    for round in 0..200 {
        rig.offer(64);
        assert!(rig.receive.arm().unwrap());
        for n in 0..10 {
            rig.send(&NetHeader::default(), &frame_of(100 + n, round));
        }
        rig.run();
        assert_eq!(rig.board.raised.pop(), Some(1), "the driver was armed");
        let got: Vec<_> = rig.frames().into_iter().map(|frame| frame.frame).collect();
        assert_eq!(got, (0..10).map(|n| frame_of(100 + n, round)).collect::<Vec<_>>());
        rig.sent();
        assert_eq!(rig.dma.under_way.get(), 0);
    }
}

/// A frame that has to wait for buffers has left bytes in those it had.
#[test]
fn nothing_is_under_way_while_a_frame_waits() {
    let mut rig = Counting::rig(RigOptions::default());
    rig.offer(1);
    rig.send(&NetHeader::default(), &frame_of(5000, 1));
    rig.run();
    assert_eq!(rig.device.counters().posts, 1);
    assert_eq!(rig.dma.under_way.get(), 0);
    assert!(rig.dma.engine.is_idle());
}

#[test]
fn a_million_bad_frames_and_then_a_good_one() {
    let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
    rig.offer(64);
    let address = rig.place(&[0xFF; 200]);
    for _ in 0..1_000_000 / 32 {
        for len in 0..32 {
            rig.transmit.add(&[readable(address, len * 5)]).unwrap();
        }
        let _ = rig.transmit.publish();
        rig.run();
        assert_eq!(rig.sent(), 32);
    }
    rig.send(&NetHeader::default(), &frame_of(100, 1));
    rig.run();
    assert_eq!(rig.frames().len(), 1);
}

/// Behind the answer to RESET_VQUEUE neither ring nor buffers are touched;
/// the other queue goes on, and the queue can be set up again.
#[test]
fn spec_2_6_1_a_queue_that_was_reset_is_left_alone() {
    let send = |rig: &mut NetRig<Echo>, from: u64, count: u64| {
        for number in from..from + count {
            rig.send(&NetHeader::default(), &frame_of(100, number));
        }
    };
    for queue in [RECEIVEQ, TRANSMITQ] {
        let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
        rig.offer(4);
        send(&mut rig, 0, 10);
        rig.run();
        assert_eq!(rig.frames().len(), 4, "and the fifth waits");
        assert!(rig.device.reset_queue(queue));
        rig.offer(60);
        send(&mut rig, 10, 10);
        let used = rig.setup(queue).device.offset_from(Memories::WRITTEN).unwrap();
        let used = usize::try_from(used).unwrap();
        let ring = |rig: &NetRig<Echo>| rig.memories.written.snapshot()[used..used + 520].to_vec();
        let (before, board) = (ring(&rig), rig.memories.board.snapshot());
        rig.run();
        rig.device.park();
        rig.device.arm();
        rig.run();
        assert!(ring(&rig) == before, "queue {queue}: its used ring was written");
        assert!(rig.memories.board.snapshot() == board, "nothing there is the device's to write");
        let counters = *rig.device.counters();
        if queue == RECEIVEQ {
            // The frame that waited, and each that nobody takes.
            assert_eq!((counters.to_host_frames, counters.dropped_unfit), (4, 16));
            assert_eq!(counters.to_board_frames, 20);
        } else {
            assert_eq!((counters.to_host_frames, counters.to_board_frames), (5, 5));
        }
        assert_eq!(rig.device.take_stop(), None);
        let _ = (rig.frames(), rig.sent());
        rig.reopen(queue);
        rig.offer(64);
        send(&mut rig, 20, 10);
        rig.run();
        assert_eq!(rig.frames().len(), 10);
    }
}
