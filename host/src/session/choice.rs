//! Which features a session takes, and what they make of its buffers.

use shared::virtq::QueueSize;
use shared::wire::features::{EVENT_IDX, Features, IN_ORDER, REQUIRED};
use shared::wire::net::{HEADER_BYTES, feature};

use super::config::{LARGE_BUFFER, LEAST_LARGE_BUFFERS, MERGEABLE_BUFFER, SessionConfig};
use super::placement::{Layout, Placement, Sizes};
use crate::net::Offloads;

/// Every feature that the host's code can use today.
const USABLE: u64 = REQUIRED.bits()
    | EVENT_IDX
    | IN_ORDER
    | feature::CSUM
    | feature::GUEST_CSUM
    | feature::MTU
    | feature::MAC
    | feature::GUEST_TSO4
    | feature::GUEST_TSO6
    | feature::GUEST_ECN
    | feature::HOST_TSO4
    | feature::HOST_TSO6
    | feature::HOST_ECN
    | feature::MRG_RXBUF
    | feature::STATUS
    | feature::GUEST_USO4
    | feature::GUEST_USO6
    | feature::HOST_USO;

/// Offloads that make frames to the host larger than the MTU.
const LARGE_TO_HOST: u64 = feature::GUEST_TSO4
    | feature::GUEST_TSO6
    | feature::GUEST_ECN
    | feature::GUEST_USO4
    | feature::GUEST_USO6;

/// Offloads that make frames to the board larger than the MTU.
const LARGE_TO_BOARD: u64 =
    feature::HOST_TSO4 | feature::HOST_TSO6 | feature::HOST_ECN | feature::HOST_USO;

/// The features to accept of those `offered`, with `room` bytes of buffers on
/// the way to the host.
pub(super) fn choose(offered: Features, mask: u64, room: u64) -> Features {
    let mut wanted = Features::new(offered.bits() & mask & USABLE);
    let large_buffers = room / u64::from(LARGE_BUFFER);
    if !wanted.has(feature::MRG_RXBUF) && large_buffers < LEAST_LARGE_BUFFERS {
        wanted = wanted.without(Features::new(LARGE_TO_HOST));
    }
    wanted.net_consistent()
}

/// Bytes of a buffer that holds one frame of the MTU, tagged, with its header.
fn plain_buffer(mtu: u32) -> u32 {
    const ETHERNET_AND_TAG: u32 = 18;
    (HEADER_BYTES + ETHERNET_AND_TAG + mtu).next_multiple_of(64)
}

/// Bytes of each buffer on the way to the host under `features`.
pub(super) fn to_host_buffer(features: Features, mtu: u32) -> u32 {
    if features.has(feature::MRG_RXBUF) {
        MERGEABLE_BUFFER
    } else if Offloads::to_host(features.bits()) == Offloads::NONE {
        plain_buffer(mtu)
    } else {
        LARGE_BUFFER
    }
}

/// The sizes to plan memory for, before any feature is negotiated: what the
/// mask allows at most, made to fit `board_memory` bytes of board memory.
/// `None` if even the smallest queues do not fit.
pub(super) fn plan(config: &SessionConfig, board_memory: u64) -> Option<Placement> {
    let allowed = Features::new(config.feature_mask & USABLE);
    let large = allowed.bits() & LARGE_TO_BOARD != 0 && allowed.has(feature::CSUM);
    let mut sizes = Sizes {
        to_host: config.to_host_size,
        to_board: config.to_board_size,
        to_host_buffer: to_host_buffer(allowed, config.mtu),
        to_board_buffer: if large { LARGE_BUFFER } else { plain_buffer(config.mtu) },
        push_buffer: config.push_limit.next_multiple_of(64).max(64),
    };
    loop {
        let placement = Placement::new(config.layout, &sizes);
        if placement.board <= board_memory {
            return Some(placement);
        }
        // The bigger of the two gives way.
        let down = u64::from(sizes.to_board.get()) * u64::from(sizes.to_board_buffer);
        let up = u64::from(sizes.to_host.get()) * u64::from(sizes.to_host_buffer);
        let bigger = if down > up && config.layout == Layout::BarOnly {
            &mut sizes.to_board
        } else {
            &mut sizes.to_host
        };
        let smaller = QueueSize::try_from(u32::from(bigger.get()) / 2).ok()?;
        if smaller.get() < LEAST_QUEUE {
            return None;
        }
        *bigger = smaller;
    }
}

/// Queues smaller than this carry no batch worth the name.
const LEAST_QUEUE: u16 = 8;

/// The largest queue of at most `limit` entries whose buffers of `each` bytes
/// fit `room` bytes.
pub(super) fn fitting(limit: QueueSize, room: u64, each: u32) -> Option<QueueSize> {
    let fit = u32::try_from(room / u64::from(each.max(1))).unwrap_or(u32::MAX);
    let count = fit.min(u32::from(limit.get())).checked_ilog2()?;
    QueueSize::try_from(1 << count).ok()
}
