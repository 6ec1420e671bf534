//! Virtio devices.
//!
//! Guarantee: a device runs when it is told to, does a bounded amount of work,
//! and leaves no transfer under way: what its engine was given is finished or
//! drained when [`BoardDevice::run`] returns. That is why a reset can be
//! answered at once.

pub mod console;
mod kind;
pub mod net;
mod pacing;
mod queue;
mod transfer;
mod view;

pub use kind::DeviceKind;
pub use view::{BoardView, DeviceView, RegionView};

use core::fmt;

use shared::fault::PeerFault;
use shared::msg::device::DeviceModel;
use shared::region::RegionTable;
use shared::window::Window;

use crate::dma::{DmaEngine, DmaError};
use crate::support::BoardSupport;

/// What a device needs of the board while it runs.
pub struct Context<'a, S: BoardSupport, E> {
    /// Milliseconds of the service's time.
    pub now: u64,
    /// The same, finer.
    pub clock: Clock,
    /// A queue's doorbell has rung since the last run, or may have.
    pub rung: bool,
    /// The board.
    pub support: &'a mut S,
    /// Its DMA engine.
    pub dma: &'a mut E,
    /// The session's regions.
    pub regions: &'a RegionTable<S::Window>,
    /// The rest of the board, to look at.
    pub board: &'a dyn BoardView,
    /// Set by a device that asks for a restart of the board.
    pub reboot: bool,
}

impl<S: BoardSupport, E> fmt::Debug for Context<'_, S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("now", &self.now).finish_non_exhaustive()
    }
}

/// The time of a step, as finely as the board knows it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Clock {
    /// Microseconds of the service's time.
    pub now_us: u64,
    /// How much later than asked for the next step may come, in microseconds.
    pub slack_us: u64,
}

/// What became of config space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigChange {
    /// The driver changed it by a command, so it knows.
    Asked,
    /// The driver has to be told.
    News,
}

/// Why a queue stopped. It stays stopped until the host resets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The host broke a rule.
    Peer(PeerFault),
    /// Payload may not have arrived, and nothing may be published behind it.
    Dma(DmaError),
}

impl From<PeerFault> for Stop {
    fn from(fault: PeerFault) -> Self {
        Self::Peer(fault)
    }
}

/// When something wants to be called again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wake {
    /// There is more to do now.
    Again,
    /// At this time, in milliseconds of the service's time.
    At(u64),
    /// Only when a doorbell rings.
    Idle,
}

impl Wake {
    /// The earlier of the two.
    #[must_use]
    pub fn sooner(self, other: Self) -> Self {
        // The variants are declared by rising time.
        self.min(other)
    }
}

/// What a run did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ran {
    /// Frames, or whatever the device moves, that came or went.
    pub moved: u32,
    /// Of these, those that the host made possible, with frames or buffers, and
    /// would have rung a doorbell for had the device asked.
    pub announced: u32,
    /// When to run again, doorbells apart.
    pub wake: Wake,
}

/// A device as the service runs it.
///
/// # Implementation contract
/// - `run` handles a bounded number of buffers, publishes what it completed,
///   and waits for nothing.
/// - Queues that stopped are left alone; the others run on.
pub trait BoardDevice<W: Window>: DeviceModel<W> {
    /// Works on all queues.
    fn run<S, E>(&mut self, context: &mut Context<'_, S, E>) -> Ran
    where
        S: BoardSupport<Window = W>,
        E: DmaEngine<W>;

    /// Awake: keeps doorbells quiet. Called behind a run that moved something.
    fn park(&mut self);

    /// Asks for doorbells and looks once more (R4). `true`: nothing is there,
    /// the board may sleep. Called in the step that may end in sleep, after
    /// doorbells were drained; anything else starts over.
    fn arm(&mut self) -> bool;

    /// A queue that has stopped since the last call, and why.
    fn take_stop(&mut self) -> Option<(u16, Stop)>;

    /// What became of config space since the last call.
    fn take_config_change(&mut self) -> Option<ConfigChange> {
        None
    }

    /// When to run again for an interrupt that was put off, in microseconds of
    /// the service's time: at this time at the latest, and the slack earlier.
    fn due_us(&self) -> Option<u64> {
        None
    }

    /// One of its counters, with its name: 0 up, without gaps.
    fn counter(&self, index: usize) -> Option<(&'static str, u64)> {
        let _ = index;
        None
    }
}
