//! Helpers of the tests that cross crates.

pub mod explore;
pub mod rig;
