//! The slow queues of a session: consoles, and the network device's control
//! queue. Their memory was planned before any device was known.

use shared::link::{BoardDescription, QueuePlacement};
use shared::virtq::{QueueSize, RingOptions};
use shared::wire::features::{EVENT_IDX, Features, IN_ORDER, INDIRECT_DESC, REQUIRED};

use super::attach::{Event, Session};
use super::error::SessionError;
use super::placement::{SLOW_QUEUES, SlowSpots};
use crate::bus::{Bus, Latch};
use crate::slow_queue::{SLOW_BUFFER, SLOW_TABLE_ENTRIES, SlowQueue, slow_queue_size};

/// virtio-console's device id (VirtIO 1.3 §5.3.1).
pub(super) const CONSOLE_ID: u32 = 3;

/// What the slow queues' rings can do.
const RING: u64 = EVENT_IDX | IN_ORDER | INDIRECT_DESC;

/// Consoles that a session takes.
const CONSOLES: usize = (SLOW_QUEUES - 1) / 2;

/// virtio-console's queue numbers (VirtIO 1.3 §5.3.2).
const TO_HOST_QUEUE: u16 = 0;
const TO_BOARD_QUEUE: u16 = 1;

/// Doorbell and vector of all slow queues, where the board has that many.
const SLOW_DOORBELL: u32 = 3;
const SLOW_VECTOR: u16 = 3;

/// Looks at slow queues that nothing announces while something is awaited, in ms.
const SLOW_LOOK: u64 = 20;

/// Looks at a console that nothing announces, in ms.
const CONSOLE_LOOK: u64 = 100;

/// The queues of a console that is up.
#[derive(Debug)]
pub struct ConsoleLink<B: Bus> {
    /// Device number.
    pub device: u16,
    /// From the board.
    pub to_host: SlowQueue<B::Window, B::Doorbell>,
    /// To the board.
    pub to_board: SlowQueue<B::Window, B::Doorbell>,
}

/// A slow queue and where the board finds it.
type Placed<B> = (SlowQueue<<B as Bus>::Window, <B as Bus>::Doorbell>, QueuePlacement);

/// What a session knows of its slow queues.
pub(super) struct Slow<B: Bus> {
    /// The device that has each console's place.
    consoles: [Option<u16>; CONSOLES],
    /// Where the board says that a slow queue has something; `None` before
    /// there is a queue, or if the board has too few vectors.
    interrupt: Option<B::Interrupt>,
}

impl<B: Bus> Default for Slow<B> {
    fn default() -> Self {
        Self { consoles: [None; CONSOLES], interrupt: None }
    }
}

impl<B: Bus> Slow<B> {
    /// Takes the interrupt, if it fired: what it announced is looked for next.
    pub(super) fn drain(&self) -> bool {
        self.interrupt.as_ref().is_some_and(Latch::drain)
    }

    /// Frees the place of a console; `false`: it had none.
    pub(super) fn forget_console(&mut self, device: u16) -> bool {
        let place = self.consoles.iter_mut().find(|place| **place == Some(device));
        place.and_then(Option::take).is_some()
    }
}

impl<B: Bus> Session<B> {
    /// What becomes readable when the board has something in a slow queue;
    /// `None`: there is nothing such, or it interrupts too often to be listened to.
    #[must_use]
    pub fn slow_interrupt(&self) -> Option<&B::Interrupt> {
        self.slow.interrupt.as_ref().filter(|_| !self.storm.slow)
    }

    /// When a slow queue that something is awaited from is to be looked at, also
    /// if nothing is announced, seen from `now` (ms).
    pub(super) fn slow_look(&self, now: u64) -> u64 {
        if self.slow_interrupt().is_some() { u64::MAX } else { now.saturating_add(SLOW_LOOK) }
    }

    /// When a console that is up is to be looked at, also if nothing is
    /// announced, seen from `now` (ms).
    #[must_use]
    pub fn console_look(&self, now: u64) -> u64 {
        if self.slow_interrupt().is_some() { u64::MAX } else { now.saturating_add(CONSOLE_LOOK) }
    }

