//! The host's answers in the bring-up, and what comes of them: a [`Link`].

use shared::link::{
    AcceptedRegion, BoardDescription, DoorbellDescription, Epoch, HostLink, HostOptions,
    HostRegion, LinkEvent, Progress, QueuePlacement,
};
use shared::region::Rights;
use shared::virtq::{QueueSize, RingOptions};
use shared::window::Window;
use shared::wire::features::{EVENT_IDX, Features, IN_ORDER, REQUIRED};
use shared::wire::net::{DEVICE_ID, NetConfig, feature};

use super::choice::{choose, plain_buffer, plan, to_host_buffer, to_host_queue};
use super::config::SessionConfig;
use super::error::SessionError;
use super::memory::SessionMemory;
use super::placement::{Area, Layout, Placement, RingSpots, Spot};
use crate::bridge::{QueuePair, Staging, Timer, ToBoard, ToBoardParts, ToHost};
use crate::bus::{Bus, HostMemory, Latch, Ring, Stretch};
use crate::limit::RateLimit;
use crate::net::{Offloads, OutboundHeader, Rules, Sanitizer, check_mtu};
use crate::pool::LockLimit;

/// The BAR that holds the control block.
const CONTROL_BAR: u8 = 0;

/// virtio-net's queue numbers (VirtIO 1.3 §5.1.2).
const TO_HOST_QUEUE: u16 = 0;
const TO_BOARD_QUEUE: u16 = 1;

/// Looks at an idle link's rings come this often where the board has not said
/// how often its heart beats, in ms.
const IDLE_LOOK: u64 = 1000;

/// Events that one step handles, so that its caller goes on as well.
const EVENTS: u32 = 16;

/// Message interrupts a second that are listened to: an attach needs a few hundred.
const INTERRUPTS: u32 = 1000;

/// A board that interrupts more often is looked at this often, in ms.
const STORM_LOOK: u64 = 10;

/// Lines a minute about what a board says, at each level.
const LINES: u32 = 10;

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
    /// What the board says about itself.
    pub board: BoardDescription,
    /// Negotiated features.
    pub features: Features,
    /// The host interface's MAC address, if the board has one for it.
    pub mac: Option<[u8; 6]>,
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

/// Something that happened in a session.
pub enum Event<B: Bus> {
    /// The network device is up.
    Up(Box<Link<B>>),
    /// The session is over; the board has let go of everything.
    Down,
}

/// What [`Session::step`] wants.
pub struct Step<B: Bus> {
    /// What happened.
    pub event: Option<Event<B>>,
    /// Step again at this time at the latest, in ms, or on a message interrupt.
    pub wait_until: u64,
}

/// One board's session.
pub struct Session<B: Bus> {
    bus: B,
    config: SessionConfig,
    link: HostLink<B::Window>,
    /// Doorbell 0 and vector 0: the message channel's.
    doorbell: Option<B::Doorbell>,
    interrupt: Option<B::Interrupt>,
    memory: Option<(Placement, SessionMemory<B::Window>)>,
    region: Option<AcceptedRegion>,
    up: Option<Box<Link<B>>>,
    net_device: Option<u16>,
    shares_memory: bool,
    /// Message interrupts, and what the board says about itself in the log.
    interrupts: RateLimit,
    storm: bool,
    faults_told: RateLimit,
    events_told: RateLimit,
}

impl<B: Bus> Session<B> {
    /// A session over `bus`; `epoch` differs from the board's last one.
    ///
    /// # Errors
    /// The board has no control BAR, the feature mask leaves nothing, or the
    /// MTU cannot be.
    pub fn new(bus: B, config: SessionConfig, epoch: Epoch) -> Result<Self, SessionError> {
        let missing = REQUIRED.without(Features::new(config.feature_mask));
        if !missing.is_empty() {
            return Err(SessionError::FeatureMask { missing });
        }
        // What is planned from it takes it for possible.
        check_mtu(config.mtu, None).map_err(SessionError::Mtu)?;
        let control = bus.bar(CONTROL_BAR)?;
        let bars = std::array::from_fn(|bar| u8::try_from(bar).map_or(0, |bar| bus.bar_len(bar)));
        let options = HostOptions { session: epoch, control_bar: CONTROL_BAR, bars };
        Ok(Self {
            bus,
            config,
            link: HostLink::new(control, options),
            doorbell: None,
            interrupt: None,
            memory: None,
            region: None,
            up: None,
            net_device: None,
            shares_memory: false,
            interrupts: RateLimit::new(INTERRUPTS, 1000),
            storm: false,
            faults_told: RateLimit::new(LINES, 60_000),
            events_told: RateLimit::new(LINES, 60_000),
        })
    }

