//! Signals that ask a program to end, as a file descriptor: so that it ends
//! by its own hand, with the board detached and the interface removed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Command;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::raw::{end_with_us, unblock};

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

    /// Lets them through to the program that `command` starts, which inherits
    /// what is blocked. Here they stay blocked.
    pub fn let_through(&self, command: &mut Command) {
        unblock(command, set());
    }
}

impl AsFd for EndSignals {
    /// Readable once one has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Has the program that `command` starts killed when the thread that starts it
/// ends, also by SIGKILL, which lets nobody clean up. Start it from the main thread.
pub fn ends_with_us(command: &mut Command) {
    end_with_us(command);
}

fn set() -> SigSet {
    ENDING.into_iter().collect()
}
