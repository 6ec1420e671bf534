//! File descriptors that arrive over a unix socket.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockFlag, accept4, recvmsg};

/// As many descriptors as the kernel lets one message carry (SCM_MAX_FD), so
/// that none is ever cut off.
const MOST: usize = 253;

/// What one receive brought.
#[derive(Debug)]
pub(crate) struct Received {
    /// Bytes; 0: the other end has closed.
    pub(crate) bytes: usize,
    /// The descriptors that came with them, each closed when it is dropped.
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Receives what is there, without waiting, into `into`.
///
/// # Errors
/// The kernel's; `WouldBlock` where nothing is there.
pub(crate) fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Received> {
    let mut space = cmsg_space!([RawFd; MOST]);
    let mut parts = [IoSliceMut::new(into)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel has just made these descriptors for this
            // process with this very call, each once; nobody else knows them.
            descriptors.extend(raw.iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }));
        }
    }
    Ok(Received { bytes: message.bytes, descriptors })
}

/// Takes a new connection of a listening socket, if one waits.
///
/// # Errors
/// The kernel's.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let raw = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: the kernel has just made this descriptor for this process, and
    // nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
