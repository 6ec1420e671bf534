//! What a hostile driver can do with indirect tables, and what the device side
//! says to it.

use super::indirect::rig;
use super::rig::{Fake, Rig, TABLES, pop};
use super::traffic::{readable, writable};
use crate::address::BusAddress;
use crate::fault::PeerFault;
use crate::region::{Region, Rights};
use crate::virtq::Chain;
use crate::wire::virtq::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE};

/// A second region of tables, right behind the first one.
const NEXT_REGION: u64 = TABLES + 4096;
/// One that the device may only write.
const WRITE_ONLY: u64 = TABLES + 0x10_0000;

fn put(window: &Fake, index: u16, address: u64, len: u32, flags: u16, next: u16) {
    let at = 16 * u64::from(index);
    window.poke(at, address);
    window.poke(at + 8, u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48);
}

/// A queue of 8 whose head 0 is a table of `len` bytes at `address`.
fn table_at(address: u64, len: u32) -> Rig {
    let mut rig = rig(8, true, true);
    let region = |id, base, rights| Region {
        id,
        base: BusAddress::new(base),
        rights,
        window: Fake::new(4096),
    };
    rig.regions.insert(region(2, NEXT_REGION, Rights::READ)).unwrap();
    rig.regions.insert(region(3, WRITE_ONLY, Rights::WRITE)).unwrap();
    rig.regions.insert(region(4, (1 << 63) - 4096, Rights::READ)).unwrap();
    put(&rig.parts.descriptors, 0, address, len, DESC_INDIRECT, 0);
    rig.parts.avail.poke(0, 1_u32 << 16);
    rig
}

/// A queue of 8 whose head 0 is a table of these (length, flags, next).
fn table(entries: &[(u32, u16, u16)]) -> Rig {
    let rig = table_at(TABLES, 16 * u32::try_from(entries.len()).unwrap());
    for (index, (len, flags, next)) in (0..).zip(entries) {
        put(&rig.tables, index, 0x1000, *len, *flags, *next);
    }
    rig
}

/// Pops into a fault; the queue is broken for good, and touches nothing more.
#[track_caller]
fn breaks(mut rig: Rig, fault: PeerFault) {
    let mut chain = Chain::new();
    assert_eq!(rig.pop(&mut chain), Err(fault));
    assert_eq!(chain.segments(), []);
    rig.record();
    assert_eq!(rig.pop(&mut chain), Err(fault));
    assert_eq!(rig.device.fault(), Some(fault));
    assert_eq!(rig.recorded(), [vec![], vec![], vec![]], "a broken queue touches nothing");
    assert_eq!(rig.tables.recorded(), []);
}

#[test]
fn a_length_that_is_no_whole_table() {
    for length in [0, 1, 8, 15, 17, 31, 33, 127, 130] {
        breaks(table_at(TABLES, length), PeerFault::IndirectLength { length });
    }
}

#[test]
fn a_table_longer_than_the_queue() {
    for length in [16 * 9, 4096, 1 << 20, 1 << 31, u32::MAX - 15] {
        breaks(table_at(TABLES, length), PeerFault::IndirectLength { length });
    }
    let mut whole = table(&[(1, 0, 0); 8]);
    assert_eq!(whole.pop(&mut Chain::new()), Ok(Some(0)));
}

#[test]
fn a_table_that_wraps() {
    let address = (1 << 63) - 16;
    breaks(table_at(address, 32), PeerFault::AddressWraps { address, length: 32 });
    let address = u64::MAX - 15;
    breaks(table_at(address, 32), PeerFault::AddressWraps { address, length: 32 });
}

#[test]
fn a_table_in_no_region() {
    for address in [0, TABLES - 16, TABLES + 8192, u64::MAX - 63, 1 << 63 | TABLES] {
        breaks(table_at(address, 16), PeerFault::AddressUnmapped { address });
    }
}

#[test]
fn a_table_that_leaves_its_region() {
    // Into the next one, which a buffer might, and into nothing.
    for end in [NEXT_REGION, NEXT_REGION + 4096] {
        for inside in [16, 32] {
            let address = end - inside;
            breaks(table_at(address, 48), PeerFault::AddressStraddles { address });
        }
    }
}

#[test]
fn a_table_where_the_device_may_not_read() {
    breaks(table_at(WRITE_ONLY, 16), PeerFault::AddressRights { address: WRITE_ONLY });
}

#[test]
fn a_table_inside_a_table() {
    for flags in [DESC_INDIRECT, DESC_INDIRECT | DESC_NEXT, DESC_INDIRECT | DESC_WRITE] {
        breaks(table(&[(16, flags, 0)]), PeerFault::IndirectInIndirect);
        breaks(table(&[(0, DESC_NEXT, 1), (16, flags, 0)]), PeerFault::IndirectInIndirect);
    }
}

