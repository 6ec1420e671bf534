//! The host's side.

pub mod bus;
pub mod raw;
