//! The device itself: queues, and one run of both ways.

use core::fmt;

use shared::fault::PeerFault;
use shared::msg::device::{DeviceModel, ModelInfo};
use shared::msg::status::QueueSetup;
use shared::region::RegionTable;
use shared::virtq::{Chain, DeviceSlot, UsedEntry};
use shared::window::Window;
use shared::wire::console::{DEVICE_ID, RECEIVEQ, TRANSMITQ};
use shared::wire::features::{
    ACCESS_PLATFORM, EVENT_IDX, Features, IN_ORDER, INDIRECT_DESC, ORDER_PLATFORM, RING_RESET,
    VERSION_1,
};

use super::backend::ConsoleBackend;
use crate::device::queue::{Payload, Place};
use crate::device::transfer::{Mover, Stuck};
use crate::device::{BoardDevice, BoardView, Context, Ran, Stop, Wake};
use crate::dma::DmaEngine;
use crate::support::BoardSupport;
use crate::trace::ConsoleCounters;

/// Pieces that one run moves at most, each way: a console needs no speed, and
/// a flood must not cost the other devices much.
const BUDGET: u32 = 16;

/// Bytes of a piece.
const PIECE: usize = 64;

/// Why a device cannot be made: fewer than 2 records for a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsoleError;

impl fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a queue needs at least 2 records")
    }
}

impl core::error::Error for ConsoleError {}

/// The virtio-console device with `B` behind it.
#[derive(Debug)]
pub struct ConsoleDevice<'b, W, B> {
    backend: B,
    receive: Place<'b, W>,
    transmit: Place<'b, W>,
    queue_size: u16,
    features: Features,
    chain: Chain,
    /// Bytes of the transmitq's next buffer that were taken before.
    taken: u32,
    staged: Staged,
    /// The driver became ready and the backend was not told yet.
    fresh: bool,
    /// What the driver was asked to ring for before the last sleep.
    asked: Asked,
    stops: [Option<Stop>; 2],
    counters: ConsoleCounters,
}

/// Output that waits for a buffer of the host.
#[derive(Debug)]
struct Staged {
    bytes: [u8; PIECE],
    from: usize,
    to: usize,
}

impl Staged {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or(&[])
    }

    fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Asked {
    buffers: bool,
    input: bool,
}

