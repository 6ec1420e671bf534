//! The device itself: configuration, queues, and one run of both ways.

use shared::fault::PeerFault;
use shared::msg::device::{DeviceModel, ModelInfo};
use shared::msg::status::QueueSetup;
use shared::region::RegionTable;
use shared::virtq::{Chain, DeviceSlot, QueueStats};
use shared::window::Window;
use shared::wire::features::{
    ACCESS_PLATFORM, EVENT_IDX, Features, IN_ORDER, INDIRECT_DESC, ORDER_PLATFORM, RING_RESET,
    VERSION_1,
};
use shared::wire::net::{
    CONFIG_LEN, DEVICE_ID, MAX_FRAME, NetConfig, STATUS_ANNOUNCE, STATUS_LINK_UP, feature,
};
use shared::wire::net_control::Mac;

use super::backend::{FrameSink, Negotiated, NetBackend, Packet};
use super::control::Settings;
use super::options::{NetError, NetMemory, NetOptions, check_mtu};
use super::sink::{Sink, Waiting};
use super::to_board::{Taken, take};
use super::to_host::Chains;
use crate::device::queue::{Payload, Place};
use crate::device::transfer::Mover;
use crate::device::{BoardDevice, ConfigChange, Context, Ran, Stop, Wake};
use crate::dma::DmaEngine;
use crate::support::BoardSupport;
use crate::trace::NetCounters;

/// virtio-net's queue towards the host (VirtIO 1.3 §5.1.2).
pub const RECEIVEQ: u16 = 0;
/// virtio-net's queue towards the board.
pub const TRANSMITQ: u16 = 1;
/// virtio-net's queue of commands, without multi-queue.
pub const CONTROLQ: u16 = 2;

/// Frames from the host in one run.
const FRAME_BUDGET: u32 = 64;

/// Bytes from the host in one run, at least; one frame more may come.
const BYTE_BUDGET: usize = 256 * 1024;

/// The vendor id in GET_DEVICE_INFO: none of the PCI ones, as the transport
/// has no use for it.
const VENDOR_ID: u32 = 0;

#[expect(clippy::cast_possible_truncation, reason = "a dozen bytes")]
const CONFIG_SIZE: u32 = CONFIG_LEN as u32;

/// What comes with a control queue.
const CONTROL_FEATURES: u64 = feature::CTRL_VQ
    | feature::CTRL_RX
    | feature::CTRL_RX_EXTRA
    | feature::CTRL_VLAN
    | feature::CTRL_MAC_ADDR
    | feature::CTRL_GUEST_OFFLOADS
    | feature::GUEST_ANNOUNCE
    | feature::NOTF_COAL;

/// When a new MTU holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MtuSet {
    /// From now on.
    Now,
    /// When the driver has reset the device.
    AfterReset,
}

/// The virtio-net device with `B` behind it.
#[derive(Debug)]
pub struct NetDevice<'b, W, B> {
    pub(super) config: NetConfig,
    /// What the driver finds after a reset: address and MTU.
    initial: (Mac, u16),
    pub(super) changed: Option<ConfigChange>,
    withhold: u64,
    pub(super) backend: B,
    pub(super) receive: Place<'b, W>,
    pub(super) transmit: Place<'b, W>,
    pub(super) control: Place<'b, W>,
    /// There are records for a control queue.
    controllable: bool,
    /// When the control queue was last looked at, in ms.
    pub(super) control_looked: u64,
    /// A look has found a command that was not served yet.
    pub(super) control_waits: bool,
    pub(super) settings: Settings,
    /// A driver is at work.
    live: bool,
    queue_size: u16,
    frame: &'b mut [u8],
    pub(super) waiting: Waiting<'b>,
    pub(super) chain: Chain,
    chains: Chains,
    pub(super) negotiated: Negotiated,
    /// The driver became ready and the backend was not told yet.
    fresh: bool,
    /// The queue whose doorbell was asked for before the last sleep.
    asked: u16,
    stops: [Option<Stop>; 3],
    pub(super) counters: NetCounters,
}

