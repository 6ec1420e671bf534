//! A queue's second life, behind a reset that the device has confirmed
//! (VirtIO 1.3 §2.6.1).

use super::rig::{Device, Rig, options};
use super::traffic::{readable, writable};
use crate::fault::PeerFault;
use crate::virtq::{
    Chain, Completion, DeviceQueue, DeviceSlot, QueueSize, RingOptions, SetupError, UsedEntry,
};

fn every_kind() -> impl Iterator<Item = RingOptions> {
    [false, true].into_iter().flat_map(|in_order| {
        [(false, false), (false, true), (true, true)].map(|(event_idx, indirect)| RingOptions {
            indirect,
            ..options(8, in_order, event_idx)
        })
    })
}

/// A device that takes the queue over anew.
fn device(rig: &Rig, options: RingOptions) -> Device {
    let slots = vec![DeviceSlot::default(); usize::from(options.size.get())];
    DeviceQueue::new(rig.parts.clone(), slots, options).unwrap()
}

/// A queue of 8 in mid-traffic: some returned and not taken, some held by the
/// device, some not popped, one not published.
fn in_mid_traffic(options: RingOptions) -> Rig {
    let mut rig = Rig::with(options);
    let mut chain = Chain::new();
    for round in 0..11_u64 {
        rig.driver.add(&[readable(round, 4), writable(round, 5)]).unwrap();
        let _ = rig.driver.publish();
        let head = rig.pop(&mut chain).unwrap().unwrap();
        rig.device.complete(head, 3, UsedEntry::Own).unwrap();
        let _ = rig.device.publish();
        rig.driver.take().unwrap().unwrap();
    }
    for address in 1..=5 {
        rig.driver.add(&[writable(0x1000 * address, 64)]).unwrap();
    }
    let _ = rig.driver.publish();
    let head = rig.pop(&mut chain).unwrap().unwrap();
    rig.pop(&mut chain).unwrap().unwrap();
    rig.device.complete(head, 7, UsedEntry::Own).unwrap();
    let _ = rig.device.publish();
    rig.driver.add(&[writable(0x9000, 64)]).unwrap();
    rig.driver.park();
    rig.device.park();
    rig
}

/// Buffers go there and back as in a queue that is new.
fn works(rig: &mut Rig) {
    let mut chain = Chain::new();
    for round in 0..40_u64 {
        let segments = [readable(0x100 + round, 20), writable(0x200 + round, 30)];
        let head = rig.driver.add(&segments).unwrap();
        let _ = rig.driver.publish();
        assert_eq!(rig.pop(&mut chain), Ok(Some(head)));
        assert_eq!(chain.segments(), segments);
        rig.device.complete(head, 30, UsedEntry::Own).unwrap();
        let _ = rig.device.publish();
        assert_eq!(rig.driver.take(), Ok(Some(Completion { head, len: 30 })));
        assert_eq!(rig.driver.take(), Ok(None));
    }
}

#[test]
fn all_buffers_come_back_and_the_rings_are_as_new() {
    for options in every_kind() {
        let mut rig = in_mid_traffic(options);
        assert_eq!((rig.driver.buffers(), rig.driver.in_flight()), (6, 6));
        let stats = rig.driver.stats();
        rig.driver.restart(options).unwrap();
        assert_eq!((rig.driver.buffers(), rig.driver.in_flight(), rig.driver.free()), (0, 0, 8));
        assert_eq!((rig.driver.stats(), rig.driver.options()), (stats, options));
        let new = Rig::with(options);
        for half in 0..16 {
            assert_eq!(rig.parts.descriptors.peek::<u64>(8 * half), 0);
        }
        for word in 0..6 {
            let [ours, fresh] = [&rig, &new].map(|rig| rig.parts.avail.peek::<u32>(4 * word));
            assert_eq!(ours, fresh, "avail word {word}");
        }
        for word in 0..18 {
            assert_eq!(rig.parts.used.peek::<u32>(4 + 4 * word), 0, "used word {word}");
        }
        rig.device = device(&rig, options);
        assert!(rig.driver.add(&[writable(1, 1)]).is_ok());
        assert!(rig.driver.publish(), "the first entry is notified");
        let mut chain = Chain::new();
        let head = rig.pop(&mut chain).unwrap().unwrap();
        rig.device.complete(head, 0, UsedEntry::Own).unwrap();
        assert!(rig.device.publish(), "the first entry is notified");
        assert!(rig.driver.take().unwrap().is_some());
        works(&mut rig);
    }
}

