//! The host crate's unsafe code; every block argues why it is sound.
#![allow(unsafe_code)]

mod memory;

pub use memory::SharedMemory;
