//! Signals that ask a program to end, as a file descriptor: so that it ends
//! by its own hand, with the board detached and the interface removed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Those that ask: Ctrl-C, a service manager, a terminal that goes away.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// The signals that ask a program to end.
#[derive(Debug)]
pub struct EndSignals {
    file: SignalFd,
}

impl EndSignals {
    /// From now on they interrupt nothing and wait here. Call it before any
    /// thread is started: threads inherit it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn block() -> io::Result<Self> {
        set().thread_block()?;
        let file = SignalFd::with_flags(&set(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { file })
    }

    /// The one that has come, if any; it is taken by this.
    #[must_use]
    pub fn arrived(&self) -> Option<Signal> {
        let info = self.file.read_signal().ok().flatten()?;
        Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
    }

    /// Runs `start`, which starts a program, with these signals as they were:
    /// a program inherits what is blocked. One that comes just now ends this
    /// process at once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unblocked<T>(&self, start: impl FnOnce() -> T) -> io::Result<T> {
        set().thread_unblock()?;
        let started = start();
        set().thread_block()?;
        Ok(started)
    }
}

impl AsFd for EndSignals {
    /// Readable once one has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn set() -> SigSet {
    ENDING.into_iter().collect()
}
