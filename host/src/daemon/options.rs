//! What the operator decides about one board.

use std::path::PathBuf;

use crate::session::SessionConfig;

use super::stations::Stations;

pub use super::interface::{InterfaceMode, InterfaceOptions};

/// Looks that find nothing before the worker goes to sleep, unless told
/// otherwise: a few microseconds, so that a busy link takes no wake-ups.
pub const IDLE_LOOKS: u32 = 32;

/// What the operator decides about one board.
#[derive(Clone, Debug)]
pub struct BoardOptions {
    /// What it is called in the log and on the command line.
    pub name: String,
    /// The interface that the host sees.
    pub interface: InterfaceOptions,
    /// Rings, buffers, features.
    pub session: SessionConfig,
    /// How its data thread works.
    pub worker: WorkerOptions,
    /// The path that leads to the console's terminal; `None`: a console is left
    /// alone.
    pub console: Option<PathBuf>,
    /// The same for all boards that share a network: no two of them have one MAC
    /// address.
    pub stations: Stations,
}

/// How a data thread works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkerOptions {
    /// Looks at the rings that find nothing before the thread sleeps; 0 sleeps
    /// after the first (R6).
    pub idle_looks: u32,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self { idle_looks: IDLE_LOOKS }
    }
}
