//! The crate's unsafe code: accesses to shared memory, and the barriers.
//!
//! Guarantee: once a [`SharedWindow`] has been made from memory that really is
//! there (the one promise its unsafe constructor asks for), every use of it is
//! sound whatever the peer does. No reference to shared memory is ever formed.
#![allow(unsafe_code)]

mod barrier;
mod shared_window;
#[cfg(test)]
pub(crate) mod tests;

pub use barrier::{AcrossBus, BetweenCpus, Ordering};
pub use shared_window::{BusWindow, RamWindow, SharedWindow, StoreWidth};
