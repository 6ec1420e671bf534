//! Which features a session takes, and what they make of its buffers.

use shared::link::Outbound;
use shared::virtq::QueueSize;
use shared::wire::features::{EVENT_IDX, Features, IN_ORDER, INDIRECT_DESC, REQUIRED, RING_RESET};
use shared::wire::net::{HEADER_BYTES, feature};

use super::config::{LARGE_BUFFER, LEAST_LARGE_BUFFERS, MERGEABLE_BUFFER, SessionConfig};
use super::error::SessionError;
use super::placement::{Placement, Sizes};
use crate::pool::{LockLimit, page_size};

/// Every feature that the host's code can use today.
const USABLE: u64 = REQUIRED.bits()
    | INDIRECT_DESC
    | EVENT_IDX
    | IN_ORDER
    | RING_RESET
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
    | feature::HOST_USO
    | BY_CONTROL_QUEUE;

/// What needs a control queue, and so a slow queue's memory.
const BY_CONTROL_QUEUE: u64 = feature::CTRL_VQ
    | feature::CTRL_RX
    | feature::CTRL_RX_EXTRA
    | feature::CTRL_VLAN
    | feature::CTRL_MAC_ADDR
    | feature::CTRL_GUEST_OFFLOADS
    | feature::GUEST_ANNOUNCE
    | feature::NOTF_COAL;

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
/// the way to the host, and `slow` if there is memory for a control queue.
pub(super) fn choose(offered: Features, mask: u64, room: u64, slow: bool) -> Features {
    let mut wanted = Features::new(offered.bits() & mask & USABLE);
    if !slow {
        wanted = wanted.without(Features::new(BY_CONTROL_QUEUE));
    }
    let large_buffers = room / u64::from(LARGE_BUFFER);
    // A frame that all buffers together cannot hold would never arrive.
    let least = if wanted.has(feature::MRG_RXBUF) { 2 } else { LEAST_LARGE_BUFFERS };
    if large_buffers < least {
        wanted = wanted.without(Features::new(LARGE_TO_HOST));
    }
    wanted.net_consistent()
}

/// Bytes of a buffer that holds one frame of the MTU, tagged, with its header.
pub(super) fn plain_buffer(mtu: u32) -> u32 {
    const ETHERNET_AND_TAG: u32 = 18;
    (HEADER_BYTES + ETHERNET_AND_TAG + mtu).next_multiple_of(64)
}

/// Bytes of each buffer on the way to the host under `features`.
pub(super) fn to_host_buffer(features: Features, mtu: u32) -> u32 {
    if features.has(feature::MRG_RXBUF) {
        MERGEABLE_BUFFER
    } else if features.bits() & LARGE_TO_HOST != 0 {
        LARGE_BUFFER
    } else {
        plain_buffer(mtu)
    }
}

/// What there is to place things in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes of board memory.
    pub(super) board_memory: u64,
    /// Whether the board fetches by itself.
    pub(super) dma_engine: bool,
    /// What the process may lock.
    pub(super) lock: LockLimit,
    /// The board's windows into host memory; `None`: they are not the limit.
    pub(super) reach: Option<Outbound>,
}

impl Room {
    /// Host memory that is shared for `placement`, in bytes.
    fn shared(&self, placement: &Placement) -> u64 {
        let areas = [placement.host_writable, placement.host_readable];
        let lens = areas.map(|len| shared_len(len, self.reach.as_ref()));
        lens.iter().fold(0, |sum: u64, len| sum.saturating_add(*len))
    }

    /// Whether the board's windows cover both areas of host memory.
    fn is_within_reach(&self, placement: &Placement) -> bool {
        let Some(reach) = self.reach else { return true };
        let windows = |len: u64| match shared_len(len, Some(&reach)) {
            0 => Some(0),
            len => reach.windows_for(0, len),
        };
        let needed = windows(placement.host_writable)
            .zip(windows(placement.host_readable))
            .and_then(|(one, two)| one.checked_add(two));
        needed.is_some_and(|needed| needed <= u64::from(reach.windows))
    }
}

