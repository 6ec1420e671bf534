//! R5 as counts: what is not written. And R4 as order: which access comes
//! before which.

use super::rig::{Access, Rig, options, stores};
use super::traffic::{readable, writable};
use crate::virtq::{Chain, RingOptions, SleepFlush, UsedEntry};
use crate::window::Barrier;

/// A queue of 64 in order, with buffer `i` always at head `i`, gone around
/// twice in batches of 32. `len` is what each frame has.
fn warm(to_device: bool) -> Rig {
    let mut rig = Rig::new(64, true, true);
    for _ in 0..4 {
        lap(&mut rig, to_device, |_| 64, 32);
    }
    rig
}

fn post(rig: &mut Rig, to_device: bool, len: impl Fn(u32) -> u32, batch: u32) {
    for i in 0..batch {
        let head = rig.driver.next_head().unwrap();
        let address = 0x1000 * (1 + u64::from(head));
        let segment = if to_device { readable(address, len(i)) } else { writable(address, 2048) };
        rig.driver.add(&[segment]).unwrap();
    }
    let _ = rig.driver.publish();
}

fn serve(rig: &mut Rig, to_device: bool, len: impl Fn(u32) -> u32, batch: u32) {
    let mut chain = Chain::new();
    for i in 0..batch {
        let head = rig.device.pop(&mut chain).unwrap().unwrap();
        let (len, entry) =
            if to_device { (0, UsedEntry::MaySkip) } else { (len(i), UsedEntry::Own) };
        rig.device.complete(head, len, entry).unwrap();
    }
    let _ = rig.device.publish();
}

fn collect(rig: &mut Rig, batch: u32) {
    for _ in 0..batch {
        assert!(rig.driver.take().unwrap().is_some());
    }
    assert_eq!(rig.driver.take(), Ok(None));
}

fn lap(rig: &mut Rig, to_device: bool, len: impl Fn(u32) -> u32 + Copy, batch: u32) {
    rig.driver.park();
    rig.device.park();
    post(rig, to_device, len, batch);
    serve(rig, to_device, len, batch);
    collect(rig, batch);
}

#[test]
fn posting_receive_buffers_again_is_one_store_a_batch() {
    let mut rig = warm(false);
    rig.record();
    post(&mut rig, false, |_| 0, 32);
    let [descriptors, avail, used] = rig.recorded();
    assert_eq!(stores(&descriptors), []);
    assert_eq!(stores(&avail), [(0, 4, (128 + 32) << 16)]);
    assert_eq!(stores(&used), []);
}

#[test]
fn sending_is_one_half_a_frame_and_one_index_a_batch() {
    let mut rig = warm(true);
    rig.record();
    post(&mut rig, true, |i| 100 + i, 32);
    let [descriptors, avail, _] = rig.recorded();
    let halves = stores(&descriptors);
    assert_eq!(halves.len(), 32);
    for (i, (offset, bytes, value)) in (0_u64..).zip(halves) {
        assert_eq!((offset, bytes), (16 * i + 8, 8), "a second half");
        assert_eq!(value, 100 + i);
    }
    assert_eq!(stores(&avail).len(), 1);
    assert_eq!(rig.driver.stats().address_rewrites, 0);
}

#[test]
fn a_frame_as_long_as_the_last_one_here_costs_nothing() {
    let mut rig = warm(true);
    rig.record();
    post(&mut rig, true, |_| 64, 32);
    let [descriptors, avail, _] = rig.recorded();
    assert_eq!((stores(&descriptors).len(), stores(&avail).len()), (0, 1));
}

#[test]
fn a_slot_that_moves_between_push_and_pull_writes_both_halves_and_is_counted() {
    let mut rig = warm(true);
    rig.record();
    rig.driver.add(&[readable(0xABCD_0000, 9000)]).unwrap();
    let [descriptors, _, _] = rig.recorded();
    assert_eq!(stores(&descriptors), [(0, 8, 0xABCD_0000), (8, 8, 9000)]);
    assert_eq!(rig.driver.stats().address_rewrites, 1);
}

#[test]
fn returning_a_sent_batch_is_one_entry_and_the_index() {
    let mut rig = warm(true);
    post(&mut rig, true, |_| 64, 32);
    rig.record();
    serve(&mut rig, true, |_| 0, 32);
    let [_, _, used] = rig.recorded();
    // What this slot said two batches ago: id 31, len 0. Nothing but the index.
    assert_eq!(stores(&used), [(4, 4, (128 + 32) << 16)]);

    // Another batch size: the entry differs.
    collect(&mut rig, 32);
    post(&mut rig, true, |_| 64, 20);
    rig.record();
    serve(&mut rig, true, |_| 0, 20);
    let [_, _, used] = rig.recorded();
    assert_eq!(stores(&used), [(8 + 8 * 32, 8, 32 + 19), (4, 4, (128 + 52) << 16)]);
}

