//! The bytes on the wire: little-endian, naturally aligned.
//!
//! Guarantee: the structs here describe layout only. Code takes field offsets
//! from them (`core::mem::offset_of!`) and moves single words through a
//! window, or codes bytes that it already copied to private memory. A test
//! table pins every number.

pub mod amp;
pub mod console;
pub mod control;
pub mod features;
mod le;
pub mod msg;
pub mod net;
pub mod net_control;
pub mod status;
pub mod virtq;

pub use le::{Le16, Le32, Le64};
