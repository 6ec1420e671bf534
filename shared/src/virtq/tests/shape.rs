//! Sizes, set-up and what a caller can do wrong.

use super::rig::{Rig, options};
use super::traffic::{readable, writable};
use crate::virtq::layout::{self, used_is_wide};
use crate::virtq::{
    AddError, Chain, CompleteError, DeviceQueue, DeviceSlot, DriverQueue, DriverSlot, MAX_CHAIN,
    Parts, QueueSize, SetupError, UsedEntry,
};

#[test]
fn records_are_small() {
    assert!(size_of::<DriverSlot>() <= 32, "{}", size_of::<DriverSlot>());
    assert!(size_of::<DeviceSlot>() <= 8, "{}", size_of::<DeviceSlot>());
    assert!(size_of::<Chain>() <= 1024, "{}", size_of::<Chain>());
}

#[test]
fn queue_sizes() {
    for size in 0..=70_000_u32 {
        let good = size.is_power_of_two() && (2..=32768).contains(&size);
        assert_eq!(QueueSize::try_from(size).is_ok(), good, "{size}");
    }
    assert!(QueueSize::try_from(1 << 31).is_err());
    assert_eq!(QueueSize::MIN.get(), 2);
    assert_eq!(QueueSize::MAX.get(), 32768);
}

#[test]
fn every_word_has_its_place() {
    for shift in 1..=15 {
        let size = QueueSize::try_from(1 << shift).unwrap();
        let n = u64::from(size.get());
        assert_eq!(size.descriptor_table_len(), 16 * n);
        assert_eq!(size.avail_len(), 4 + 2 * n + 4);
        assert_eq!(size.used_len(), 4 + 8 * n + 4);
        assert_eq!(layout::used_event(0, size), 4 + 2 * n);
        assert_eq!(layout::avail_event(0, size), 4 + 8 * n);
        assert_eq!(layout::avail_event(4, size), 8 + 8 * n);
        let last = size.mask();
        assert_eq!(layout::descriptor_tail(last) + 8, size.descriptor_table_len());
        assert_eq!(layout::avail_pair(0, last) + 4, layout::used_event(0, size));
        assert_eq!(layout::avail_pair(0, last), layout::avail_pair(0, last - 1));
        assert_eq!(layout::used_len(4, last) + 4, layout::avail_event(4, size));
    }
    assert!(used_is_wide(4) && used_is_wide(12) && !used_is_wide(0) && !used_is_wide(8));
}

#[test]
fn the_spec_crate_reads_our_rings() {
    use virtio_spec::virtq::{Avail, Used};
    for size in [2_u16, 4, 256] {
        let ours = QueueSize::try_from(u32::from(size)).unwrap();
        // The other definition has no padding behind avail's event word.
        assert_eq!(Avail::layout(size, true).size() as u64 + 2, ours.avail_len());
        assert_eq!(Used::layout(size, true).size() as u64, ours.used_len());
    }
}

#[test]
fn a_fresh_queue_is_written_wholly() {
    for in_order in [false, true] {
        for (avail_at, used_at) in [(0, 4), (4, 0)] {
            // The rig's memory is full of rubbish before.
            let rig = Rig::placed(options(8, in_order, true), avail_at, used_at);
            for word in 0..16 {
                assert_eq!(rig.parts.descriptors.peek::<u64>(8 * word), 0);
            }
            assert_eq!(rig.parts.avail.peek::<u32>(avail_at), 0);
            for pair in 0..4_u32 {
                let entries = if in_order { (2 * pair) | ((2 * pair + 1) << 16) } else { 0 };
                assert_eq!(
                    rig.parts.avail.peek::<u32>(avail_at + 4 + 4 * u64::from(pair)),
                    entries
                );
            }
            assert_eq!(rig.parts.avail.peek::<u32>(avail_at + 20), 0);
            for word in 0..18 {
                assert_eq!(rig.parts.used.peek::<u32>(used_at + 4 * word), 0);
            }
        }
    }
}

#[test]
fn set_up_refuses_what_does_not_fit() {
    let options = options(8, true, true);
    let (parts, slots) = Rig::with(options).driver.into_parts();
    let (_, records) = Rig::with(options).device.into_parts();
    let short = |found, needed| SetupError::PartShort { found, needed };
    for (bad, error) in [
        (Parts { used_at: 8, ..parts.clone() }, short(76, 80)),
        (Parts { avail_at: 4, ..parts.clone() }, short(24, 28)),
        (Parts { used_at: 2, ..parts.clone() }, SetupError::Misaligned),
        (Parts { avail_at: 2, ..parts.clone() }, SetupError::Misaligned),
    ] {
        assert_eq!(DriverQueue::new(bad.clone(), slots.clone(), options).unwrap_err(), error);
        assert_eq!(DeviceQueue::new(bad, records.clone(), options).unwrap_err(), error);
    }
    let few: Vec<DriverSlot> = slots.into_iter().skip(1).collect();
    assert_eq!(
        DriverQueue::new(parts, few, options).unwrap_err(),
        SetupError::SlotsShort { found: 7, needed: 8 }
    );
}

