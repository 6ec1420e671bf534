//! One connection to an ivshmem server: greeting, peers, vectors.
//!
//! Guarantee: no call waits longer than it was told to, whatever the server
//! does; what it sends is bounded in number and kind, and every descriptor that
//! is not kept is closed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memmap2::MmapRaw;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt,
};
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
use shared::raw::RamWindow;
use shared::window::Window;

use super::error::{IvshmemError, Nonsense, Step};
use super::vector::{Bell, is_event};
use super::wire::{Arrival, Inbox, MEMORY, Message, VERSION};
use crate::raw::{MapError, SharedMemory};

/// Peers that a client keeps.
pub(super) const MAX_PEERS: usize = 64;

/// Vectors of one peer, or of our own, that a client keeps; it closes others.
pub(super) const MAX_VECTORS: usize = 64;

/// Messages that one look at the socket handles.
pub(super) const BUDGET: usize = 256;

/// Lengths of the shared memory that can be used, in bytes.
const SHORTEST: u64 = 1 << 20;
const LONGEST: u64 = 1 << 40;

/// The shared memory: the board's half, then the host's.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    file: Arc<OwnedFd>,
    window: RamWindow<Arc<MmapRaw>>,
    /// Made of huge pages. None of those is given back: it might not come again.
    huge: bool,
}

impl Memory {
    fn new(file: OwnedFd) -> Result<Self, MapError> {
        let window = SharedMemory::of_file(file.as_fd())?.window();
        let len = window.len();
        if !len.is_power_of_two() || !(SHORTEST..=LONGEST).contains(&len) {
            return Err(MapError::Length(len));
        }
        let kind = fstatfs(&file).map_err(|errno| MapError::System(errno.into()))?;
        let huge = kind.filesystem_type() == HUGETLBFS_MAGIC;
        Ok(Self { file: Arc::new(file), window, huge })
    }

    /// Bytes of each half.
    pub(super) fn half(&self) -> u64 {
        self.window.len() / 2
    }

    /// `len` bytes of the board's half.
    pub(super) fn board(&self, offset: u64, len: u64) -> Option<RamWindow<Arc<MmapRaw>>> {
        let inside = offset.checked_add(len)? <= self.half();
        self.window.part(offset, len).filter(|_| inside)
    }

    /// `len` bytes of the host's half.
    pub(super) fn host(&self, offset: u64, len: u64) -> Option<RamWindow<Arc<MmapRaw>>> {
        self.window.part(self.half().checked_add(offset)?, len)
    }

    /// Makes `len` bytes of the host's half zero, which also gives their pages
    /// back to the kernel, unless they are huge.
    pub(super) fn clear_host(&self, offset: u64, len: u64) {
        let place = |value: u64| nix::libc::off_t::try_from(value).ok();
        let punched = match (place(self.half() + offset), place(len)) {
            (Some(at), Some(len)) if !self.huge => {
                let flags =
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                fallocate(&self.file, flags, at, len).is_ok()
            }
            _ => false,
        };
        if !punched && let Some(window) = self.host(offset, len) {
            const ZEROS: [u8; 4096] = [0; 4096];
            for at in (0..len).step_by(ZEROS.len()) {
                window.write(at, &ZEROS);
            }
        }
    }
}

/// A connection whose greeting is done as far as the memory.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    inbox: Inbox,
    id: u16,
    memory: Memory,
    own: Vec<Arc<OwnedFd>>,
    peers: BTreeMap<u16, Vec<Bell>>,
}

/// The greeting's first part.
#[derive(Debug, Default)]
struct Greeting {
    inbox: Inbox,
    versioned: bool,
    id: Option<u16>,
}

impl Greeting {
    fn step(&self) -> Step {
        match (self.versioned, self.id) {
            (false, _) => Step::Version,
            (true, None) => Step::Identity,
            (true, Some(_)) => Step::Memory,
        }
    }

    /// Takes the next message; the memory's file at the end.
    fn take(&mut self, message: Message) -> Result<Option<OwnedFd>, IvshmemError> {
        let (step, number) = (self.step(), message.number);
        let nonsense = |what| Err(IvshmemError::Nonsense { step, what, number });
        let mut descriptors = message.descriptors.into_iter();
        match (descriptors.next(), descriptors.next()) {
            (None, _) if step == Step::Version => {
                self.versioned = number == VERSION;
                if self.versioned { Ok(None) } else { nonsense(Nonsense::Version) }
            }
            (None, _) if step == Step::Identity => {
                self.id = u16::try_from(number).ok();
                if self.id.is_some() { Ok(None) } else { nonsense(Nonsense::Number) }
            }
            (Some(file), None) if step == Step::Memory => {
                if number == MEMORY {
                    Ok(Some(file))
                } else {
                    nonsense(Nonsense::Number)
                }
            }
            (None, _) if number == MEMORY => nonsense(Nonsense::NoDescriptor),
            (None, _) => nonsense(Nonsense::Number),
            (Some(_), _) => nonsense(Nonsense::Descriptors),
        }
    }
}

