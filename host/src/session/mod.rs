//! A board's session, from the first look at its control block to detach.
//!
//! [`Session`] answers what the bring-up asks of a host: which memory to
//! share, which features to take, where rings and buffers lie. It keeps no
//! clock and waits for nothing; the control thread steps it.

mod attach;
mod choice;
mod config;
mod control;
mod error;
mod events;
mod lines;
mod memory;
mod net;
mod placement;
mod ring_reset;
mod slow;
mod supervisor;
#[cfg(test)]
mod tests;

pub use attach::{Event, Session, Step};
pub use config::{FeatureMask, FeatureMaskError, LARGE_BUFFER, MERGEABLE_BUFFER, SessionConfig};
pub use error::SessionError;
pub use net::{Areas, Link, Terms};
pub use placement::{
    Area, Layout, Placement, RingSpots, SLOW_QUEUES, Sizes, SlowSpots, Spot, USED_AT,
};
pub use slow::ConsoleLink;
pub use supervisor::{Ended, Supervised, Supervisor};
