//! Echo over UDP.

use super::peer::{Peer, board_addresses};
use super::{ALL, FEATURES};
use crate::rig::frame_of;

#[test]
fn packets_of_every_size_come_back() {
    for features in FEATURES {
        let mut peer = Peer::new(features, 1500);
        let handle = peer.udp(5000);
        for address in board_addresses() {
            let largest =
                1500 - if address.version() == smoltcp::wire::IpVersion::Ipv4 { 28 } else { 48 };
            for len in [0, 1, 2, 3, 17, 18, 19, 600, 1023, largest - 1, largest] {
                let data = frame_of(len, 3);
                peer.udp_socket(handle).send_slice(&data, (address, 7)).unwrap();
                peer.until(3000, |peer| peer.udp_socket(handle).can_recv());
                let (got, from) = peer.udp_socket(handle).recv().unwrap();
                assert_eq!((got, from.endpoint), (data.as_slice(), (address, 7).into()));
            }
        }
    }
}

#[test]
fn a_burst_comes_back_in_order() {
    let mut peer = Peer::new(ALL, 9000);
    let handle = peer.udp(5000);
    let address = board_addresses()[0];
    peer.udp_socket(handle).send_slice(b"find me", (address, 7)).unwrap();
    peer.until(3000, |peer| peer.udp_socket(handle).can_recv());
    peer.udp_socket(handle).recv().unwrap();
    for n in 0..10 {
        let data = frame_of(1200, n);
        peer.udp_socket(handle).send_slice(&data, (address, 7)).unwrap();
    }
    for n in 0..10 {
        peer.until(3000, |peer| peer.udp_socket(handle).can_recv());
        assert_eq!(peer.udp_socket(handle).recv().unwrap().0, frame_of(1200, n));
    }
}