    /// Takes a console if there is a place for it.
    pub(super) fn choose_console_features(&mut self, device: u16) -> Result<(), SessionError> {
        let facts = self.link.facts().ok_or(SessionError::NoNetworkDevice)?;
        let usable = facts.offered.bits() & self.config.feature_mask;
        let accepted = Features::new(usable & (REQUIRED.bits() | RING));
        let planned = self.memory.as_ref().is_some_and(|(placement, _)| placement.slow.is_some());
        let place = self.slow.consoles.iter_mut().find(|place| place.is_none());
        match place.filter(|_| planned) {
            Some(place) => {
                *place = Some(device);
                Ok(self.link.supply_features(accepted)?)
            }
            None => Ok(self.link.decline_device()?),
        }
    }

    /// Initialises a console's rings and tells the board where they are.
    pub(super) fn set_up_console(&mut self, device: u16) -> Result<Option<Event<B>>, SessionError> {
        let place = self.slow.consoles.iter().position(|place| *place == Some(device));
        let Some(place) = place else {
            self.link.decline_device()?;
            return Ok(None);
        };
        // The first slow queue is the control queue's.
        let first = 1 + 2 * place;
        let (to_host, to_host_at) = self.slow_queue(first, TO_HOST_QUEUE)?;
        let (to_board, to_board_at) = self.slow_queue(first + 1, TO_BOARD_QUEUE)?;
        self.link.supply_queues(&[to_host_at, to_board_at])?;
        Ok(Some(Event::Console(Box::new(ConsoleLink { device, to_host, to_board }))))
    }

    /// Queue `queue` of the device at hand, in slow place `place`.
    pub(super) fn slow_queue(
        &mut self,
        place: usize,
        queue: u16,
    ) -> Result<Placed<B>, SessionError> {
        let missing = SessionError::NoNetworkDevice;
        let (placement, memory) = self.memory.as_ref().ok_or(missing)?;
        let facts = self.link.facts().ok_or(SessionError::NoNetworkDevice)?;
        let board = self.link.description().ok_or(SessionError::NoNetworkDevice)?;
        let largest = facts.queue_sizes.get(usize::from(queue)).copied().unwrap_or(0);
        let too_small = SessionError::Queues { queue, size: largest };
        let Some(SlowSpots { rings, tables, readable, writable }) =
            placement.slow.and_then(|slow| slow.get(place).copied())
        else {
            return Err(too_small);
        };
        let usable = u32::from(largest).checked_ilog2().map_or(0, |log| 1 << log);
        let size = QueueSize::try_from(usable).map_err(|_| too_small)?.min(slow_queue_size());
        let options = RingOptions {
            size,
            in_order: facts.accepted.has(IN_ORDER),
            event_idx: facts.accepted.has(EVENT_IDX),
            indirect: facts.accepted.has(INDIRECT_DESC),
            sleep_flush: placement.layout.sleep_flush(),
            publish_flush: board.interrupts_unordered,
        };
        let (ring, at) = memory.queue(&rings, options)?;
        let ring = ring.with_tables(memory.tables(tables, SLOW_TABLE_ENTRIES)?)?;
        let (doorbell, vector) = ways(board);
        let slow = SlowQueue {
            queue: ring,
            readable: memory.buffers(readable, SLOW_BUFFER)?,
            writable: memory.buffers(writable, SLOW_BUFFER)?,
            doorbell: self.bus.doorbell(&board.doorbell, doorbell)?,
        };
        let placement = QueuePlacement {
            queue,
            size,
            descriptors: at.descriptors,
            driver: at.driver,
            device: at.device,
            doorbell,
            vector: vector.into(),
        };
        if vector == SLOW_VECTOR && self.slow.interrupt.is_none() {
            self.slow.interrupt = Some(self.bus.interrupt(vector)?);
        }
        Ok((slow, placement))
    }
}

/// Doorbell and vector of the slow queues. A board with fewer of them shares
/// those of the queues with frames: its doorbells mean "look at all", and the
/// slow queues are then looked at by time.
fn ways(board: &BoardDescription) -> (u32, u16) {
    let doorbell = if board.doorbell.count > SLOW_DOORBELL { SLOW_DOORBELL } else { 1 };
    let vector = if board.vectors > SLOW_VECTOR.into() { SLOW_VECTOR } else { 1 };
    (doorbell, vector)
}
