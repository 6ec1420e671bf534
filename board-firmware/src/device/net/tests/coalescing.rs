//! Interrupts that are put off (VirtIO 1.3 §5.1.6.5.7): how many, how long.

use shared::fault::PeerFault;
use shared::msg::device::DeviceModel;
use shared::virtq::Segment;
use shared::wire::features::{EVENT_IDX, IN_ORDER};
use shared::wire::net::{NetHeader, feature};
use shared::wire::net_control::{ACK_OK, Coalescing, Command};

use crate::device::net::{Echo, RECEIVEQ};
use crate::device::{BoardDevice, Clock};
use crate::rig::{NetRig, RigOptions, frame_of};

const FEATURES: u64 = feature::MRG_RXBUF | feature::CTRL_VQ | feature::NOTF_COAL;

/// Vectors of the rig's receiveq and transmitq.
const RECEIVE: u16 = 1;
const TRANSMIT: u16 = 2;

fn rig(features: u64, max_packets: u32, max_usecs: u32) -> NetRig<Echo> {
    let options = RigOptions { features: FEATURES | features, ..Default::default() };
    let mut rig = NetRig::new(options, Echo::verbatim());
    let limits = Coalescing { max_packets, max_usecs };
    assert_eq!(rig.command(Command::CoalesceReceive(limits)), ACK_OK);
    rig.offer(usize::MAX);
    rig.board.raised.clear();
    rig
}

fn at(now_us: u64) -> Clock {
    Clock { now_us, slack_us: 0 }
}

/// One frame there and back at this time.
fn echo(rig: &mut NetRig<Echo>, now_us: u64) {
    rig.send(&NetHeader::default(), &frame_of(100, now_us));
    rig.run_with(at(now_us));
}

fn raised(rig: &mut NetRig<Echo>, vector: u16) -> usize {
    let all = std::mem::take(&mut rig.board.raised);
    all.into_iter().filter(|raised| *raised == vector).count()
}

/// The driver takes what has come, offers new buffers, and sleeps.
fn sleep(rig: &mut NetRig<Echo>) -> usize {
    let mut frames = 0;
    loop {
        frames += rig.frames().len();
        rig.sent();
        rig.offer(usize::MAX);
        if rig.receive.arm().unwrap() {
            return frames;
        }
    }
}

const RINGS: [u64; 4] = [IN_ORDER | EVENT_IDX, IN_ORDER, EVENT_IDX, 0];

#[test]
fn one_interrupt_for_eight_frames() {
    for ring in RINGS {
        for (max_packets, interrupts) in [(0, 800), (1, 800), (8, 100), (16, 50)] {
            let mut rig = rig(ring, max_packets, 50_000);
            sleep(&mut rig);
            let (mut count, mut frames) = (0, 0);
            for now in 0..800 {
                echo(&mut rig, now);
                let news = raised(&mut rig, RECEIVE);
                count += news;
                if news > 0 {
                    frames += sleep(&mut rig);
                }
            }
            assert_eq!((count, frames), (interrupts, 800), "{max_packets} with {ring:#x}");
        }
    }
}

#[test]
fn no_frame_waits_longer_than_was_allowed() {
    for ring in RINGS {
        let mut rig = rig(ring, 1000, 300);
        sleep(&mut rig);
        for round in 0..50 {
            let start = round * 10_000;
            assert_eq!(rig.device.due_us(), None);
            echo(&mut rig, start);
            echo(&mut rig, start + 200);
            assert_eq!(rig.device.due_us(), Some(start + 300), "from the first");
            rig.run_with(at(start + 299));
            assert_eq!(raised(&mut rig, RECEIVE), 0);
            rig.run_with(at(start + 300));
            assert_eq!(raised(&mut rig, RECEIVE), 1);
            assert_eq!(sleep(&mut rig), 2);
            rig.run_with(at(start + 5000));
            assert_eq!(raised(&mut rig, RECEIVE), 0, "raised twice");
        }
    }
}

#[test]
fn a_clock_that_is_coarse_raises_early() {
    let mut rig = rig(IN_ORDER | EVENT_IDX, 1000, 5000);
    sleep(&mut rig);
    let coarse = |now_ms: u64| Clock { now_us: now_ms * 1000, slack_us: 1999 };
    rig.send(&NetHeader::default(), &frame_of(100, 1));
    rig.run_with(coarse(10));
    for (now, expected) in [(11, 0), (12, 0), (13, 0), (14, 1)] {
        rig.run_with(coarse(now));
        assert_eq!(raised(&mut rig, RECEIVE), expected, "{now}");
    }
    // What the clock cannot tell is not put off at all.
    assert_eq!(
        rig.command(Command::CoalesceReceive(Coalescing { max_packets: 9, max_usecs: 1999 })),
        ACK_OK
    );
    sleep(&mut rig);
    rig.send(&NetHeader::default(), &frame_of(100, 1));
    rig.run_with(coarse(20));
    assert_eq!(raised(&mut rig, RECEIVE), 1);
}