/// Bytes to share for an area of `len` bytes: whole pages, and windows begin
/// where a window of the board can, so that each area has its own.
pub(super) fn shared_len(len: u64, reach: Option<&Outbound>) -> u64 {
    let granule = page_size().max(reach.map_or(1, |reach| reach.alignment));
    len.checked_next_multiple_of(granule).unwrap_or(len)
}

/// Where everything lies, planned before any feature is negotiated: what the
/// mask allows at most, made to fit the room there is. Where the board's windows
/// are too small for large frames to the board, these are given up.
pub(super) fn plan(config: &SessionConfig, room: &Room) -> Result<Placement, SessionError> {
    match plan_for(config, config.feature_mask, room) {
        Err(SessionError::Reach { .. }) => {
            plan_for(config, config.feature_mask & !LARGE_TO_BOARD, room)
        }
        planned => planned,
    }
}

/// The feature bits that a session over `placement` can use.
pub(super) fn carried(placement: &Placement) -> u64 {
    if placement.to_board_stride < LARGE_BUFFER { !LARGE_TO_BOARD } else { u64::MAX }
}

fn plan_for(config: &SessionConfig, mask: u64, room: &Room) -> Result<Placement, SessionError> {
    let Room { board_memory, dma_engine, lock, .. } = *room;
    let allowed = Features::new(mask & USABLE);
    let large = allowed.bits() & LARGE_TO_BOARD != 0 && allowed.has(feature::CSUM);
    let to_board_buffer = if large { LARGE_BUFFER } else { plain_buffer(config.mtu) };
    let push_limit = if dma_engine { config.push_limit } else { to_board_buffer };
    let to_host_buffer = to_host_buffer(allowed, config.mtu);
    let least = QueueSize::try_from(u32::from(least_to_host(config.mtu, to_host_buffer)))?;
    let mut sizes = Sizes {
        to_host: config.to_host_size.max(least),
        to_board: config.to_board_size,
        to_host_buffer,
        to_board_buffer,
        push_buffer: push_limit.clamp(64, to_board_buffer).next_multiple_of(64),
        slow: true,
    };
    loop {
        let placement = Placement::new(config.layout, &sizes);
        let locked = lock.check(room.shared(&placement));
        let fits = placement.board <= board_memory;
        let reached = room.is_within_reach(&placement);
        if fits && locked.is_ok() && reached {
            return Ok(placement);
        }
        // The bigger of the two queues gives way: each turn halves one.
        let down = u64::from(sizes.to_board.get()) * u64::from(sizes.to_board_buffer);
        let up = u64::from(sizes.to_host.get()) * u64::from(sizes.to_host_buffer);
        let mut queues = [
            (down, LEAST_QUEUE, &mut sizes.to_board),
            (up, least_to_host(config.mtu, sizes.to_host_buffer), &mut sizes.to_host),
        ];
        queues.sort_by_key(|(bytes, ..)| std::cmp::Reverse(*bytes));
        let shrinkable = queues.into_iter().find(|(_, least, size)| size.get() > *least);
        let Some((.., smaller)) = shrinkable else {
            if sizes.slow {
                // Frames come first: without a control queue and consoles they still flow.
                sizes.slow = false;
                continue;
            }
            let (layout, offered) = (config.layout, board_memory);
            locked.map_err(SessionError::Lock)?;
            return Err(match room.reach {
                Some(Outbound { windows, size, .. }) if !reached => {
                    SessionError::Reach { windows, size }
                }
                _ => SessionError::BoardMemory { layout, offered },
            });
        };
        *smaller = QueueSize::try_from(u32::from(smaller.get()) / 2)?;
    }
}

/// Queues smaller than this carry no batch worth the name.
const LEAST_QUEUE: u16 = 8;

