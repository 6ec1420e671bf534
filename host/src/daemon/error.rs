//! Why a board's link could not be brought up, or ended.

use std::{fmt, io};

use super::stations::Shown;
use crate::bridge::BridgeError;
use crate::net::MtuError;
use crate::netlink::NetlinkError;
use crate::pty::PtyError;
use crate::session::SessionError;
use crate::tap::TapError;

/// Why a board's link could not be brought up, or ended. Its text has the
/// causes in it, as all of this crate's errors: none has a source beside it.
#[derive(Debug)]
pub enum DaemonError {
    /// The interface could not be created.
    Tap(TapError),
    /// The MTU is out of range.
    Mtu(MtuError),
    /// The interface could not be configured.
    Netlink(NetlinkError),
    /// The board could not be attached, or stopped answering.
    Session(SessionError),
    /// The data path ended.
    Bridge(BridgeError),
    /// There is no terminal for the console.
    Console(PtyError),
    /// The operating system refused something else.
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        error: io::Error,
    },
    /// Another board has this one's MAC address.
    SameMac {
        /// The address.
        mac: [u8; 6],
        /// The other board.
        other: String,
    },
    /// A thread panicked: a bug, its message is on the terminal.
    ThreadDied,
}

impl DaemonError {
    /// For `map_err`: an [`io::Error`] met while trying to `what`.
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }
}

impl From<TapError> for DaemonError {
    fn from(error: TapError) -> Self {
        Self::Tap(error)
    }
}

impl From<MtuError> for DaemonError {
    fn from(error: MtuError) -> Self {
        Self::Mtu(error)
    }
}

impl From<NetlinkError> for DaemonError {
    fn from(error: NetlinkError) -> Self {
        Self::Netlink(error)
    }
}

impl From<SessionError> for DaemonError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tap(error) => error.fmt(f),
            Self::Mtu(error) => error.fmt(f),
            Self::Netlink(error) => error.fmt(f),
            Self::Session(error) => error.fmt(f),
            Self::Bridge(error) => error.fmt(f),
            Self::Console(error) => error.fmt(f),
            Self::System { what, error } => write!(f, "cannot {what}: {error}"),
            Self::SameMac { mac, other } => write!(
                f,
                "the board says that its MAC address is {}, which is that of the board {other}: one of \
                 the two is not what it says; board_mac in the configuration tells which",
                Shown(*mac)
            ),
            Self::ThreadDied => {
                f.write_str("a thread of the daemon died: a bug, its message is in the log")
            }
        }
    }
}

impl std::error::Error for DaemonError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_and_a_bug_of_ours() {
        let error = DaemonError::io("start a thread")(io::Error::from_raw_os_error(11));
        assert_eq!(
            error.to_string(),
            "cannot start a thread: Resource temporarily unavailable (os error 11)"
        );
        assert_eq!(
            DaemonError::ThreadDied.to_string(),
            "a thread of the daemon died: a bug, its message is in the log"
        );
    }
}