#[test]
fn each_way_has_its_own_bounds() {
    let mut rig = rig(IN_ORDER, 1000, 1000);
    sleep(&mut rig);
    // Flags: the transmitq's interrupts are wanted all the time.
    echo(&mut rig, 0);
    assert_eq!(raised(&mut rig, TRANSMIT), 1);
    let limits = Coalescing { max_packets: 3, max_usecs: 10_000 };
    assert_eq!(rig.command(Command::CoalesceTransmit(limits)), ACK_OK);
    rig.board.raised.clear();
    for now in 1..=9 {
        echo(&mut rig, now);
        assert_eq!(raised(&mut rig, TRANSMIT), usize::from(now % 3 == 0), "{now}");
    }
}

#[test]
fn turning_it_off_raises_what_was_put_off() {
    let mut rig = rig(IN_ORDER | EVENT_IDX, 15, 50_000);
    sleep(&mut rig);
    for limits in [Coalescing::default(), Coalescing { max_packets: 2, max_usecs: 50_000 }] {
        let wait = Coalescing { max_packets: 15, max_usecs: 50_000 };
        assert_eq!(rig.command(Command::CoalesceReceive(wait)), ACK_OK);
        sleep(&mut rig);
        rig.board.raised.clear();
        echo(&mut rig, 0);
        echo(&mut rig, 0);
        assert_eq!(raised(&mut rig, RECEIVE), 0);
        assert_eq!(rig.command(Command::CoalesceReceive(limits)), ACK_OK);
        assert_eq!(raised(&mut rig, RECEIVE), 1, "{limits:?}");
    }
}

#[test]
fn parked_or_armed_a_board_raises_what_is_due() {
    for park in [true, false] {
        let mut rig = rig(IN_ORDER | EVENT_IDX, 1000, 500);
        sleep(&mut rig);
        echo(&mut rig, 0);
        if park {
            rig.device.park();
        }
        // Asleep, until the time that it named.
        assert!(rig.device.arm());
        let due = rig.device.due_us().unwrap();
        rig.run_with(at(due));
        assert_eq!(raised(&mut rig, RECEIVE), 1);
    }
}

#[test]
fn a_queue_that_stops_announces_what_it_had_published() {
    let mut rig = rig(IN_ORDER | EVENT_IDX, 1000, 50_000);
    sleep(&mut rig);
    echo(&mut rig, 0);
    assert_eq!(raised(&mut rig, RECEIVE), 0);
    // Take all buffers but one that lies nowhere.
    while rig.receive.in_flight() > 0 {
        echo(&mut rig, 0);
        rig.frames();
        rig.sent();
    }
    let address = shared::address::BusAddress::new(0x7777_0000);
    rig.receive.add(&[Segment { address, len: 2048, writable: true }]).unwrap();
    let _ = rig.receive.publish();
    rig.board.raised.clear();
    assert!(rig.device.due_us().is_some());
    echo(&mut rig, 1);
    let fault = PeerFault::AddressUnmapped { address: address.bits() };
    assert_eq!(rig.device.take_stop(), Some((RECEIVEQ, crate::device::Stop::Peer(fault))));
    assert_eq!(raised(&mut rig, RECEIVE), 1);
    assert_eq!(rig.device.due_us(), None);
}

#[test]
fn a_reset_forgets_what_was_put_off_and_a_queue_reset_keeps_the_bounds() {
    let mut rig = rig(IN_ORDER | EVENT_IDX, 1000, 500);
    sleep(&mut rig);
    echo(&mut rig, 0);
    assert!(rig.device.due_us().is_some());
    assert!(rig.device.reset_queue(RECEIVEQ));
    assert_eq!(rig.device.due_us(), None);
    rig.run_with(at(100_000));
    assert_eq!(raised(&mut rig, RECEIVE), 0, "raised for a queue that was reset");
    rig.reopen(RECEIVEQ);
    sleep(&mut rig);
    echo(&mut rig, 200_000);
    assert_eq!(rig.device.due_us(), Some(200_500));
    // The whole device begins without bounds.
    assert!(rig.device.reset());
    assert_eq!(rig.device.due_us(), None);
}
