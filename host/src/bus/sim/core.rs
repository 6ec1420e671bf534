//! What both faces of a simulated bus share.

use std::fmt;
use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::region::Rights;

use super::counted::Signals;
use super::machine::{Machine, Reset};
use super::memory::{Directory, Memory};
use super::options::SimOptions;
use super::presence::Presence;
use crate::bus::bill::{Meter, NotificationLabels};

/// The mode's own part.
pub(super) enum Engine {
    Instrument(Arc<Mutex<Machine>>),
    Counted(Signals),
}

pub(super) struct Core {
    pub(super) options: SimOptions,
    pub(super) bar: Arc<Memory>,
    pub(super) directory: Mutex<Directory>,
    pub(super) outbound_open: AtomicU16,
    pub(super) board: Arc<Presence>,
    pub(super) meter: Arc<Meter>,
    pub(super) engine: Engine,
    pub(super) notifications: NotificationLabels,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimBus").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Locks, also after a test's thread has panicked with the lock held.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        lock(&self.directory)
    }

    /// Whether a remote access gets through to `memory` right now.
    pub(super) fn reaches(&self, memory: &Memory, right: Rights) -> bool {
        self.board.reaches(&self.meter, memory, right)
    }

    /// The board starts over: by the host, or by itself. What it has under way
    /// is lost, and it sends nothing until it has noticed.
    pub(super) fn start_over(&self, by: Reset) {
        self.board.reset();
        match &self.engine {
            Engine::Instrument(machine) => lock(machine).reset(by),
            Engine::Counted(signals) => {
                signals.forget_doorbells();
                signals.wake();
            }
        }
    }
}
