//! How the daemon's exit status says why it ended. The numbers above 63 are
//! those of sysexits.h, which systemd names in its messages.

use std::fmt;
use std::io::ErrorKind;

use nix::sys::signal::Signal;
use virtio_phys_host::config::ConfigError;
use virtio_phys_host::control_socket::ListenError;
use virtio_phys_host::daemon::DaemonError;
use virtio_phys_host::netlink::NetlinkCause;
use virtio_phys_host::pty::PtyError;
use virtio_phys_host::tap::TapError;

use crate::care::PATIENCE;

/// Why the daemon ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// It was asked to.
    Asked,
    /// Something failed, at the start or at the end.
    Failed,
    /// The command line cannot be understood.
    Usage,
    /// A right is missing.
    NoPermission,
    /// The configuration is wrong.
    BadConfiguration,
}

impl Status {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Asked, Self::Failed, Self::Usage, Self::NoPermission, Self::BadConfiguration];

    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Asked => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoPermission => 77,
            Self::BadConfiguration => 78,
        }
    }

    /// What it means.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Asked => "it was asked to end, and did in good order",
            Self::Failed => "it could not start, or had to be ended hard",
            Self::Usage => "the command line is wrong",
            Self::NoPermission => {
                "a right is missing: to read the configuration, to make an interface \
                 (CAP_NET_ADMIN, /dev/net/tun), a console or the socket"
            }
            Self::BadConfiguration => "the configuration is wrong or not there",
        }
    }
}

/// For `--help`.
pub(crate) fn table() -> String {
    let row = |status: &Status| format!("  {:>2}  {}\n", status.code(), status.meaning());
    Status::ALL.iter().map(row).collect()
}

/// Why the daemon could not start or go on.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Failure {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self { status: Status::Failed, text: text.to_string() }
    }

    /// These boards have not let go yet, and a second signal asks to end.
    pub(crate) fn second_signal(signal: Signal, names: &[String]) -> Self {
        Self::new(format_args!(
            "ended hard by a second signal, {signal}: {} not let go yet and will find out alone",
            have(names)
        ))
    }

    /// These boards do not let go.
    pub(crate) fn late(names: &[String]) -> Self {
        Self::new(format_args!(
            "ended hard: {} not let go for {} s and will find out alone",
            have(names),
            PATIENCE.as_secs()
        ))
    }

    /// What is wrong with the board or interface of this name.
    pub(crate) fn of_board(name: &str, error: &DaemonError) -> Self {
        let status = if lacks_permission(error) { Status::NoPermission } else { Status::Failed };
        Self { status, text: format!("{name}: {error}") }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let status =
            if error.is_permission() { Status::NoPermission } else { Status::BadConfiguration };
        Self { status, text: error.to_string() }
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        let status = if error.is_permission() {
            Status::NoPermission
        } else if error.is_configuration() {
            Status::BadConfiguration
        } else {
            Status::Failed
        };
        Self { status, text: error.to_string() }
    }
}

/// These boards, and the verb.
pub(crate) fn have(names: &[String]) -> String {
    let verb = if names.len() == 1 { "has" } else { "have" };
    format!("{} {verb}", names.join(", "))
}

fn lacks_permission(error: &DaemonError) -> bool {
    match error {
        DaemonError::Tap(error) => {
            matches!(error, TapError::NoAccess { .. } | TapError::NotPermitted { .. })
        }
        DaemonError::Netlink(error) => matches!(error.cause, NetlinkCause::NotPermitted),
        DaemonError::Console(PtyError::Terminal(_, error) | PtyError::Link(_, error)) => {
            // EACCES and EPERM.
            error.kind() == ErrorKind::PermissionDenied
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_console_without_rights_is_a_right_that_is_missing() {
        let of = |error: PtyError| Failure::of_board("b0", &DaemonError::Console(error)).status;
        let errno = std::io::Error::from_raw_os_error;
        for (error, status) in [
            (Errno::EACCES, Status::NoPermission),
            (Errno::EPERM, Status::NoPermission),
            (Errno::ENOSPC, Status::Failed),
        ] {
            assert_eq!(of(PtyError::Terminal("open", errno(error as i32))), status);
            assert_eq!(of(PtyError::Link("/run/c".into(), errno(error as i32))), status);
        }
        assert_eq!(of(PtyError::Taken("/run/c".into())), Status::Failed);
    }

    #[test]
    fn what_is_said_of_boards_that_hang() {
        let names = ["b0".to_owned(), "b1".to_owned()];
        for (failure, text) in [
            (
                Failure::late(&names),
                "ended hard: b0, b1 have not let go for 10 s and will find out alone",
            ),
            (
                Failure::second_signal(Signal::SIGINT, &names[..1]),
                "ended hard by a second signal, SIGINT: b0 has not let go yet and will find out \
                 alone",
            ),
        ] {
            assert_eq!((failure.to_string().as_str(), failure.status), (text, Status::Failed));
        }
    }

    #[test]
    fn the_manual_has_the_same_table() {
        let manual = include_str!("../../../../docs/daemon.md");
        for status in Status::ALL {
            let row = format!("| {} | {} |", status.code(), status.meaning());
            assert!(manual.contains(&row), "{row}");
        }
    }
}
