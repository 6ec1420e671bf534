//! What both faces of a simulated bus share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use shared::region::Rights;

use super::access::Plane;
use super::counted::Signals;
use super::machine::Machine;
use super::memory::{Directory, Memory};
use super::meter::Meter;
use super::options::SimOptions;

/// Whether the board is there.
#[derive(Debug, Default)]
pub(super) struct BoardState {
    /// It answers nothing and sends nothing.
    pub(super) dead: AtomicBool,
    /// It was reset and has not come back up yet: it sends nothing.
    pub(super) in_reset: AtomicBool,
}

impl BoardState {
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(super) fn is_silent(&self) -> bool {
        self.is_dead() || self.in_reset.load(Ordering::Relaxed)
    }
}

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
    pub(super) board: Arc<BoardState>,
    pub(super) meter: Arc<Meter>,
    pub(super) engine: Engine,
    /// Which doorbell and vector belong to one direction's queue.
    pub(super) notifications: OnceLock<Vec<(u32, Plane)>>,
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
    pub(super) fn notification_plane(&self, number: u32) -> Plane {
        let labels = self.notifications.get().map_or(&[][..], Vec::as_slice);
        let label = labels.iter().find(|(labelled, _)| *labelled == number);
        label.map_or(Plane::of_notification(number), |(_, plane)| *plane)
    }

    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        lock(&self.directory)
    }

    /// Whether a remote access gets through to `memory` right now.
    pub(super) fn reaches(&self, memory: &Memory, right: Rights) -> bool {
        reaches(&self.board, &self.meter, memory, right)
    }
}

/// As [`Core::reaches`]; what the IOMMU refuses is counted.
pub(super) fn reaches(board: &BoardState, meter: &Meter, memory: &Memory, right: Rights) -> bool {
    use super::access::Side;
    match memory.home {
        Side::Board => !board.is_dead(),
        Side::Host if board.is_silent() => false,
        Side::Host => {
            let allowed = memory.is_live() && memory.rights.contains(right);
            if !allowed {
                meter.iommu_fault();
            }
            allowed
        }
    }
}