#[test]
fn a_table_and_a_next_descriptor() {
    for write in [0, DESC_WRITE] {
        let flags = DESC_INDIRECT | DESC_NEXT | write;
        let rig = table(&[(1, 0, 0)]);
        put(&rig.parts.descriptors, 0, TABLES, 16, flags, 1);
        breaks(rig, PeerFault::DescriptorFlags { flags });
    }
}

#[test]
fn flags_that_nobody_knows() {
    for bit in 3..16 {
        let flags = 1 << bit;
        breaks(table(&[(1, flags, 0)]), PeerFault::DescriptorFlags { flags });
        let flags = flags | DESC_INDIRECT;
        let rig = table(&[(1, 0, 0)]);
        put(&rig.parts.descriptors, 0, TABLES, 16, flags, 0);
        breaks(rig, PeerFault::DescriptorFlags { flags });
    }
}

#[test]
fn a_table_that_was_not_negotiated() {
    let fault = PeerFault::DescriptorFlags { flags: DESC_INDIRECT };
    let rig = Rig::new(8, true, true);
    put(&rig.parts.descriptors, 0, TABLES, 16, DESC_INDIRECT, 0);
    put(&rig.tables, 0, 0x1000, 1, 0, 0);
    rig.parts.avail.poke(0, 1_u32 << 16);
    breaks(rig, fault);
    // Negotiated, to a device that looks none up.
    let mut rig = table(&[(1, 0, 0)]);
    assert_eq!(rig.device.pop(&mut Chain::new()), Err(fault));
}

#[test]
fn a_next_outside_the_table() {
    for next in [2, 7, 8, 0x8000, 0xFFFF] {
        let rig = table(&[(1, DESC_NEXT, next), (1, 0, 0)]);
        breaks(rig, PeerFault::DescriptorIndex { index: next, size: 2 });
    }
}

#[test]
fn loops_in_a_table() {
    let limit = PeerFault::ChainTooLong { limit: 8 };
    breaks(table(&[(0, DESC_NEXT, 0)]), limit);
    breaks(table(&[(0, DESC_NEXT, 1), (0, DESC_NEXT, 0)]), limit);
    let write = DESC_NEXT | DESC_WRITE;
    breaks(table(&[(0, write, 1), (0, write, 2), (0, write, 1)]), limit);
}

#[test]
fn direct_descriptors_and_a_table_too_long_together() {
    let chained: Vec<_> =
        (1..=8).map(|next| (1, if next < 8 { DESC_NEXT } else { 0 }, next)).collect();
    let mut fits = table(&chained);
    assert_eq!(fits.pop(&mut Chain::new()), Ok(Some(0)));
    let rig = table(&chained);
    put(&rig.parts.descriptors, 0, 0x1000, 0, DESC_NEXT, 1);
    put(&rig.parts.descriptors, 1, TABLES, 128, DESC_INDIRECT, 0);
    breaks(rig, PeerFault::ChainTooLong { limit: 8 });
    // All of the queue direct, and a table that could hold nothing.
    let rig = table(&[(1, 0, 0)]);
    for index in 0..8 {
        put(&rig.parts.descriptors, index, 0x1000, 0, DESC_NEXT, (index + 1) % 8);
    }
    breaks(rig, PeerFault::ChainTooLong { limit: 8 });
}

#[test]
fn readable_behind_writable_across_the_table() {
    let rig = table(&[(1, 0, 0)]);
    put(&rig.parts.descriptors, 0, 0x1000, 0, DESC_NEXT | DESC_WRITE, 1);
    put(&rig.parts.descriptors, 1, TABLES, 16, DESC_INDIRECT, 0);
    breaks(rig, PeerFault::ReadableAfterWritable);
    let write = DESC_NEXT | DESC_WRITE;
    breaks(table(&[(0, write, 1), (1, 0, 0)]), PeerFault::ReadableAfterWritable);
}

#[test]
fn lengths_that_wrap_together() {
    for (first, second) in [(0, 0), (0, DESC_WRITE), (DESC_WRITE, DESC_WRITE)] {
        breaks(
            table(&[(u32::MAX, first | DESC_NEXT, 1), (1, second, 0)]),
            PeerFault::ChainTooLarge,
        );
        let rig = table(&[(1, second, 0)]);
        put(&rig.parts.descriptors, 0, 0x1000, u32::MAX, DESC_NEXT | first, 1);
        put(&rig.parts.descriptors, 1, TABLES, 16, DESC_INDIRECT, 0);
        breaks(rig, PeerFault::ChainTooLarge);
    }
}

