//! virtio-net's control queue, from the host's side (VirtIO 1.3 §5.1.6.5).
//!
//! [`NetControl`] holds what the host wishes of the board, sends one command
//! at a time, and says what became of each. A plain state machine: time is
//! passed in, and nothing waits.
//!
//! Guarantee: whatever the board answers, a step ends at once; what it owes is
//! bounded by a deadline, and the wishes that wait by their kinds.

mod change;
mod receive;
mod request;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;

use shared::fault::PeerFault;
use shared::link::Reason;
use shared::virtq::Segment;
use shared::window::Window;
use shared::wire::features::Features;
use shared::wire::net_control::ACK_OK;

pub use change::NetConfigChange;
pub use receive::Receive;
pub(crate) use receive::groups;
pub use request::{LONGEST_DELAY_US, Request, Unable};

use crate::bus::Ring;
use crate::slow_queue::{SLOW_BUFFER, SlowQueue};

/// How long the board may take for a command, in ms.
pub const DEADLINE: u64 = 1000;

/// Bytes of the acknowledgement.
const ACK_LEN: u32 = 1;

/// The word that the acknowledgement is written into, as it is before: none
/// that a board gives.
const NO_ACK: u32 = 0xFF;

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The request.
    pub request: Request,
    /// The board does as asked; `false`: it refused, and all is as before.
    pub accepted: bool,
}

/// Why the control queue is of no use any more: the session ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlError {
    /// The board broke a rule of the queue.
    Peer(PeerFault),
    /// A command was not answered within [`DEADLINE`].
    Late,
}

impl From<PeerFault> for ControlError {
    fn from(fault: PeerFault) -> Self {
        Self::Peer(fault)
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(fault) => Reason::Fault(*fault).fmt(f),
            Self::Late => write!(
                f,
                "the board has not answered a control command for {DEADLINE} ms; it hangs, reset it"
            ),
        }
    }
}

impl std::error::Error for ControlError {}

/// The command that the board has.
#[derive(Debug)]
struct Flight {
    request: Request,
    head: u16,
    deadline: u64,
}

/// The driver side of a control queue.
#[derive(Debug)]
pub struct NetControl<W: Window, R> {
    queue: SlowQueue<W, R>,
    features: Features,
    waiting: VecDeque<Request>,
    flight: Option<Flight>,
    /// The device is live: it serves the queue.
    started: bool,
    /// A command came too late: nothing is believed or sent any more.
    late: bool,
}

impl<W: Window, R: Ring> NetControl<W, R> {
    /// The control queue `queue` of a device with which `features` were
    /// negotiated, CTRL_VQ among them. It sends nothing before
    /// [`NetControl::start`].
    #[must_use]
    pub const fn new(queue: SlowQueue<W, R>, features: Features) -> Self {
        let waiting = VecDeque::new();
        Self { queue, features, waiting, flight: None, started: false, late: false }
    }

    /// The device is live (DRIVER_OK): no driver notifies it before (VirtIO
    /// 1.3 §3.1.1), and a command's deadline would run during the bring-up.
    pub const fn start(&mut self) {
        self.started = true;
    }

    /// Asks for something. It replaces an earlier request of its kind that
    /// still waits; [`NetControl::step`] sends it.
    ///
    /// # Errors
    /// [`Unable`]: the board cannot be asked for this. Nothing changes.
    pub fn ask(&mut self, request: Request) -> Result<(), Unable> {
        let request = request.checked(self.features)?;
        match self.waiting.iter_mut().find(|waiting| waiting.is_like(&request)) {
            Some(waiting) => *waiting = request,
            None => self.waiting.push_back(request),
        }
        Ok(())
    }

