//! Indirect tables as they are meant (VirtIO 1.3 §2.7.5.3).

use super::rig::{Access, Fake, Rig, TABLE_ENTRIES, TABLES, options, stores};
use super::traffic::{readable, writable};
use crate::address::BusAddress;
use crate::virtq::{
    AddError, Chain, Completion, IndirectTables, MAX_CHAIN, RingOptions, SetupError, UsedEntry,
};
use crate::wire::virtq::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE};

pub(super) fn rig(size: u32, in_order: bool, event_idx: bool) -> Rig {
    Rig::with(RingOptions { indirect: true, ..options(size, in_order, event_idx) })
}

/// Descriptor `index` of the queue: address, length, flags, next.
fn described(window: &Fake, at: u64) -> (u64, u32, u16, u16) {
    let tail = window.peek::<u64>(at + 8);
    let [flags, next] = [32, 48].map(|shift| u16::try_from(tail >> shift & 0xFFFF).unwrap());
    (window.peek(at), u32::try_from(tail & 0xFFFF_FFFF).unwrap(), flags, next)
}

#[test]
fn a_buffer_of_several_segments_takes_one_descriptor() {
    for (in_order, event_idx) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut rig = rig(4, in_order, event_idx);
        let mut chain = Chain::new();
        for round in 0..9_u16 {
            let head = round % 4;
            let segments = [readable(0x1000, 12), writable(0x2000, 100), writable(0x3000, 7)];
            if in_order {
                assert_eq!(rig.driver.next_head(), Some(head));
            }
            let head = rig.driver.add(&segments).unwrap();
            assert_eq!(rig.driver.in_flight(), 1);
            let table = TABLES + 48 * u64::from(head);
            let found = described(&rig.parts.descriptors, 16 * u64::from(head));
            assert_eq!(found, (table, 48, DESC_INDIRECT, 0));
            let _ = rig.driver.publish();
            assert_eq!(rig.pop(&mut chain), Ok(Some(head)));
            assert_eq!(chain.segments(), segments);
            assert_eq!((chain.readable_len(), chain.writable_len()), (12, 107));
            rig.device.complete(head, 60, UsedEntry::Own).unwrap();
            let _ = rig.device.publish();
            assert_eq!(rig.driver.take(), Ok(Some(Completion { head, len: 60 })));
            assert_eq!((rig.driver.take(), rig.driver.free()), (Ok(None), 4));
        }
    }
}

#[test]
fn spec_2_7_5_3_1_descriptors_of_a_table_are_sequential() {
    let mut rig = rig(4, true, true);
    rig.driver.add(&[readable(1, 2)]).unwrap();
    rig.driver.add(&[readable(3, 4), writable(5, 6), writable(7, 8)]).unwrap();
    let at = 48;
    let table = [0, 16, 32].map(|entry| described(&rig.tables, at + entry));
    let more = DESC_NEXT | DESC_WRITE;
    assert_eq!(table, [(3, 4, DESC_NEXT, 1), (5, 6, more, 2), (7, 8, DESC_WRITE, 0)]);
}

#[test]
fn one_segment_and_more_than_a_table_holds_are_direct() {
    let mut rig = rig(8, true, true);
    rig.driver.add(&[writable(1, 2)]).unwrap();
    assert_eq!(described(&rig.parts.descriptors, 0), (1, 2, DESC_WRITE, 0));
    let long = vec![writable(9, 10); usize::from(TABLE_ENTRIES) + 1];
    rig.driver.add(&long).unwrap();
    assert_eq!((rig.driver.in_flight(), rig.driver.next_head()), (5, Some(5)));
    let _ = rig.driver.publish();
    let mut chain = Chain::new();
    assert_eq!(rig.pop(&mut chain), Ok(Some(0)));
    assert_eq!(rig.pop(&mut chain), Ok(Some(1)));
    assert_eq!(chain.segments(), long);
}

#[test]
fn nothing_is_indirect_that_was_not_negotiated() {
    let mut rig = Rig::new(8, true, true);
    let segments = [readable(1, 2), writable(3, 4)];
    rig.driver.add(&segments).unwrap();
    assert_eq!(rig.driver.in_flight(), 2);
    let _ = rig.driver.publish();
    let mut chain = Chain::new();
    assert_eq!(rig.device.pop(&mut chain), Ok(Some(0)));
    assert_eq!(chain.segments(), segments);
}

#[test]
fn a_full_queue_takes_no_table_and_writes_none() {
    for in_order in [false, true] {
        let mut rig = rig(2, in_order, true);
        let two = [readable(1, 1); 2];
        rig.driver.add(&two).unwrap();
        rig.driver.add(&two).unwrap();
        rig.record();
        assert_eq!(rig.driver.add(&two), Err(AddError::Full { needed: 1, free: 0 }));
        let backwards = [writable(1, 1), readable(1, 1)];
        assert_eq!(rig.driver.add(&backwards), Err(AddError::ReadableAfterWritable));
        assert_eq!(rig.driver.add(&[readable(1, 1); 3]), Err(AddError::TooLong));
        assert_eq!(rig.recorded(), [vec![], vec![], vec![]]);
        assert_eq!(rig.tables.recorded(), []);
    }
}

