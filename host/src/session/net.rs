//! The network device of a session: its features, its two queues, and what
//! comes of them, a [`Link`].

use shared::link::{AcceptedRegion, BoardDescription, DoorbellDescription, QueuePlacement};
use shared::virtq::{QueueSize, RingOptions};
use shared::window::Window;
use shared::wire::features::{EVENT_IDX, Features, IN_ORDER, INDIRECT_DESC};
use shared::wire::net::{NetConfig, STATUS_LINK_UP, feature};

use super::attach::{Event, Session};
use super::choice::{carried, choose, plain_buffer, to_host_buffer, to_host_queue};
use super::error::SessionError;
use super::memory::{RingAddresses, SessionMemory};
use super::placement::{Area, Layout, Placement, RingSpots, Spot};
use crate::bridge::{QueuePair, Staging, Timer, ToBoard, ToBoardParts, ToHost};
use crate::bus::{Bus, HostMemory, Stretch};
use crate::net::{Offloads, OutboundHeader, Rules, Sanitizer, Tags, check_mtu};

/// virtio-net's queue numbers (VirtIO 1.3 §5.1.2).
pub(super) const TO_HOST_QUEUE: u16 = 0;
pub(super) const TO_BOARD_QUEUE: u16 = 1;

/// Looks at an idle link's rings come this often where the board has not said
/// how often its heart beats, in ms.
const IDLE_LOOK: u64 = 1000;

/// What the data path has of a session that is up.
pub struct Link<B: Bus> {
    /// Both directions, ready to run.
    pub pair: QueuePair<B::Window, B::Doorbell, B::Interrupt>,
    /// What the session agreed on.
    pub terms: Terms,
}

/// What a session agreed on.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The network device's number.
    pub device: u16,
    /// What the board says about itself.
    pub board: BoardDescription,
    /// What the device offers.
    pub offered: Features,
    /// Negotiated features.
    pub features: Features,
    /// The host interface's MAC address, if the board has one for it.
    pub mac: Option<[u8; 6]>,
    /// Whether the board's link was up when the session came up.
    pub link_up: bool,
    /// What the host may leave to the board to do.
    pub offloads: Offloads,
    /// The layout.
    pub layout: Layout,
    /// Where the data path's memory lies, for whoever counts accesses.
    pub areas: Areas,
}

/// The memory of each direction's queue: rings and buffers.
#[derive(Clone, Debug, Default)]
pub struct Areas {
    /// On the way to the board.
    pub to_board: Vec<Stretch>,
    /// On the way to the host.
    pub to_host: Vec<Stretch>,
}

impl<B: Bus> Session<B> {
    /// Takes the network device's features that the mask and the memory allow.
    pub(super) fn choose_net_features(&mut self, device: u16) -> Result<(), SessionError> {
        let (placement, _) = self.memory.as_ref().ok_or(SessionError::NoNetworkDevice)?;
        let (room, carried) = (placement.to_host_buffers.len, carried(placement));
        let facts = self.link.facts().ok_or(SessionError::NoNetworkDevice)?;
        let slow = placement.slow.is_some();
        let mask = self.config.feature_mask & carried;
        let accepted = choose(facts.offered, mask, room, slow);
        self.net_device = Some(device);
        Ok(self.link.supply_features(accepted)?)
    }

