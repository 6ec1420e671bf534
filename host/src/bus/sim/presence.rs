//! Whether the board is there, and who gets through to whom.

use std::sync::atomic::{AtomicBool, Ordering};

use shared::region::Rights;

use super::memory::Memory;
use crate::bus::bill::{Meter, Side};

/// Whether the board is there.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// It answers nothing and sends nothing.
    dead: AtomicBool,
    /// Nor does its slot: the card was pulled out. It is dead as well.
    unplugged: AtomicBool,
    /// It starts over and has not come back up yet: it sends nothing.
    in_reset: AtomicBool,
}

impl Presence {
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(super) fn is_unplugged(&self) -> bool {
        self.unplugged.load(Ordering::Relaxed)
    }

    pub(super) fn is_silent(&self) -> bool {
        self.is_dead() || self.in_reset.load(Ordering::Relaxed)
    }

    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    pub(super) fn unplug(&self) {
        self.unplugged.store(true, Ordering::Relaxed);
        self.die();
    }

    /// Alive and in its slot.
    pub(super) fn revive(&self) {
        self.unplugged.store(false, Ordering::Relaxed);
        self.dead.store(false, Ordering::Relaxed);
    }

    /// From here on it is silent until it has taken the reset.
    pub(super) fn reset(&self) {
        self.in_reset.store(true, Ordering::Relaxed);
    }

    /// Whether there was a reset that it had not taken yet. Without power it
    /// takes nothing.
    pub(super) fn take_reset(&self) -> bool {
        !self.is_unplugged() && self.in_reset.swap(false, Ordering::Relaxed)
    }

    /// Whether a remote access gets through to `memory` right now; what the
    /// IOMMU refuses is counted.
    pub(super) fn reaches(&self, meter: &Meter, memory: &Memory, right: Rights) -> bool {
        match memory.home {
            Side::Board => !self.is_dead(),
            Side::Host if self.is_silent() => false,
            Side::Host => {
                let allowed = memory.is_live() && memory.rights.contains(right);
                if !allowed {
                    meter.iommu_fault();
                }
                allowed
            }
        }
    }
}
