//! The live words: what each side changes during a session, and who reads it.

use crate::window::Window;
use crate::wire::control::live;

use super::description::Epoch;

/// Why a session is over, as the host sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkLoss {
    /// The bus answers all ones: the card is gone or does not answer.
    AllOnes,
    /// The board booted again: its boot epoch is another.
    Rebooted,
    /// The board no longer works with our session.
    SessionDropped,
    /// The board's heartbeat stands still.
    HeartbeatLost,
}

/// The board's first four live words, read once each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusWords {
    /// Boot epoch.
    pub boot: u32,
    /// Board state.
    pub state: u32,
    /// Accepted session.
    pub accepted: u32,
    /// Heartbeat.
    pub heartbeat: u32,
}

impl StatusWords {
    /// Reads them from the start of `window`.
    #[must_use]
    pub fn load<W: Window>(window: &W) -> Self {
        Self {
            boot: window.load(live::BOOT_EPOCH),
            state: window.load(live::STATE),
            accepted: window.load(live::ACCEPTED),
            heartbeat: window.load(live::HEARTBEAT),
        }
    }

    /// Whether this board still is in this session.
    ///
    /// # Errors
    /// What is lost; all ones counts before everything else.
    pub fn check(&self, boot: Epoch, session: Epoch) -> Result<(), LinkLoss> {
        if [self.boot, self.state, self.accepted, self.heartbeat].contains(&u32::MAX) {
            Err(LinkLoss::AllOnes)
        } else if self.boot != boot.get() {
            Err(LinkLoss::Rebooted)
        } else if self.accepted != session.get() {
            Err(LinkLoss::SessionDropped)
        } else {
            Ok(())
        }
    }
}

/// What the data path asks before each batch: is the session still the one
/// that these rings belong to? Reads host memory only (docs/protocol.md,
/// "Status page"); without a status page the control thread has to ask.
#[derive(Clone, Debug)]
pub struct LinkGuard<W> {
    /// The status page, if the board reaches host memory.
    pub status: Option<W>,
    /// The boot epoch of the session.
    pub boot: Epoch,
    /// The session epoch.
    pub session: Epoch,
}

impl<W: Window> LinkGuard<W> {
    /// Whether the session still stands, as far as the status page tells.
    ///
    /// # Errors
    /// What is lost.
    pub fn check(&self) -> Result<(), LinkLoss> {
        let Some(page) = &self.status else { return Ok(()) };
        StatusWords::load(page).check(self.boot, self.session)
    }
}

/// Whether a heartbeat still beats.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatWatch {
    last: u32,
    since_ms: u64,
    limit_ms: u64,
}

impl HeartbeatWatch {
    /// Begins to watch a heartbeat that was `value` at `now_ms` and may stand
    /// still for `limit_ms`.
    #[must_use]
    pub const fn new(value: u32, now_ms: u64, limit_ms: u64) -> Self {
        Self { last: value, since_ms: now_ms, limit_ms }
    }

    /// Takes the value that was just read; `false`: it stood still too long.
    pub const fn beats(&mut self, value: u32, now_ms: u64) -> bool {
        if value != self.last {
            self.last = value;
            self.since_ms = now_ms;
        }
        now_ms.saturating_sub(self.since_ms) < self.limit_ms
    }

    /// When it will count as lost if nothing changes.
    #[must_use]
    pub const fn deadline_ms(&self) -> u64 {
        self.since_ms.saturating_add(self.limit_ms)
    }
}

/// The heartbeat value after `value`: 0 and all ones are left out.
#[must_use]
pub const fn next_beat(value: u32) -> u32 {
    match value.wrapping_add(1) {
        0 | u32::MAX => 1,
        next => next,
    }
}