#[test]
fn another_size_and_the_old_one_again() {
    for options in every_kind() {
        let mut rig = in_mid_traffic(options);
        for size in [2, 4, 8] {
            let options = RingOptions { size: QueueSize::try_from(size).unwrap(), ..options };
            rig.driver.restart(options).unwrap();
            assert_eq!(u32::from(rig.driver.size()), size);
            rig.device = device(&rig, options);
            works(&mut rig);
        }
    }
}

#[test]
fn a_size_that_does_not_fit_changes_nothing() {
    let options = options(8, true, true);
    let mut rig = in_mid_traffic(options);
    rig.record();
    let larger = RingOptions { size: QueueSize::try_from(16).unwrap(), ..options };
    assert_eq!(rig.driver.restart(larger), Err(SetupError::PartShort { found: 128, needed: 256 }));
    assert_eq!(rig.recorded(), [vec![], vec![], vec![]]);
    assert_eq!(rig.driver.buffers(), 6);
}

#[test]
fn a_broken_queue_is_mended() {
    for options in every_kind() {
        let mut rig = in_mid_traffic(options);
        rig.parts.used.poke(4, 0x7777_0000_u32);
        assert!(rig.driver.take().is_err());
        rig.driver.restart(options).unwrap();
        assert_eq!(rig.driver.fault(), None);
        rig.device = device(&rig, options);
        works(&mut rig);
    }
}

#[test]
fn late_words_of_the_old_life_return_nothing() {
    // A device that goes on as if nothing had happened: it completes what it
    // held, and publishes. Nothing is in flight, so nothing is believed.
    for options in every_kind() {
        let mut rig = in_mid_traffic(options);
        let mut old = rig.clone_device();
        rig.driver.restart(options).unwrap();
        assert_eq!(old.in_flight(), 1);
        let held = (0..8).find(|head| old.complete(*head, 9, UsedEntry::Own).is_ok());
        assert!(held.is_some());
        let _ = old.publish();
        let fault = rig.driver.take().unwrap_err();
        assert_eq!(fault, PeerFault::UsedIndexAhead { claimed: 13, limit: 0 });
    }
}

#[test]
fn late_entries_name_nobody() {
    // Buffers of the new life are published; the old life's words come behind
    // that, in any state of the index that can be believed at all.
    for options in every_kind() {
        for published in 1..=3_u16 {
            for index in 0..=4_u16 {
                for id in 0..8_u16 {
                    let mut rig = in_mid_traffic(options);
                    rig.driver.restart(options).unwrap();
                    let heads: Vec<u16> = (1..=published)
                        .map(|i| rig.driver.add(&[writable(u64::from(i), 64)]).unwrap())
                        .collect();
                    let _ = rig.driver.publish();
                    let entry = u64::from(id) | 7 << 32;
                    (0..8).for_each(|place| rig.parts.used.poke(8 + 8 * place, entry));
                    rig.parts.used.poke(4, u32::from(index) << 16);
                    let mut taken = Vec::new();
                    let fault = loop {
                        match rig.driver.take() {
                            Ok(Some(completion)) => taken.push(completion.head),
                            Ok(None) => break None,
                            Err(fault) => break Some(fault),
                        }
                    };
                    assert!(taken.iter().all(|head| heads.contains(head)), "{taken:?}");
                    let mut once = taken.clone();
                    once.dedup();
                    assert_eq!(once, taken, "returned twice");
                    let told = usize::from(index.min(published));
                    assert!(fault.is_some() || taken.len() == told);
                    assert!(fault.is_some() || index <= published, "{index} of {published}");
                }
            }
        }
    }
}
