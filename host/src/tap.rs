//! The interface of the tun driver: Ethernet frames (tap) or IP packets (tun),
//! each with a 12-byte little-endian virtio-net header. Both are called frames
//! here.
//!
//! The kernel copies each frame once, between its own memory and window memory
//! that it may reach (R7). Windows that it may not touch go through private
//! memory of ours, one more copy, which is counted.
//!
//! The interface goes away when its last [`Tap`] is dropped, unless it is
//! persistent.

mod error;
mod io;
mod name;
mod options;

#[cfg(test)]
pub(crate) mod tests;

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;
use shared::wire::net::{HEADER_LEN, MAX_FRAME};

pub use error::TapError;
pub use name::InterfaceName;
pub use options::{InterfaceMode, TapOptions};

use crate::net::Offloads;
use crate::raw::tun;

/// The tun driver's device file.
pub const DEVICE: &str = "/dev/net/tun";

/// Private room for one frame: header, frame, one VLAN tag.
const BOUNCE_LEN: usize = HEADER_LEN + MAX_FRAME + 4;

/// What a [`Tap`] counts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TapCounters {
    /// Frames that went through private memory: one copy of ours each.
    pub bounced: u64,
    /// Frames from the kernel that did not fit their buffer.
    pub oversized: u64,
    /// Frames that the kernel called malformed (EINVAL).
    pub refused: u64,
    /// Frames to an interface that was down (EIO).
    pub down: u64,
    /// Frames for which the kernel had no memory or room.
    pub full: u64,
    /// Frames of which the kernel took a part, or of too many pieces.
    pub short: u64,
}

/// One queue of an interface.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
    mode: InterfaceMode,
    supported: Offloads,
    flags: libc::c_int,
    bounce: Box<[u8]>,
    counters: TapCounters,
}

/// Flags of every queue.
const FLAGS: libc::c_int = libc::IFF_NO_PI | libc::IFF_VNET_HDR;

impl Tap {
    /// Creates an interface, down, without carrier and without offloads. One
    /// that exists is taken over only where both are [`TapOptions::persistent`],
    /// with the state and addresses that it has.
    ///
    /// # Errors
    /// [`TapError`] says what is wrong and what to do; nothing is left behind.
    pub fn open(options: &TapOptions<'_>) -> Result<Self, TapError> {
        let name = InterfaceName::new(options.name)?;
        let multi = if options.multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
        let flags = FLAGS | options.mode.flag() | multi;
        let file = open_device(options.device)?;
        let given = match attach(&file, name.as_str(), flags | libc::IFF_TUN_EXCL) {
            Err(TapError::NameTaken { name }) if options.persistent => {
                adopt(&file, name, options.mode, flags)?
            }
            other => other?,
        };
        let mut tap = Self::set_up(file, given, options.mode, flags)?;
        tap.set_carrier(false)?;
        tap.supported = [Offloads::ALL, Offloads { uso4: false, uso6: false, ..Offloads::ALL }]
            .into_iter()
            .find(|set| tun::set_offload(tap.as_fd(), set.tun_bits()).is_ok())
            .unwrap_or_default();
        tap.set_offloads(Offloads::NONE)?;
        if options.persistent {
            // Last: what fails before leaves nothing behind.
            tun::set_persistent(tap.as_fd(), true).map_err(|error| TapError::System {
                what: "cannot make the interface persistent",
                error,
            })?;
        }
        Ok(tap)
    }

    /// Opens one more queue of the same interface, which was made with
    /// [`TapOptions::multi_queue`].
    ///
    /// # Errors
    /// As [`Tap::open`].
    pub fn add_queue(&self) -> Result<Self, TapError> {
        let file = open_device(Path::new(DEVICE))?;
        let given = attach(&file, &self.name, self.flags)?;
        let mut queue = Self::set_up(file, given, self.mode, self.flags)?;
        queue.supported = self.supported;
        Ok(queue)
    }

    /// The same queue of the same interface once more. The interface lives as
    /// long as one of them.
    ///
    /// # Errors
    /// No file descriptor left.
    pub fn try_clone(&self) -> Result<Self, TapError> {
        let file = self.file.try_clone().map_err(|error| TapError::System {
            what: "cannot duplicate the interface's file descriptor",
            error,
        })?;
        Ok(Self {
            file,
            name: self.name.clone(),
            bounce: vec![0; BOUNCE_LEN].into_boxed_slice(),
            counters: TapCounters::default(),
            ..*self
        })
    }

