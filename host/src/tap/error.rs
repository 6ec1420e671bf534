//! Why there is no interface. The texts are for the person who runs the program.

use std::path::PathBuf;
use std::{fmt, io};

use super::InterfaceMode;

/// Why an interface could not be made or changed.
#[derive(Debug)]
pub enum TapError {
    /// The tun driver's device file is not there.
    NoDriver {
        /// The file looked for.
        path: PathBuf,
        /// The kernel's answer.
        error: io::Error,
    },
    /// This user may not open the tun driver's device file.
    NoAccess {
        /// The file.
        path: PathBuf,
    },
    /// This process may open the driver but not create interfaces.
    NotPermitted {
        /// The name asked for.
        name: String,
    },
    /// An interface of this name exists.
    NameTaken {
        /// The name.
        name: String,
    },
    /// An interface of this name exists, of another kind than is wanted.
    OtherKind {
        /// The name.
        name: String,
        /// What is wanted.
        mode: InterfaceMode,
    },
    /// The persistent interface of this name is another program's now.
    InUse {
        /// The name.
        name: String,
    },
    /// The kernel would not take this name.
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The interface was deleted (EBADFD).
    Gone {
        /// Its name.
        name: String,
    },
    /// The driver lacks something that is needed.
    TooOld {
        /// What it lacks.
        what: &'static str,
    },
    /// Another error of the operating system.
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        error: io::Error,
    },
}

impl fmt::Display for TapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone { name } => {
                write!(f, "the interface {name} has been deleted; the next session makes it again")
            }
            Self::NoDriver { path, error } => write!(
                f,
                "cannot open {}: {error}. The kernel's tun driver is missing: load it with \
                 `modprobe tun`; in a container, pass the device in (`--device /dev/net/tun`)",
                path.display()
            ),
            Self::NoAccess { path } => write!(
                f,
                "no permission to open {}: run as root or as a user that `ls -l` shows to have \
                 access; in a container, pass the device in (`--device /dev/net/tun`)",
                path.display()
            ),
            Self::NotPermitted { name } => write!(
                f,
                "no permission to create the network interface {name}: this needs CAP_NET_ADMIN. \
                 Run as root, or give the capability (systemd: AmbientCapabilities=CAP_NET_ADMIN), \
                 or try in namespaces of your own (`unshare --user --map-root-user --net`)"
            ),
            Self::NameTaken { name } => write!(
                f,
                "a network interface named {name} exists: choose another name, or a pattern such \
                 as vphys%d, or delete it (`ip link delete {name}`) if it is a leftover"
            ),
            Self::OtherKind { name, mode } => write!(
                f,
                "a network interface named {name} exists, but it is no {mode} interface of one \
                 queue: choose another name, or delete it (`ip link delete {name}`) and it is made \
                 anew"
            ),
            Self::InUse { name } => write!(
                f,
                "another program uses the network interface {name}: end it, or choose another name"
            ),
            Self::BadName { name, reason } => {
                write!(f, "{name:?} is no name for a network interface: {reason}")
            }
            Self::TooOld { what } => {
                write!(f, "the kernel's tun driver lacks {what}: Linux 4.20 or later is needed")
            }
            Self::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for TapError {}
