//! Network frames: where they come from, what they may ask for, and the check
//! of everything that a board sends before the kernel sees it.
//!
//! Guarantee: nothing here panics or loops on a frame's say, and a frame that
//! passes [`Sanitizer::check`] reaches the kernel with a header made from our
//! own reading of it, never with the board's.

mod check;
mod fault;
mod mtu;
mod offload;
mod outbound;
mod parse;
mod port;
mod sanitize;
#[cfg(test)]
pub(crate) mod tests;
mod vlans;

pub use check::CHECKED_BYTES;
pub use fault::{FaultCounts, FrameFault};
pub use mtu::{MAX_MTU, MIN_MTU, MIN_MTU_IPV6, MtuError, check_mtu};
pub use offload::Offloads;
pub use outbound::OutboundHeader;
pub use port::{DropCause, FramePort, PortError, Sent};
pub use sanitize::{Checked, Rules, Sanitizer};
pub use vlans::{Tags, VLAN_IDS, Vlans};
