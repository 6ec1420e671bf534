//! "Flip after read": a window whose words change once they were read shows
//! that each is read at most once an operation, and only that value used.

use std::collections::HashSet;

use super::rig::{Access, Fake, Rig, options};
use super::traffic::{readable, writable};
use crate::virtq::{Chain, Completion, UsedEntry};

/// Runs `operation` while every word of the queue flips after its first load.
fn lied_to<T>(rig: &mut Rig, operation: impl FnOnce(&mut Rig) -> T) -> T {
    let parts = &rig.parts;
    let windows: [Fake; 3] = [parts.descriptors.clone(), parts.avail.clone(), parts.used.clone()];
    for window in &windows {
        window.record();
        window.flip_after_load(true);
    }
    let result = operation(rig);
    for window in &windows {
        window.flip_after_load(false);
        let mut seen = HashSet::new();
        for access in window.recorded() {
            if let Access::Load { offset, bytes } = access {
                for word in (offset..offset + bytes).step_by(4) {
                    assert!(seen.insert(word), "the word at {word} is read twice");
                }
            }
        }
    }
    result
}

fn every_kind() -> impl Iterator<Item = Rig> {
    [(false, false, 0), (false, true, 4), (true, false, 4), (true, true, 0), (true, true, 4)]
        .into_iter()
        .map(|(in_order, event_idx, at)| Rig::placed(options(8, in_order, event_idx), 0, at))
}

#[test]
fn pop_reads_each_word_once() {
    for mut rig in every_kind() {
        let segments = [readable(0x10_0000, 12), readable(0x20_0000, 70), writable(0x30_0000, 5)];
        let head = rig.driver.add(&segments).unwrap();
        let _ = rig.driver.publish();
        let mut chain = Chain::new();
        assert_eq!(lied_to(&mut rig, |rig| rig.device.pop(&mut chain)), Ok(Some(head)));
        assert_eq!(chain.segments(), segments);
    }
}

#[test]
fn take_reads_each_word_once() {
    for mut rig in every_kind() {
        let head = rig.driver.add(&[writable(0x1000, 500)]).unwrap();
        let _ = rig.driver.publish();
        rig.device.pop(&mut Chain::new()).unwrap();
        rig.device.complete(head, 321, UsedEntry::Own).unwrap();
        let _ = rig.device.publish();
        let taken = lied_to(&mut rig, |rig| rig.driver.take());
        assert_eq!(taken, Ok(Some(Completion { head, len: 321 })));
    }
}

#[test]
fn a_batch_is_expanded_from_one_reading() {
    let mut rig = Rig::new(8, true, true);
    for i in 0..5 {
        rig.driver.add(&[writable(0x1000, 100 + i)]).unwrap();
    }
    let _ = rig.driver.publish();
    let mut chain = Chain::new();
    while let Some(head) = rig.device.pop(&mut chain).unwrap() {
        rig.device.complete(head, chain.writable_len(), UsedEntry::MaySkip).unwrap();
    }
    let _ = rig.device.publish();
    let taken =
        lied_to(&mut rig, |rig| std::array::from_fn(|_| rig.driver.take().unwrap().unwrap().len));
    assert_eq!(taken, [100, 101, 102, 103, 104]);
}

#[test]
fn looks_and_publishes_read_one_word() {
    for mut rig in every_kind() {
        rig.driver.add(&[writable(0x1000, 500)]).unwrap();
        assert!(lied_to(&mut rig, |rig| rig.driver.publish()));
    }
    for mut rig in every_kind() {
        let head = rig.driver.add(&[writable(0x1000, 500)]).unwrap();
        let _ = rig.driver.publish();
        assert_eq!(rig.device.pop(&mut Chain::new()), Ok(Some(head)));
        rig.device.complete(head, 0, UsedEntry::Own).unwrap();
        assert!(lied_to(&mut rig, |rig| rig.device.publish()));
        assert_eq!(lied_to(&mut rig, |rig| rig.driver.pending()), Ok(1));
    }
    for mut rig in every_kind() {
        rig.driver.add(&[writable(0x1000, 500)]).unwrap();
        let _ = rig.driver.publish();
        assert_eq!(lied_to(&mut rig, |rig| rig.device.available()), Ok(1));
    }
}

#[test]
fn arming_reads_the_index_once_and_ignores_what_it_reads_back() {
    for mut rig in every_kind() {
        assert_eq!(lied_to(&mut rig, |rig| rig.driver.arm()), Ok(true));
    }
    for mut rig in every_kind() {
        assert_eq!(lied_to(&mut rig, |rig| rig.device.arm()), Ok(true));
    }
    for mut rig in every_kind() {
        let _ = rig.driver.add(&[readable(1, 1)]).unwrap();
        let _ = rig.driver.publish();
        assert_eq!(lied_to(&mut rig, |rig| rig.device.arm()), Ok(false));
        let mut chain = Chain::new();
        // The index was flipped behind the look: what was seen still holds.
        assert_eq!(rig.device.pop(&mut chain), Ok(Some(0)));
    }
}
