//! What a hostile device can write, and what the driver side says to it.

use std::collections::HashMap;

use super::rig::{Rig, options};
use super::traffic::{readable, writable};
use crate::fault::PeerFault;
use crate::virtq::{AddError, Completion, RingOptions, SleepFlush};

/// Writes used entry `place` as a hostile device would.
fn returns(rig: &Rig, place: u64, id: u32, len: u32) {
    rig.parts.used.poke(8 + 8 * place, id);
    rig.parts.used.poke(12 + 8 * place, len);
}

fn announce(rig: &Rig, index: u16) {
    rig.parts.used.poke(4, u32::from(index) << 16);
}

/// A queue of 8: heads 0 (one descriptor, 100 writable), 1 (three, 60
/// writable in the last), 4 (one, readable) published, 5 added only.
fn rig(in_order: bool) -> Rig {
    let mut rig = Rig::new(8, in_order, true);
    assert_eq!(rig.driver.add(&[writable(0x1000, 100)]), Ok(0));
    let chain = [readable(0x2000, 10), readable(0x3000, 10), writable(0x4000, 60)];
    assert_eq!(rig.driver.add(&chain), Ok(1));
    assert_eq!(rig.driver.add(&[readable(0x5000, 50)]), Ok(4));
    let _ = rig.driver.publish();
    assert_eq!(rig.driver.add(&[writable(0x6000, 70)]), Ok(5));
    rig
}

/// Takes into a fault, and checks that the queue is broken for good.
#[track_caller]
fn breaks(mut rig: Rig, fault: PeerFault) {
    let free = rig.driver.free();
    assert_eq!(rig.driver.take(), Err(fault));
    assert_eq!(rig.driver.free(), free, "nothing is freed by a fault");
    announce(&rig, 1);
    rig.record();
    assert_eq!(rig.driver.take(), Err(fault));
    assert_eq!(rig.driver.pending(), Err(fault));
    assert_eq!(rig.driver.arm(), Err(fault));
    assert_eq!(rig.driver.add(&[readable(1, 1)]), Err(AddError::Broken(fault)));
    assert_eq!(rig.driver.add(&[readable(1, 1); 2]), Err(AddError::Broken(fault)));
    rig.driver.park();
    assert!(!rig.driver.publish());
    assert_eq!(rig.driver.fault(), Some(fault));
    assert_eq!(rig.recorded(), [vec![], vec![], vec![]], "a broken queue touches nothing");
}

#[test]
fn every_used_index() {
    for in_order in [false, true] {
        let rig = rig(in_order);
        returns(&rig, 0, 0, 1);
        for index in 0..=u16::MAX {
            announce(&rig, index);
            let mut driver = rig.clone_driver();
            // Three are published, the fourth is not.
            let expected = if index <= 3 {
                Ok(index)
            } else {
                Err(PeerFault::UsedIndexAhead { claimed: index, limit: 3 })
            };
            assert_eq!(driver.pending(), expected);
            assert_eq!(driver.fault(), expected.err());
        }
    }
}

#[test]
fn an_index_that_goes_back() {
    let mut rig = rig(true);
    returns(&rig, 0, 0, 1);
    announce(&rig, 1);
    assert_eq!(rig.driver.take(), Ok(Some(Completion { head: 0, len: 1 })));
    announce(&rig, 0);
    breaks(rig, PeerFault::UsedIndexAhead { claimed: 0xFFFF, limit: 2 });
}

#[test]
fn ids_that_are_nobodys() {
    // Mid-chain, free, unpublished, out of range, far out of range.
    for in_order in [false, true] {
        for id in [2, 3, 6, 7, 5, 8, 9, 0xFFFF, 0x1_0000, 0x8000_0000, u32::MAX] {
            let r = rig(in_order);
            returns(&r, 0, id, 0);
            announce(&r, 3);
            breaks(r, PeerFault::UsedId { id });
        }
    }
}

#[test]
fn an_id_returned_twice() {
    for in_order in [false, true] {
        let mut r = rig(in_order);
        returns(&r, 0, 0, 1);
        returns(&r, 1, 0, 1);
        announce(&r, 2);
        assert_eq!(r.driver.take(), Ok(Some(Completion { head: 0, len: 1 })));
        breaks(r, PeerFault::UsedId { id: 0 });
    }
}

#[test]
fn a_length_beyond_the_buffer() {
    for in_order in [false, true] {
        for (id, limit) in [(0, 100), (1, 60), (4, 0)] {
            if in_order && id != 0 {
                continue; // there the first entry is of head 0, or of a batch (below)
            }
            for length in [limit + 1, u32::MAX] {
                let r = rig(in_order);
                returns(&r, 0, id, length);
                announce(&r, 1);
                breaks(r, PeerFault::UsedLength { length, limit });
            }
            let mut r = rig(in_order);
            returns(&r, 0, id, limit);
            announce(&r, 1);
            let head = u16::try_from(id).unwrap();
            assert_eq!(r.driver.take(), Ok(Some(Completion { head, len: limit })));
        }
    }
}

