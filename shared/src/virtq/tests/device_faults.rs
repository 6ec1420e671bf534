//! What a hostile driver can write, and what the device side says to it.

use super::rig::{Access, Rig, options, stores};
use super::traffic::{readable, writable};
use crate::fault::PeerFault;
use crate::virtq::{Chain, CompleteError, RingOptions, SleepFlush, UsedEntry};
use crate::wire::virtq::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE};

/// Writes descriptor `index` as a hostile driver would.
fn describe(rig: &Rig, index: u16, len: u32, flags: u16, next: u16) {
    let at = 16 * u64::from(index);
    rig.parts.descriptors.poke(at, 0x1000_u64);
    let tail = u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48;
    rig.parts.descriptors.poke(at + 8, tail);
}

/// Makes `head` available as avail entry `place`, and announces `index`.
fn announce(rig: &Rig, place: u64, head: u16, index: u16) {
    let at = 4 + 4 * (place / 2);
    let old = rig.parts.avail.peek::<u32>(at);
    let shift = 16 * (place % 2);
    let pair = old & !(0xFFFF << shift) | u32::from(head) << shift;
    rig.parts.avail.poke(at, pair);
    rig.parts.avail.poke(0, u32::from(index) << 16);
}

/// A queue of 8 whose head 0 is in flight on the device.
fn rig(in_order: bool) -> Rig {
    let mut rig = Rig::new(8, in_order, true);
    rig.driver.add(&[writable(0x1000, 100)]).unwrap();
    let _ = rig.driver.publish();
    assert_eq!(rig.device.pop(&mut Chain::new()), Ok(Some(0)));
    rig
}

/// Pops into a fault, and checks that the queue is broken for good.
#[track_caller]
fn breaks(mut rig: Rig, fault: PeerFault) {
    let mut chain = Chain::new();
    let held = rig.device.in_flight() > 0;
    assert_eq!(rig.device.pop(&mut chain), Err(fault));
    assert_eq!(chain.segments(), []);
    // A peer that behaves from now on changes nothing.
    rig.parts.avail.poke(0, 1_u32 << 16);
    rig.record();
    assert_eq!(rig.device.pop(&mut chain), Err(fault));
    assert_eq!(rig.device.available(), Err(fault));
    assert_eq!(rig.device.arm(), Err(fault));
    assert_eq!(rig.device.arm_for_more(), Err(fault));
    rig.device.park();
    if held {
        let error = Err(CompleteError::Broken(fault));
        assert_eq!(rig.device.complete(0, 0, UsedEntry::Own), error);
    }
    assert!(!rig.device.publish());
    assert_eq!(rig.device.fault(), Some(fault));
    assert_eq!(rig.recorded(), [vec![], vec![], vec![]], "a broken queue touches nothing");
}

#[test]
fn every_avail_index() {
    // Returned, popped, announced: any state of a queue of 8.
    for (returned, popped, announced) in [(0, 0, 0), (0, 3, 3), (5, 6, 7), (3, 3, 11), (2, 10, 10)]
    {
        let mut rig = Rig::new(8, true, true);
        let mut chain = Chain::new();
        let add = |rig: &mut Rig| {
            rig.driver.add(&[writable(1, 1)]).unwrap();
            let _ = rig.driver.publish();
        };
        for _ in 0..returned {
            add(&mut rig);
            let head = rig.device.pop(&mut chain).unwrap().unwrap();
            rig.device.complete(head, 0, UsedEntry::Own).unwrap();
            let _ = rig.device.publish();
            rig.driver.take().unwrap().unwrap();
        }
        (returned..announced).for_each(|_| add(&mut rig));
        for _ in returned..popped {
            rig.device.pop(&mut chain).unwrap().unwrap();
        }
        assert_eq!(rig.device.available(), Ok(announced - popped));
        for index in 0..=u16::MAX {
            let claimed = index.wrapping_sub(announced);
            let limit = 8 - (announced - returned);
            rig.parts.avail.poke(0, u32::from(index) << 16);
            let expected = if claimed <= limit {
                Ok(announced - popped + claimed)
            } else {
                Err(PeerFault::AvailIndexAhead { claimed, limit })
            };
            // Each index meets the same state.
            let mut device = rig.clone_device();
            assert_eq!(device.available(), expected, "index {index}");
            assert_eq!(device.fault(), expected.err());
        }
    }
}

#[test]
fn an_index_too_far_breaks_the_queue() {
    let r = rig(true);
    r.parts.avail.poke(0, 9_u32 << 16);
    breaks(r, PeerFault::AvailIndexAhead { claimed: 8, limit: 7 });
    let r = rig(false);
    r.parts.avail.poke(0, 0_u32);
    breaks(r, PeerFault::AvailIndexAhead { claimed: 0xFFFF, limit: 7 });
}

#[test]
fn a_head_out_of_range() {
    for in_order in [false, true] {
        for head in [8, 9, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
            let r = rig(in_order);
            announce(&r, 1, head, 2);
            breaks(r, PeerFault::DescriptorIndex { index: head, size: 8 });
        }
    }
}