impl<'b, W: Window + Clone, B: NetBackend> NetDevice<'b, W, B> {
    /// A device with this backend.
    ///
    /// # Errors
    /// [`NetError`] if options or memory do not do.
    pub fn new(options: &NetOptions, memory: NetMemory<'b>, backend: B) -> Result<Self, NetError> {
        check_mtu(options.mtu, [memory.frame.len(), memory.waiting.len()])?;
        let [receive, transmit] = memory.slots;
        let slots = receive.len().min(transmit.len()).min(1 << 15);
        let queue_size = match slots.checked_ilog2() {
            Some(log @ 1..) => u16::try_from(1_u32 << log).unwrap_or(1 << 15),
            _ => return Err(NetError::Slots),
        };
        Ok(Self {
            config: NetConfig {
                mac: options.mac,
                status: STATUS_LINK_UP,
                max_virtqueue_pairs: 1,
                mtu: options.mtu,
            },
            initial: (options.mac, options.mtu),
            changed: None,
            withhold: options.withhold,
            backend,
            receive: Place::Idle(receive),
            transmit: Place::Idle(transmit),
            control: Place::Idle(&mut []),
            controllable: false,
            control_looked: 0,
            control_waits: false,
            settings: Settings::new(Features::NONE),
            live: false,
            queue_size,
            frame: memory.frame,
            waiting: Waiting::new(memory.waiting),
            chain: Chain::new(),
            chains: Chains::default(),
            negotiated: Negotiated::NONE,
            fresh: false,
            asked: TRANSMITQ,
            stops: [None; 3],
            counters: NetCounters::default(),
        })
    }

    /// Gives it a control queue, with these records: as many as the other
    /// queues have entries.
    ///
    /// # Errors
    /// [`NetError::Slots`] if they are fewer.
    pub fn with_control(mut self, records: &'b mut [DeviceSlot]) -> Result<Self, NetError> {
        if records.len() < usize::from(self.queue_size) {
            return Err(NetError::Slots);
        }
        self.control = Place::Idle(records);
        self.controllable = true;
        Ok(self)
    }

    /// Says whether the link behind the device is up, as it is at first. The
    /// driver is told with the next step of the service; frames pass all the same.
    pub fn set_link(&mut self, up: bool) {
        let status = self.config.status & !STATUS_LINK_UP | if up { STATUS_LINK_UP } else { 0 };
        self.set_status(status);
    }

    /// Asks the driver to announce itself to the network, until it says that
    /// it has. `false`: it did not accept GUEST_ANNOUNCE.
    pub fn announce(&mut self) -> bool {
        let able = self.live && self.negotiated.has(feature::STATUS | feature::GUEST_ANNOUNCE);
        if able {
            self.set_status(self.config.status | STATUS_ANNOUNCE);
        }
        able
    }

    fn set_status(&mut self, status: u16) {
        if status != self.config.status {
            self.config.status = status;
            self.changed = Some(ConfigChange::News);
        }
    }

    /// Sets the longest packet without Ethernet header, 68 to 65521 bytes. A
    /// driver at work keeps the old one until it resets the device, since no
    /// device may change it under a driver (VirtIO 1.3 §5.1.4.1).
    ///
    /// # Errors
    /// [`NetError::Mtu`], or [`NetError::Frame`] if the device's buffers hold
    /// no frame of it.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<MtuSet, NetError> {
        check_mtu(mtu, [self.frame.len(), self.waiting.len()])?;
        let (_, initial) = &mut self.initial;
        *initial = mtu;
        if self.live {
            return Ok(MtuSet::AfterReset);
        }
        if self.config.mtu != mtu {
            self.config.mtu = mtu;
            self.changed = Some(ConfigChange::News);
        }
        Ok(MtuSet::Now)
    }

    /// What it has done so far.
    #[must_use]
    pub const fn counters(&self) -> &NetCounters {
        &self.counters
    }

    /// What each queue has counted since it was set up: [`RECEIVEQ`], [`TRANSMITQ`].
    #[must_use]
    pub fn queue_stats(&self) -> [QueueStats; 2] {
        [&self.receive, &self.transmit].map(|place| match place {
            Place::Used(queue) => queue.ring.stats(),
            Place::Idle(_) => QueueStats::default(),
        })
    }

    /// The backend.
    pub const fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    fn place(&mut self, queue: u16) -> Option<&mut Place<'b, W>> {
        match queue {
            RECEIVEQ => Some(&mut self.receive),
            TRANSMITQ => Some(&mut self.transmit),
            CONTROLQ if self.negotiated.has(feature::CTRL_VQ) => Some(&mut self.control),
            _ => None,
        }
    }

    /// Notes that a queue has stopped; the service asks for it.
    pub(super) fn note(&mut self, queue: u16, stop: Stop) {
        self.counters.peer_faults += u64::from(matches!(stop, Stop::Peer(_)));
        if let Some(slot) = self.stops.get_mut(usize::from(queue)) {
            *slot = Some(stop);
        }
    }
}

