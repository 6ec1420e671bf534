//! The tap against the kernel, each test in a network namespace of its own.
#![allow(clippy::cast_possible_truncation, reason = "numbers of made-up frames")]

mod errors;
mod frames;
mod kinds;
pub(crate) mod peer;
mod sockets;
