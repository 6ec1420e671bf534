//! The responder, fed frames; the port, between two of the kernel's IP stacks.
#![allow(clippy::cast_possible_truncation, reason = "numbers of made-up frames")]

mod port;
mod responder;