impl<W: Window + Clone, B: NetBackend> DeviceModel<W> for NetDevice<'_, W, B> {
    fn info(&self) -> ModelInfo {
        let own = feature::MAC | feature::MTU | feature::STATUS | feature::MRG_RXBUF;
        let ring = EVENT_IDX | IN_ORDER | INDIRECT_DESC | RING_RESET;
        let required = VERSION_1 | ACCESS_PLATFORM | ORDER_PLATFORM;
        let control = if self.controllable { CONTROL_FEATURES } else { 0 };
        let offered = (own | ring | control | self.backend.features()) & !self.withhold;
        let offered = Features::new(offered).net_consistent();
        ModelInfo {
            device_id: DEVICE_ID,
            vendor_id: VENDOR_ID,
            features: offered | Features::new(required),
            config_size: CONFIG_SIZE,
            queues: if offered.has(feature::CTRL_VQ) { 3 } else { 2 },
            queue_size: u32::from(self.queue_size),
        }
    }

    fn read_config(&mut self, offset: u32, into: &mut [u8]) {
        let bytes = self.config.encode();
        let from = bytes.get(offset as usize..).unwrap_or(&[]);
        for (to, from) in into.iter_mut().zip(from) {
            *to = *from;
        }
    }

    // Nothing in it is for the driver to write (VirtIO 1.3 §5.1.4).
    fn write_config(&mut self, _offset: u32, _from: &[u8]) -> bool {
        false
    }

    fn driver_ok(&mut self, features: Features) {
        self.negotiated = Negotiated {
            features: features.bits(),
            mtu: self.config.mtu,
            room: self.waiting.room().min(MAX_FRAME),
        };
        self.settings = Settings::new(features);
        self.fresh = true;
        self.live = true;
    }

    fn activate_queue(
        &mut self,
        setup: &QueueSetup,
        regions: &RegionTable<W>,
    ) -> Result<(), PeerFault> {
        let features = Features::new(self.negotiated.features);
        // The answers to commands are payload to the host.
        let payload = if setup.queue == TRANSMITQ { Payload::ToBoard } else { Payload::ToHost };
        let impossible = PeerFault::QueueSetup { queue: u32::from(setup.queue) };
        self.place(setup.queue).ok_or(impossible)?.open(setup, payload, regions, features)?;
        self.pace();
        Ok(())
    }

    fn reset(&mut self) -> bool {
        if self.live && !self.fresh {
            self.backend.stop();
        }
        self.receive.free();
        self.transmit.free();
        self.control.free();
        self.waiting.clear();
        self.control_waits = false;
        self.stops = [None; 3];
        self.fresh = false;
        self.live = false;
        self.settings = Settings::new(Features::NONE);
        (self.config.mac, self.config.mtu) = self.initial;
        self.config.status &= !STATUS_ANNOUNCE;
        true
    }

    fn reset_queue(&mut self, queue: u16) -> bool {
        if let Some(place) = self.place(queue) {
            place.free();
        }
        if queue == RECEIVEQ {
            self.counters.dropped_unfit += u64::from(self.waiting.is_some());
            self.waiting.clear();
        }
        // What waited went with its queue.
        self.control_waits &= queue != CONTROLQ;
        true
    }
}

impl<W: Window + Clone, B: NetBackend> BoardDevice<W> for NetDevice<'_, W, B> {
    fn run<S, E>(&mut self, context: &mut Context<'_, S, E>) -> Ran
    where
        S: BoardSupport<Window = W>,
        E: DmaEngine<W>,
    {
        if core::mem::take(&mut self.fresh) {
            self.backend.start(context.now, self.negotiated);
        }
        // Commands hold from the next frame on.
        let commands = self.run_control(context);
        let mut ran = self.run_frames(context);
        self.raise_due(context);
        ran.moved += commands;
        // Its doorbell is always asked for.
        ran.announced += commands;
        if self.control_waits {
            ran.wake = Wake::Again;
        }
        ran
    }

    fn park(&mut self) {
        // Commands are few: the control queue's doorbell stays asked for.
        for queue in [self.receive.queue(), self.transmit.queue()].into_iter().flatten() {
            queue.ring.park();
        }
    }

    fn arm(&mut self) -> bool {
        if let Some(control) = self.control.queue() {
            control.ring.ask();
        }
        // A frame that waits for buffers keeps frames from the host waiting too.
        let (number, outcome) = if self.waiting.is_some() {
            let queue = self.receive.queue();
            (RECEIVEQ, queue.map(|queue| (queue.ring.arm_for_more(), queue)))
        } else {
            let queue = self.transmit.queue();
            (TRANSMITQ, queue.map(|queue| (queue.ring.arm(), queue)))
        };
        let armed = outcome.as_ref().map(|(_, queue)| queue.ring.reads_back());
        match outcome {
            None => {}
            Some((Ok(true), _)) => self.asked = number,
            Some((Ok(false), _)) => return false,
            Some((Err(fault), queue)) => {
                queue.stop(fault.into());
                self.note(number, fault.into());
                return false;
            }
        }
        self.arm_control(armed)
    }

    fn take_config_change(&mut self) -> Option<ConfigChange> {
        self.changed.take()
    }

    fn due_us(&self) -> Option<u64> {
        [&self.receive, &self.transmit].into_iter().filter_map(Place::due_us).min()
    }

    fn counter(&self, index: usize) -> Option<(&'static str, u64)> {
        self.counters.named().nth(index)
    }

    fn take_stop(&mut self) -> Option<(u16, Stop)> {
        for (queue, slot) in (0..).zip(&mut self.stops) {
            if let Some(stop) = slot.take() {
                return Some((queue, stop));
            }
        }
        None
    }
}

