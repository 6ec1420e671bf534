//! The virtio-net device (VirtIO 1.3 §5.1).
//!
//! [`NetDevice`] takes frames from the transmitq, hands them to a
//! [`NetBackend`], and puts the backend's frames into the receiveq's buffers.
//! In the order of a frame's journey: `to_board` (ring, `transfer`, private
//! memory), the backend ([`Echo`], [`stack::Stack`], [`Either`] or [`Port`]), `sink`,
//! `to_host`. What the driver sets meanwhile comes by the controlq: `control`,
//! and `filter`, which says what frames it wants.
//!
//! Guarantee: a malformed frame is dropped and counted, and its buffer goes
//! back; a broken rule of the ring or an address outside the regions stops
//! that queue and nothing else.

mod backend;
mod checksum;
mod control;
mod echo;
mod either;
mod filter;
mod model;
mod options;
mod port;
mod sink;
pub mod stack;
mod talker;
#[cfg(test)]
mod tests;
mod to_board;
mod to_host;

pub use backend::{FrameSink, Negotiated, NetBackend, Packet};
pub use echo::Echo;
pub use either::Either;
pub use model::{CONTROLQ, MtuSet, NetDevice, RECEIVEQ, TRANSMITQ};
pub use options::{NetError, NetMemory, NetOptions};
pub use port::{FrameHandler, Port};
pub use talker::{Talker, Tally, Task};