#[test]
fn spec_2_7_5_3_2_a_table_may_end_a_chain_of_direct_descriptors() {
    let mut rig = rig(8, false, true);
    let mut chain = Chain::new();
    // Nobody here makes such a chain: by hand.
    let put = |window: &Fake, at, address: u64, len: u64, flags: u16, next: u64| {
        window.poke(at, address);
        window.poke(at + 8, len | u64::from(flags) << 32 | next << 48);
    };
    put(&rig.parts.descriptors, 0, 0x1000, 10, DESC_NEXT, 5);
    // WRITE beside INDIRECT is ignored.
    put(&rig.parts.descriptors, 16 * 5, TABLES, 48, DESC_INDIRECT | DESC_WRITE, 9);
    put(&rig.tables, 0, 0x2000, 20, DESC_NEXT, 2);
    put(&rig.tables, 32, 0x3000, 30, DESC_WRITE, 0);
    rig.parts.avail.poke(0, 1_u32 << 16);
    assert_eq!(rig.pop(&mut chain), Ok(Some(0)));
    let expected = [readable(0x1000, 10), readable(0x2000, 20), writable(0x3000, 30)];
    assert_eq!(chain.segments(), expected);
}

#[test]
fn a_table_need_not_be_aligned() {
    for shift in [1_u64, 2, 4, 9] {
        let mut rig = rig(8, true, true);
        let mut chain = Chain::new();
        let halves = [0x1000, 10 | u64::from(DESC_NEXT) << 32 | 1 << 48, 0x2000, 20];
        for (at, half) in (0..).step_by(8).zip(halves) {
            rig.tables.poke::<u64>(shift + at, half);
        }
        rig.parts.descriptors.poke(0, TABLES + shift);
        rig.parts.descriptors.poke(8, 32 | u64::from(DESC_INDIRECT) << 32);
        rig.parts.avail.poke(0, 1_u32 << 16);
        assert_eq!(rig.pop(&mut chain), Ok(Some(0)));
        assert_eq!(chain.segments(), [readable(0x1000, 10), readable(0x2000, 20)]);
    }
}

#[test]
fn the_longest_table_passes() {
    let mut rig = rig(64, true, true);
    let segments: Vec<_> = (1..=32).map(|i| readable(i, 1)).collect();
    let (parts, slots) = rig.driver.into_parts();
    let entries = u16::try_from(MAX_CHAIN).unwrap();
    let options = RingOptions { indirect: true, ..options(64, true, true) };
    let window = Fake::new(64 * 512);
    let base = BusAddress::new(0x90_0000);
    let tables = IndirectTables { window: window.clone(), base, entries };
    let region = crate::region::Region { id: 2, base, rights: crate::region::Rights::READ, window };
    rig.regions.insert(region).unwrap();
    rig.driver =
        super::rig::Driver::new(parts, slots, options).unwrap().with_tables(tables).unwrap();
    let mut chain = Chain::new();
    for head in 0..64 {
        assert_eq!(rig.driver.add(&segments), Ok(head));
    }
    let _ = rig.driver.publish();
    for head in 0..64 {
        assert_eq!(rig.pop(&mut chain), Ok(Some(head)));
        assert_eq!(chain.segments(), segments);
    }
}

#[test]
fn tables_that_do_not_fit_are_refused() {
    let driver = || Rig::new(8, true, true).driver;
    let tables = |len, base| IndirectTables {
        window: Fake::new(len),
        base: BusAddress::new(base),
        entries: 4,
    };
    assert_eq!(IndirectTables::<Fake>::bytes(rig(8, true, true).size, 4), 512);
    assert!(driver().with_tables(tables(512, 0x1000)).is_ok());
    let refused = |len, base| driver().with_tables(tables(len, base)).unwrap_err();
    assert_eq!(refused(511, 0x1000), SetupError::PartShort { found: 511, needed: 512 });
    assert_eq!(refused(512, 0x1008), SetupError::TableAddress);
    assert_eq!(refused(512, u64::MAX - 511 + 16), SetupError::TableAddress);
    assert_eq!(refused(512, (1 << 63) - 256), SetupError::TableAddress);
    assert!(driver().with_tables(tables(512, u64::MAX - 511)).is_ok());
}

#[test]
fn in_order_a_table_costs_its_descriptors_and_the_index() {
    let mut rig = rig(8, true, true);
    let mut chain = Chain::new();
    let segments = |len| [readable(0x1000, len), writable(0x2000, 64), writable(0x3000, 1)];
    for lap in 0..40_u32 {
        let lens = [5, 0];
        rig.record();
        for len in lens {
            rig.driver.add(&segments(len + lap)).unwrap();
        }
        let _ = rig.driver.publish();
        let [descriptors, avail, used] = rig.recorded();
        let tables = rig.tables.recorded();
        assert_eq!(stores(&tables).len(), 2 * 3 * 2, "two halves for each segment");
        // Each head's table and its length stay what they are.
        assert_eq!(stores(&descriptors).len(), if lap < 4 { 2 * 2 } else { 0 }, "lap {lap}");
        assert_eq!(stores(&avail).len(), 1, "R5: the index word, no entry");
        assert_eq!(used.len(), 1, "one look at the event word");
        assert!(!tables.iter().any(|access| matches!(access, Access::Load { .. })));
        while let Some(head) = rig.pop(&mut chain).unwrap() {
            rig.device.complete(head, 3, UsedEntry::Own).unwrap();
        }
        let _ = rig.device.publish();
        while rig.driver.take().unwrap().is_some() {}
    }
    assert_eq!(rig.driver.stats().address_rewrites, 0);
}

#[test]
fn popping_a_table_loads_each_half_once() {
    let mut rig = rig(8, true, true);
    let mut chain = Chain::new();
    rig.driver.add(&[readable(1, 1), readable(2, 2)]).unwrap();
    let _ = rig.driver.publish();
    rig.record();
    assert_eq!(rig.pop(&mut chain), Ok(Some(0)));
    let [descriptors, ..] = rig.recorded();
    let loads = [0, 8].map(|offset| Access::Load { offset, bytes: 8 });
    assert_eq!(descriptors, loads);
    assert_eq!(
        rig.tables.recorded(),
        [0, 8, 16, 24].map(|offset| Access::Load { offset, bytes: 8 })
    );
}
