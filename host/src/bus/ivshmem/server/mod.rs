//! An ivshmem server: memory, numbers and eventfds for everybody who connects.
//!
//! Guarantee: no peer can make it wait. What a peer does not take waits in a
//! bounded queue, and one that breaks a rule, or is too slow for its queue, is
//! let go; the others go on.

mod lines;
mod memory;
mod peers;
mod run;

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::epoll::{EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

use super::error::IvshmemError;
use super::vector::Watch;
use crate::raw;
use lines::Why;
use memory::memory;
use peers::Peers;

pub use run::RunningServer;

/// What a server hands out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerOptions {
    /// Bytes of shared memory: a power of two, at least 1 MiB. Pages that
    /// nobody touches cost nothing, unless they are huge.
    pub memory: u64,
    /// Whether it is made of huge pages (of the kernel's usual size), all of
    /// which are taken at once.
    pub huge_pages: bool,
    /// Vectors of each peer, 1 to 64.
    pub vectors: u16,
    /// Peers at a time, at most 64.
    pub peers: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { memory: 128 << 20, huge_pages: false, vectors: 16, peers: 16 }
    }
}

/// Connections that wait to be taken.
const BACKLOG: i32 = 16;

/// After a connection that could not be taken, new ones wait this long, in ms.
const PAUSE: u16 = 100;

/// The numbers of the listening socket and of the request to stop in the watch,
/// beyond those of peers.
const LISTENER: u64 = 1 << 32;
const STOP: u64 = LISTENER + 1;

/// An ivshmem server. It does nothing by itself: [`Server::turn`] does what is
/// due, [`Server::serve`] goes on with that, [`Server::start`] lets a thread do it.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    /// Device and inode of the socket's name, to remove no other.
    name: (u64, u64),
    listener: OwnedFd,
    watch: Watch,
    peers: Peers,
    paused: bool,
}

impl Server {
    /// Makes the memory and listens at `path`. A socket that a server left
    /// behind is replaced. Only this user may connect.
    ///
    /// # Errors
    /// The socket is served already, or cannot be made; the memory's length is
    /// none that can be used, or there are too few huge pages.
    pub fn bind(path: impl Into<PathBuf>, options: ServerOptions) -> Result<Self, IvshmemError> {
        let path = path.into();
        let memory = memory(options.memory, options.huge_pages)?;
        let listener = listener(&path)?;
        let status =
            fs::symlink_metadata(&path).map_err(IvshmemError::system("read the socket"))?;
        let name = (status.dev(), status.ino());
        let watch = Watch::new().map_err(IvshmemError::system("make an epoll instance"))?;
        watch
            .add_socket(listener.as_fd(), LISTENER)
            .map_err(IvshmemError::system("wait for connections"))?;
        let peers = Peers::new(memory, options);
        Ok(Self { path, name, listener, watch, peers, paused: false })
    }

    /// The socket's name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Peers that are connected.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.peers.count()
    }

    /// Waits until something is to be done, at most `timeout`, and does it.
    /// `false`: the descriptor given to [`Server::serve`] asks to stop.
    pub fn turn(&mut self, timeout: EpollTimeout) -> bool {
        let timeout = if self.paused { EpollTimeout::from(PAUSE) } else { timeout };
        let mut happened = Vec::new();
        self.watch.look(timeout, |number, flags| happened.push((number, flags)));
        if std::mem::take(&mut self.paused) {
            self.paused = self.watch.add_socket(self.listener.as_fd(), LISTENER).is_err();
        }
        for (number, flags) in happened {
            match (number, u16::try_from(number)) {
                (STOP, _) => return false,
                (LISTENER, _) => self.accept(),
                (_, Ok(id)) if flags == EpollFlags::EPOLLOUT => self.peers.flush(&self.watch, id),
                // They have nothing to say to a server.
                (_, Ok(id)) if flags == EpollFlags::EPOLLIN => {
                    self.peers.leave(&self.watch, id, Why::Spoke);
                }
                (_, Ok(id)) => self.peers.leave(&self.watch, id, Why::Left),
                _ => {}
            }
        }
        true
    }

    /// What becomes readable when something is to be done.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.watch.fd()
    }

    fn accept(&mut self) {
        match raw::accept(self.listener.as_fd()) {
            Ok(socket) => self.peers.join(&self.watch, socket),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => {}
            Err(errno) => {
                // No descriptor is left: it would be asked again at once.
                log::warn!("cannot take an ivshmem connection: {errno}");
                self.watch.remove(self.listener.as_fd());
                self.paused = true;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|status| (status.dev(), status.ino()) == self.name);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, of which a dead server's socket is removed before.
fn listener(path: &Path) -> Result<OwnedFd, IvshmemError> {
    let system = IvshmemError::system("listen for ivshmem peers");
    let address = UnixAddr::new(path).map_err(&system)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let new = || socket(AddressFamily::Unix, SockType::Stream, flags, None);
    let ours = new().map_err(&system)?;
    // Before it has a name: the name gets these rights.
    fchmod(&ours, Mode::S_IRUSR | Mode::S_IWUSR).map_err(&system)?;
    match bind(ours.as_raw_fd(), &address) {
        Err(Errno::EADDRINUSE) => {
            let status =
                fs::symlink_metadata(path).map_err(IvshmemError::system("read the socket"))?;
            if !status.file_type().is_socket() {
                return Err(IvshmemError::NotASocket { path: path.to_owned() });
            }
            let asking = new().map_err(&system)?;
            match connect(asking.as_raw_fd(), &address) {
                Err(Errno::ECONNREFUSED) => {}
                // EAGAIN: so busy that it takes no more connections.
                Ok(()) | Err(Errno::EAGAIN) => {
                    return Err(IvshmemError::Served { path: path.to_owned() });
                }
                Err(errno) => return Err(system(errno)),
            }
            fs::remove_file(path)
                .map_err(IvshmemError::system("remove a socket that nobody serves"))?;
            bind(ours.as_raw_fd(), &address).map_err(&system)?;
        }
        other => other.map_err(&system)?,
    }
    let backlog = Backlog::new(BACKLOG).map_err(&system)?;
    listen(&ours, backlog).map_err(&system)?;
    Ok(ours)
}