#[test]
fn set_up_anew_forgets_everything() {
    let options = options(4, true, true);
    let mut rig = Rig::with(options);
    let mut chain = Chain::new();
    for i in 0..3 {
        rig.driver.add(&[writable(i + 1, 10)]).unwrap();
    }
    let _ = rig.driver.publish();
    let _ = rig.device.pop(&mut chain).unwrap();
    let (parts, slots) = rig.driver.into_parts();
    let (device_parts, records) = rig.device.into_parts();
    let mut driver = DriverQueue::new(parts, slots, options).unwrap();
    let mut device = DeviceQueue::new(device_parts, records, options).unwrap();
    assert_eq!((driver.free(), device.pop(&mut chain)), (4, Ok(None)));
    let head = driver.add(&[writable(9, 90)]).unwrap();
    assert!(driver.publish());
    assert_eq!(device.pop(&mut chain), Ok(Some(head)));
    assert_eq!(chain.segments(), [writable(9, 90)]);
}

#[test]
fn a_bad_buffer_is_refused_and_changes_nothing() {
    let mut rig = Rig::new(64, true, true);
    rig.record();
    let long = vec![readable(1, 1); MAX_CHAIN + 1];
    assert_eq!(rig.driver.add(&[]), Err(AddError::Empty));
    assert_eq!(rig.driver.add(&long), Err(AddError::TooLong));
    assert_eq!(
        rig.driver.add(&[writable(1, 1), readable(2, 1)]),
        Err(AddError::ReadableAfterWritable)
    );
    assert_eq!(rig.driver.add(&[readable(1, u32::MAX), writable(2, 1)]), Err(AddError::TooLarge));
    assert_eq!(rig.recorded(), [vec![], vec![], vec![]]);
    assert_eq!((rig.driver.free(), rig.driver.next_head()), (64, Some(0)));

    let mut small = Rig::new(2, false, true);
    assert_eq!(small.driver.add(&[readable(1, 1); 3]), Err(AddError::TooLong));
    small.driver.add(&[readable(1, 1)]).unwrap();
    assert_eq!(small.driver.add(&[readable(1, 1); 2]), Err(AddError::Full { needed: 2, free: 1 }));
    small.driver.add(&[readable(1, 1)]).unwrap();
    assert_eq!(small.driver.add(&[readable(1, 1)]), Err(AddError::Full { needed: 1, free: 0 }));
}

#[test]
fn the_longest_chain_passes() {
    for (in_order, size) in [(true, 32), (false, 32), (true, 64), (false, 64)] {
        let mut rig = Rig::new(size, in_order, true);
        let mut chain = Chain::new();
        let segments: Vec<_> = (1..=32).map(|i| readable(i, 1)).collect();
        for _ in 0..5 {
            let head = rig.driver.add(&segments).unwrap();
            let _ = rig.driver.publish();
            assert_eq!(rig.device.pop(&mut chain), Ok(Some(head)));
            assert_eq!(chain.segments(), segments);
            rig.device.complete(head, 0, UsedEntry::Own).unwrap();
            let _ = rig.device.publish();
            assert_eq!(rig.driver.take().unwrap().unwrap().head, head);
        }
    }
}

#[test]
fn spec_2_7_5_2_in_order_chains_use_descriptors_in_ring_order() {
    let mut rig = Rig::new(8, true, true);
    let mut chain = Chain::new();
    let mut due = 0;
    for segments in [3, 2, 5, 1, 4, 8, 7, 1, 1, 6] {
        let head = rig.driver.add(&vec![writable(1, 4); segments]).unwrap();
        assert_eq!(head, due);
        for i in 0..u16::try_from(segments).unwrap() - 1 {
            let index = (head + i) % 8;
            let next = rig.parts.descriptors.peek::<u64>(16 * u64::from(index) + 8) >> 48;
            assert_eq!(next, u64::from((index + 1) % 8), "descriptor {index}");
        }
        due = (due + u16::try_from(segments).unwrap()) % 8;
        let _ = rig.driver.publish();
        assert_eq!(rig.device.pop(&mut chain), Ok(Some(head)));
        rig.device.complete(head, 1, UsedEntry::Own).unwrap();
        let _ = rig.device.publish();
        assert_eq!(rig.driver.take().unwrap().unwrap().head, head);
    }
}

#[test]
fn the_device_caller_cannot_complete_what_it_does_not_hold() {
    let mut rig = Rig::new(4, true, true);
    let mut chain = Chain::new();
    for i in 0..3 {
        rig.driver.add(&[writable(1 + i, 10)]).unwrap();
    }
    let _ = rig.driver.publish();
    let complete = |rig: &mut Rig, head| rig.device.complete(head, 0, UsedEntry::Own);
    assert_eq!(complete(&mut rig, 0), Err(CompleteError::NotInFlight { head: 0 }));
    for head in 0..3 {
        assert_eq!(rig.device.pop(&mut chain), Ok(Some(head)));
    }
    assert_eq!(complete(&mut rig, 4), Err(CompleteError::NotInFlight { head: 4 }));
    assert_eq!(complete(&mut rig, 1), Err(CompleteError::OutOfOrder { head: 1, due: 0 }));
    assert_eq!(complete(&mut rig, 0), Ok(()));
    assert_eq!(complete(&mut rig, 0), Err(CompleteError::NotInFlight { head: 0 }));
    rig.device.unpop(9);
    assert_eq!((rig.device.in_flight(), rig.device.pop(&mut chain)), (0, Ok(Some(1))));
}
