//! The unsafe module of this crate: device registers and static memory.
#![allow(unsafe_code)]

mod owned;
mod painted_stack;
mod registers;
mod space;

pub use owned::Owned;
pub use painted_stack::{PAINT, PaintedStack};
pub use registers::Registers;
pub use space::{Aperture, Message, Span};
