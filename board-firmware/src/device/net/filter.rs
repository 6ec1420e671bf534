//! Which of the backend's frames the driver wants (VirtIO 1.3 §5.1.6.5.1 to
//! §5.1.6.5.3).
//!
//! After a reset it is promiscuous: a driver that never says what it wants gets
//! everything, as without a control queue.

use shared::wire::features::Features;
use shared::wire::net::feature;
use shared::wire::net_control::{MAC_TABLE, Mac, Macs, ReceiveSwitch, VLANS};

/// EtherType of a VLAN tag (IEEE 802.1Q).
const TAG: [u8; 2] = [0x81, 0x00];

/// Words of a bit for each VLAN.
const VLAN_WORDS: usize = VLANS as usize / u64::BITS as usize;

/// The receive filter.
#[derive(Debug)]
pub(super) struct Filter {
    /// One bit for each [`ReceiveSwitch`].
    switches: u8,
    unicast: Table,
    multicast: Table,
    /// With CTRL_VLAN: one bit for each VLAN that is wanted.
    vlans: Option<[u64; VLAN_WORDS]>,
}

/// Addresses that the driver wants.
#[derive(Debug)]
struct Table {
    macs: [Mac; MAC_TABLE],
    len: usize,
    /// There were too many, so all are wanted.
    all: bool,
}

impl Table {
    const EMPTY: Self = Self { macs: [[0; 6]; MAC_TABLE], len: 0, all: false };

    fn set(&mut self, macs: Macs<'_>) {
        let macs = match macs {
            Macs::These(macs) => macs,
            Macs::TooMany => &[],
        };
        self.len = 0;
        self.all = macs.len() > MAC_TABLE;
        for (place, mac) in self.macs.iter_mut().zip(macs) {
            *place = *mac;
            self.len += 1;
        }
    }

    fn has(&self, mac: &Mac) -> bool {
        self.all || self.macs.iter().take(self.len).any(|listed| listed == mac)
    }
}

const fn bit(switch: ReceiveSwitch) -> u8 {
    1 << switch as u8
}

impl Filter {
    /// What a driver that has accepted these features begins with.
    pub(super) fn new(features: Features) -> Self {
        Self {
            switches: bit(ReceiveSwitch::Promiscuous),
            unicast: Table::EMPTY,
            multicast: Table::EMPTY,
            vlans: features.has(feature::CTRL_VLAN).then_some([0; VLAN_WORDS]),
        }
    }

    /// Turns one kind of frames on or off.
    pub(super) const fn switch(&mut self, switch: ReceiveSwitch, on: bool) {
        self.switches = if on { self.switches | bit(switch) } else { self.switches & !bit(switch) };
    }

    /// Replaces both tables.
    pub(super) fn set_tables(&mut self, unicast: Macs<'_>, multicast: Macs<'_>) {
        for (table, macs) in [(&mut self.unicast, unicast), (&mut self.multicast, multicast)] {
            table.set(macs);
            table.all |= macs == Macs::TooMany;
        }
    }

    /// Adds a VLAN or takes it out.
    pub(super) fn set_vlan(&mut self, id: u16, wanted: bool) {
        let word = usize::from(id) / u64::BITS as usize;
        if let Some(word) = self.vlans.as_mut().and_then(|vlans| vlans.get_mut(word)) {
            let bit = 1 << (u32::from(id) % u64::BITS);
            *word = if wanted { *word | bit } else { *word & !bit };
        }
    }

    const fn is_on(&self, switch: ReceiveSwitch) -> bool {
        self.switches & bit(switch) != 0
    }

    /// Whether the driver, whose own address is `own`, wants this frame.
    pub(super) fn passes(&self, frame: &[u8], own: &Mac) -> bool {
        // What is no frame is somebody else's to refuse.
        let Some(to) = frame.first_chunk::<6>() else { return true };
        self.is_on(ReceiveSwitch::Promiscuous) || (self.wants(to, own) && self.wants_vlan(frame))
    }

    fn wants(&self, to: &Mac, own: &Mac) -> bool {
        use ReceiveSwitch::{AllMulticast, AllUnicast, NoBroadcast, NoMulticast, NoUnicast};
        let [first, ..] = to;
        if *to == [0xFF; 6] {
            return !self.is_on(NoBroadcast);
        }
        if first & 1 != 0 {
            let listed = self.is_on(AllMulticast) || self.multicast.has(to);
            return listed && !self.is_on(NoMulticast);
        }
        let listed = self.is_on(AllUnicast) || to == own || self.unicast.has(to);
        listed && !self.is_on(NoUnicast)
    }

