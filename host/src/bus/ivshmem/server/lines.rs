//! What a server says of its peers: at most ten lines a minute of each kind,
//! however often they come and go.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::sys::socket::{getsockopt, sockopt};

use crate::limit::LogLines;

/// Why a peer is no longer there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// It closed its connection, or its process ended.
    Left,
    /// It said something, which the protocol has no place for.
    Spoke,
    /// It does not take what it is told.
    Slow,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Left => "has gone",
            Self::Spoke => "is let go: it sends, and only the server may",
            Self::Slow => "is let go: it does not take what it is told",
        })
    }
}

/// The lines, each kind bounded by itself.
#[derive(Debug)]
pub(super) struct Lines {
    start: Instant,
    came: LogLines,
    left: LogLines,
    refused: LogLines,
}

impl Lines {
    pub(super) fn new() -> Self {
        let [came, left, refused] = [const { LogLines::new() }; 3];
        Self { start: Instant::now(), came, left, refused }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A peer came, and so many are there now.
    pub(super) fn came(&mut self, id: u16, socket: BorrowedFd<'_>, count: usize, most: usize) {
        if let Some(untold) = self.came.admit(self.now()) {
            let process = Process(socket);
            log::info!("ivshmem peer {id}{process} came: {count} of {most}{untold}");
        }
    }

    /// A peer is no longer there, and so many are.
    pub(super) fn left(&mut self, id: u16, why: Why, count: usize) {
        if let Some(untold) = self.left.admit(self.now()) {
            log::info!("ivshmem peer {id} {why}: {count} left{untold}");
        }
    }

    /// Somebody could not be taken.
    pub(super) fn refused(&mut self, why: fmt::Arguments<'_>) {
        if let Some(untold) = self.refused.admit(self.now()) {
            log::warn!("an ivshmem connection was refused: {why}{untold}");
        }
    }
}

/// The process behind a connection, as the kernel knows it.
struct Process<'a>(BorrowedFd<'a>);

impl fmt::Display for Process<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match getsockopt(&self.0, sockopt::PeerCredentials) {
            // 0: of another pid namespace.
            Ok(who) if who.pid() > 0 => write!(f, " (process {})", who.pid()),
            _ => Ok(()),
        }
    }
}
