//! The socket's file: it appears whole, with its mode and group, or not at
//! all; one that a dead daemon left is replaced, a living one's is not.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::unistd::Group;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Owner and group may connect.
const MODE: u32 = 0o660;

/// The socket, listening. Its file goes when this is dropped.
#[derive(Debug)]
pub struct ControlListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our file: another daemon may have put its own there.
    file: (u64, u64),
}

/// Why the socket is not there.
#[derive(Debug)]
pub enum ListenError {
    /// A daemon answers there.
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is a file of another kind.
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// Its folder is not there.
    NoFolder {
        /// The folder.
        folder: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// There is no such group.
    NoGroup {
        /// Its name.
        group: String,
    },
    /// The socket cannot be given to the group.
    GroupDenied {
        /// Its name.
        group: String,
        /// The system's answer.
        error: io::Error,
    },
    /// The system refused something else.
    System {
        /// What was tried.
        what: &'static str,
        /// The socket.
        path: PathBuf,
        /// Its answer.
        error: io::Error,
    },
}

impl ListenError {
    /// Whether it is about a right that this process lacks.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Self::NoFolder { error, .. }
            | Self::GroupDenied { error, .. }
            | Self::System { error, .. } => error.kind() == ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    /// Whether the configuration says something that this system lacks.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        matches!(self, Self::NoGroup { .. } | Self::NoSocket { .. })
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path } => write!(
                f,
                "a daemon answers on {} already: stop it first, or give this one another socket \
                 (daemon.socket)",
                path.display()
            ),
            Self::NoSocket { path } => write!(
                f,
                "{} is there and is no socket: choose another path (daemon.socket), or remove it",
                path.display()
            ),
            Self::NoFolder { folder, error } => write!(
                f,
                "no folder {} for the control socket: {error}. Make it (systemd: \
                 RuntimeDirectory=virtio-phys), or choose another path (daemon.socket)",
                folder.display()
            ),
            Self::NoGroup { group } => write!(
                f,
                "there is no group {group} on this system: make it (`groupadd {group}`), or \
                 change daemon.socket_group"
            ),
            Self::GroupDenied { group, error } => write!(
                f,
                "cannot give the control socket to group {group}: {error}. Run as root, or as a \
                 member of that group (systemd: SupplementaryGroups={group})"
            ),
            Self::System { what, path, error } => {
                write!(f, "cannot {what} the control socket {}: {error}", path.display())?;
                if error.kind() == ErrorKind::PermissionDenied {
                    f.write_str(
                        ". Run as root, or choose a path where this user may write \
                         (daemon.socket)",
                    )?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ListenError {}

impl ControlListener {
    /// Listens at `path`, for the owner and `group`.
    ///
    /// # Errors
    /// [`ListenError`]; nothing has changed then.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, ListenError> {
        let system = |what| {
            let path = path.to_owned();
            move |error: io::Error| ListenError::System { what, path, error }
        };
        let gid = group.map(group_id).transpose()?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let no_folder = |error| ListenError::NoFolder { folder: folder.to_owned(), error };
        // The one level that is a fresh system's: /run/virtio-phys.
        if let Err(error) = fs::create_dir(folder)
            && error.kind() != ErrorKind::AlreadyExists
            && !folder.is_dir()
        {
            return Err(no_folder(error));
        }
        // Two daemons that start at once take turns.
        let lock = File::open(folder).map_err(no_folder)?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, errno)| system("lock the folder of")(errno.into()))?;
        is_free(path)?;
        // Under another name first: nobody can connect before mode and group
        // are right, and the old file is replaced in one step.
        let draft = folder.join(format!(".vp{}", std::process::id()));
        let _ = fs::remove_file(&draft);
        let socket = bind_at(&draft).map_err(system("make"))?;
        let remove = |error: ListenError| {
            let _ = fs::remove_file(&draft);
            error
        };
        if let (Some(gid), Some(group)) = (gid, group) {
            let denied = |error| ListenError::GroupDenied { group: group.to_owned(), error };
            chown(&draft, None, Some(gid)).map_err(denied).map_err(remove)?;
        }
        let listener = listen_on(socket, &draft).map_err(system("make")).map_err(remove)?;
        let placed = fs::symlink_metadata(&draft).and_then(|file| {
            fs::rename(&draft, path)?;
            Ok((file.dev(), file.ino()))
        });
        match placed {
            Ok(file) => Ok(Self { listener, path: path.to_owned(), file }),
            Err(error) => Err(remove(system("place")(error))),
        }
    }

    pub(super) fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }
}

impl AsFd for ControlListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn group_id(name: &str) -> Result<u32, ListenError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(ListenError::NoGroup { group: name.to_owned() }),
    }
}

/// Whether nothing is at `path` but, at most, a socket that nobody serves.
fn is_free(path: &Path) -> Result<(), ListenError> {
    let Ok(file) = fs::symlink_metadata(path) else { return Ok(()) };
    if !file.file_type().is_socket() {
        return Err(ListenError::NoSocket { path: path.to_owned() });
    }
    let system = |error| ListenError::System { what: "look at", path: path.to_owned(), error };
    match super::client::connect(path) {
        Ok(_) => Err(ListenError::InUse { path: path.to_owned() }),
        // It is there, and so busy that it takes nobody.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(ListenError::InUse { path: path.to_owned() })
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(system(error)),
    }
}

fn bind_at(path: &Path) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// Nobody connects before this: until then the socket refuses.
fn listen_on(socket: OwnedFd, path: &Path) -> io::Result<UnixListener> {
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(UnixListener::from(socket))
}