#[test]
fn a_head_in_flight() {
    for in_order in [false, true] {
        let r = rig(in_order);
        announce(&r, 1, 0, 2);
        breaks(r, PeerFault::HeadInFlight { head: 0 });
    }
}

#[test]
fn a_next_out_of_range() {
    for next in [8, 0x8001, 0xFFFF] {
        let r = rig(true);
        announce(&r, 1, 1, 2);
        describe(&r, 1, 1, DESC_NEXT, 2);
        describe(&r, 2, 1, DESC_NEXT, next);
        breaks(r, PeerFault::DescriptorIndex { index: next, size: 8 });
    }
}

#[test]
fn a_loop_of_zero_length_descriptors() {
    let r = rig(true);
    announce(&r, 1, 1, 2);
    describe(&r, 1, 0, DESC_NEXT, 1);
    breaks(r, PeerFault::ChainTooLong { limit: 8 });
    let r = rig(false);
    announce(&r, 1, 1, 2);
    describe(&r, 1, 0, DESC_NEXT, 2);
    describe(&r, 2, 0, DESC_NEXT, 1);
    breaks(r, PeerFault::ChainTooLong { limit: 8 });
}

#[test]
fn a_chain_longer_than_a_device_takes() {
    let r = Rig::new(64, true, true);
    announce(&r, 0, 0, 1);
    for index in 0..32 {
        describe(&r, index, 1, DESC_NEXT, index + 1);
    }
    breaks(r, PeerFault::ChainTooLong { limit: 32 });
}

#[test]
fn readable_behind_writable() {
    let r = rig(true);
    announce(&r, 1, 1, 2);
    describe(&r, 1, 1, DESC_NEXT | DESC_WRITE, 2);
    describe(&r, 2, 1, 0, 0);
    breaks(r, PeerFault::ReadableAfterWritable);
    // A zero-length one counts.
    let r = rig(true);
    announce(&r, 1, 1, 2);
    describe(&r, 1, 0, DESC_NEXT | DESC_WRITE, 2);
    describe(&r, 2, 0, 0, 0);
    breaks(r, PeerFault::ReadableAfterWritable);
}

#[test]
fn lengths_that_wrap() {
    for (first, second) in [(0, 0), (0, DESC_WRITE), (DESC_WRITE, DESC_WRITE)] {
        let r = rig(true);
        announce(&r, 1, 1, 2);
        describe(&r, 1, u32::MAX, DESC_NEXT | first, 2);
        describe(&r, 2, 1, second, 0);
        breaks(r, PeerFault::ChainTooLarge);
    }
    let mut fits = rig(true);
    announce(&fits, 1, 1, 2);
    describe(&fits, 1, u32::MAX, DESC_NEXT, 2);
    describe(&fits, 2, 0, DESC_WRITE, 0);
    let mut chain = Chain::new();
    assert_eq!(fits.device.pop(&mut chain), Ok(Some(1)));
    assert_eq!((chain.readable_len(), chain.writable_len()), (u32::MAX, 0));
}

#[test]
fn flags_that_were_not_negotiated() {
    for bit in 2..16 {
        for with in [0, DESC_NEXT, DESC_WRITE] {
            let flags = 1 << bit | with;
            let r = rig(true);
            announce(&r, 1, 1, 2);
            describe(&r, 1, 16, flags, 2);
            breaks(r, PeerFault::DescriptorFlags { flags });
        }
    }
    // Behind a good one, too.
    let r = rig(true);
    announce(&r, 1, 1, 2);
    describe(&r, 1, 16, DESC_NEXT, 2);
    describe(&r, 2, 16, DESC_INDIRECT, 0);
    breaks(r, PeerFault::DescriptorFlags { flags: DESC_INDIRECT });
}

#[test]
fn a_fault_found_elsewhere_breaks_it_too() {
    let mut rig = rig(true);
    let fault = PeerFault::AddressUnmapped { address: 0x1000 };
    rig.device.break_with(fault);
    assert_eq!(rig.device.pop(&mut Chain::new()), Err(fault));
    assert_eq!(rig.device.fault(), Some(fault));
}

#[test]
fn all_ones_across_the_bus_is_a_lost_link() {
    let options = RingOptions { sleep_flush: SleepFlush::LookFlushes, ..options(8, true, true) };
    let look = |rig: &mut Rig| rig.device.pop(&mut Chain::new());
    let mut rig = Rig::with(options);
    rig.parts.avail.poke(0, u32::MAX);
    assert_eq!(look(&mut rig), Err(PeerFault::LinkLost));
    // The index came across, the entry did not.
    let mut rig = Rig::with(options);
    rig.parts.avail.poke(0, 1_u32 << 16);
    rig.parts.avail.poke(4, u32::MAX);
    assert_eq!(look(&mut rig), Err(PeerFault::LinkLost));
    // In local memory it is the peer's doing.
    let mut rig = self::rig(true);
    rig.parts.avail.poke(0, u32::MAX);
    assert_eq!(look(&mut rig), Err(PeerFault::AvailIndexAhead { claimed: 0xFFFE, limit: 7 }));
}

