//! The host crate's unsafe code; every block argues why it is sound.
#![allow(unsafe_code)]

mod descriptors;
mod isolate;
mod memory;
pub(crate) mod tun;
mod vectored;

pub(crate) use descriptors::{Received, accept, receive};
pub(crate) use isolate::isolate;
pub use memory::{MapError, SharedMemory};
pub use vectored::{KernelRange, MAX_PIECES, read_into, write_from};