    /// Goes on at time `now` (ms). Never waits.
    ///
    /// # Errors
    /// Why there is no session, or none any more. Call [`Session::abandon`] then.
    pub fn step(&mut self, now: u64) -> Result<Step<B>, SessionError> {
        let mut fired = self.interrupt.as_ref().is_some_and(Latch::drain);
        if fired {
            let _ = self.interrupts.admit(now);
        }
        self.storm = self.interrupts.is_reached(now);
        let mut events = 0;
        loop {
            let step = self.link.step(now, fired)?;
            log::trace!("{now} ms: {:?}", step.progress);
            fired = false;
            if let Some(doorbell) = &self.doorbell {
                for _ in 0..step.ring {
                    doorbell.ring();
                }
            }
            let event = match step.progress {
                Progress::Waiting => None,
                Progress::Running if self.net_device.is_none() => {
                    return Err(SessionError::NoNetworkDevice);
                }
                Progress::Running => None,
                Progress::NeedRegions => {
                    self.share_memory()?;
                    continue;
                }
                Progress::NeedFeatures { device } => {
                    self.choose_features(device)?;
                    continue;
                }
                Progress::NeedQueues { device } => {
                    self.set_up_queues(device)?;
                    continue;
                }
                Progress::DeviceUp { device } if self.net_device == Some(device) => {
                    self.up.take().map(Event::Up)
                }
                Progress::DeviceUp { .. } => continue,
                Progress::Event(event) => {
                    self.board_said(now, event)?;
                    events += 1;
                    if events < EVENTS {
                        continue;
                    }
                    None
                }
                Progress::Detached { clean } => {
                    self.release(clean)?;
                    Some(Event::Down)
                }
            };
            if self.doorbell.is_none() {
                self.open_channel()?;
            }
            let wait_until = if self.storm { now + STORM_LOOK } else { step.come_back_at };
            return Ok(Step { event, wait_until });
        }
    }

    /// Begins the detach; go on stepping until [`Event::Down`].
    pub fn detach(&mut self, now: u64) {
        self.link.detach(now);
    }

    /// After an error: takes the host's memory away from the board.
    pub fn abandon(&mut self) {
        if let Err(SessionError::Bus(error)) = self.release(false) {
            // Its memory is out of the board's reach all the same.
            log::error!("cannot reset the board: {error}");
        }
    }

    /// What becomes readable when the board has a message; `None` while there
    /// is nothing yet, or while the board interrupts too often to be listened to.
    #[must_use]
    pub fn message_interrupt(&self) -> Option<&B::Interrupt> {
        self.interrupt.as_ref().filter(|_| !self.storm)
    }

    /// Opens the message channel's doorbell and vector, once they are known.
    fn open_channel(&mut self) -> Result<(), SessionError> {
        let Some(board) = self.link.description() else { return Ok(()) };
        self.doorbell = Some(self.bus.doorbell(&board.doorbell, 0)?);
        self.interrupt = Some(self.bus.interrupt(0)?);
        Ok(())
    }

    /// Plans where everything lies, and shares host memory for it.
    fn share_memory(&mut self) -> Result<(), SessionError> {
        let layout = self.config.layout;
        let board = self.link.description().ok_or(SessionError::NoNetworkDevice)?;
        if layout != Layout::BarOnly && board.outbound.is_none() {
            return Err(SessionError::NoReach { layout });
        }
        let dma_engine = board.dma_engine;
        let region = self.best_region(layout)?;
        let offered = region.region.len;
        let lock = LockLimit::current().map_err(SessionError::LockUnknown)?;
        let placement = plan(&self.config, offered, dma_engine, lock)?;
        let board = HostMemory {
            iova: region.base,
            window: self
                .bus
                .bar(region.region.bar)?
                .part(region.region.offset, offered)
                .ok_or(SessionError::NoBoardMemory { layout })?,
        };
        self.shares_memory = placement.host_writable + placement.host_readable > 0;
        // The board reads its event words back from what it writes (R4).
        let host_writable = self.share(placement.host_writable, Rights::READ_WRITE)?;
        let host_readable = self.share(placement.host_readable, Rights::READ)?;
        let offer = |memory: &HostMemory<B::Window>, rights| HostRegion {
            base: memory.iova,
            len: memory.window.len(),
            rights,
        };
        let mut regions = Vec::with_capacity(2);
        regions.extend(host_writable.as_ref().map(|m| offer(m, Rights::READ_WRITE)));
        regions.extend(host_readable.as_ref().map(|m| offer(m, Rights::READ)));
        let memory = SessionMemory { host_writable, host_readable, board };
        let status = placement.status_page.map(|spot| memory.place(spot)).transpose()?;
        self.link.supply_regions(&regions, status.map(|(window, _)| window))?;
        self.memory = Some((placement, memory));
        self.region = Some(region);
        Ok(())
    }

