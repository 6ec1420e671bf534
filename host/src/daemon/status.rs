//! What there is to know of a board's link, for whoever asks.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::sys::eventfd::EventFd;
use shared::wire::features::Features;

use super::error::DaemonError;
use super::worker::event;
use crate::bridge::BridgeCounters;
use crate::session::Terms;

/// Where a board's link stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// The board is being attached.
    Attaching,
    /// Frames flow.
    Up,
    /// The session stands, and the board says that its link is down.
    NoLink,
    /// No session; the next attempt is due at a known time.
    Waiting,
    /// The board is being let go of.
    Stopping,
    /// All is over; nothing will change any more.
    Stopped,
    /// The thread that cares for the board has died, which is a bug; nothing
    /// will change any more.
    Failed,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attaching => "attaching",
            Self::Up => "up",
            Self::NoLink => "no-link",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        })
    }
}

/// The network device's features, as three sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeatureReport {
    /// What the board offers.
    pub offered: Features,
    /// What of it the operator's mask takes away.
    pub masked: Features,
    /// What both use.
    pub negotiated: Features,
}

/// A copy of what is known of a board.
#[derive(Clone, Debug)]
pub struct BoardStatus {
    /// What the operator calls it.
    pub name: String,
    /// The interface's name.
    pub interface: String,
    /// Where the link stands.
    pub state: LinkState,
    /// Since when.
    pub since: Instant,
    /// What the last session that came up agreed on.
    pub terms: Option<Terms>,
    /// The features of that session.
    pub features: Option<FeatureReport>,
    /// Frames, over all sessions.
    pub counters: BridgeCounters,
    /// Sessions that came up.
    pub sessions: u64,
    /// Sessions that were lost, and attempts that failed.
    pub failures: u64,
    /// Why the last of them was.
    pub last_failure: Option<String>,
    /// When the next attempt is due.
    pub retry_at: Option<Instant>,
}

impl BoardStatus {
    pub(super) fn new(name: &str, interface: &str) -> Self {
        Self {
            name: name.to_owned(),
            interface: interface.to_owned(),
            state: LinkState::Attaching,
            since: Instant::now(),
            terms: None,
            features: None,
            counters: BridgeCounters::default(),
            sessions: 0,
            failures: 0,
            last_failure: None,
            retry_at: None,
        }
    }
}

/// Where the control thread leaves the status, and tells that it did.
#[derive(Clone, Debug)]
pub(super) struct PublishedStatus {
    status: Arc<Mutex<BoardStatus>>,
    changed: Arc<EventFd>,
}

impl PublishedStatus {
    pub(super) fn new(status: BoardStatus) -> Result<Self, DaemonError> {
        let changed = Arc::new(event()?);
        Ok(Self { status: Arc::new(Mutex::new(status)), changed })
    }

    fn lock(&self) -> MutexGuard<'_, BoardStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self) -> BoardStatus {
        self.lock().clone()
    }

    /// Changes it, and says so.
    pub(super) fn change(&self, change: impl FnOnce(&mut BoardStatus)) {
        change(&mut self.lock());
        // The counter cannot overflow: nobody changes it 2^64 times.
        let _ = self.changed.write(1);
    }

    /// Enters `state`, and says so.
    pub(super) fn enter(&self, state: LinkState) {
        self.change(|status| {
            if status.state != state {
                (status.state, status.since) = (state, Instant::now());
            }
            if state != LinkState::Waiting {
                status.retry_at = None;
            }
        });
    }

    pub(super) fn changed(&self) -> BorrowedFd<'_> {
        self.changed.as_fd()
    }

    /// Forgets that it has changed.
    pub(super) fn acknowledge(&self) {
        // Empty if nothing has changed.
        let _ = self.changed.read();
    }
}