#[test]
fn returning_received_frames_is_one_store_each_and_the_index() {
    let mut rig = warm(false);
    post(&mut rig, false, |_| 0, 32);
    rig.record();
    serve(&mut rig, false, |i| 200 + i, 32);
    let [_, _, used] = rig.recorded();
    let stores = stores(&used);
    assert_eq!(stores.len(), 33);
    for (i, store) in (0_u64..32).zip(&stores) {
        assert_eq!(*store, (8 + 8 * i, 8, i | (200 + i) << 32), "id and len as one word");
    }
    assert_eq!(stores.last(), Some(&(4, 4, (128 + 32) << 16)));
}

#[test]
fn a_packet_in_several_buffers_is_one_entry_at_its_first_slot() {
    let mut rig = warm(false);
    post(&mut rig, false, |_| 0, 4);
    rig.record();
    let mut chain = Chain::new();
    for _ in 0..3 {
        let head = rig.device.pop(&mut chain).unwrap().unwrap();
        rig.device.complete(head, 2048, UsedEntry::MaySkip).unwrap();
    }
    let head = rig.device.pop(&mut chain).unwrap().unwrap();
    rig.device.complete(head, 77, UsedEntry::Own).unwrap();
    let _ = rig.device.publish();
    let [_, _, used] = rig.recorded();
    assert_eq!(stores(&used), [(8, 8, 3 | 77 << 32), (4, 4, (128 + 4) << 16)]);
}

#[test]
fn a_narrow_used_ring_gets_only_the_words_that_differ() {
    let mut rig = Rig::placed(options(4, true, true), 0, 0);
    let mut chain = Chain::new();
    for (lap, expected) in [(0, 2), (1, 1), (2, 0)] {
        for i in 0..4 {
            rig.driver.add(&[writable(1 + i, 100)]).unwrap();
        }
        let _ = rig.driver.publish();
        rig.record();
        while let Some(head) = rig.device.pop(&mut chain).unwrap() {
            rig.device.complete(head, if lap == 0 { 5 } else { 6 }, UsedEntry::Own).unwrap();
        }
        let _ = rig.device.publish();
        let [_, _, used] = rig.recorded();
        // Head 0's id is zero from the set-up on.
        let entries = stores(&used).len() - 1;
        assert_eq!(entries, 4 * expected - usize::from(lap == 0), "lap {lap}");
        collect(&mut rig, 4);
    }
}

#[test]
fn the_driver_never_reads_slots_that_were_skipped() {
    let mut rig = warm(true);
    post(&mut rig, true, |_| 64, 32);
    serve(&mut rig, true, |_| 0, 32);
    rig.record();
    collect(&mut rig, 32);
    let [_, _, used] = rig.recorded();
    // The index, one entry for 32 buffers, and the index again to find no more.
    let loads: Vec<_> = used.iter().filter(|a| matches!(a, Access::Load { .. })).collect();
    assert_eq!(loads.len(), 3);
    assert_eq!(loads.get(1), Some(&&Access::Load { offset: 8, bytes: 8 }));
}

#[test]
fn the_prefilled_avail_ring_is_never_written_again() {
    let mut rig = Rig::new(8, true, true);
    rig.record();
    for batch in [1, 8, 3, 5, 7, 8, 2] {
        for _ in 0..3000 {
            lap(&mut rig, true, |i| i, batch);
        }
    }
    let [_, avail, _] = rig.recorded();
    assert!(stores(&avail).iter().all(|(offset, ..)| *offset == 0 || *offset == 20));
}

#[test]
fn entries_are_written_in_pairs_and_only_if_they_differ() {
    let mut rig = Rig::new(4, false, true);
    rig.record();
    let mut added = || rig.driver.add(&[readable(1, 1)]).unwrap();
    assert_eq!((added(), added(), added()), (0, 1, 2));
    let [_, avail, _] = rig.recorded();
    // Head 0 in entry 0 is what the set-up left there.
    assert_eq!(stores(&avail), [(4, 4, 1 << 16), (8, 4, 2)]);
}

#[test]
fn no_side_reads_what_it_wrote() {
    let mut rig = warm(true);
    rig.record();
    post(&mut rig, true, |i| i, 32);
    collect_loads(&rig, 0);
    serve(&mut rig, true, |_| 0, 32);
    rig.recorded();
    rig.record();
    collect(&mut rig, 32);
    collect_loads(&rig, 0);
}

/// Loads of descriptors and avail, which only the driver writes.
fn collect_loads(rig: &Rig, expected: usize) {
    let [descriptors, avail, _] = rig.recorded();
    let loads = |accesses: &[Access]| {
        accesses.iter().filter(|access| matches!(access, Access::Load { .. })).count()
    };
    assert_eq!(loads(&descriptors) + loads(&avail), expected);
    rig.record();
}

