//! Hosts that keep to the letter and want more than their share, and engines
//! that do not stop by themselves.

use shared::msg::device::DeviceModel;
use shared::virtq::Segment;
use shared::window::Window;
use shared::wire::features::{EVENT_IDX, IN_ORDER, INDIRECT_DESC};
use shared::wire::net::{NetHeader, feature};
use shared::wire::net_control::{ACK_OK, Command};
use shared::wire::virtq::{DESC_INDIRECT, DESC_NEXT};

use crate::device::net::{CONTROLQ, Echo, RECEIVEQ, TRANSMITQ};
use crate::device::{BoardDevice, Wake};
use crate::dma::{CpuCopy, DmaEngine, DmaError};
use crate::rig::{Layout, Memories, Memory, NetRig, RigOptions, frame_of};

const CONTROLLED: u64 = IN_ORDER
    | EVENT_IDX
    | feature::MRG_RXBUF
    | feature::CTRL_VQ
    | feature::CTRL_RX
    | feature::GUEST_ANNOUNCE;

/// Fails one transfer, and goes on with it until it is drained.
#[derive(Default)]
struct Dogged {
    /// Transfers until it fails.
    left: Option<u32>,
    at_it: bool,
}

impl Dogged {
    fn transfer(&mut self) -> Result<(), DmaError> {
        match self.left {
            Some(0) => {
                (self.left, self.at_it) = (None, true);
                Err(DmaError::Timeout)
            }
            Some(left) => {
                self.left = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl DmaEngine<Memory> for Dogged {
    fn fetch(&mut self, from: &Memory, offset: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.transfer()?;
        CpuCopy.fetch(from, offset, into)
    }

    fn post(&mut self, from: &[u8], to: &Memory, offset: u64) -> Result<(), DmaError> {
        self.transfer()?;
        CpuCopy.post(from, to, offset)
    }

    // What was posted has arrived; what failed is another matter.
    fn finish(&mut self) -> Result<(), DmaError> {
        Ok(())
    }

    fn drain(&mut self) {
        self.at_it = false;
    }
}

/// A reset is answered without asking the engine, so a run leaves it idle.
#[test]
fn a_transfer_that_failed_is_not_left_under_way() {
    let features = CONTROLLED;
    // Fetch, post, fetch, post.
    for nth in 0..4 {
        let options = RigOptions { features, ..Default::default() };
        let mut rig = NetRig::with_engine(options, Echo::verbatim(), Dogged::default());
        rig.offer(64);
        rig.dma.left = Some(nth);
        for number in 0..2 {
            rig.send(&NetHeader::default(), &frame_of(100, number));
        }
        rig.run();
        assert_eq!(rig.dma.left, None);
        assert!(!rig.dma.at_it, "transfer {nth} of a frame");
        assert_eq!(rig.device.counters().dropped_dma, 1);
    }
    // A command, and its answer.
    for nth in 0..2 {
        let options = RigOptions { features, ..Default::default() };
        let mut rig = NetRig::with_engine(options, Echo::verbatim(), Dogged::default());
        rig.dma.left = Some(nth);
        rig.put_command(&[3, 0], &[], 1);
        rig.run();
        assert_eq!(rig.dma.left, None);
        assert!(!rig.dma.at_it, "transfer {nth} of a command");
    }
}

/// Buffers of one byte: a frame walks them all in vain. The next one would
/// as well, so it waits for the next step.
#[test]
fn frames_that_never_fit_cost_a_step_one_walk() {
    let mut rig = NetRig::new(RigOptions::default(), Echo::verbatim());
    for number in 0..64 {
        let address = Memories::WRITTEN.checked_add(0x10_0000 + 64 * number).unwrap();
        let len = if number == 0 { 12 } else { 1 };
        rig.receive.add(&[Segment { address, len, writable: true }]).unwrap();
    }
    let _ = rig.receive.publish();
    for number in 0..10 {
        rig.send(&NetHeader::default(), &frame_of(100, number));
    }
    for number in 1..=10 {
        let ran = rig.run();
        assert_eq!((rig.sent(), ran.wake), (1, Wake::Again), "frame {number}");
        let counters = rig.device.counters();
        assert_eq!((counters.dropped_unfit, counters.to_host_frames), (number, 0));
    }
    assert_eq!(rig.run().wake, Wake::Idle);
    assert!(rig.device.arm(), "nothing is left to do");
    // What fits goes.
    rig.send(&NetHeader::default(), &frame_of(50, 1));
    rig.run();
    assert_eq!(rig.frames().len(), 1);
}

/// A table as long as the queue, of which a chain takes two descriptors.
#[test]
fn only_what_is_read_of_a_table_is_invalidated() {
    let plain = RigOptions::default();
    let features = plain.features | INDIRECT_DESC;
    let mut rig = NetRig::new(RigOptions { features, ..plain }, Echo::verbatim());
    rig.offer(64);
    let frame = frame_of(100, 1);
    let bytes = [NetHeader::default().encode().as_slice(), &frame].concat();
    let payload = rig.place(&bytes);
    let table = 0x70_0000_u64;
    let entry = |rig: &NetRig<Echo>, index: u64, at, len: u64, flags: u16, next: u64| {
        rig.memories.board.store(table + 16 * index, at);
        let tail = len | u64::from(flags) << 32 | next << 48;
        rig.memories.board.store(table + 16 * index + 8, tail);
    };
    entry(&rig, 0, payload.bits(), 12, DESC_NEXT, 63);
    entry(&rig, 63, payload.bits() + 12, 100, 0, 0);
    let head = rig.transmit.next_head().unwrap();
    rig.send(&NetHeader::default(), &frame);
    let descriptors = rig.setup(TRANSMITQ).descriptors;
    let at = descriptors.offset_from(Memories::board_base()).unwrap() + 16 * u64::from(head);
    rig.memories.board.store(at, Memories::board_base().checked_add(table).unwrap().bits());
    rig.memories.board.store(at + 8, (64 * 16) | (u64::from(DESC_INDIRECT) << 32));
    rig.board.invalidated.clear();
    rig.run();
    assert_eq!(rig.frames()[0].frame, frame);
    let mut seen: Vec<_> = rig.board.invalidated.clone();
    seen.retain(|(offset, _)| (table..table + 64 * 16).contains(offset));
    assert_eq!(seen, [(table, 16), (table + 63 * 16, 16)]);
}

/// Each queue is placed by itself (docs/protocol-rings.md, "Notification"): the
/// flush of one that needs none is none for the control queue.
#[test]
fn a_flush_is_borrowed_only_from_a_queue_that_makes_one() {
    let features = CONTROLLED;
    for (frames, commands, flushes) in [
        (Layout::Split, Layout::Split, [1, 0]),
        (Layout::BarOnly, Layout::Split, [0, 1]),
        (Layout::Split, Layout::BarOnly, [1, 0]),
        (Layout::BarOnly, Layout::BarOnly, [0, 0]),
    ] {
        let options = RigOptions { features, ..Default::default() };
        let mut rig = NetRig::new(options, Echo::verbatim());
        for (layout, queue) in [(frames, TRANSMITQ), (commands, CONTROLQ)] {
            assert!(rig.device.reset_queue(queue));
            rig.options.layout = layout;
            rig.reopen(queue);
        }
        rig.run();
        assert!(rig.device.arm());
        let [_, transmit] = rig.device.queue_stats();
        let control = rig.device.control.queue().unwrap().ring.stats();
        assert_eq!([transmit.flushes, control.flushes], flushes, "{frames:?} {commands:?}");
        rig.options.layout = Layout::Split;
        assert_eq!(rig.command(Command::AnnounceAck), ACK_OK);
        assert!(rig.device.reset_queue(RECEIVEQ));
    }
}

/// An avail ring needs no more than an address that is a multiple of 4.
#[test]
fn avail_rings_may_lie_at_4_modulo_8() {
    for avail_at in [0, 4] {
        for features in [CONTROLLED, CONTROLLED & !IN_ORDER, CONTROLLED & !EVENT_IDX] {
            let options = RigOptions { avail_at, features, ..Default::default() };
            let mut rig = NetRig::new(options, Echo::verbatim());
            for number in 0..200 {
                rig.offer(64);
                rig.send(&NetHeader::default(), &frame_of(100, number));
                rig.run();
                assert_eq!((rig.sent(), rig.frames().len()), (1, 1));
                assert!(rig.device.arm());
                rig.send(&NetHeader::default(), &frame_of(60, number));
                assert!(!rig.device.arm());
                rig.run();
                assert_eq!((rig.sent(), rig.frames().len()), (1, 1));
            }
            assert_eq!(rig.command(Command::AnnounceAck), ACK_OK);
            assert_eq!(rig.device.take_stop(), None);
        }
    }
}
