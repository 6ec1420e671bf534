//! What interface to make.

use std::fmt;
use std::path::Path;

use nix::libc;

use super::DEVICE;

/// What an interface carries.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
pub enum InterfaceMode {
    /// Ethernet frames (`IFF_TAP`).
    #[default]
    Tap,
    /// IP packets (`IFF_TUN`).
    Tun,
}

impl InterfaceMode {
    /// The tun driver's flag.
    pub(super) const fn flag(self) -> libc::c_int {
        match self {
            Self::Tap => libc::IFF_TAP,
            Self::Tun => libc::IFF_TUN,
        }
    }
}

impl fmt::Display for InterfaceMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tap => "tap",
            Self::Tun => "tun",
        })
    }
}

/// What interface to make.
#[derive(Clone, Debug)]
pub struct TapOptions<'a> {
    /// Its name, or a pattern such as `vphys%d`.
    pub name: &'a str,
    /// What it carries.
    pub mode: InterfaceMode,
    /// Whether it stays when the program ends; one that stayed is used again.
    pub persistent: bool,
    /// Whether [`Tap::add_queue`](super::Tap::add_queue) will be used.
    pub multi_queue: bool,
    /// The tun driver's device file, [`DEVICE`] but in tests.
    pub device: &'a Path,
}

impl<'a> TapOptions<'a> {
    /// One queue of Ethernet frames, of the system's driver, gone with the
    /// program.
    #[must_use]
    pub fn new(name: &'a str) -> Self {
        let mode = InterfaceMode::Tap;
        Self { name, mode, persistent: false, multi_queue: false, device: Path::new(DEVICE) }
    }

    /// The same with IP packets.
    #[must_use]
    pub fn tun(name: &'a str) -> Self {
        Self { mode: InterfaceMode::Tun, ..Self::new(name) }
    }
}
