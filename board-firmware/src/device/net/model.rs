//! The device itself: configuration, queues, and one run of both ways.

use core::fmt;

use shared::fault::PeerFault;
use shared::msg::device::{DeviceModel, ModelInfo};
use shared::msg::status::QueueSetup;
use shared::region::RegionTable;
use shared::virtq::{Chain, DeviceSlot, QueueStats};
use shared::window::Window;
use shared::wire::features::{
    ACCESS_PLATFORM, EVENT_IDX, Features, IN_ORDER, ORDER_PLATFORM, RING_RESET, VERSION_1,
};
use shared::wire::net::{
    CONFIG_LEN, DEVICE_ID, HEADER_LEN, MAX_FRAME, NetConfig, STATUS_LINK_UP, feature,
};

use super::backend::{FrameSink, Negotiated, NetBackend, Packet};
use super::checksum::ETHERNET_HEADER;
use super::sink::{Sink, Waiting};
use super::to_board::{Taken, take};
use super::to_host::Chains;
use crate::device::queue::{Payload, Place};
use crate::device::transfer::Mover;
use crate::device::{BoardDevice, Context, Ran, Stop, Wake};
use crate::dma::DmaEngine;
use crate::support::BoardSupport;
use crate::trace::NetCounters;

/// virtio-net's queue towards the host (VirtIO 1.3 §5.1.2).
pub const RECEIVEQ: u16 = 0;
/// virtio-net's queue towards the board.
pub const TRANSMITQ: u16 = 1;

/// Frames from the host in one run.
const FRAME_BUDGET: u32 = 64;

/// Bytes from the host in one run, at least; one frame more may come.
const BYTE_BUDGET: usize = 256 * 1024;

/// The vendor id in GET_DEVICE_INFO: none of the PCI ones, as the transport
/// has no use for it.
const VENDOR_ID: u32 = 0;

#[expect(clippy::cast_possible_truncation, reason = "a dozen bytes")]
const CONFIG_SIZE: u32 = CONFIG_LEN as u32;

/// What the device is told when it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetOptions {
    /// The *host interface's* MAC address (VirtIO 1.3 §5.1.4).
    pub mac: [u8; 6],
    /// Longest packet without Ethernet header, in bytes; at least 68.
    pub mtu: u16,
    /// Feature bits that are not offered though the device has them: for tests
    /// and for hosts that get one wrong.
    pub withhold: u64,
}

/// The memory of a device, from the caller, for its whole life.
#[derive(Debug)]
pub struct NetMemory<'b> {
    /// Records of the receiveq and of the transmitq: as many as the queue may
    /// have entries, a power of two from 2 up; the shorter one counts.
    pub slots: [&'b mut [DeviceSlot]; 2],
    /// The frame from the host at work: [`NetMemory::FRAME_BYTES`] for every
    /// offload, at least an MTU, 30 bytes more.
    pub frame: &'b mut [u8],
    /// The frame to the host at work: the same.
    pub waiting: &'b mut [u8],
}

impl NetMemory<'_> {
    /// Bytes that hold the longest frame with its header.
    pub const FRAME_BYTES: usize = HEADER_LEN + MAX_FRAME;
}

/// Why a device cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetError {
    /// Fewer than 2 records for a queue.
    Slots,
    /// A frame buffer holds no frame of the MTU.
    Frame {
        /// Bytes brought.
        found: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// The MTU is below 68 bytes (VirtIO 1.3 §5.1.4.1).
    Mtu,
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Slots => f.write_str("a queue needs at least 2 records"),
            Self::Frame { found, needed } => {
                write!(f, "a frame buffer of {found} bytes where the MTU needs {needed}")
            }
            Self::Mtu => f.write_str("an MTU below 68 bytes"),
        }
    }
}

impl core::error::Error for NetError {}

/// The virtio-net device with `B` behind it.
#[derive(Debug)]
pub struct NetDevice<'b, W, B> {
    config: NetConfig,
    withhold: u64,
    backend: B,
    receive: Place<'b, W>,
    transmit: Place<'b, W>,
    queue_size: u16,
    frame: &'b mut [u8],
    waiting: Waiting<'b>,
    chain: Chain,
    chains: Chains,
    negotiated: Negotiated,
    /// The driver became ready and the backend was not told yet.
    fresh: bool,
    /// The queue whose doorbell was asked for before the last sleep.
    asked: u16,
    stops: [Option<Stop>; 2],
    counters: NetCounters,
}