#[test]
fn a_table_that_changes_between_two_reads() {
    for shift in [0, 4] {
        let mut rig = table_at(TABLES + shift, 48);
        let halves = |address: u64, len: u64, flags: u16, next: u64| {
            [address, len | u64::from(flags) << 32 | next << 48]
        };
        let all = [
            halves(0x1000, 12, DESC_NEXT, 1),
            halves(0x2000, 70, DESC_NEXT, 2),
            halves(0x3000, 5, DESC_WRITE, 0),
        ];
        for (at, half) in (0..).step_by(8).zip(all.concat()) {
            rig.tables.poke(shift + at, half);
        }
        // Each word flips once it was read: a second reading would show.
        rig.tables.flip_after_load(true);
        rig.parts.descriptors.flip_after_load(true);
        let mut chain = Chain::new();
        assert_eq!(rig.pop(&mut chain), Ok(Some(0)));
        let expected = [readable(0x1000, 12), readable(0x2000, 70), writable(0x3000, 5)];
        assert_eq!(chain.segments(), expected);
    }
}

/// What the walk of a table should say, written another way.
fn judge(entries: &[(u16, u16)], direct: Option<u16>) -> Result<usize, PeerFault> {
    let size = u16::try_from(entries.len()).unwrap();
    let mut writable = direct.is_some_and(|flags| flags & DESC_WRITE != 0);
    let (mut at, mut count) = (0, usize::from(direct.is_some()));
    loop {
        // Longer than the queue of 4: it goes around.
        if count == 4 {
            return Err(PeerFault::ChainTooLong { limit: 4 });
        }
        count += 1;
        let (flags, next) = entries[usize::from(at)];
        if flags & DESC_INDIRECT != 0 {
            return Err(PeerFault::IndirectInIndirect);
        }
        if flags & !3 != 0 {
            return Err(PeerFault::DescriptorFlags { flags });
        }
        if writable && flags & DESC_WRITE == 0 {
            return Err(PeerFault::ReadableAfterWritable);
        }
        writable |= flags & DESC_WRITE != 0;
        if flags & DESC_NEXT == 0 {
            return Ok(count);
        }
        if next >= size {
            return Err(PeerFault::DescriptorIndex { index: next, size });
        }
        at = next;
    }
}

#[test]
fn every_small_table_ends() {
    // All tables of 1, 2 and 3 descriptors: any flags of 4 bits (2 for 3
    // descriptors), any next up to one beyond; behind nothing, a readable or a
    // writable descriptor.
    for (size, flag_values) in [(1_u16, 16_u16), (2, 16), (3, 4)] {
        let each = usize::from(flag_values) * usize::from(size + 1);
        let rig = rig(4, true, true);
        for number in 0..each.pow(u32::from(size)) {
            let mut digits = number;
            let entries: Vec<(u16, u16)> = (0..size)
                .map(|index| {
                    let digit = u16::try_from(digits % each).unwrap();
                    digits /= each;
                    let (flags, next) = (digit % flag_values, digit / flag_values);
                    put(&rig.tables, index, 0x1000, 1, flags, next);
                    (flags, next)
                })
                .collect();
            for direct in [None, Some(0), Some(DESC_WRITE)] {
                let (bytes, at) = (16 * u32::from(size), u16::from(direct.is_some()));
                if let Some(flags) = direct {
                    put(&rig.parts.descriptors, 0, 0x1000, 1, flags | DESC_NEXT, 1);
                }
                put(&rig.parts.descriptors, at, TABLES, bytes, DESC_INDIRECT, 0);
                rig.parts.avail.poke(0, 1_u32 << 16);
                let mut chain = Chain::new();
                let found = pop(&mut rig.clone_device(), &rig.regions, &mut chain);
                let found = found.map(|_| chain.segments().len());
                assert_eq!(found, judge(&entries, direct), "{entries:?} behind {direct:?}");
            }
        }
    }
}

#[test]
fn hostile_tables_at_any_time_are_survived() {
    // A driver that writes anything into tables and descriptors between any two
    // calls: no panic, no access outside (the window would panic), no endless loop.
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut roll = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let (mut popped, mut faults) = (0_u32, 0_u32);
    for _ in 0..5_000 {
        let mut rig = rig(8, true, true);
        let mut chain = Chain::new();
        (0..48).for_each(|half| rig.tables.poke(8 * half, 0_u64));
        for place in 0..8_u16 {
            for _ in 0..roll() % 3 {
                // Small numbers, so that some are taken for good.
                rig.tables.poke(8 * (roll() % 48), roll() & 0x0003_0003_0000_0FFF);
            }
            let len = 16 * (1 + roll() % 8) + roll() % 40 / 39;
            let flags = if roll() % 9 == 0 { DESC_INDIRECT | DESC_NEXT } else { DESC_INDIRECT };
            let address = TABLES + 8 * (roll() % 24);
            put(&rig.parts.descriptors, place, address, u32::try_from(len).unwrap(), flags, 0);
            rig.parts.avail.poke(0, u32::from(place + 1) << 16);
            match rig.pop(&mut chain) {
                Ok(found) => popped += u32::from(found.expect("one was announced") == place),
                Err(_) => {
                    faults += 1;
                    break;
                }
            }
        }
    }
    assert!(popped > 1000 && faults > 1000, "{popped} taken, {faults} faults");
}