    /// Takes the board's answer, if there is one, and sends the next request,
    /// if there is one. Call it again while it returns an outcome.
    ///
    /// # Errors
    /// [`ControlError`]: the session has to end. It is the same on every call
    /// from then on.
    pub fn step(&mut self, now: u64) -> Result<Option<Outcome>, ControlError> {
        if self.late {
            return Err(ControlError::Late);
        }
        // Without a command under way nothing can be there: a fault, then.
        let outcome = match self.queue.queue.take()? {
            Some(done) => self.answered(done.head, done.len)?,
            None => None,
        };
        match &self.flight {
            Some(flight) if now >= flight.deadline => {
                self.late = true;
                return Err(ControlError::Late);
            }
            Some(_) => {}
            None if self.started => self.send(now)?,
            None => {}
        }
        Ok(outcome)
    }

    /// What the board made of the command that it has.
    fn answered(&mut self, head: u16, len: u32) -> Result<Option<Outcome>, PeerFault> {
        let Some(flight) = self.flight.take().filter(|flight| flight.head == head) else {
            return Err(self.broken(PeerFault::UsedId { id: head.into() }));
        };
        if len < ACK_LEN {
            return Err(self.broken(PeerFault::ChainTooShort { found: len, needed: ACK_LEN }));
        }
        // A whole word: one access, also where the buffer lies in a BAR.
        let area = &self.queue.writable;
        let [ack, ..] = area.window().load::<u32>(area.offset(head)).to_le_bytes();
        Ok(Some(Outcome { request: flight.request, accepted: ack == ACK_OK }))
    }

    fn broken(&mut self, fault: PeerFault) -> PeerFault {
        self.queue.queue.break_with(fault);
        fault
    }

    fn send(&mut self, now: u64) -> Result<(), PeerFault> {
        let Some(request) = self.waiting.pop_front() else { return Ok(()) };
        let Some(head) = self.queue.queue.next_head() else {
            // A queue that has nothing in flight has room.
            return Err(PeerFault::QueueSetup { queue: CONTROL_QUEUE });
        };
        let mut bytes = [0; SLOW_BUFFER as usize];
        let len = request.command().encode(&mut bytes).unwrap_or(0);
        let padded = bytes.get(..len.next_multiple_of(4)).unwrap_or(&bytes);
        let (readable, writable) = (&self.queue.readable, &self.queue.writable);
        readable.window().write(readable.offset(head), padded);
        // What the board leaves unwritten is no ACK_OK from before.
        writable.window().store(writable.offset(head), NO_ACK);
        let segments = [
            Segment {
                address: readable.address(head),
                len: u32::try_from(len).unwrap_or(SLOW_BUFFER),
                writable: false,
            },
            Segment { address: writable.address(head), len: ACK_LEN, writable: true },
        ];
        let setup = PeerFault::QueueSetup { queue: CONTROL_QUEUE };
        self.queue.queue.add(&segments).map_err(|_| setup)?;
        if self.queue.queue.publish() {
            self.queue.doorbell.ring();
        }
        self.flight = Some(Flight { request, head, deadline: now.saturating_add(DEADLINE) });
        Ok(())
    }

    /// Nothing waits and nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.flight.is_none() && self.waiting.is_empty()
    }

    /// When to call [`NetControl::step`] at the latest, in ms, interrupts
    /// apart: 0 while a request could be sent at once.
    #[must_use]
    pub fn wake_at(&self) -> Option<u64> {
        match &self.flight {
            Some(flight) => Some(flight.deadline),
            None if self.waiting.is_empty() || !self.started => None,
            None => Some(0),
        }
    }

    /// Asks for an interrupt and looks once more (R4). `true`: no answer is
    /// there, the caller may sleep. Drain the queue's interrupt first, and call
    /// this again after every wake-up.
    ///
    /// # Errors
    /// The board broke a rule of the queue.
    pub fn arm(&mut self) -> Result<bool, ControlError> {
        Ok(self.queue.queue.arm()?)
    }

    /// Whether an answer is there.
    ///
    /// # Errors
    /// The board broke a rule of the queue.
    pub fn pending(&mut self) -> Result<bool, ControlError> {
        Ok(self.queue.queue.pending()? > 0)
    }
}

/// virtio-net's control queue without multi-queue (VirtIO 1.3 §5.1.2).
pub const CONTROL_QUEUE: u32 = 2;