impl<'b, W: Window + Clone, B: NetBackend> NetDevice<'b, W, B> {
    /// A device with this backend.
    ///
    /// # Errors
    /// [`NetError`] if options or memory do not do.
    pub fn new(options: &NetOptions, memory: NetMemory<'b>, backend: B) -> Result<Self, NetError> {
        if options.mtu < 68 {
            return Err(NetError::Mtu);
        }
        let needed = HEADER_LEN + ETHERNET_HEADER + 4 + usize::from(options.mtu);
        for found in [memory.frame.len(), memory.waiting.len()] {
            if found < needed {
                return Err(NetError::Frame { found, needed });
            }
        }
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
            withhold: options.withhold,
            backend,
            receive: Place::Idle(receive),
            transmit: Place::Idle(transmit),
            queue_size,
            frame: memory.frame,
            waiting: Waiting::new(memory.waiting),
            chain: Chain::new(),
            chains: Chains::default(),
            negotiated: Negotiated::NONE,
            fresh: false,
            asked: TRANSMITQ,
            stops: [None; 2],
            counters: NetCounters::default(),
        })
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
            _ => None,
        }
    }

    /// Notes that a queue has stopped; the service asks for it.
    fn note(&mut self, queue: u16, stop: Stop) {
        self.counters.peer_faults += u64::from(matches!(stop, Stop::Peer(_)));
        if let Some(slot) = self.stops.get_mut(usize::from(queue)) {
            *slot = Some(stop);
        }
    }
}

impl<W: Window + Clone, B: NetBackend> DeviceModel<W> for NetDevice<'_, W, B> {
    fn info(&self) -> ModelInfo {
        let own = feature::MAC | feature::MTU | feature::STATUS | feature::MRG_RXBUF;
        let ring = EVENT_IDX | IN_ORDER | RING_RESET;
        let required = VERSION_1 | ACCESS_PLATFORM | ORDER_PLATFORM;
        let offered = (own | ring | self.backend.features()) & !self.withhold;
        ModelInfo {
            device_id: DEVICE_ID,
            vendor_id: VENDOR_ID,
            features: Features::new(offered | required),
            config_size: CONFIG_SIZE,
            queues: 2,
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
        self.fresh = true;
    }

    fn activate_queue(
        &mut self,
        setup: &QueueSetup,
        regions: &RegionTable<W>,
    ) -> Result<(), PeerFault> {
        let features = Features::new(self.negotiated.features);
        let payload = if setup.queue == RECEIVEQ { Payload::ToHost } else { Payload::ToBoard };
        let impossible = PeerFault::QueueSetup { queue: u32::from(setup.queue) };
        self.place(setup.queue).ok_or(impossible)?.open(setup, payload, regions, features)
    }

    fn reset(&mut self) -> bool {
        self.receive.free();
        self.transmit.free();
        self.waiting.clear();
        self.stops = [None; 2];
        self.fresh = false;
        true
    }

    fn reset_queue(&mut self, queue: u16) -> bool {
        if let Some(place) = self.place(queue) {
            place.free();
        }
        if queue == RECEIVEQ {
            self.waiting.clear();
        }
        true
    }
}

impl<W: Window + Clone, B: NetBackend> BoardDevice<W> for NetDevice<'_, W, B> {
    fn run<S, E>(&mut self, context: &mut Context<'_, S, E>) -> Ran
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
        if core::mem::take(&mut self.fresh) {
            self.backend.start(now, negotiated);
        }
        let mut sink = Sink {
            mover: Mover::new(context.support, context.dma, context.regions),
            queue: receive,
            chains: &mut self.chains,
            waiting: &mut self.waiting,
            negotiated,
            mergeable: negotiated.has(feature::MRG_RXBUF),
            counters: &mut self.counters,
            stop: None,
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
                match queue.publish(&mut sink.mover) {
                    Ok(raised) => sink.counters.interrupts += raised,
                    Err(found) => stop = Some(found),
                }
            }
            if let Some(found) = stop {
                queue.stop(found);
            }
        }

        // 3. What the backend has to say, and 4. to the host with it.
        let wake = self.backend.poll(now, &mut sink);
        sink.publish();

        let Sink { mut mover, stop: receive_stop, sent, .. } = sink;
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

    fn park(&mut self) {
        for queue in [self.receive.queue(), self.transmit.queue()].into_iter().flatten() {
            queue.ring.park();
        }
    }

    fn arm(&mut self) -> bool {
        // A frame that waits for buffers keeps frames from the host waiting too.
        let (number, outcome) = if self.waiting.is_some() {
            let queue = self.receive.queue();
            (RECEIVEQ, queue.map(|queue| (queue.ring.arm_for_more(), queue)))
        } else {
            let queue = self.transmit.queue();
            (TRANSMITQ, queue.map(|queue| (queue.ring.arm(), queue)))
        };
        match outcome {
            None => true,
            Some((Ok(quiet), _)) => {
                if quiet {
                    self.asked = number;
                }
                quiet
            }
            Some((Err(fault), queue)) => {
                queue.stop(fault.into());
                self.note(number, fault.into());
                false
            }
        }
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
