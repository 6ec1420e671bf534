//! Interrupt vectors: eventfds that several processes hold.
//!
//! Whoever holds one may change its flags, so nothing here relies on
//! `O_NONBLOCK`: a bell looks before it rings, and a latch does not read its
//! counter at all. It waits for the *edge* that each ring makes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::write;

/// Whether `fd` is an eventfd: the kernel says so, whoever made it.
pub(super) fn is_event(fd: BorrowedFd<'_>) -> bool {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::read_link(link).is_ok_and(|kind| kind.as_os_str() == "anon_inode:[eventfd]")
}

/// A peer's vector, to be rung.
#[derive(Clone, Debug)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub(super) fn new(event: OwnedFd) -> Self {
        Self(Arc::new(event))
    }

    /// Rings, behind all that this thread has stored before.
    pub(super) fn ring(&self) {
        fence(Ordering::SeqCst);
        // A counter that is full has been rung, and a write to it could wait.
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        let free = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        if free {
            // A peer that has gone hears nothing, as on any bus.
            let _ = write(&self.0, &1_u64.to_ne_bytes());
        }
    }
}

/// Descriptors to wait for, of which each has a number.
#[derive(Debug)]
pub(super) struct Watch(Epoll);

/// What [`Watch::look`] finds at most at a time.
const EVENTS: usize = 40;

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Watches a vector of ours: each ring since the last look counts.
    pub(super) fn add_vector(&self, event: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        Ok(self.0.add(event, EpollEvent::new(edge, number))?)
    }

    /// Watches a socket as long as something waits there.
    pub(super) fn add_socket(&self, socket: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let level = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        Ok(self.0.add(socket, EpollEvent::new(level, number))?)
    }

    pub(super) fn change(
        &self,
        socket: BorrowedFd<'_>,
        number: u64,
        writable: bool,
    ) -> io::Result<()> {
        let mut level = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        level.set(EpollFlags::EPOLLOUT, writable);
        Ok(self.0.modify(socket, &mut EpollEvent::new(level, number))?)
    }

    pub(super) fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = self.0.delete(fd);
    }

    /// Calls `each` for what has happened, at most `timeout` later; whether
    /// anything had.
    pub(super) fn look(
        &self,
        timeout: EpollTimeout,
        mut each: impl FnMut(u64, EpollFlags),
    ) -> bool {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match self.0.wait(&mut events, timeout) {
            Ok(count) => count,
            // A signal only ends the wait.
            Err(Errno::EINTR) => 0,
            Err(_) => 0,
        };
        for event in events.iter().take(count) {
            each(event.data(), event.events());
        }
        count > 0
    }

    /// Readable while something has happened.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}
