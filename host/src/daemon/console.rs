//! A board's console as the control thread has it: one terminal for as long as
//! the daemon cares for the board, and the console of the session at hand.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::poll::PollFlags;

use super::error::DaemonError;
use crate::bus::Bus;
use crate::console::{Console, ConsoleError};
use crate::pty::Pty;
use crate::session::ConsoleLink;

/// The console of a bus's board.
type ConsoleOf<B> = Console<<B as Bus>::Window, <B as Bus>::Doorbell>;

/// A terminal, and who speaks at its other end.
pub(super) struct Terminal<B: Bus> {
    pty: Pty,
    speaks: Option<(u16, ConsoleOf<B>)>,
}

impl<B: Bus> Terminal<B> {
    /// Opens the terminal and makes `link` lead to it.
    pub(super) fn open(link: &Path) -> Result<Self, DaemonError> {
        Ok(Self { pty: Pty::open(link).map_err(DaemonError::Console)?, speaks: None })
    }

    /// A console came up.
    pub(super) fn connect(&mut self, link: ConsoleLink<B>) {
        self.speaks = Some((link.device, Console::new(link.to_host, link.to_board)));
    }

    /// The session is over.
    pub(super) fn disconnect(&mut self) {
        self.speaks = None;
    }

    /// Whether somebody speaks.
    pub(super) const fn is_connected(&self) -> bool {
        self.speaks.is_some()
    }

    /// The device is gone; `false`: it was not the console.
    pub(super) fn forget(&mut self, device: u16) -> bool {
        self.speaks.take_if(|(console, _)| *console == device).is_some()
    }

    /// Moves what there is at `now` (ms) and gets ready for a sleep: when it
    /// has to end. The error comes with the device, which is of no use any more.
    pub(super) fn step(&mut self, now: u64) -> Result<u64, (u16, ConsoleError)> {
        let Some((device, console)) = &mut self.speaks else { return Ok(u64::MAX) };
        let quiet = console.step(now, &mut self.pty).and_then(|_| console.arm());
        match quiet {
            Ok(true) => Ok(console.wake_at().unwrap_or(u64::MAX)),
            Ok(false) => Ok(now),
            Err(error) => {
                let device = *device;
                self.speaks = None;
                Err((device, error))
            }
        }
    }

    /// What to wait for at the terminal.
    pub(super) fn wants(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let wants = self.speaks.as_ref()?.1.wants();
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, wants.readable);
        flags.set(PollFlags::POLLOUT, wants.writable);
        (!flags.is_empty()).then(|| (self.pty.as_fd(), flags))
    }
}