impl<'b, W: Window + Clone, B: ConsoleBackend> ConsoleDevice<'b, W, B> {
    /// A console with this backend. `slots`: records of the receiveq and of
    /// the transmitq, as many as the queue may have entries, a power of two
    /// from 2 up; the shorter one counts.
    ///
    /// # Errors
    /// [`ConsoleError`] if there are too few records.
    pub fn new(slots: [&'b mut [DeviceSlot]; 2], backend: B) -> Result<Self, ConsoleError> {
        let [receive, transmit] = slots;
        let slots = receive.len().min(transmit.len()).min(1 << 15);
        let queue_size = match slots.checked_ilog2() {
            Some(log @ 1..) => u16::try_from(1_u32 << log).unwrap_or(1 << 15),
            _ => return Err(ConsoleError),
        };
        Ok(Self {
            backend,
            receive: Place::Idle(receive),
            transmit: Place::Idle(transmit),
            queue_size,
            features: Features::NONE,
            chain: Chain::new(),
            taken: 0,
            staged: Staged { bytes: [0; PIECE], from: 0, to: 0 },
            fresh: false,
            asked: Asked::default(),
            stops: [None; 2],
            counters: ConsoleCounters::default(),
        })
    }

    /// What it has done so far.
    #[must_use]
    pub const fn counters(&self) -> &ConsoleCounters {
        &self.counters
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

    /// Gives the host's bytes to the backend. Returns pieces moved.
    fn take_input<S, E>(&mut self, mover: &mut Mover<'_, S, E>) -> Result<u32, Stop>
    where
        S: BoardSupport<Window = W>,
        E: DmaEngine<W>,
    {
        let Some(queue) = self.transmit.queue() else { return Ok(0) };
        let mut moved = 0;
        while moved < BUDGET && self.backend.wants_input() {
            let Some(head) = queue.pop(&mut self.chain, mover)? else { break };
            moved += 1;
            let mut piece = [0; PIECE];
            // Fewer than were taken before only if the host has changed the
            // descriptor since: nothing is left then.
            let left = self.chain.readable_len().saturating_sub(self.taken);
            let len = (left as usize).min(PIECE);
            let piece = piece.get_mut(..len).unwrap_or_default();
            let taken = match mover.gather(&self.chain, self.taken, piece) {
                Ok(()) => self.backend.input(piece).min(len),
                Err(Stuck::Peer(fault)) => return Err(fault.into()),
                Err(Stuck::Dma(_)) => {
                    self.counters.dropped_dma += len as u64;
                    len
                }
            };
            self.counters.to_board_bytes += taken as u64;
            let taken = u32::try_from(taken).unwrap_or(u32::MAX);
            if taken < left {
                // The rest of the buffer waits in the ring.
                self.taken = self.taken.saturating_add(taken);
                queue.ring.unpop(1);
                continue;
            }
            self.taken = 0;
            // Nothing here is device-writable unless the driver says so.
            let whole = self.chain.writable_len() == 0;
            let entry = if whole { UsedEntry::MaySkip } else { UsedEntry::Own };
            queue.complete(head, 0, entry)?;
        }
        self.counters.interrupts += queue.publish(mover)?;
        Ok(moved)
    }

    /// Puts the backend's bytes into the host's buffers. Returns pieces moved.
    fn give_output<S, E>(
        &mut self,
        mover: &mut Mover<'_, S, E>,
        board: &dyn BoardView,
    ) -> Result<u32, Stop>
    where
        S: BoardSupport<Window = W>,
        E: DmaEngine<W>,
    {
        let Some(queue) = self.receive.queue() else { return Ok(0) };
        let mut moved = 0;
        while moved < BUDGET {
            if self.staged.bytes().is_empty() {
                let made = self.backend.output(board, &mut self.staged.bytes);
                (self.staged.from, self.staged.to) = (0, made.min(PIECE));
            }
            if self.staged.bytes().is_empty() {
                break;
            }
            let Some(head) = queue.pop(&mut self.chain, mover)? else { break };
            moved += 1;
            let capacity = self.chain.writable_len();
            let bytes = self.staged.bytes();
            // A buffer without room is legal here, and goes back as it came.
            let bytes = bytes.get(..capacity as usize).unwrap_or(bytes);
            match mover.scatter(&self.chain, 0, bytes) {
                Ok(()) => {}
                Err(Stuck::Peer(fault)) => return Err(fault.into()),
                Err(Stuck::Dma(_)) => {
                    self.counters.dropped_dma += bytes.len() as u64;
                    self.staged.clear();
                    queue.ring.unpop(1);
                    continue;
                }
            }
            let written = bytes.len();
            self.staged.from += written;
            self.counters.to_host_bytes += written as u64;
            let written = u32::try_from(written).unwrap_or(capacity);
            queue.complete(head, written, UsedEntry::Own)?;
        }
        self.counters.interrupts += queue.publish(mover)?;
        Ok(moved)
    }
}

impl<W: Window + Clone, B: ConsoleBackend> DeviceModel<W> for ConsoleDevice<'_, W, B> {
    fn info(&self) -> ModelInfo {
        let ring = EVENT_IDX | IN_ORDER | INDIRECT_DESC | RING_RESET;
        let required = VERSION_1 | ACCESS_PLATFORM | ORDER_PLATFORM;
        ModelInfo {
            device_id: DEVICE_ID,
            vendor_id: 0,
            features: Features::new(ring | required),
            config_size: 0,
            queues: 2,
            queue_size: u32::from(self.queue_size),
        }
    }

    fn read_config(&mut self, _offset: u32, _into: &mut [u8]) {}

    fn write_config(&mut self, _offset: u32, _from: &[u8]) -> bool {
        false
    }

    fn driver_ok(&mut self, features: Features) {
        self.features = features;
        self.fresh = true;
    }

    fn activate_queue(
        &mut self,
        setup: &QueueSetup,
        regions: &RegionTable<W>,
    ) -> Result<(), PeerFault> {
        let payload = if setup.queue == RECEIVEQ { Payload::ToHost } else { Payload::ToBoard };
        let impossible = PeerFault::QueueSetup { queue: u32::from(setup.queue) };
        let features = self.features;
        self.place(setup.queue).ok_or(impossible)?.open(setup, payload, regions, features)
    }

    fn reset(&mut self) -> bool {
        self.receive.free();
        self.transmit.free();
        self.staged.clear();
        self.taken = 0;
        self.stops = [None; 2];
        self.fresh = false;
        true
    }

    fn reset_queue(&mut self, queue: u16) -> bool {
        if let Some(place) = self.place(queue) {
            place.free();
        }
        if queue == TRANSMITQ {
            self.taken = 0;
        }
        true
    }
}

impl<W: Window + Clone, B: ConsoleBackend> BoardDevice<W> for ConsoleDevice<'_, W, B> {
    fn run<S, E>(&mut self, context: &mut Context<'_, S, E>) -> Ran
    where
        S: BoardSupport<Window = W>,
        E: DmaEngine<W>,
    {
        let board = context.board;
        self.backend.poll(context.now, board);
        if core::mem::take(&mut self.fresh) {
            self.backend.start();
        }
        let waited = !self.staged.bytes().is_empty();
        let mut mover = Mover::new(context.support, context.dma, context.regions);

        // 1. From the host, then 2. to it: what was typed is answered at once.
        let taken = self.take_input(&mut mover);
        let given = self.give_output(&mut mover, board);
        mover.leave_nothing_under_way();

        let mut stopped = |queue, moved| match moved {
            Ok(moved) => moved,
            Err(stop) => {
                if let Some(queue) = self.place(queue).and_then(Place::queue) {
                    queue.stop(stop);
                }
                self.note(queue, stop);
                0
            }
        };
        let (taken, given) = (stopped(TRANSMITQ, taken), stopped(RECEIVEQ, given));
        context.reboot |= self.backend.take_reboot();

        let input = if self.asked.input { taken } else { 0 };
        let buffers = u32::from(self.asked.buffers && waited && given > 0);
        let announced = input.saturating_add(buffers);
        Ran { moved: taken.saturating_add(given), announced, wake: Wake::Idle }
    }

    fn park(&mut self) {
        for queue in [self.receive.queue(), self.transmit.queue()].into_iter().flatten() {
            queue.ring.park();
        }
    }

    fn arm(&mut self) -> bool {
        self.asked =
            Asked { buffers: !self.staged.bytes().is_empty(), input: self.backend.wants_input() };
        let mut quiet = true;
        for (number, wanted) in [(RECEIVEQ, self.asked.buffers), (TRANSMITQ, self.asked.input)] {
            let Some(queue) = self.place(number).and_then(Place::queue).filter(|_| wanted) else {
                continue;
            };
            match queue.ring.arm() {
                Ok(found_nothing) => quiet &= found_nothing,
                Err(fault) => {
                    queue.stop(fault.into());
                    self.note(number, fault.into());
                    quiet = false;
                }
            }
        }
        quiet
    }

    fn take_stop(&mut self) -> Option<(u16, Stop)> {
        for (queue, slot) in (0..).zip(&mut self.stops) {
            if let Some(stop) = slot.take() {
                return Some((queue, stop));
            }
        }
        None
    }

    fn counter(&self, index: usize) -> Option<(&'static str, u64)> {
        self.counters.named().nth(index)
    }
}
