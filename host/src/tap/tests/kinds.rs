//! Both modes, and interfaces that stay.

use crate::namespace::in_namespace;
use crate::netlink::Netlink;
use crate::tap::{InterfaceMode, Tap, TapError, TapOptions};

#[test]
fn a_tun_interface_has_no_mac_address_and_is_down() {
    in_namespace("tap::tests::kinds::a_tun_interface_has_no_mac_address_and_is_down", || {
        let tap = Tap::open(&TapOptions::new("tap0")).unwrap();
        let tun = Tap::open(&TapOptions::tun("tun%d")).unwrap();
        assert_eq!((tun.name(), tun.mode()), ("tun0", InterfaceMode::Tun));
        assert_eq!(tun.supported(), tap.supported());
        let mut net = Netlink::open().unwrap();
        let link = net.link("tun0").unwrap();
        assert_eq!((link.up, link.carrier, link.mac, link.mtu), (false, false, None, 1500));
        assert!(net.link("tap0").unwrap().mac.is_some());
        net.set_up("tun0").unwrap();
        tun.set_carrier(true).unwrap();
        assert!(net.link("tun0").unwrap().carrier);
        for mtu in [68, 65_521] {
            net.set_mtu("tun0", mtu).unwrap();
        }
    });
}

#[test]
fn a_persistent_interface_is_used_again() {
    in_namespace("tap::tests::kinds::a_persistent_interface_is_used_again", || {
        let mut net = Netlink::open().unwrap();
        for options in [TapOptions::new("vphys0"), TapOptions::tun("vphys0")] {
            let options = TapOptions { persistent: true, ..options };
            let first = Tap::open(&options).unwrap();
            net.set_up("vphys0").unwrap();
            first.set_carrier(true).unwrap();
            let index = net.link("vphys0").unwrap().index;
            drop(first);
            let alone = net.link("vphys0").unwrap();
            assert!(alone.up && !alone.carrier);
            let again = Tap::open(&options).unwrap();
            let link = net.link("vphys0").unwrap();
            assert_eq!((link.index, link.up, link.carrier), (index, true, false));
            // Not a second time.
            let other = Tap::open(&options).unwrap_err();
            assert!(matches!(other, TapError::InUse { .. }), "{other:?}");
            assert_eq!(
                other.to_string(),
                "another program uses the network interface vphys0: end it, or choose another name"
            );
            drop(again);
            // And not by who did not ask for it.
            let plain = Tap::open(&TapOptions { persistent: false, ..options }).unwrap_err();
            assert!(matches!(plain, TapError::NameTaken { .. }), "{plain:?}");
            net.delete("vphys0").unwrap();
        }
    });
}

#[test]
fn an_interface_of_another_kind_is_left_alone() {
    in_namespace("tap::tests::kinds::an_interface_of_another_kind_is_left_alone", || {
        let tun = TapOptions { persistent: true, ..TapOptions::tun("vphys0") };
        let tap = TapOptions { persistent: true, ..TapOptions::new("vphys0") };
        drop(Tap::open(&tun).unwrap());
        assert_eq!(
            Tap::open(&tap).unwrap_err().to_string(),
            "a network interface named vphys0 exists, but it is no tap interface of one queue: \
             choose another name, or delete it (`ip link delete vphys0`) and it is made anew"
        );
        Netlink::open().unwrap().delete("vphys0").unwrap();
        drop(Tap::open(&tap).unwrap());
        let other = Tap::open(&tun).unwrap_err();
        assert!(matches!(other, TapError::OtherKind { mode: InterfaceMode::Tun, .. }), "{other:?}");
        let lo = TapOptions { name: "lo", ..tun };
        let other = Tap::open(&lo).unwrap_err();
        assert!(matches!(other, TapError::OtherKind { .. }), "{other:?}");
        // One that is there still is not held open by a failed attempt.
        Tap::open(&tap).unwrap();
    });
}