    /// Initialises both rings and tells the board where they are.
    pub(super) fn set_up_net(&mut self, device: u16) -> Result<Event<B>, SessionError> {
        let (placement, memory) = self.memory.as_ref().ok_or(SessionError::NoNetworkDevice)?;
        let board = self.link.description().ok_or(SessionError::NoNetworkDevice)?.clone();
        let facts = self.link.facts().ok_or(SessionError::NoNetworkDevice)?;
        let features = facts.accepted;
        let config = NetConfig::decode(facts.config).ok_or(SessionError::NoNetworkDevice)?;
        let limit = features.has(feature::MTU).then_some(config.mtu);
        let mtu = check_mtu(self.config.mtu, limit).map_err(SessionError::Mtu)?;
        let stride = to_host_buffer(features, self.config.mtu);
        let limit = |queue: u16| {
            let size = facts.queue_sizes.get(usize::from(queue)).copied().unwrap_or(0);
            let usable = u32::from(size).checked_ilog2().map_or(0, |log| 1 << log);
            QueueSize::try_from(usable).map_err(|_| SessionError::Queues { queue, size })
        };
        let to_host_size = to_host_queue(placement, limit(TO_HOST_QUEUE)?, stride)
            .ok_or(SessionError::Placement(placement.to_host_buffers))?;
        if u32::from(to_host_size.get()) * stride < plain_buffer(self.config.mtu) {
            let size = to_host_size.get();
            return Err(SessionError::Queues { queue: TO_HOST_QUEUE, size });
        }
        let to_board_size = placement.to_board_size.min(limit(TO_BOARD_QUEUE)?);
        let options = |size| RingOptions {
            size,
            in_order: features.has(IN_ORDER),
            event_idx: features.has(EVENT_IDX),
            indirect: features.has(INDIRECT_DESC),
            sleep_flush: placement.layout.sleep_flush(),
            publish_flush: board.interrupts_unordered,
        };
        let (to_host, to_host_at) =
            memory.queue(&placement.to_host_rings, options(to_host_size))?;
        let (to_board, to_board_at) =
            memory.queue(&placement.to_board_rings, options(to_board_size))?;
        let queue = |queue: u16, size: QueueSize, at: RingAddresses| QueuePlacement {
            queue,
            size,
            descriptors: at.descriptors,
            driver: at.driver,
            device: at.device,
            doorbell: u32::from(queue) + 1,
            vector: u32::from(queue) + 1,
        };
        let frame_queues = [
            queue(TO_HOST_QUEUE, to_host_size, to_host_at),
            queue(TO_BOARD_QUEUE, to_board_size, to_board_at),
        ];

        let rules = Rules::new(Offloads::to_host(features.bits()), mtu, Some(board.mac))
            .for_kernel(&kernel_release());
        let rules = Rules { tags: Tags::These(self.config.vlans), ..rules };
        let offloads = Offloads::to_board(features.bits());
        let to_host = ToHost::new(
            to_host,
            memory.buffers(placement.to_host_buffers, stride)?,
            features.has(feature::MRG_RXBUF),
            Sanitizer::new(rules),
            self.ring(&board.doorbell, TO_HOST_QUEUE)?,
        );
        let push = placement
            .push_buffers
            .map(|spot| memory.buffers(spot, placement.push_stride))
            .transpose()?;
        let staging = match placement.to_board_buffers {
            Some(spot) => Staging::Shared(memory.buffers(spot, placement.to_board_stride)?),
            None => Staging::Private(vec![0; placement.to_board_stride as usize].into()),
        };
        let to_board = ToBoard::new(ToBoardParts {
            queue: to_board,
            staging,
            push,
            push_limit: if board.dma_engine { self.config.push_limit } else { u32::MAX },
            header: OutboundHeader::new(offloads, mtu),
            doorbell: self.ring(&board.doorbell, TO_BOARD_QUEUE)?,
        });
        let look = board.heartbeat.interval_ms;
        let pair = QueuePair::new(
            to_board,
            to_host,
            self.bus.interrupt(TO_BOARD_QUEUE + 1)?,
            self.bus.interrupt(TO_HOST_QUEUE + 1)?,
            Timer::new(u64::from(look).clamp(1, IDLE_LOOK)),
            self.link.guard(),
        );
        let terms = Terms {
            device,
            offered: facts.offered,
            features,
            link_up: !features.has(feature::STATUS) || config.status & STATUS_LINK_UP != 0,
            mac: features.has(feature::MAC).then_some(config.mac),
            offloads,
            layout: placement.layout,
            areas: areas(placement, memory, self.region),
            board,
        };
        let mut queues = frame_queues.to_vec();
        queues.extend(self.set_up_control(&config, features)?);
        self.frame_queues = Some(frame_queues);
        self.link.supply_queues(&queues)?;
        Ok(Event::Up(Box::new(Link { pair, terms })))
    }

    fn ring(
        &self,
        description: &DoorbellDescription,
        queue: u16,
    ) -> Result<B::Doorbell, SessionError> {
        Ok(self.bus.doorbell(description, u32::from(queue) + 1)?)
    }
}

/// The kernel's release, as `uname -r` prints it; empty if it will not say.
fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map(|names| names.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The data path's memory by direction.
fn areas<W: Window>(
    placement: &Placement,
    memory: &SessionMemory<W>,
    region: Option<AcceptedRegion>,
) -> Areas {
    let host = |area: &Option<HostMemory<W>>| area.as_ref().map(|m| (None, m.iova.bits()));
    let start = |area| match area {
        Area::HostWritable => host(&memory.host_writable),
        Area::HostReadable => host(&memory.host_readable),
        Area::Board => region.map(|r| (Some(r.region.bar), r.region.offset)),
    };
    let list = |rings: RingSpots, buffers: [Option<Spot>; 2]| {
        [Some(rings.descriptors), Some(rings.avail), Some(rings.used)]
            .into_iter()
            .chain(buffers)
            .flatten()
            .filter_map(|spot| {
                let (bar, start) = start(spot.area)?;
                Some(Stretch { bar, start: start + spot.offset, len: spot.len })
            })
            .collect()
    };
    let to_board = [placement.to_board_buffers, placement.push_buffers];
    Areas {
        to_board: list(placement.to_board_rings, to_board),
        to_host: list(placement.to_host_rings, [Some(placement.to_host_buffers), None]),
    }
}
