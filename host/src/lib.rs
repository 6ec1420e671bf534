//! The host's side.

pub mod bus;
pub mod net;
pub mod raw;
