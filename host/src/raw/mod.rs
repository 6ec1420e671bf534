//! The host crate's unsafe code; every block argues why it is sound.
#![allow(unsafe_code)]

mod child;
mod descriptors;
mod memory;
pub(crate) mod tun;
mod vectored;

pub(crate) use child::{end_with_us, isolate, unblock};
pub(crate) use descriptors::{Received, accept, receive};
pub use memory::{MapError, SharedMemory};
pub use vectored::{KernelRange, MAX_PIECES, read_into, write_from};
