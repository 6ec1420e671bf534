//! "This address is at this host", said unasked.

use std::net::IpAddr;

use super::reply::Reply;
use super::{arp, neighbour};

/// The frame that tells the board that `address` is at the MAC address `host`:
/// an ARP announcement, or an unsolicited neighbour advertisement. For an
/// interface of either mode.
#[must_use]
pub fn announcement(host: [u8; 6], address: IpAddr) -> Reply {
    match address {
        IpAddr::V4(address) => arp::announcement(host, address),
        IpAddr::V6(address) => neighbour::announcement(host, address),
    }
}