    fn wants_vlan(&self, frame: &[u8]) -> bool {
        let Some(vlans) = &self.vlans else { return true };
        let Some((&TAG, rest)) = frame.get(12..).and_then(<[u8]>::split_first_chunk::<2>) else {
            return true;
        };
        let Some(tag) = rest.first_chunk::<2>() else { return true };
        // VLAN 0 is none: a tag that only carries a priority.
        let id = u16::from_be_bytes(*tag) % VLANS;
        let word = vlans.get(usize::from(id) / u64::BITS as usize).copied().unwrap_or(0);
        id == 0 || word >> (u32::from(id) % u64::BITS) & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];
    const GROUP: Mac = [3, 0, 0, 0, 0, 2];
    const ALL: Mac = [0xFF; 6];

    fn frame(to: Mac) -> Vec<u8> {
        [&to[..], &OTHER, &[8, 0, 0x45]].concat()
    }

    fn tagged(tag: u16) -> Vec<u8> {
        [&OWN[..], &OTHER, &TAG, &tag.to_be_bytes(), &[8, 0]].concat()
    }

    fn filter() -> Filter {
        let mut filter = Filter::new(Features::NONE);
        assert!([OWN, OTHER, GROUP, ALL].iter().all(|to| filter.passes(&frame(*to), &OWN)));
        filter.switch(ReceiveSwitch::Promiscuous, false);
        filter
    }

    /// Which of own, other unicast, multicast and broadcast pass.
    fn passing(filter: &Filter) -> [bool; 4] {
        [OWN, OTHER, GROUP, ALL].map(|to| filter.passes(&frame(to), &OWN))
    }

    #[test]
    fn each_switch_does_what_it_says() {
        use ReceiveSwitch::*;
        assert_eq!(passing(&filter()), [true, false, false, true]);
        for (switches, passes) in [
            (&[AllMulticast][..], [true, false, true, true]),
            (&[AllUnicast], [true, true, false, true]),
            (&[NoBroadcast], [true, false, false, false]),
            (&[NoUnicast], [false, false, false, true]),
            (&[NoUnicast, AllUnicast], [false, false, false, true]),
            (&[NoMulticast, AllMulticast], [true, false, false, true]),
            (&[NoBroadcast, AllMulticast], [true, false, true, false]),
            (&[Promiscuous, NoMulticast, NoUnicast, NoBroadcast], [true; 4]),
        ] {
            let mut filter = filter();
            for switch in switches {
                filter.switch(*switch, true);
            }
            assert_eq!(passing(&filter), passes, "{switches:?}");
            for switch in switches {
                filter.switch(*switch, false);
            }
            assert_eq!(passing(&filter), [true, false, false, true], "{switches:?}");
        }
    }

    #[test]
    fn tables_are_replaced_and_too_many_are_all() {
        let mut filter = filter();
        filter.set_tables(Macs::These(&[OTHER]), Macs::These(&[GROUP]));
        assert_eq!(passing(&filter), [true; 4]);
        filter.set_tables(Macs::These(&[[2; 6]; MAC_TABLE]), Macs::TooMany);
        assert_eq!(passing(&filter), [true, false, true, true]);
        filter.set_tables(Macs::TooMany, Macs::These(&[]));
        assert_eq!(passing(&filter), [true, true, false, true]);
        filter.set_tables(Macs::These(&[]), Macs::These(&[]));
        assert_eq!(passing(&filter), [true, false, false, true]);
        // The switches against a kind are stronger than its table.
        filter.set_tables(Macs::These(&[OTHER]), Macs::These(&[GROUP]));
        filter.switch(ReceiveSwitch::NoMulticast, true);
        assert_eq!(passing(&filter), [true, true, false, true]);
    }

    #[test]
    fn each_vlan_has_its_own_bit() {
        let mut filter = Filter::new(Features::new(feature::CTRL_VLAN));
        assert!(filter.passes(&tagged(1), &OWN), "promiscuous");
        filter.switch(ReceiveSwitch::Promiscuous, false);
        for id in 1..VLANS {
            assert!(!filter.passes(&tagged(id), &OWN));
            filter.set_vlan(id, true);
            // Whatever the priority.
            assert!(filter.passes(&tagged(id | 0xF000), &OWN));
            assert!(!filter.passes(&tagged((id + 1).max(1) % VLANS), &OWN) || id + 1 == VLANS);
            filter.set_vlan(id, false);
        }
        assert!(filter.passes(&tagged(0xE000), &OWN), "a priority is no VLAN");
        assert!(filter.passes(&frame(OWN), &OWN), "untagged");
        filter.set_vlan(VLANS, true);
    }

    #[test]
    fn without_the_feature_every_vlan_passes() {
        let filter = filter();
        assert!(filter.passes(&tagged(77), &OWN));
    }

    proptest! {
        #[test]
        fn any_frame_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..20), vlan: bool) {
            let features = if vlan { feature::CTRL_VLAN } else { 0 };
            let mut filter = Filter::new(Features::new(features));
            filter.switch(ReceiveSwitch::Promiscuous, false);
            let _ = filter.passes(&bytes, &OWN);
        }
    }
}
