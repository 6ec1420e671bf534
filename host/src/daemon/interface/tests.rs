//! A board's interface against the kernel, each test in a network namespace of
//! its own.

use std::net::UdpSocket;

use shared::link::{
    BoardDescription, BoardRegions, DoorbellDescription, Heartbeat, Label, Versions,
};
use shared::raw::StoreWidth;
use shared::wire::features::Features;

use super::*;
use crate::namespace::in_namespace;
use crate::session::{Areas, Layout};

const V4: &str = "10.9.8.7";
const V6: &str = "fd00:9::1";

fn address(text: &str) -> (IpAddr, u8) {
    (text.parse().unwrap(), if text == V4 { 24 } else { 64 })
}

/// What a session with a board of no distinction agreed on.
fn terms() -> Terms {
    Terms {
        device: 0,
        board: BoardDescription {
            name: Label::new("b0"),
            firmware: Label::new("1"),
            mac: [2, 0, 0, 0, 0, 2],
            versions: Versions::OURS,
            interrupts_unordered: false,
            dma_engine: false,
            vectors: 4,
            widest_store: StoreWidth::Bits32,
            heartbeat: Heartbeat { interval_ms: 250, misses: 8 },
            doorbell: DoorbellDescription {
                bar: 0,
                offset: 0,
                stride: 4,
                count: 4,
                value: 1,
                step: 0,
            },
            outbound: None,
            regions: BoardRegions::new(),
        },
        offered: Features::NONE,
        features: Features::NONE,
        mac: None,
        link_up: true,
        offloads: Offloads::default(),
        layout: Layout::BarOnly,
        areas: Areas::default(),
    }
}

fn interface(addresses: &[&str]) -> Interface {
    let addresses = addresses.iter().copied().map(address).collect();
    Interface::create(&InterfaceOptions { addresses, ..InterfaceOptions::new("vphys0") }).unwrap()
}

fn mtu() -> u32 {
    Netlink::open().unwrap().link("vphys0").unwrap().mtu
}

fn has(address: &str) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// A board says 68, and goes. The next one finds what the operator wants.
#[test]
fn a_session_begins_with_the_mtu_that_is_configured() {
    in_namespace(
        "daemon::interface::tests::a_session_begins_with_the_mtu_that_is_configured",
        || {
            let mut interface = interface(&[V4]);
            let _first = interface.connect(&terms()).unwrap();
            interface.limit_mtu(68).unwrap();
            assert_eq!(mtu(), 68);
            interface.limit_mtu(1400).unwrap();
            assert_eq!(mtu(), 1400);
            interface.limit_mtu(9000).unwrap();
            assert_eq!(mtu(), 1500);
            interface.limit_mtu(68).unwrap();
            interface.set_carrier(false).unwrap();
            let _second = interface.connect(&terms()).unwrap();
            assert_eq!(mtu(), 1500);
            assert!(has(V4));
        },
    );
}

/// Somebody deletes it: the next session has one like it.
#[test]
fn an_interface_that_was_deleted_is_made_again() {
    let name = "daemon::interface::tests::an_interface_that_was_deleted_is_made_again";
    in_namespace(name, || {
        for mode in [InterfaceMode::Tap, InterfaceMode::Tun] {
            let addresses = vec![address(V4), address(V6)];
            let options = InterfaceOptions { mode, addresses, ..InterfaceOptions::new("vphys%d") };
            let mut interface =
                Interface::create(&InterfaceOptions { mtu: 1400, ..options }).unwrap();
            assert_eq!(interface.name(), "vphys0");
            let _first = interface.connect(&terms()).unwrap();
            let mut netlink = Netlink::open().unwrap();
            netlink.delete("vphys0").unwrap();
            assert!(netlink.link("vphys0").is_err() && !has(V4));
            let gone = interface.set_carrier(false).unwrap_err().to_string();
            let told = "the interface vphys0 has been deleted; the next session makes it again";
            assert!(gone.ends_with(told), "{gone}");
            let _second = interface.connect(&terms()).unwrap();
            let link = netlink.link("vphys0").unwrap();
            assert!(link.carrier && has(V4) && has(V6), "{link:?}");
            assert_eq!(link.mtu, 1400);
        }
    });
}

/// Whoever else takes it below what IPv6 needs: the kernel drops the addresses,
/// and takes none before the MTU is back.
#[test]
fn ipv6_addresses_come_back_with_the_mtu() {
    in_namespace("daemon::interface::tests::ipv6_addresses_come_back_with_the_mtu", || {
        let mut interface = interface(&[V4, V6]);
        let _first = interface.connect(&terms()).unwrap();
        assert!(has(V4) && has(V6));
        Netlink::open().unwrap().set_mtu("vphys0", 1000).unwrap();
        assert!(has(V4) && !has(V6));
        let _second = interface.connect(&terms()).unwrap();
        assert!(has(V4) && has(V6));
    });
}

#[test]
fn no_board_takes_ipv6_away() {
    in_namespace("daemon::interface::tests::no_board_takes_ipv6_away", || {
        let mut interface = interface(&[V6]);
        let _port = interface.connect(&terms()).unwrap();
        let error = interface.limit_mtu(1279).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the board takes packets of up to 1279 bytes, and IPv6 needs 1280: the interface's MTU \
             goes no lower; leave its IPv6 addresses out to let it follow"
        );
        assert_eq!(mtu(), 1280);
        assert!(has(V6));
        interface.limit_mtu(1280).unwrap();
        // Without the address it follows, and with it back again it does not.
        interface.limit_mtu(576).unwrap_err();
        interface.set_addresses(vec![address(V4)]).unwrap();
        assert_eq!(mtu(), 576);
        assert!(has(V4) && !has(V6));
        interface.set_addresses(vec![address(V4), address(V6)]).unwrap();
        assert_eq!(mtu(), 1280);
        assert!(has(V4) && has(V6));
    });
}
