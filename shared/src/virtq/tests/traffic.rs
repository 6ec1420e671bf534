//! Both sides against each other.

use super::rig::Rig;
use crate::address::BusAddress;
use crate::virtq::{Chain, Completion, Segment, UsedEntry};

pub(super) fn readable(address: u64, len: u32) -> Segment {
    Segment { address: BusAddress::new(address), len, writable: false }
}

pub(super) fn writable(address: u64, len: u32) -> Segment {
    Segment { address: BusAddress::new(address), len, writable: true }
}

#[test]
fn one_buffer_goes_there_and_back() {
    for (in_order, event_idx) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut rig = Rig::new(4, in_order, event_idx);
        let mut chain = Chain::new();
        assert_eq!(rig.device.pop(&mut chain), Ok(None));
        let segments = [readable(0x1000, 12), writable(0x2000, 100)];
        let head = rig.driver.add(&segments).unwrap();
        assert_eq!(rig.device.pop(&mut chain), Ok(None), "not published yet");
        assert!(rig.driver.publish(), "the first entry is notified");
        assert_eq!(rig.device.pop(&mut chain), Ok(Some(head)));
        assert_eq!(chain.segments(), segments);
        assert_eq!((chain.readable_len(), chain.writable_len()), (12, 100));
        rig.device.complete(head, 60, UsedEntry::Own).unwrap();
        assert_eq!(rig.driver.take(), Ok(None), "not published yet");
        assert!(rig.device.publish());
        assert_eq!(rig.driver.take(), Ok(Some(Completion { head, len: 60 })));
        assert_eq!((rig.driver.take(), rig.driver.free()), (Ok(None), 4));
    }
}