#[test]
fn a_batchs_length_is_its_last_buffers() {
    let r = rig(true);
    returns(&r, 0, 4, 1);
    announce(&r, 3);
    breaks(r, PeerFault::UsedLength { length: 1, limit: 0 });
    let mut r = rig(true);
    returns(&r, 0, 1, 7);
    announce(&r, 2);
    // The first was skipped: filled wholly.
    assert_eq!(r.driver.take(), Ok(Some(Completion { head: 0, len: 100 })));
    assert_eq!(r.driver.take(), Ok(Some(Completion { head: 1, len: 7 })));
    assert_eq!(r.driver.take(), Ok(None));
}

#[test]
fn a_batch_beyond_the_index() {
    let r = rig(true);
    returns(&r, 0, 4, 0);
    announce(&r, 2);
    breaks(r, PeerFault::BatchBeyondIndex { id: 4 });
    // Behind a good entry, too.
    let mut r = rig(true);
    returns(&r, 0, 0, 3);
    returns(&r, 1, 4, 0);
    announce(&r, 2);
    assert_eq!(r.driver.take(), Ok(Some(Completion { head: 0, len: 3 })));
    breaks(r, PeerFault::BatchBeyondIndex { id: 4 });
}

#[test]
fn out_of_order_is_fine_without_in_order() {
    let mut r = rig(false);
    for (place, id, len) in [(0, 4, 0), (1, 0, 9), (2, 1, 60)] {
        returns(&r, place, id, len);
    }
    announce(&r, 3);
    for (head, len) in [(4, 0), (0, 9), (1, 60)] {
        assert_eq!(r.driver.take(), Ok(Some(Completion { head, len })));
    }
    assert_eq!((r.driver.take(), r.driver.free()), (Ok(None), 7));
}

#[test]
fn all_ones_across_the_bus_is_a_lost_link() {
    let options = RingOptions { sleep_flush: SleepFlush::LookFlushes, ..options(8, true, true) };
    for at in [4, 8] {
        let mut rig = Rig::with(options);
        rig.driver.add(&[writable(1, 1)]).unwrap();
        let _ = rig.driver.publish();
        announce(&rig, 1);
        rig.parts.used.poke(at, u32::MAX);
        assert_eq!(rig.driver.take(), Err(PeerFault::LinkLost));
        assert_eq!(rig.driver.fault(), Some(PeerFault::LinkLost));
    }
}

#[test]
fn a_fault_found_elsewhere_breaks_it_too() {
    let mut rig = rig(true);
    rig.driver.break_with(PeerFault::NumBuffers { count: 0 });
    assert_eq!(rig.driver.take(), Err(PeerFault::NumBuffers { count: 0 }));
}

#[test]
fn the_board_rewriting_its_own_memory_changes_nothing() {
    // Descriptors and avail ring lie where the board can write: the driver
    // must not notice.
    for in_order in [false, true] {
        let mut rig = rig(in_order);
        for word in 0..16 {
            rig.parts.descriptors.poke(8 * word, 0xFFFF_FFFF_FFFF_FFFF_u64);
        }
        for word in 1..6 {
            rig.parts.avail.poke(4 * word, 0xFFFF_FFFF_u32);
        }
        for (place, id, len) in [(0, 0, 100), (1, 1, 60), (2, 4, 0)] {
            returns(&rig, place, id, len);
        }
        announce(&rig, 3);
        for (head, len) in [(0, 100), (1, 60), (4, 0)] {
            assert_eq!(rig.driver.take(), Ok(Some(Completion { head, len })));
        }
        assert_eq!(rig.driver.take(), Ok(None));
    }
}

#[test]
fn nothing_is_ever_freed_twice() {
    // A device that returns anything at any time: each completion is a buffer
    // that is out, with a length that fits; descriptors add up.
    let mut seed = 0xD1B5_4A32_D192_ED03_u64;
    let mut roll = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let (mut taken, mut faults) = (0_u32, 0_u32);
    for round in 0..20_000_u32 {
        let mut rig = Rig::new(8, round % 2 == 0, round % 4 < 2);
        let mut out: HashMap<u16, (u16, u32)> = HashMap::new();
        for _ in 0..20 {
            match roll() % 4 {
                0 => {
                    let count = 1 + u16::try_from(roll() % 3).unwrap();
                    let segments = vec![writable(1, 10); usize::from(count)];
                    if let Ok(head) = rig.driver.add(&segments) {
                        let len = 10 * u32::from(count);
                        assert!(out.insert(head, (count, len)).is_none());
                    }
                    let _ = rig.driver.publish();
                }
                1 => {
                    let (place, id) = (roll() % 8, u32::try_from(roll() % 9).unwrap());
                    returns(&rig, place, id, u32::try_from(roll() % 32).unwrap());
                }
                2 => {
                    let index = rig.parts.used.peek::<u32>(4) >> 16;
                    announce(&rig, u16::try_from(u64::from(index) + roll() % 3).unwrap());
                }
                _ => match rig.driver.take() {
                    Ok(Some(completion)) => {
                        let (_, limit) =
                            out.remove(&completion.head).expect("a buffer that is out");
                        assert!(completion.len <= limit);
                        taken += 1;
                    }
                    Ok(None) => {}
                    Err(_) => {
                        faults += 1;
                        break;
                    }
                },
            }
            let flying: u16 = out.values().map(|(count, _)| count).sum();
            assert_eq!(rig.driver.in_flight(), flying);
        }
    }
    assert!(taken > 1000 && faults > 1000, "{taken} taken, {faults} faults");
}
