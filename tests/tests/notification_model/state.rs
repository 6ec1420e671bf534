//! States of the two programs and of the machine, and the steps between them.

use std::fmt;

use crate::bus::{End, Message, Messages, Word, WordKind};

/// Notifications of one end that may be on a separate path at once.
pub(crate) const SEPARATE: u8 = 2;
/// Stores that a buffer holds.
pub(crate) const BUFFER: usize = 4;
/// Posted writes that the bus holds in one direction: further stores stay in
/// the buffer. One read and one completion fit beside them.
pub(crate) const POSTED: usize = Messages::CAPACITY - 2;

/// Where an end's program is. Between two of these lies at most one access
/// that the other end can see.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum At {
    /// Running: it may look, publish, park, or arm.
    #[default]
    Awake,
    /// Looking across the bus.
    Looking,
    /// The index is stored; next the full barrier and the event word.
    Published,
    /// Reading back for the publisher's flush.
    PublishFlush,
    /// The flush is back; next the event word.
    PublishFlushed,
    /// Reading the event word across the bus.
    ReadingEvent,
    /// The event word is stored; next the full barrier and the flush.
    Armed,
    /// Reading back, or looking across the bus.
    Flushing,
    /// The flush is back; next the last look.
    Flushed,
    /// Mutated: the last look found nothing, the latch is not yet drained.
    Drained,
    Asleep,
}

/// One end's private state. Indices count entries, modulo the modulus.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Program {
    pub(crate) at: At,
    /// Own index: entries published.
    pub(crate) published: u8,
    /// Entries of the peer's that were consumed.
    pub(crate) consumed: u8,
    /// Entries of the batch being published.
    pub(crate) batch: u8,
    /// What own event word holds, or own flags: when to be notified.
    pub(crate) wish: u8,
    /// Mutated: what the last look saw too early.
    pub(crate) seen: u8,
    /// A notification has arrived (level, drained by the owner).
    pub(crate) latch: bool,
}

/// The whole system. Arrays are by [`End`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) program: [Program; 2],
    /// Stores that the CPU has not let go of.
    pub(crate) buffer: [Messages; 2],
    /// Messages on their way, by sender.
    pub(crate) bus: [Messages; 2],
    /// Notifications on a separate path, by receiver.
    pub(crate) separate: [u8; 2],
    /// The words in memory: `[writer][kind]`.
    pub(crate) memory: [[u8; 2]; 2],
}

impl State {
    /// What a local look at the index of `writer` finds.
    pub(crate) fn index_of(&self, writer: End) -> u8 {
        self.memory[writer as usize][WordKind::Index as usize] >> 1
    }

    /// Posted writes of `sender` that are on the bus.
    pub(crate) fn posted(&self, sender: End) -> usize {
        self.bus[sender as usize].iter().filter(|message| message.is_posted()).count()
    }

    pub(crate) fn is_at(&self, end: End, at: At) -> bool {
        self.program[end as usize].at == at
    }
}

/// A step, for traces and for what was witnessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Consume(End),
    LookAcross(End),
    Publish(End, u8),
    PublishFlush(End),
    ReadEvent(End),
    Notify(End),
    Suppress(End),
    Park(End),
    Arm(End),
    Flush(End),
    LookEarly(End),
    Found(End),
    Sleep(End),
    DrainLate(End),
    Wake(End),
    WakeEmpty(End),
    /// A store leaves its CPU.
    Accept(End, Message),
    /// A message of the given sender arrives.
    Arrive(End, Message),
    /// A notification arrives on the separate path.
    ArriveSeparately(End),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (end, does) = match *self {
            Self::Consume(end) => (end, "looks and takes what is there"),
            Self::LookAcross(end) => (end, "looks across the bus"),
            Self::Publish(end, batch) => {
                return write!(f, "{end}: publishes a batch of {batch}: stores its index");
            }
            Self::PublishFlush(end) => (end, "reads back before it loads the peer's event word"),
            Self::ReadEvent(end) => (end, "reads the peer's event word across the bus"),
            Self::Notify(end) => (end, "loads the peer's event word: it asks, so notifies"),
            Self::Suppress(end) => (end, "loads the peer's event word: no notification"),
            Self::Park(end) => (end, "parks its event word"),
            Self::Arm(end) => (end, "drains its latch and stores its event word, if it changes"),
            Self::Flush(end) => (end, "sends the flushing read"),
            Self::LookEarly(end) => (end, "sends the flushing read, and looks already"),
            Self::Found(end) => (end, "looks once more: something is there, stays awake"),
            Self::Sleep(end) => (end, "looks once more: nothing is there, goes to sleep"),
            Self::DrainLate(end) => (end, "drains its latch, asleep from now on"),
            Self::Wake(end) => (end, "wakes up"),
            Self::WakeEmpty(end) => (end, "wakes up and finds nothing"),
            Self::Accept(end, message) => {
                return write!(f, "  the {end}'s CPU lets {} go", Of(end, message));
            }
            Self::Arrive(end, message) => {
                return write!(f, "  {} arrives at the {}", Of(end, message), end.peer());
            }
            Self::ArriveSeparately(end) => {
                return write!(f, "  a notification arrives at the {end} on its own path");
            }
        };
        write!(f, "{end}: {does}")
    }
}

/// A message with its sender.
struct Of(End, Message);

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Message::Store(WordKind::Index, value) => {
                let suppressed = if value & 1 == 0 { "" } else { " (and \"do not notify\")" };
                write!(f, "{} = {}{suppressed}", Word::index_of(self.0), value >> 1)
            }
            Message::Store(WordKind::Event, value) => {
                write!(f, "{} = {value}", Word::event_of(self.0))
            }
            Message::Notify if self.0 == End::Host => f.write_str("the doorbell"),
            Message::Notify => f.write_str("the interrupt"),
            Message::Read(word) => write!(f, "the read of {word}"),
            Message::Completion(..) => f.write_str("the completion"),
        }
    }
}

/// What an exploration must have seen to count.
pub(crate) mod witness {
    pub(crate) const SUPPRESSED: u32 = 1 << 0;
    pub(crate) const LOOK_AGAIN_FOUND: u32 = 1 << 1;
    pub(crate) const EMPTY_WAKE: u32 = 1 << 2;
    pub(crate) const BOTH_ASLEEP: u32 = 1 << 3;
    pub(crate) const BOTH_FLUSHING: u32 = 1 << 4;
    /// A notification on a separate path was faster than data.
    pub(crate) const OVERTAKEN: u32 = 1 << 5;
    pub(crate) const WRAPPED: u32 = 1 << 6;
    /// The limit on posted writes was reached: a longer queue was not tried.
    pub(crate) const BUS_FULL: u32 = 1 << 7;
}
