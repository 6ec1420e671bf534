//! Frames through the kernel, both ways.

use crate::namespace::in_namespace;
use crate::net::Offloads;
use crate::netlink::Netlink;
use crate::tap::{Tap, TapOptions};

#[test]
fn a_new_interface_is_down_without_carrier() {
    in_namespace("tap::tests::frames::a_new_interface_is_down_without_carrier", || {
        let tap = Tap::open(&TapOptions::new("vphys%d")).unwrap();
        assert_eq!(tap.name(), "vphys0");
        assert_eq!(tap.supported(), Offloads::ALL);
        let mut net = Netlink::open().unwrap();
        let link = net.link("vphys0").unwrap();
        assert!(!link.up && !link.carrier);
        net.set_up("vphys0").unwrap();
        assert!(net.link("vphys0").unwrap().up);
        assert!(!net.link("vphys0").unwrap().carrier);
        tap.set_carrier(true).unwrap();
        assert!(net.link("vphys0").unwrap().carrier);
        tap.set_carrier(false).unwrap();
        assert!(!net.link("vphys0").unwrap().carrier);
    });
}
