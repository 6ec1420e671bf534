//! The virtio-console device (VirtIO 1.3 §5.3): one port, bytes both ways.
//!
//! [`ConsoleDevice`] gives the host's bytes to a [`ConsoleBackend`] and puts
//! the backend's into the host's buffers. [`Shell`] is the backend of our
//! boards: the board's [`Log`], printed as it comes, and a few commands.
//!
//! Guarantee: whatever bytes the host sends, and however few buffers it gives,
//! a run does a bounded amount of work and the board goes on. Output waits for
//! buffers, input for room; only the log loses, its oldest lines, and says how
//! many.

mod backend;
mod log;
mod model;
mod shell;
#[cfg(test)]
mod tests;

pub use backend::ConsoleBackend;
pub use log::{LINE_MAX, Log, LogLine, LogReader};
pub use model::{ConsoleDevice, ConsoleError};
pub use shared::wire::console::{RECEIVEQ, TRANSMITQ};
pub use shell::Shell;
