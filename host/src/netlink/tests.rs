//! Netlink against the kernel, each test in a network namespace of its own.

use std::net::{TcpListener, UdpSocket};

use super::*;
use crate::namespace::in_namespace;
use crate::tap::{Tap, TapOptions};

#[test]
fn a_link_is_set_and_read_back() {
    in_namespace("netlink::tests::a_link_is_set_and_read_back", || {
        let tap = Tap::open(&TapOptions::new("vphys0")).unwrap();
        let mut net = Netlink::open().unwrap();
        let fresh = net.link("vphys0").unwrap();
        assert_eq!((fresh.name.as_str(), fresh.up, fresh.mtu), ("vphys0", false, 1500));
        assert!(fresh.mac.is_some() && fresh.index > 0);

        let mac = [2, 0, 0, 0xAB, 0xCD, 0xEF];
        net.set_mac("vphys0", mac).unwrap();
        for mtu in [68, 9000, 65_521] {
            net.set_mtu("vphys0", mtu).unwrap();
            assert_eq!(net.link("vphys0").unwrap().mtu, mtu);
        }
        net.set_up("vphys0").unwrap();
        tap.set_carrier(true).unwrap();
        let link = net.link("vphys0").unwrap();
        assert_eq!((link.mac, link.up, link.carrier), (Some(mac), true, true));
        assert_eq!(link.index, fresh.index);
        net.set_down("vphys0").unwrap();
        assert!(!net.link("vphys0").unwrap().up);
    });
}

#[test]
fn addresses_are_usable_at_once() {
    in_namespace("netlink::tests::addresses_are_usable_at_once", || {
        let tap = Tap::open(&TapOptions::new("vphys0")).unwrap();
        tap.set_carrier(true).unwrap();
        let mut net = Netlink::open().unwrap();
        net.no_automatic_address("vphys0").unwrap();
        net.set_up("vphys0").unwrap();
        for (address, prefix) in [("10.9.8.7", 24), ("fd00:9::1", 64)] {
            let address: IpAddr = address.parse().unwrap();
            net.add_address("vphys0", address, prefix).unwrap();
            // An IPv6 address on trial could not be bound.
            UdpSocket::bind((address, 0)).unwrap();
            net.add_address("vphys0", address, prefix).unwrap();
        }
        let gone: IpAddr = "10.9.8.7".parse().unwrap();
        net.remove_address("vphys0", gone, 24).unwrap();
        UdpSocket::bind((gone, 0)).unwrap_err();
        net.remove_address("vphys0", gone, 24).unwrap();
        // No link-local address of its own.
        let listed = std::fs::read_to_string("/proc/net/if_inet6").unwrap();
        assert!(!listed.lines().any(|l| l.starts_with("fe80") && l.contains("vphys0")), "{listed}");
        TcpListener::bind("127.0.0.1:0").unwrap();
    });
}

#[test]
fn a_bridge_carries_what_is_on_it() {
    in_namespace("netlink::tests::a_bridge_carries_what_is_on_it", || {
        let taps = ["vphys0", "vphys1"].map(|name| Tap::open(&TapOptions::new(name)).unwrap());
        let mut net = Netlink::open().unwrap();
        assert!(!net.exists("br0").unwrap());
        net.add_bridge("br0").unwrap();
        assert!(net.exists("br0").unwrap());
        let again = net.add_bridge("br0").unwrap_err();
        assert_eq!(again.to_string(), "br0: cannot create the bridge: it is there already");
        for tap in &taps {
            net.add_to_bridge(tap.name(), "br0").unwrap();
            net.set_up(tap.name()).unwrap();
            assert!(!net.link("br0").unwrap().carrier);
        }
        net.set_up("br0").unwrap();
        taps[0].set_carrier(true).unwrap();
        // Its carrier is its members'.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !net.link("br0").unwrap().carrier {
            assert!(Instant::now() < deadline, "no carrier");
            std::thread::yield_now();
        }
        let tun = Tap::open(&TapOptions::tun("tun0")).unwrap();
        let error = net.add_to_bridge(tun.name(), "br0").unwrap_err();
        assert_eq!(
            error.to_string(),
            "tun0: cannot put it on the bridge br0: Invalid argument (os error 22)"
        );
    });
}

#[test]
fn a_deleted_link_is_gone() {
    in_namespace("netlink::tests::a_deleted_link_is_gone", || {
        let _tap = Tap::open(&TapOptions::new("vphys0")).unwrap();
        let mut net = Netlink::open().unwrap();
        net.delete("vphys0").unwrap();
        assert_eq!(
            net.link("vphys0").unwrap_err().to_string(),
            "vphys0: cannot read the state: there is no such interface"
        );
    });
}

#[test]
fn errors_say_where_and_what() {
    in_namespace("netlink::tests::errors_say_where_and_what", || {
        let mut net = Netlink::open().unwrap();
        assert_eq!(
            net.set_up("vphys0").unwrap_err().to_string(),
            "vphys0: cannot bring the interface up: there is no such interface"
        );
        assert_eq!(
            net.add_address("vphys0", "10.0.0.1".parse().unwrap(), 24).unwrap_err().to_string(),
            "vphys0: cannot read the state: there is no such interface"
        );
        let _tap = Tap::open(&TapOptions::new("vphys0")).unwrap();
        assert_eq!(
            net.set_mtu("vphys0", 70_000).unwrap_err().to_string(),
            "vphys0: cannot set the MTU to 70000: Invalid argument (os error 22)"
        );
        assert_eq!(
            net.set_mac("vphys0", [0xFF; 6]).unwrap_err().to_string(),
            "vphys0: cannot set the MAC address to ff:ff:ff:ff:ff:ff: Cannot assign requested \
             address (os error 99)"
        );
        assert_eq!(
            net.add_address("vphys0", "10.0.0.1".parse().unwrap(), 99).unwrap_err().to_string(),
            "vphys0: cannot add the address 10.0.0.1/99: Invalid argument (os error 22)"
        );
    });
}

#[test]
fn without_the_capability_it_says_so() {
    let error = failed("vphys0", &Attempt::Up, NetlinkCause::from_errno(nix::libc::EPERM));
    assert_eq!(
        error.to_string(),
        "vphys0: cannot bring the interface up: no permission: this needs CAP_NET_ADMIN; run as \
         root or give the capability"
    );
    let error = failed("", &Attempt::Open, NetlinkCause::Timeout);
    assert_eq!(error.to_string(), "cannot open a netlink socket: the kernel does not answer");
    let cause = NetlinkCause::Answer("a header of 3 bytes".into());
    assert_eq!(
        failed("vphys0", &Attempt::Read, cause).to_string(),
        "vphys0: cannot read the state: the kernel's answer cannot be read: a header of 3 bytes \
         (a bug, of this program or the kernel)"
    );
}
