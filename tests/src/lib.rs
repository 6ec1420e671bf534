//! Helpers of the tests that cross crates.

pub mod bill;
pub mod board_thread;
pub mod explore;
pub mod lockstep;
pub mod rig;
