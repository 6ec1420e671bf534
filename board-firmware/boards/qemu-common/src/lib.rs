//! What the boards in QEMU share.
//!
//! QEMU has no PCIe *endpoint* that its guest's processor could be, so the
//! board's processor is a root complex, and an `ivshmem-doorbell` function
//! stands in for the endpoint: BAR 2 is memory that the host sees too, BAR 0
//! its registers. A board brings a [`machine::Machine`]; all else is here.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod console;
pub mod endpoint;
pub mod machine;
pub mod parameters;
pub mod pci;
pub mod port;
pub mod raw;
mod run;
mod stack_alone;
mod station;
pub mod vectors;

pub use run::{after_a_crash, run};