#[test]
fn events_of_a_hostile_driver_are_only_hints() {
    let mut rig = rig(true);
    for event in 0..=u16::MAX {
        rig.parts.avail.poke(4 + 16, u32::from(event) | 0xDEAD_0000);
        let _ = rig.device.publish();
    }
    rig.device.complete(0, 1, UsedEntry::Own).unwrap();
    rig.record();
    let _ = rig.device.publish();
    let [_, avail, used] = rig.recorded();
    assert_eq!(avail.len(), 1, "{avail:?}");
    assert_eq!(stores(&used).len(), 1);
    assert!(used.contains(&Access::Store { offset: 4, bytes: 4, value: 1 << 16 }));
}

/// What the walk should say, written another way: follow with a set of the
/// visited, then judge the whole.
fn judge(table: &[(u16, u16)], head: u16) -> Result<usize, PeerFault> {
    let size = u16::try_from(table.len()).unwrap();
    let mut visited: Vec<u16> = Vec::new();
    let (mut at, mut writable) = (head, false);
    loop {
        if visited.contains(&at) {
            return Err(PeerFault::ChainTooLong { limit: size });
        }
        visited.push(at);
        let (flags, next) = table[usize::from(at)];
        if flags & !3 != 0 {
            return Err(PeerFault::DescriptorFlags { flags });
        }
        if writable && flags & 2 == 0 {
            return Err(PeerFault::ReadableAfterWritable);
        }
        writable |= flags & 2 != 0;
        if flags & 1 == 0 {
            return Ok(visited.len());
        }
        if next >= size {
            return Err(PeerFault::DescriptorIndex { index: next, size });
        }
        at = next;
    }
}

#[test]
fn every_small_table_ends() {
    // All tables of 2 and 4 descriptors: any flags of 3 bits, any next up to
    // one beyond the table (for 4: without the third bit, or there are too many).
    for (size, flag_values) in [(2_u16, 8_u16), (4, 4)] {
        let options_each = usize::from(flag_values) * usize::from(size + 1);
        let tables = options_each.pow(u32::from(size));
        let rig = Rig::new(size.into(), true, true);
        for number in 0..tables {
            let mut digits = number;
            let table: Vec<(u16, u16)> = (0..size)
                .map(|index| {
                    let digit = u16::try_from(digits % options_each).unwrap();
                    digits /= options_each;
                    let (flags, next) = (digit % flag_values, digit / flag_values);
                    describe(&rig, index, 1, flags, next);
                    (flags, next)
                })
                .collect();
            for head in 0..size {
                announce(&rig, 0, head, 1);
                let mut chain = Chain::new();
                let popped = rig.clone_device().pop(&mut chain);
                let found = popped.map(|_| chain.segments().len());
                let mut expected = judge(&table, head);
                // Going around a loop, the walk may stumble before it is too long.
                if found == Err(PeerFault::ReadableAfterWritable)
                    && matches!(expected, Err(PeerFault::ChainTooLong { .. }))
                {
                    expected = found;
                }
                assert_eq!(found, expected, "{table:?} from {head}");
            }
        }
    }
}

#[test]
fn hostile_writes_at_any_time_are_survived() {
    // A driver that writes anything anywhere between any two calls: no panic,
    // no access outside (the window would panic), no endless loop.
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut roll = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut popped = 0_u32;
    for round in 0..20_000_u32 {
        let mut rig = Rig::new(8, round % 2 == 0, round % 4 < 2);
        let mut chain = Chain::new();
        for _ in 0..12 {
            // Small values, so that some are taken for good.
            for _ in 0..roll() % 4 {
                let (at, value) = (roll(), roll());
                if at % 2 == 0 {
                    rig.parts.descriptors.poke(at / 2 % 16 * 8, value & 0x0007_0003_0000_0FFF);
                } else {
                    let word = u32::try_from(value % 0x0009_0009).unwrap();
                    rig.parts.avail.poke(at / 2 % 6 * 4, word);
                }
            }
            match roll() % 5 {
                0 => drop(rig.device.available()),
                1 => drop(rig.device.arm()),
                2 => rig.device.park(),
                _ => {
                    if let Ok(Some(head)) = rig.device.pop(&mut chain) {
                        popped += 1;
                        let len = chain.writable_len();
                        rig.device.complete(head, len, UsedEntry::MaySkip).unwrap();
                        let _ = rig.device.publish();
                    }
                }
            }
        }
    }
    assert!(popped > 1000, "the rubbish is never taken for anything: {popped}");
}

#[test]
fn readable_chain_is_popped_whole() {
    let mut rig = Rig::new(8, false, true);
    let segments = [readable(1, 5), readable(2, 6), writable(3, 7), writable(4, 8)];
    let head = rig.driver.add(&segments).unwrap();
    let _ = rig.driver.publish();
    let mut chain = Chain::new();
    assert_eq!(rig.device.pop(&mut chain), Ok(Some(head)));
    assert_eq!((chain.readable_len(), chain.writable_len()), (11, 15));
}
