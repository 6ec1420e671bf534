//! The bridge: frames between a port (a tap, or a test) and a board's rings.
//!
//! [`to_board::ToBoard`] holds the way down and [`to_host::ToHost`] the way up,
//! each in the order in which a frame passes it (docs/architecture.md, "Packet
//! journey"). Both are plain step functions: no clock, no file descriptor, no
//! waiting. Guarantee: whatever the board writes, a step ends after at most
//! its budget of frames and returns, or reports a [`PeerFault`].

mod buffers;
mod counters;
mod pair;
mod reset;
mod to_board;
mod to_host;

use std::fmt;

use shared::fault::PeerFault;
use shared::link::{LinkLoss, Reason};

pub use buffers::{BufferArea, Staging};
pub use counters::{BridgeCounters, ToBoardCounters, ToHostCounters};
pub use pair::{QueuePair, Timer};
pub use reset::Way;
pub use to_board::{ToBoard, ToBoardParts};
pub use to_host::{MAX_FRAME_BUFFERS, ToHost};

use crate::net::PortError;

/// Frames that one step moves in one direction before it looks elsewhere.
pub const BUDGET: u16 = 64;

/// What one step did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Moved {
    /// Frames moved.
    pub frames: u16,
    /// Whether there may be more to move at once.
    pub more: bool,
}

/// Why the bridge stopped.
#[derive(Debug)]
pub enum BridgeError {
    /// The board broke the protocol.
    Peer(PeerFault),
    /// The session that the rings belong to is over.
    SessionOver(LinkLoss),
    /// The board holds buffers and returns none.
    Stalled {
        /// For how long, in ms.
        for_ms: u64,
    },
    /// The interface failed.
    Port(PortError),
}

impl From<PeerFault> for BridgeError {
    fn from(fault: PeerFault) -> Self {
        Self::Peer(fault)
    }
}

impl From<PortError> for BridgeError {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

impl fmt::Display for BridgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(PeerFault::LinkLost) => Reason::Lost(LinkLoss::AllOnes).fmt(f),
            Self::Peer(fault) => Reason::Fault(*fault).fmt(f),
            Self::SessionOver(loss) => write!(f, "the session is over: {}", Reason::Lost(*loss)),
            Self::Stalled { for_ms } => write!(
                f,
                "the board has returned no frame for {for_ms} ms though it holds some; it hangs, reset it"
            ),
            Self::Port(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BridgeError {}