impl<W: Window + Clone, B: NetBackend> NetDevice<'_, W, B> {
    /// Frames, both ways.
    // A function of its own, as is the link's: the locals of one that holds
    // everything are further away than a processor's short instructions reach.
    #[inline(never)]
    fn run_frames<S, E>(&mut self, context: &mut Context<'_, S, E>) -> Ran
    where
        S: BoardSupport<Window = W>,
        E: DmaEngine<W>,
    {
        let (receive, mut transmit) = (self.receive.queue(), self.transmit.queue());
        if receive.is_none() && transmit.is_none() {
            return Ran { moved: 0, announced: 0, wake: Wake::Idle };
        }
        let (now, negotiated) = (context.now, self.negotiated);
        let waited = self.waiting.is_some();
        let mut sink = Sink {
            mover: Mover::new(context.support, context.dma, context.regions),
            clock: context.clock,
            filter: &self.settings.filter,
            own: self.config.mac,
            queue: receive,
            chains: &mut self.chains,
            waiting: &mut self.waiting,
            negotiated,
            mergeable: negotiated.has(feature::MRG_RXBUF),
            counters: &mut self.counters,
            stop: None,
            choked: false,
            sent: 0,
            unpublished: 0,
        };

        // 1. Frames from the host, as long as their answers have somewhere to go.
        let (mut taken, mut bytes, mut more, mut stop) = (0, 0, false, None);
        if let Some(queue) = &mut transmit {
            while sink.ready() {
                if taken >= FRAME_BUDGET || bytes >= BYTE_BUDGET {
                    more = true;
                    break;
                }
                let (mover, counters) = (&mut sink.mover, &mut *sink.counters);
                let (chain, frame) = (&mut self.chain, &mut *self.frame);
                match take(queue, chain, mover, &negotiated, frame, counters) {
                    Ok(Taken::Nothing) => break,
                    Ok(Taken::Dropped) => taken += 1,
                    Ok(Taken::Frame { header, bytes: len }) => {
                        taken += 1;
                        bytes += len;
                        let packet = self.frame.get_mut(..len).and_then(Packet::new);
                        if let Some(mut packet) = packet {
                            self.backend.frame(now, &header, &mut packet, &mut sink);
                        }
                    }
                    Err(found) => {
                        stop = Some(found);
                        break;
                    }
                }
            }
            // 2. Their buffers go back.
            if stop.is_none() {
                match queue.publish_paced(&mut sink.mover, sink.clock) {
                    Ok(raised) => sink.counters.interrupts += raised,
                    Err(found) => stop = Some(found),
                }
            }
            if let Some(found) = stop {
                queue.stop(found);
            }
        } else {
            // No frames to take; the one that waits for buffers goes all the same.
            let _ = sink.ready();
        }

        // 3. What the backend has to say, and 4. to the host with it.
        let wake = self.backend.poll(now, &mut sink);
        sink.publish();

        let Sink { mut mover, stop: receive_stop, choked, sent, .. } = sink;
        more |= choked;
        mover.leave_nothing_under_way();
        let (fetches, posts) = (mover.fetches, mover.posts);
        self.counters.fetches += fetches;
        self.counters.posts += posts;
        for (queue, stop) in [(RECEIVEQ, receive_stop), (TRANSMITQ, stop)] {
            if let Some(stop) = stop {
                self.note(queue, stop);
            }
        }
        let announced = match self.asked {
            TRANSMITQ => taken,
            // The frame that waited goes first, into the buffers that came.
            _ => u32::from(waited && sent > 0),
        };
        Ran { moved: taken + sent, announced, wake: if more { Wake::Again } else { wake } }
    }
}
