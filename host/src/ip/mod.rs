//! A tun interface as a port of Ethernet frames: IP packets at the kernel's
//! end, frames with both MAC addresses at the board's. The kernel asks no
//! neighbours on such an interface, so the board's questions are answered here.
//!
//! Guarantee: [`Responder`] and what makes its frames are pure. No frame
//! makes them panic or loop; what they keep of one is an answer in a queue of
//! [`QUEUE_LEN`].
//!
//! Not for routing: each packet that is not for a group goes to the board.

mod announce;
mod arp;
mod ethernet;
mod neighbour;
mod port;
mod reply;
mod responder;
#[cfg(test)]
mod tests;

pub use announce::announcement;
pub use ethernet::LinkAddresses;
pub use port::IpPort;
pub use reply::{LONGEST_REPLY, Reply};
pub use responder::{IpCounters, QUEUE_LEN, Responder, Verdict};
