//! Why a session could not be set up, or ended.

#[cfg(test)]
mod tests;

use std::fmt;

use shared::link::Refusal;
use shared::virtq::SetupError;
use shared::wire::features::Features;

use super::placement::{Layout, Spot};
use crate::bus::BusError;
use crate::net::MtuError;
use crate::net_control::ControlError;
use crate::pool::LockLimitError;

/// Why a session could not be set up, or ended.
#[derive(Debug)]
pub enum SessionError {
    /// The bus failed.
    Bus(BusError),
    /// A step of the bring-up was refused, or the running session ended.
    Link(Refusal),
    /// The feature mask takes away what every session needs.
    FeatureMask {
        /// The bits that it must leave.
        missing: Features,
    },
    /// The board has no network device.
    NoNetworkDevice,
    /// The network device has too few or too small queues.
    Queues {
        /// The queue.
        queue: u16,
        /// Its largest size.
        size: u16,
    },
    /// The MTU is out of range, or the board takes less.
    Mtu(MtuError),
    /// It is another board than the one that is wanted.
    OtherBoard {
        /// Its MAC address.
        found: [u8; 6],
        /// The one that is wanted.
        wanted: [u8; 6],
    },
    /// The board offers no memory with the rights that the layout needs.
    NoBoardMemory {
        /// The layout.
        layout: Layout,
    },
    /// The board's memory does not hold the smallest rings and buffers.
    BoardMemory {
        /// The layout.
        layout: Layout,
        /// Bytes that it offers.
        offered: u64,
    },
    /// The board's windows into host memory do not cover the smallest buffers.
    Reach {
        /// How many it has.
        windows: u32,
        /// Bytes of each.
        size: u64,
    },
    /// The process may lock too little memory.
    Lock(LockLimitError),
    /// The limit could not be read.
    LockUnknown(std::io::Error),
    /// The board cannot reach host memory, and the layout needs it to.
    NoReach {
        /// The layout.
        layout: Layout,
    },
    /// The network device's control queue is of no use any more.
    Control(ControlError),
    /// A device on the board asked for a reset.
    NeedsReset,
    /// The board was asked to boot again, and will not by itself.
    ResetRefused,
    /// A part does not fit where it was placed: a bug.
    Placement(Spot),
    /// A queue could not be set up: a bug.
    Setup(SetupError),
    /// The board did not confirm the detach.
    NotDetached,
}

impl From<BusError> for SessionError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

impl From<ControlError> for SessionError {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

impl From<Refusal> for SessionError {
    fn from(refusal: Refusal) -> Self {
        Self::Link(refusal)
    }
}

impl From<SetupError> for SessionError {
    fn from(error: SetupError) -> Self {
        Self::Setup(error)
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(error) => error.fmt(f),
            Self::Link(refusal) => refusal.fmt(f),
            Self::FeatureMask { missing } => write!(
                f,
                "the feature mask leaves nothing to run with: it takes away {missing}, which every session needs; set bits {:#x} in it",
                missing.bits()
            ),
            Self::NoNetworkDevice => {
                f.write_str("the board has no virtio network device; check its firmware")
            }
            Self::Queues { queue, size } => write!(
                f,
                "queue {queue} of the board's network device holds {size} entries, too few; check its firmware"
            ),
            Self::Mtu(error) => error.fmt(f),
            Self::OtherBoard { found, wanted } => write!(
                f,
                "the board says that its MAC address is {}, and the configuration wants {}: another board is in the slot; put the right one there, or change board_mac",
                Mac(*found),
                Mac(*wanted)
            ),
            Self::NoBoardMemory { layout } => write!(
                f,
                "the board offers no memory with the rights that layout {layout} needs; choose another layout"
            ),
            Self::BoardMemory { layout, offered } => write!(
                f,
                "the board's {offered} bytes of memory are too few for layout {layout}; mask segmentation offloads out, lower the MTU, or give the board a larger BAR"
            ),
            Self::Reach { windows, size } => write!(
                f,
                "the board's {windows} windows of {size} bytes into host memory are too few for its buffers; lower the MTU, or choose layout bar-only"
            ),
            Self::Lock(error) => error.fmt(f),
            Self::LockUnknown(error) => {
                write!(
                    f,
                    "cannot read how much memory may be locked: {error}; check that /proc is there"
                )
            }
            Self::NoReach { layout } => write!(
                f,
                "the board cannot reach host memory, which layout {layout} needs; choose layout bar-only"
            ),
            Self::Control(error) => error.fmt(f),
            Self::NeedsReset => f.write_str(
                "the board's network device met a fault and asks for a reset; if that goes on, look at its log",
            ),
            Self::ResetRefused => f.write_str(
                "the board will not boot again by itself; the bus resets it instead",
            ),
            Self::Placement(spot) => {
                write!(f, "a part does not fit its place: {spot:?} (a bug of this program)")
            }
            Self::Setup(error) => {
                write!(f, "cannot set a queue up: {error} (a bug of this program)")
            }
            Self::NotDetached => {
                f.write_str("the board did not confirm the detach; it was reset instead")
            }
        }
    }
}

/// A MAC address as people write it.
struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::error::Error for SessionError {}