/// Descriptors of the receiveq at least: those of two frames of the MTU.
fn least_to_host(mtu: u32, buffer: u32) -> u16 {
    let two_frames = (2 * plain_buffer(mtu)).div_ceil(buffer.max(1)).next_power_of_two();
    u16::try_from(two_frames).unwrap_or(u16::MAX).max(LEAST_QUEUE)
}

/// The receiveq's size: what its rings and `stride`-long buffers were placed
/// for, and the board's limit.
pub(super) fn to_host_queue(
    placement: &Placement,
    limit: QueueSize,
    stride: u32,
) -> Option<QueueSize> {
    fitting(placement.to_host_size.min(limit), placement.to_host_buffers.len, stride)
}

/// The largest queue of at most `limit` entries whose buffers of `each` bytes
/// fit `room` bytes.
fn fitting(limit: QueueSize, room: u64, each: u32) -> Option<QueueSize> {
    let fit = u32::try_from(room / u64::from(each.max(1))).unwrap_or(u32::MAX);
    let count = fit.min(u32::from(limit.get())).checked_ilog2()?;
    QueueSize::try_from(1 << count).ok()
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn room(board_memory: u64, dma_engine: bool, lock: LockLimit) -> Room {
        Room { board_memory, dma_engine, lock, reach: None }
    }

    #[test]
    fn queues_shrink_to_what_may_be_locked() {
        let config = SessionConfig::default();
        let whole = plan(&config, &room(16 * MIB, true, LockLimit::Unlimited)).unwrap();
        let lock = LockLimit::Bytes { limit: 2 * MIB, used: 0 };
        let small = plan(&config, &room(16 * MIB, true, lock)).unwrap();
        assert!(whole.host_writable + whole.host_readable > 2 * MIB);
        assert!(small.host_writable + small.host_readable <= 2 * MIB);
    }

    /// What is locked is what is shared: the board decides how that is rounded up.
    #[test]
    fn the_boards_alignment_counts_as_locked() {
        let config = SessionConfig::default();
        let lock = LockLimit::Bytes { limit: 64 * MIB, used: 0 };
        for (alignment, fits) in [(4 << 10, true), (16 * MIB, true), (64 * MIB, false)] {
            let reach = Outbound { windows: 64, size: 64 * MIB, alignment, address_bits: 40 };
            let room = Room { reach: Some(reach), ..room(16 * MIB, true, lock) };
            let planned = plan(&config, &room);
            assert_eq!(planned.is_ok(), fits, "{alignment}: {planned:?}");
        }
    }

    #[test]
    fn too_little_of_either_memory_is_said() {
        let config = SessionConfig::default();
        let lock = LockLimit::Bytes { limit: 64 << 10, used: 0 };
        let error = plan(&config, &room(16 * MIB, true, lock)).unwrap_err();
        assert!(matches!(error, SessionError::Lock(_)), "{error}");
        let bar_only = SessionConfig { layout: Layout::BarOnly, ..config };
        let error = plan(&bar_only, &room(64 << 10, true, LockLimit::Unlimited)).unwrap_err();
        assert!(matches!(error, SessionError::BoardMemory { .. }), "{error}");
    }

    /// Four windows of 64 KiB: large frames to the board are given up before the
    /// attach is; one window is too few for two areas.
    #[test]
    fn queues_shrink_to_what_the_board_reaches() {
        let config = SessionConfig::default();
        let reach = |windows, kib: u64| Outbound {
            windows,
            size: kib << 10,
            alignment: 64 << 10,
            address_bits: 40,
        };
        let with =
            |reach| Room { reach: Some(reach), ..room(16 * MIB, true, LockLimit::Unlimited) };
        let whole = plan(&config, &room(16 * MIB, true, LockLimit::Unlimited)).unwrap();
        assert_eq!(plan(&config, &with(reach(8, 4 << 20))).unwrap(), whole);
        assert_eq!(carried(&whole), u64::MAX);

        let room = with(reach(4, 64));
        let small = plan(&config, &room).unwrap();
        assert!(room.is_within_reach(&small) && !room.is_within_reach(&whole));
        assert!(small.to_board_size.get() >= 32 && small.to_host_size.get() >= 16);
        let features =
            choose(Features::new(USABLE), carried(&small), small.to_host_buffers.len, true);
        assert!(!features.has(feature::HOST_TSO4) && features.has(feature::CSUM));

        let error = plan(&config, &with(reach(1, 64))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the board's 1 windows of 65536 bytes into host memory are too few for its buffers; \
             lower the MTU, or choose layout bar-only"
        );
        let jumbo = SessionConfig { mtu: 65_521, ..config };
        assert!(matches!(plan(&jumbo, &room), Err(SessionError::Reach { windows: 4, .. })));
        let bar_only = SessionConfig { layout: Layout::BarOnly, ..config };
        assert!(plan(&bar_only, &with(reach(1, 64))).is_ok());
    }

    #[test]
    fn without_room_for_large_buffers_no_large_frames() {
        let offered = Features::new(USABLE);
        let mask = !feature::MRG_RXBUF;
        let roomy = choose(offered, mask, 64 * u64::from(LARGE_BUFFER), true);
        assert!(roomy.has(feature::GUEST_TSO4));
        let tight = choose(offered, mask, 4 * u64::from(LARGE_BUFFER), true);
        assert!(!tight.has(feature::GUEST_TSO4) && tight.has(feature::HOST_TSO4));
        assert_eq!(to_host_buffer(tight, 1500), 1536);
    }

    #[test]
    fn without_a_control_queue_nothing_that_needs_it() {
        let offered = Features::new(USABLE);
        assert!(choose(offered, u64::MAX, 1 << 20, true).has(feature::NOTF_COAL));
        let without = choose(offered, u64::MAX, 1 << 20, false);
        assert_eq!(without.bits() & BY_CONTROL_QUEUE, 0);
    }

    #[test]
    fn what_is_promised_fits_the_buffers_together() {
        let offered = Features::new(USABLE);
        let large = |kib: u64| choose(offered, u64::MAX, kib << 10, true).has(feature::GUEST_TSO4);
        assert!(!large(32) && !large(128) && large(256));
        // The least that a lock limit leaves: two frames of any MTU.
        for mtu in [68, 1500, 9000, 65_521] {
            let config = SessionConfig { mtu, ..SessionConfig::default() };
            let least = (0..4096)
                .map(|kib| LockLimit::Bytes { limit: kib << 10, used: 0 })
                .find_map(|lock| plan(&config, &room(16 * MIB, true, lock)).ok())
                .unwrap();
            assert!(least.to_host_buffers.len >= 2 * u64::from(plain_buffer(mtu)), "{mtu}");
        }
    }

    #[test]
    fn smaller_buffers_make_no_queue_that_its_rings_do_not_hold() {
        let config = SessionConfig { layout: Layout::BarOnly, ..SessionConfig::default() };
        let limit = QueueSize::try_from(1 << 15).unwrap();
        for board_memory in [1, 2, 4, 16].map(|mib| mib * MIB) {
            let placement =
                plan(&config, &room(board_memory, false, LockLimit::Unlimited)).unwrap();
            for stride in [1536, MERGEABLE_BUFFER, LARGE_BUFFER] {
                let Some(size) = to_host_queue(&placement, limit, stride) else { continue };
                let table = placement.to_host_rings.descriptors.len;
                assert!(size.descriptor_table_len() <= table, "{board_memory} {stride}");
            }
        }
    }

    #[test]
    fn a_queue_fits_its_room() {
        let limit = QueueSize::try_from(256).unwrap();
        assert_eq!(fitting(limit, MIB, 4096).unwrap().get(), 256);
        assert_eq!(fitting(limit, MIB, 69_632).unwrap().get(), 8);
        assert_eq!(fitting(limit, 4096, 69_632), None);
    }
}
