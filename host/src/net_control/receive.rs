//! What an operator wants a board to send, as requests of the control queue.

use std::net::IpAddr;

use shared::wire::features::Features;
use shared::wire::net_control::{GUEST_OFFLOADS, Mac, ReceiveSwitch};

use super::request::{ADDRESSES, Request};

/// Which frames a board is to send to the host, and how. The default is what
/// it does by itself after a reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receive {
    /// Every frame. Otherwise those to the interface's address, broadcasts, and
    /// groups as the next field has it.
    pub promiscuous: bool,
    /// The frames to all groups; otherwise those that the host's own addresses
    /// need. Of no account to a board that sends every frame.
    pub all_multicast: bool,
    /// Segments longer than the MTU, and frames without a checksum, where that
    /// was negotiated.
    pub offloads: bool,
}

impl Default for Receive {
    fn default() -> Self {
        Self { promiscuous: true, all_multicast: true, offloads: true }
    }
}

impl Receive {
    /// What to ask of a board that does as `before` says to have it do as this
    /// says. `groups` are those that the host's addresses need, `regroup` says
    /// that they are others than before.
    pub(crate) fn filter(&self, before: &Self, groups: &[Mac], regroup: bool) -> Vec<Request> {
        let mut requests = Vec::new();
        let others = before.promiscuous || before.all_multicast != self.all_multicast || regroup;
        if !self.promiscuous && others {
            let all = self.all_multicast || groups.len() > ADDRESSES;
            let multicast = if all { Vec::new() } else { groups.to_vec() };
            requests.push(Request::Addresses { unicast: Vec::new(), multicast });
            requests.push(Request::Receive { switch: ReceiveSwitch::AllMulticast, on: all });
        }
        // Last, so that nothing that is wanted is left out meanwhile.
        if self.promiscuous != before.promiscuous {
            let on = self.promiscuous;
            requests.push(Request::Receive { switch: ReceiveSwitch::Promiscuous, on });
        }
        requests
    }

    /// The same for offloads, of which `negotiated` are there.
    pub(crate) fn offloading(&self, before: &Self, negotiated: Features) -> Option<Request> {
        let all = negotiated.bits() & GUEST_OFFLOADS;
        (self.offloads != before.offloads).then_some(Request::Offloads(if self.offloads {
            all
        } else {
            0
        }))
    }
}

/// The groups that a host with these addresses, and this MAC address for its
/// link-local one, has to hear: all hosts (RFC 1112), all nodes (RFC 4291), and
/// those by which its neighbours ask for its addresses.
pub(crate) fn groups(mac: Mac, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Mac> {
    let asked_by = |[.., a, b, c]: [u8; 6]| [0x33, 0x33, 0xff, a, b, c];
    let mut groups = vec![[0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1], asked_by(mac)];
    for address in addresses {
        if let IpAddr::V6(address) = address {
            let [.., d, e, f, a, b, c] = address.octets();
            let group = asked_by([d, e, f, a, b, c]);
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use shared::wire::net::feature;

    use super::*;

    const MAC: Mac = [2, 0, 0, 0x11, 0x22, 0x33];
    const ON: Receive = Receive { promiscuous: true, all_multicast: true, offloads: true };
    const OWN: Receive = Receive { promiscuous: false, ..ON };
    const FEW: Receive = Receive { all_multicast: false, ..OWN };

    fn switch(switch: ReceiveSwitch, on: bool) -> Request {
        Request::Receive { switch, on }
    }

    #[test]
    fn nothing_is_asked_that_a_board_does_anyway() {
        assert_eq!(ON, Receive::default());
        for receive in [ON, OWN, FEW] {
            assert!(receive.filter(&receive, &[], false).is_empty());
            assert_eq!(receive.offloading(&receive, Features::NONE), None);
        }
        // Groups are of no account while every frame comes.
        assert!(ON.filter(&Receive { all_multicast: false, ..ON }, &[MAC], true).is_empty());
    }

    #[test]
    fn the_filter_closes_last_and_opens_alone() {
        use ReceiveSwitch::{AllMulticast, Promiscuous};
        let addresses = |multicast| Request::Addresses { unicast: Vec::new(), multicast };
        let own = [addresses(vec![]), switch(AllMulticast, true), switch(Promiscuous, false)];
        assert_eq!(OWN.filter(&ON, &[MAC], false), own);
        let few = [addresses(vec![MAC]), switch(AllMulticast, false)];
        assert_eq!(FEW.filter(&OWN, &[MAC], false), few);
        assert_eq!(FEW.filter(&FEW, &[MAC], true), few);
        assert_eq!(ON.filter(&FEW, &[MAC], true), [switch(Promiscuous, true)]);
        // More groups than a command holds: all of them.
        assert_eq!(FEW.filter(&ON, &[MAC; ADDRESSES + 1], false), own);
    }

    #[test]
    fn offloads_go_and_come_back_as_negotiated() {
        let negotiated = Features::new(feature::GUEST_CSUM | feature::GUEST_TSO4 | feature::MAC);
        let off = Receive { offloads: false, ..ON };
        assert_eq!(off.offloading(&ON, negotiated), Some(Request::Offloads(0)));
        let bits = feature::GUEST_CSUM | feature::GUEST_TSO4;
        assert_eq!(ON.offloading(&off, negotiated), Some(Request::Offloads(bits)));
    }

    #[test]
    fn groups_are_those_by_which_neighbours_ask() {
        let asked = |text: &str| text.parse::<IpAddr>().unwrap();
        let groups =
            groups(MAC, [asked("10.0.0.1"), asked("fd00::ab:cdef"), asked("fd01::ab:cdef")]);
        assert_eq!(groups[..2], [[1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]]);
        assert_eq!(
            groups[2..],
            [[0x33, 0x33, 0xff, 0x11, 0x22, 0x33], [0x33, 0x33, 0xff, 0xab, 0xcd, 0xef]]
        );
    }
}
