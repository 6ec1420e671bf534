//! The control socket: how one asks a running daemon, and tells it to reset a
//! board. `virtio-physd` serves it, `vphys` asks.
//!
//! A connection carries one request and its answer, or, for a watch, answers
//! until the client hangs up. Each is a frame ([`frame`]) of JSON ([`message`]).
//!
//! Guarantee: whatever clients do, at most [`MAX_CONNECTIONS`] are served at a
//! time, each has [`FRAME_TIME`] for a frame, none holds up another, and file
//! descriptors that they pass are closed. An answer never waits for a board.

mod client;
mod connection;
pub mod frame;
mod listener;
pub mod message;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Asking, ClientError, ask};
pub use connection::Answers;
pub use frame::{FRAME_TIME, MAX_FRAME};
pub use listener::{ControlListener, ListenError};
pub use message::{Answer, Request};
pub use server::{ControlServer, MAX_CONNECTIONS, MAX_WATCHES};
