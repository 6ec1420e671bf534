//! The unsafe module of this crate: device registers and static memory.
#![allow(unsafe_code)]

mod registers;

pub use registers::Registers;
