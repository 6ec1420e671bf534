//! The program of a board: its devices, its control block, and the loop
//! around [`crate::service`].
//!
//! A board whose bus is made of plain windows brings a [`Port`], a clock and a
//! way to wait ([`Surroundings`]), and [`Memory`]; [`boot()`] or
//! [`boot_behind`] is then all of it: a network device, a console with the
//! log and a shell, one boot from the published control block to the next
//! reset. Boards with caches to maintain, or windows to point somewhere, bring
//! [`Parts`] in place of the port ([`boot_parts`]). Boards with other devices
//! write this loop themselves, on [`crate::service`].

mod boot;
mod memory;
mod setup;

use core::fmt;

use shared::address::BusAddress;
use shared::link::{BoardDescription, ControlError, DoorbellDescription, Outbound};
use shared::virtq::QueueStats;
use shared::window::Window;

use crate::device::console::ConsoleError;
use crate::device::net::NetError;
use crate::device::net::stack::StackError;
use crate::dma::DmaEngine;
use crate::service::ServiceStats;
use crate::support::{BoardSupport, Doorbells};
use crate::trace::NetCounters;

pub use self::boot::{Behind, boot, boot_behind, boot_parts};
pub use self::memory::Memory;
pub use self::setup::{Addresses, Card, HEARTBEAT, Setup, mac};

/// Bytes of BAR 0 that the control pages take; board memory lies behind them.
pub const CONTROL_LEN: u64 = 16 << 10;

/// Steps without sleep after which the loop looks at its surroundings all the
/// same: no host keeps the board from being switched off.
pub const BUSY_STEPS: u32 = 256;

/// The same in microseconds, for boards whose steps are long: a watchdog that
/// is fed there may be set to a second.
pub const BUSY_US: u64 = 50_000;

/// What the control block says of the board's bus.
#[derive(Clone, Copy, Debug)]
pub struct Wiring {
    /// Bytes of BAR 0: more than [`CONTROL_LEN`].
    pub bar_len: u64,
    /// How the host rings.
    pub doorbell: DoorbellDescription,
    /// How far the board reaches into host memory; `None`: not at all.
    pub outbound: Option<Outbound>,
    /// Interrupt vectors of the host that the board can raise, at least 1.
    pub vectors: u32,
    /// Whether [`Port::Engine`] reads host memory without the processor waiting.
    pub dma_engine: bool,
}

/// The board's face of a bus.
///
/// # Implementation contract
/// That of [`crate::support::BoardSupport`], for a bus whose windows need no
/// cache maintenance.
pub trait Port {
    /// A window into board memory or host memory.
    type Window: Window + Clone;
    /// What moves payload.
    type Engine: DmaEngine<Self::Window> + Default;

    /// What the control block says of the bus; the same throughout a boot.
    fn wiring(&self) -> Wiring;
    /// `len` bytes at `offset` of BAR 0; `None` where it ends before that.
    fn memory(&self, offset: u64, len: u64) -> Option<Self::Window>;
    /// `len` bytes of host memory; `None` where the board does not reach it.
    fn outbound(&self, iova: BusAddress, len: u64) -> Option<Self::Window>;
    /// The doorbells that rang since the last time.
    fn take_doorbells(&self) -> Doorbells;
    /// Raises an interrupt vector of the host.
    fn raise(&self, vector: u16);
    /// Whether the host has reset the board since the last time.
    fn take_reset(&self) -> bool;
}

/// What a board brings that is no [`Port`]: it has caches to maintain, or
/// outbound windows to point somewhere.
#[derive(Debug)]
pub struct Parts<S: BoardSupport, E, R> {
    /// The first [`CONTROL_LEN`] bytes of BAR 0.
    pub control: S::Window,
    /// What the control block says; [`Setup::describe`] makes most of it.
    pub description: BoardDescription,
    /// Windows, doorbells, interrupts.
    pub support: S,
    /// What moves payload.
    pub engine: E,
    /// As [`Port::take_reset`].
    pub take_reset: R,
}

/// What a pause ended with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Go on.
    Go,
    /// Start over, as after a power cut.
    Reboot,
    /// Switch off.
    Off,
}

/// What surrounds the board's loop: time, sleep, and whoever looks on.
pub trait Surroundings {
    /// Microseconds from any start; never goes back.
    fn now_us(&mut self) -> u64;
    /// Waits for a doorbell, a reset or another order, at most until that time.
    /// One that came since the last [`Port::take_doorbells`] ends it at once.
    fn pause(&mut self, until_us: u64) -> Order;
    /// The board is about to pause, and has counted this.
    fn counted(&mut self, counters: &Counters) {
        let _ = counters;
    }
}

/// What a board has counted.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counters {
    /// Its network device's frames.
    pub net: NetCounters,
    /// Its loop's steps.
    pub service: ServiceStats,
    /// The receiveq's and the transmitq's.
    pub queues: [QueueStats; 2],
}

/// Why a board cannot boot: what it was told does not go together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgramError {
    /// BAR 0 is too short for the control pages and memory behind them.
    Bar {
        /// Its bytes.
        len: u64,
    },
    /// The network device.
    Net(NetError),
    /// The IP stack.
    Stack(StackError),
    /// The console.
    Console(ConsoleError),
    /// The control block.
    Control(ControlError),
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bar { len } => write!(
                f,
                "BAR 0 has {len} bytes: the control pages take {CONTROL_LEN}, and memory for \
                 rings has to lie behind them"
            ),
            Self::Net(error) => error.fmt(f),
            Self::Stack(error) => error.fmt(f),
            Self::Console(error) => error.fmt(f),
            Self::Control(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ProgramError {}

impl From<NetError> for ProgramError {
    fn from(error: NetError) -> Self {
        Self::Net(error)
    }
}

impl From<StackError> for ProgramError {
    fn from(error: StackError) -> Self {
        Self::Stack(error)
    }
}

impl From<ConsoleError> for ProgramError {
    fn from(error: ConsoleError) -> Self {
        Self::Console(error)
    }
}

impl From<ControlError> for ProgramError {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}