impl Client {
    /// Connects to the server at `path` and takes its greeting as far as the
    /// memory; `patience` bounds all of it.
    pub(super) fn connect(path: &Path, patience: Duration) -> Result<Self, IvshmemError> {
        let socket =
            open(path).map_err(|error| IvshmemError::Connect { path: path.to_owned(), error })?;
        let deadline = Instant::now() + patience;
        let mut greeting = Greeting::default();
        loop {
            let step = greeting.step();
            match greeting.inbox.next(socket.as_fd()).map_err(read_error)? {
                Arrival::Message(message) => {
                    let Some(file) = greeting.take(message)? else { continue };
                    let memory = Memory::new(file).map_err(IvshmemError::Memory)?;
                    let (inbox, id) = (greeting.inbox, greeting.id.unwrap_or_default());
                    let (own, peers) = (Vec::new(), BTreeMap::new());
                    return Ok(Self { socket, inbox, id, memory, own, peers });
                }
                Arrival::Closed => return Err(IvshmemError::Closed { step }),
                Arrival::Nothing if readable(socket.as_fd(), deadline) => {}
                Arrival::Nothing => {
                    let waited = millis(patience);
                    return Err(IvshmemError::Silent { step, waited });
                }
            }
        }
    }

    /// Takes what the server has said since the last time, without waiting.
    pub(super) fn service(&mut self) -> Result<(), IvshmemError> {
        for _ in 0..BUDGET {
            match self.inbox.next(self.socket.as_fd()).map_err(read_error)? {
                Arrival::Message(message) => self.take(message)?,
                Arrival::Nothing => break,
                Arrival::Closed => return Err(IvshmemError::Closed { step: Step::Peers }),
            }
        }
        Ok(())
    }

    /// Takes what the server says until `found` finds what it looks for, for
    /// at most `patience`.
    pub(super) fn await_some<T>(
        &mut self,
        patience: Duration,
        found: impl Fn(&Self) -> Option<T>,
    ) -> Result<Option<T>, IvshmemError> {
        let deadline = Instant::now() + patience;
        loop {
            self.service()?;
            let found = found(self);
            // A server that never stops talking does not make it longer.
            let over = found.is_some() || Instant::now() >= deadline;
            if over || !readable(self.socket.as_fd(), deadline) {
                return Ok(found);
            }
        }
    }

    fn take(&mut self, message: Message) -> Result<(), IvshmemError> {
        let number = message.number;
        let nonsense = |what| Err(IvshmemError::Nonsense { step: Step::Peers, what, number });
        let Ok(id) = u16::try_from(number) else { return nonsense(Nonsense::Number) };
        let mut descriptors = message.descriptors.into_iter();
        match (descriptors.next(), descriptors.next()) {
            // Anything else might keep us waiting when it is rung.
            (Some(event), None) if !is_event(event.as_fd()) => {
                return nonsense(Nonsense::NotAnEvent);
            }
            (None, _) if id == self.id => return nonsense(Nonsense::NoDescriptor),
            // One that we never heard of may have had no vectors.
            (None, _) => drop(self.peers.remove(&id)),
            (Some(event), None) if id == self.id => {
                if self.own.len() < MAX_VECTORS {
                    self.own.push(Arc::new(event));
                }
            }
            (Some(event), None) => {
                if !self.peers.contains_key(&id) && self.peers.len() >= MAX_PEERS {
                    return nonsense(Nonsense::Peers);
                }
                let bells = self.peers.entry(id).or_default();
                if bells.len() < MAX_VECTORS {
                    bells.push(Bell::new(event));
                }
            }
            (Some(_), Some(_)) => return nonsense(Nonsense::Descriptors),
        }
        Ok(())
    }

    /// Our number among the peers.
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Our own vector, to be listened to.
    pub(super) fn vector(&self, vector: u16) -> Option<Arc<OwnedFd>> {
        self.own.get(usize::from(vector)).map(Arc::clone)
    }

    /// How many vectors of our own have arrived.
    pub(super) fn vectors(&self) -> u16 {
        u16::try_from(self.own.len()).unwrap_or(u16::MAX)
    }

    /// A peer's vector, to be rung.
    pub(super) fn bell(&self, peer: u16, vector: u16) -> Option<Bell> {
        self.peers.get(&peer)?.get(usize::from(vector)).cloned()
    }

    pub(super) fn has_peer(&self, peer: u16) -> bool {
        self.peers.contains_key(&peer)
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn read_error(error: io::Error) -> IvshmemError {
    IvshmemError::System { what: "read from the ivshmem server", error }
}

/// A connected socket. The server need not have taken the connection yet; one
/// whose queue of connections is full counts as not there.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let ours = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&ours), &UnixAddr::new(path)?)?;
    match getsockopt(&ours, sockopt::SocketError)? {
        0 => Ok(ours),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Waits until the socket has something to say: whether it has.
fn readable(socket: BorrowedFd<'_>, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(millis(left)).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(socket, PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(ready) if ready > 0 => return true,
            Ok(_) if Instant::now() >= deadline => return false,
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// Milliseconds, rounded up.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
