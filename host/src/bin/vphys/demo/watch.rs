//! Waiting for the board, which a signal, the link's end and a deadline end.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use virtio_phys_host::daemon::{Board, LinkState};
use virtio_phys_host::session::Terms;
use virtio_phys_host::signals::EndSignals;

/// What ends the demo although no step of it failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// Somebody asked.
    Signal(Signal),
    /// The link to the board ended, for this reason.
    Link(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "ended by {signal} before it was done"),
            Self::Link(why) => write!(f, "the link to the board ended: {why}"),
        }
    }
}

impl std::error::Error for Ended {}

/// The exit status of a program that ended by this signal, as shells have it.
pub(crate) fn signal_status(error: &anyhow::Error) -> Option<ExitCode> {
    match error.downcast_ref() {
        Some(Ended::Signal(signal)) => Some(status_of(*signal as i32)),
        _ => None,
    }
}

/// 128 and the signal's number.
pub(crate) fn status_of(signal: i32) -> ExitCode {
    u8::try_from(signal).map_or(ExitCode::FAILURE, |number| ExitCode::from(128 | number))
}

/// Sees to it that no step waits longer than it has to.
#[derive(Clone, Copy)]
pub(crate) struct Watch<'a> {
    signals: &'a EndSignals,
    boards: &'a [Board],
}

impl<'a> Watch<'a> {
    pub(crate) const fn new(signals: &'a EndSignals, boards: &'a [Board]) -> Self {
        Self { signals, boards }
    }

    /// Waits until `fd` is ready for `what`, for at most `longest`: whether it is.
    pub(crate) fn wait(
        &self,
        fd: BorrowedFd<'_>,
        what: PollFlags,
        longest: Duration,
    ) -> Result<bool> {
        self.wait_for(Some((fd, what)), longest)
    }

    fn wait_for(
        &self,
        awaited: Option<(BorrowedFd<'_>, PollFlags)>,
        longest: Duration,
    ) -> Result<bool> {
        let deadline = Instant::now() + longest;
        loop {
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let changed = |board: &'a Board| PollFd::new(board.changed(), PollFlags::POLLIN);
            fds.extend(self.boards.iter().map(changed));
            fds.extend(awaited.map(|(fd, what)| PollFd::new(fd, what)));
            poll_until(&mut fds, deadline)?;
            let mut woken = fds.iter().map(|fd| fd.any().unwrap_or(false));
            if woken.next() == Some(true)
                && let Some(signal) = self.signals.arrived()
            {
                return Err(Ended::Signal(signal).into());
            }
            for (board, changed) in self.boards.iter().zip(woken.by_ref()) {
                if changed {
                    board.acknowledge();
                    let status = board.status();
                    if status.state != LinkState::Up {
                        return Err(Ended::Link(status.last_failure.unwrap_or_default()).into());
                    }
                }
            }
            let ready = woken.next() == Some(true);
            if ready || Instant::now() >= deadline {
                return Ok(ready);
            }
        }
    }

    /// Does nothing for `time`.
    pub(crate) fn pause(&self, time: Duration) -> Result<()> {
        self.wait_for(None, time).map(drop)
    }

    /// Whether the demo may go on.
    pub(crate) fn check(&self) -> Result<()> {
        self.pause(Duration::ZERO)
    }
}

/// Waits until the board is attached: what was agreed on.
pub(crate) fn attached(board: &Board, signals: &EndSignals) -> Result<Terms> {
    attached_while(board, signals, || Ok(false))
}

/// The same; what fails is tried again while `again` says so, which is asked
/// each time.
pub(crate) fn attached_while(
    board: &Board,
    signals: &EndSignals,
    mut again: impl FnMut() -> Result<bool>,
) -> Result<Terms> {
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(board.changed(), PollFlags::POLLIN),
        ];
        poll(&mut fds, PollTimeout::NONE).context("poll")?;
        let [signal, _] = fds.map(|fd| fd.any().unwrap_or(false));
        if signal && let Some(signal) = signals.arrived() {
            return Err(Ended::Signal(signal).into());
        }
        board.acknowledge();
        let status = board.status();
        match (status.state, status.terms, status.last_failure) {
            (LinkState::Up, Some(terms), _) => return Ok(terms),
            // The daemon would try again; the demo shows what is wrong.
            (_, _, Some(failure)) if !again()? => return Err(anyhow!(failure)),
            _ => {}
        }
    }
}

/// Polls once, at most until the deadline or a signal.
pub(super) fn poll_until(fds: &mut [PollFd<'_>], deadline: Instant) -> Result<()> {
    // Rounded up: rounded down it would spin for the last millisecond.
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(fds, timeout) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(errno) => Err(errno).context("poll"),
    }
}