    fn share(
        &mut self,
        len: u64,
        rights: Rights,
    ) -> Result<Option<HostMemory<B::Window>>, SessionError> {
        if len == 0 {
            return Ok(None);
        }
        let page = crate::pool::page_size();
        Ok(Some(self.bus.share(len.next_multiple_of(page), rights)?))
    }

    /// The largest region with the rights that the layout needs.
    fn best_region(&self, layout: Layout) -> Result<AcceptedRegion, SessionError> {
        let need = match layout {
            Layout::Split | Layout::AllHost => Rights::READ,
            Layout::BarOnly => Rights::READ_WRITE,
        };
        self.link
            .board_regions()
            .filter(|accepted| accepted.region.rights.contains(need))
            .max_by_key(|accepted| accepted.region.len)
            .ok_or(SessionError::NoBoardMemory { layout })
    }

    /// Takes the first network device and leaves the others alone.
    fn choose_features(&mut self, device: u16) -> Result<(), SessionError> {
        let room = self.memory.as_ref().map_or(0, |(placement, _)| placement.to_host_buffers.len);
        let facts = self.link.facts().ok_or(SessionError::NoNetworkDevice)?;
        if facts.info.device_id != DEVICE_ID || self.net_device.is_some() {
            return Ok(self.link.decline_device()?);
        }
        let accepted = choose(facts.offered, self.config.feature_mask, room);
        self.net_device = Some(device);
        Ok(self.link.supply_features(accepted)?)
    }

    /// Initialises both rings and tells the board where they are.
    fn set_up_queues(&mut self, device: u16) -> Result<(), SessionError> {
        if self.net_device != Some(device) {
            return Ok(self.link.decline_device()?);
        }
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
            sleep_flush: placement.layout.sleep_flush(),
            publish_flush: board.interrupts_unordered,
        };
        let (to_host, to_host_at) =
            memory.queue(&placement.to_host_rings, options(to_host_size))?;
        let (to_board, to_board_at) =
            memory.queue(&placement.to_board_rings, options(to_board_size))?;
        let queue =
            |queue: u16, size: QueueSize, at: super::memory::RingAddresses| QueuePlacement {
                queue,
                size,
                descriptors: at.descriptors,
                driver: at.driver,
                device: at.device,
                doorbell: u32::from(queue) + 1,
                vector: u32::from(queue) + 1,
            };
        let queues = [
            queue(TO_HOST_QUEUE, to_host_size, to_host_at),
            queue(TO_BOARD_QUEUE, to_board_size, to_board_at),
        ];

        let rules = Rules::new(Offloads::to_host(features.bits()), mtu, Some(board.mac))
            .for_kernel(&kernel_release());
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
            features,
            mac: features.has(feature::MAC).then_some(config.mac),
            offloads,
            layout: placement.layout,
            areas: areas(placement, memory, self.region),
            board,
        };
        self.link.supply_queues(&queues)?;
        self.up = Some(Box::new(Link { pair, terms }));
        Ok(())
    }

    fn ring(
        &self,
        description: &DoorbellDescription,
        queue: u16,
    ) -> Result<B::Doorbell, SessionError> {
        Ok(self.bus.doorbell(description, u32::from(queue) + 1)?)
    }

    fn board_said(&mut self, now: u64, event: LinkEvent) -> Result<(), SessionError> {
        match event {
            LinkEvent::NeedsReset { device } if self.net_device == Some(device) => {
                Err(SessionError::NeedsReset)
            }
            LinkEvent::Fault { code, device, queue, count } => {
                // A board may say so as often as it likes.
                if let Some(untold) = self.faults_told.admit(now) {
                    log::warn!(
                        "board fault {code} on device {device} queue {queue}, {count} so far ({untold} reports not shown)"
                    );
                }
                Ok(())
            }
            // Link status, hot-plugged devices and in-band notifications change
            // nothing for a single network device on a live link.
            other => {
                if let Some(untold) = self.events_told.admit(now) {
                    log::debug!("board: {other:?} ({untold} events not shown)");
                }
                Ok(())
            }
        }
    }

    /// Takes the host's memory away from the board; without `clean` the bus
    /// first makes sure that the board no longer writes there.
    fn release(&mut self, clean: bool) -> Result<(), SessionError> {
        let reset = if clean || !self.shares_memory { Ok(()) } else { self.bus.reset() };
        self.bus.unshare_all();
        self.shares_memory = false;
        reset?;
        if clean { Ok(()) } else { Err(SessionError::NotDetached) }
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
