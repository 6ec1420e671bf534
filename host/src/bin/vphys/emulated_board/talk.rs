//! A board that talks to another station, as the rest of the program sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use board::device::Wake;
use board::device::net::{FrameHandler, Talker, Tally, Task};
use shared::wire::net::NetHeader;

/// A talker that its board and the rest of the program share.
#[derive(Clone, Debug)]
pub(crate) struct Talk(Arc<Mutex<Talker>>);

impl Talk {
    pub(crate) fn new(talker: Talker) -> Self {
        Self(Arc::new(Mutex::new(talker)))
    }

    fn talker(&self) -> MutexGuard<'_, Talker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it does this.
    pub(crate) fn set(&self, task: Task) {
        self.talker().set(task);
    }

    /// What has become of its frames so far.
    pub(crate) fn tally(&self) -> Tally {
        self.talker().tally()
    }

    /// What is under way counts as lost.
    pub(crate) fn give_up(&self) {
        self.talker().give_up();
    }
}

impl FrameHandler for Talk {
    fn take(&mut self, now: u64, header: &NetHeader, frame: &[u8]) {
        self.talker().take(now, header, frame);
    }

    fn give(&mut self, now: u64, into: &mut [u8]) -> Option<(NetHeader, usize)> {
        self.talker().give(now, into)
    }

    fn next(&self, now: u64) -> Wake {
        self.talker().next(now)
    }
}
