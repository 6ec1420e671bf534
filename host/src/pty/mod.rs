//! A pseudo terminal under a name that stays: where a board's console is
//! found, by `screen`, `picocom` or plain `cat`.
//!
//! It belongs to a board for as long as the daemon runs, whether or not the
//! board is there, and whether or not somebody looks. What nobody reads fills
//! the kernel's buffer, some KiB, and then waits at the board.

mod error;
#[cfg(test)]
mod tests;

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::sys::termios::{FlushArg, SetArg, cfmakeraw, tcflush, tcgetattr, tcsetattr};
use nix::unistd::{Gid, fchown};

pub use error::PtyError;

use crate::console::Terminal;

/// Who may use a console: its owner and its group.
const PERMISSIONS: u32 = 0o660;

/// Where the kernel has terminals. A link into here is a console's.
const TERMINALS: &str = "/dev/pts";

/// A pseudo terminal, raw, with a link to it.
#[derive(Debug)]
pub struct Pty {
    master: PtyMaster,
    /// Held so that a user who leaves does not hang the line up.
    _terminal: fs::File,
    name: PathBuf,
    link: PathBuf,
}

impl Pty {
    /// Opens a terminal and makes `link` lead to it. A link that another
    /// console has left there is replaced; anything else is not touched.
    ///
    /// # Errors
    /// [`PtyError`].
    pub fn open(link: &Path) -> Result<Self, PtyError> {
        let failed = |what| move |error: nix::Error| PtyError::Terminal(what, error.into());
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags | OFlag::O_NONBLOCK).map_err(failed("open"))?;
        grantpt(&master).and_then(|()| unlockpt(&master)).map_err(failed("unlock"))?;
        let name = PathBuf::from(ptsname_r(&master).map_err(failed("name"))?);
        let terminal = fs::File::from(open(&name, flags, Mode::empty()).map_err(failed("open"))?);
        let mut settings = tcgetattr(&terminal).map_err(failed("set up"))?;
        cfmakeraw(&mut settings);
        tcsetattr(&terminal, SetArg::TCSANOW, &settings).map_err(failed("set up"))?;
        // Not the group "tty", with whose rights others write messages to terminals.
        fchown(&terminal, None, Some(Gid::effective())).map_err(failed("set the group of"))?;
        terminal
            .set_permissions(Permissions::from_mode(PERMISSIONS))
            .map_err(|error| PtyError::Terminal("set the permissions of", error))?;
        make_link(&name, link)?;
        Ok(Self { master, _terminal: terminal, name, link: link.into() })
    }

    /// The kernel's name of the terminal.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The link to it.
    #[must_use]
    pub fn link(&self) -> &Path {
        &self.link
    }
}

/// Makes `link` lead to the terminal `name`.
fn make_link(name: &Path, link: &Path) -> Result<(), PtyError> {
    let failed = |error| PtyError::Link(link.into(), error);
    match symlink(name, link) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let old = fs::read_link(link).map_err(|_| PtyError::Taken(link.into()))?;
    if old.parent() != Some(Path::new(TERMINALS)) {
        return Err(PtyError::Taken(link.into()));
    }
    fs::remove_file(link).and_then(|()| symlink(name, link)).map_err(failed)
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Another daemon's by now, perhaps.
        if fs::read_link(&self.link).is_ok_and(|name| name == self.name) {
            let _ = fs::remove_file(&self.link);
        }
    }
}

impl AsFd for Pty {
    /// Readable when something was typed, writable when there is room.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

/// Nothing now is no error.
fn now(done: io::Result<usize>) -> io::Result<usize> {
    match done {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(0)
        }
        done => done,
    }
}

impl Terminal for Pty {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        now(self.master.read(into))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(self.master.write(bytes))
    }

    fn forget_typed(&mut self) -> io::Result<()> {
        Ok(tcflush(&self.master, FlushArg::TCIFLUSH)?)
    }
}