    fn set_up(
        file: File,
        name: String,
        mode: InterfaceMode,
        flags: libc::c_int,
    ) -> Result<Self, TapError> {
        let header = libc::c_int::try_from(HEADER_LEN).unwrap_or(libc::c_int::MAX);
        tun::set_header_len(file.as_fd(), header)
            .map_err(|_| TapError::TooOld { what: "the 12-byte virtio-net header" })?;
        tun::set_little_endian(file.as_fd())
            .map_err(|_| TapError::TooOld { what: "the little-endian virtio-net header" })?;
        Ok(Self {
            file,
            name,
            mode,
            supported: Offloads::NONE,
            flags,
            bounce: vec![0; BOUNCE_LEN].into_boxed_slice(),
            counters: TapCounters::default(),
        })
    }

    /// The interface's name, without pattern.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it carries.
    #[must_use]
    pub const fn mode(&self) -> InterfaceMode {
        self.mode
    }

    /// What this kernel can leave to a reader of the interface; what it takes
    /// from a writer is all of [`Offloads`] wherever this has `uso4`.
    #[must_use]
    pub const fn supported(&self) -> Offloads {
        self.supported
    }

    /// Sets what the kernel may leave to the board, for frames from now on.
    /// Frames that are queued keep theirs.
    ///
    /// # Errors
    /// [`TapError::Gone`], or the kernel does not know one of them.
    pub fn set_offloads(&self, offloads: Offloads) -> Result<(), TapError> {
        tun::set_offload(self.file.as_fd(), offloads.tun_bits())
            .map_err(|error| self.error("cannot set the interface's offloads", error))
    }

    /// Turns the carrier on or off: whether a cable seems to be in.
    ///
    /// # Errors
    /// [`TapError::Gone`], or the kernel's.
    pub fn set_carrier(&self, on: bool) -> Result<(), TapError> {
        tun::set_carrier(self.file.as_fd(), on).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENOTTY) => TapError::TooOld { what: "carrier control" },
            _ => self.error("cannot set the interface's carrier", error),
        })
    }

    fn error(&self, what: &'static str, error: std::io::Error) -> TapError {
        match error.raw_os_error() {
            Some(libc::EBADFD) => TapError::Gone { name: self.name.clone() },
            _ => TapError::System { what, error },
        }
    }

    /// The counters so far.
    #[must_use]
    pub const fn counters(&self) -> TapCounters {
        self.counters
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open_device(path: &Path) -> Result<File, TapError> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(
        |error| {
            let path = path.to_owned();
            match error.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => TapError::NoAccess { path },
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::ENOTDIR) => {
                    TapError::NoDriver { path, error }
                }
                _ => TapError::System { what: "cannot open the tun driver", error },
            }
        },
    )
}

fn attach(file: &File, name: &str, flags: libc::c_int) -> Result<String, TapError> {
    // The flags have 16 bits; IFF_TUN_EXCL is the highest.
    let [low, high, ..] = flags.to_le_bytes();
    tun::attach(file.as_fd(), name, i16::from_le_bytes([low, high])).map_err(|error| {
        let name = name.to_owned();
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => TapError::NotPermitted { name },
            Some(libc::EBUSY | libc::EEXIST) => TapError::NameTaken { name },
            Some(libc::ENFILE) => TapError::NameTaken { name },
            Some(libc::EINVAL) => TapError::BadName { name, reason: "the kernel refuses it" },
            _ => TapError::System { what: "cannot create the network interface", error },
        }
    })
}

/// Takes an interface over that stayed from an earlier run.
fn adopt(
    file: &File,
    name: String,
    mode: InterfaceMode,
    flags: libc::c_int,
) -> Result<String, TapError> {
    attach(file, &name, flags).map_err(|error| match error {
        // The kernel's word for an interface of another driver, mode or number of queues.
        TapError::BadName { .. } => TapError::OtherKind { name, mode },
        // One that is no program's is not busy.
        TapError::NameTaken { .. } => TapError::InUse { name },
        other => other,
    })
}
