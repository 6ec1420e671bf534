//! A board's session, from the first look at its control block to detach.
//!
//! [`Session`] answers what the bring-up asks of a host: which memory to
//! share, which features to take, where rings and buffers lie. It keeps no
//! clock and waits for nothing; the control thread steps it.

mod attach;
mod choice;
mod config;
mod error;
mod memory;
mod placement;
#[cfg(test)]
mod tests;

pub use attach::{Areas, Event, Link, Session, Step, Terms};
pub use config::{FeatureMask, FeatureMaskError, LARGE_BUFFER, MERGEABLE_BUFFER, SessionConfig};
pub use error::SessionError;
pub use placement::{
    Area, Layout, Placement, RingSpots, SLOW_QUEUES, Sizes, SlowSpots, Spot, USED_AT,
};
