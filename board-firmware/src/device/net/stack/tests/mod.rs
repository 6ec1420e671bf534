//! The board's stack, talked to by another stack over the queues.

mod hostile;
mod peer;
mod pings;
mod tcp;
mod udp;

use shared::wire::features::{EVENT_IDX, IN_ORDER};
use shared::wire::net::feature;

use super::{SOCKETS, Stack, StackConfig, StackError, StackMemory, UDP_PACKETS, link_local};
use crate::rig::leak;

pub(super) const BOARD_MAC: [u8; 6] = [0x02, 0x12, 0x34, 0x56, 0x78, 0x9A];
pub(super) const BOARD_IPV4: [u8; 4] = [10, 0, 0, 2];
pub(super) const BOARD_IPV6: [u8; 16] = [0xFD, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// What drivers accept, from nothing to everything.
pub(super) const FEATURES: [u64; 4] = [
    0,
    IN_ORDER | EVENT_IDX | feature::MRG_RXBUF,
    IN_ORDER | EVENT_IDX | feature::MRG_RXBUF | feature::CSUM | feature::GUEST_CSUM,
    ALL,
];

pub(super) const ALL: u64 = IN_ORDER
    | EVENT_IDX
    | feature::MRG_RXBUF
    | feature::CSUM
    | feature::GUEST_CSUM
    | feature::HOST_TSO4
    | feature::HOST_TSO6
    | feature::GUEST_TSO4;

fn memory(bytes: usize) -> StackMemory<'static> {
    StackMemory {
        sockets: Box::leak(Box::default()),
        packets: Box::leak(Box::new(
            [smoltcp::socket::udp::PacketMetadata::EMPTY; 2 * UDP_PACKETS],
        )),
        bytes: leak(bytes),
    }
}

fn config() -> StackConfig<'static> {
    StackConfig {
        mac: BOARD_MAC,
        ipv4: Some((BOARD_IPV4, 24)),
        ipv6: Some((BOARD_IPV6, 64)),
        seed: 7,
        name: "test board",
    }
}

pub(super) fn stack() -> Stack<'static> {
    Stack::new(&config(), memory(Stack::BULK_BUFFERS * 128 * 1024)).unwrap()
}

#[test]
fn a_stack_that_cannot_work_is_not_made() {
    let enough = Stack::LEAST_BYTES;
    let make = |change: fn(&mut StackConfig<'_>), bytes| {
        let mut config = config();
        change(&mut config);
        Stack::new(&config, memory(bytes)).err()
    };
    assert_eq!(make(|_| {}, enough), None);
    let needed = enough;
    assert_eq!(make(|_| {}, enough - 1), Some(StackError::Memory { found: enough - 1, needed }));
    assert_eq!(make(|c| c.mac = [0; 6], enough), Some(StackError::Mac));
    assert_eq!(make(|c| c.mac = [1, 0, 0, 0, 0, 1], enough), Some(StackError::Mac));
    assert_eq!(make(|c| c.ipv4 = Some(([224, 0, 0, 1], 24)), enough), Some(StackError::Address));
    assert_eq!(make(|c| c.ipv4 = Some(([10, 0, 0, 1], 33)), enough), Some(StackError::Address));
    assert_eq!(make(|c| c.ipv6 = Some(([0xFF; 16], 64)), enough), Some(StackError::Address));
    assert_eq!(make(|c| c.ipv6 = Some((BOARD_IPV6, 129)), enough), Some(StackError::Address));
    assert!(make(|c| (c.ipv4, c.ipv6) = (None, None), enough).is_none());
}

#[test]
fn link_local_golden() {
    let want = [0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0x00, 0x12, 0x34, 0xFF, 0xFE, 0x56, 0x78, 0x9A];
    assert_eq!(link_local(BOARD_MAC), want);
}

#[test]
fn socket_places_are_as_many_as_sockets() {
    assert_eq!(SOCKETS, 11);
}