#[test]
fn spec_2_7_13_publishing_in_order() {
    // Driver: entries, write barrier, index, full barrier; and only then the
    // load of the event word.
    let mut rig = Rig::new(4, false, true);
    rig.driver.add(&[readable(1, 1)]).unwrap();
    rig.driver.add(&[readable(1, 1)]).unwrap();
    rig.record();
    assert!(rig.driver.publish());
    let [_, avail, used] = rig.recorded();
    assert_eq!(
        avail,
        [
            Access::Barrier(Barrier::Write),
            Access::Store { offset: 0, bytes: 4, value: 2 << 16 },
            Access::Barrier(Barrier::Full),
        ]
    );
    assert_eq!(used, [Access::Load { offset: 4 + 4 + 32, bytes: 4 }]);
    assert!(!rig.driver.publish(), "nothing new");
    assert_eq!(rig.driver.stats().notifications, 1);
}

#[test]
fn the_sleeper_flushes_where_it_must() {
    for (sleep_flush, event_idx) in [
        (SleepFlush::ReadBack, true),
        (SleepFlush::ReadBack, false),
        (SleepFlush::LookFlushes, true),
        (SleepFlush::LookFlushes, false),
    ] {
        let mut rig = Rig::with(RingOptions { sleep_flush, ..options(4, true, event_idx) });
        rig.driver.park();
        rig.record();
        assert_eq!(rig.driver.arm(), Ok(true));
        let [_, avail, used] = rig.recorded();
        let word = if event_idx { 12 } else { 0 };
        let mut expected = vec![
            Access::Store { offset: word, bytes: 4, value: 0 },
            Access::Barrier(Barrier::Full),
        ];
        if sleep_flush == SleepFlush::ReadBack {
            expected.push(Access::Load { offset: word, bytes: 4 });
        }
        assert_eq!(avail, expected);
        assert_eq!(used, [Access::Barrier(Barrier::Read), Access::Load { offset: 4, bytes: 4 }]);
        // After a wake-up that found nothing: no store, but all the rest again.
        rig.record();
        assert_eq!(rig.driver.arm(), Ok(true));
        let [_, avail, _] = rig.recorded();
        assert_eq!(avail, expected.split_off(1));
        let flushes = if sleep_flush == SleepFlush::ReadBack { 2 } else { 0 };
        assert_eq!(rig.driver.stats().flushes, flushes);
    }
}

#[test]
fn the_flushing_publisher_reads_its_own_event_word_back() {
    let mut rig = Rig::with(RingOptions { publish_flush: true, ..options(4, true, true) });
    rig.driver.add(&[readable(1, 1)]).unwrap();
    rig.record();
    assert!(rig.driver.publish());
    let [_, avail, _] = rig.recorded();
    assert_eq!(
        avail.get(2..),
        Some(
            &[
                Access::Barrier(Barrier::Full),
                Access::Load { offset: 12, bytes: 4 },
                Access::Barrier(Barrier::Read),
            ][..]
        )
    );
    assert_eq!(rig.driver.stats().publish_flushes, 1);
}

#[test]
fn awake_the_event_word_is_stored_once_in_sixteen_thousand_entries() {
    let mut rig = warm(true);
    rig.record();
    let laps = 65_536 / 32;
    for _ in 0..laps {
        lap(&mut rig, true, |_| 64, 32);
    }
    let [_, avail, used] = rig.recorded();
    let events = |accesses: &[Access], at| {
        stores(accesses).iter().filter(|(offset, ..)| *offset == at).count()
    };
    assert!(events(&avail, 4 + 128) <= 4);
    assert!(events(&used, 8 + 512) <= 4);
    assert_eq!(events(&avail, 0), laps);
    let (driver, device) = (rig.driver.stats(), rig.device.stats());
    assert_eq!((driver.notifications, device.notifications), (0, 0));
}

#[test]
fn the_flag_is_stored_when_it_changes_and_keeps_the_index() {
    let mut rig = Rig::new(4, true, false);
    rig.driver.add(&[readable(1, 1)]).unwrap();
    let _ = rig.driver.publish();
    rig.driver.add(&[readable(1, 1)]).unwrap();
    rig.record();
    rig.driver.park();
    rig.driver.park();
    let [_, avail, _] = rig.recorded();
    assert_eq!(stores(&avail), [(0, 4, 1 << 16 | 1)], "the index that is published, not 2");
    rig.record();
    assert_eq!(rig.driver.arm(), Ok(true));
    let [_, avail, _] = rig.recorded();
    assert_eq!(stores(&avail), [(0, 4, 1 << 16)]);
}
