//! The messages of the ivshmem protocol: QEMU's docs/specs, "The ivshmem
//! Client-Server Protocol".
//!
//! Each is a signed number of 8 bytes, little-endian, and may carry one file
//! descriptor. Only the server speaks.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use byteorder::{ByteOrder, LittleEndian};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::raw::{Received, receive};

/// The version of the protocol, the first message.
pub(super) const VERSION: i64 = 0;

/// The number that comes with the memory.
pub(super) const MEMORY: i64 = -1;

/// Bytes of a message.
const BYTES: usize = 8;

/// A message with what came along.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) number: i64,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Puts messages together from a stream.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: [u8; BYTES],
    have: usize,
    descriptors: Vec<OwnedFd>,
}

/// What a look at the socket brought.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A message.
    Message(Message),
    /// Nothing more for now.
    Nothing,
    /// The other end has closed.
    Closed,
}

impl Inbox {
    /// The next message that is there, without waiting.
    pub(super) fn next(&mut self, socket: BorrowedFd<'_>) -> io::Result<Arrival> {
        // Eight bytes arrive in at most eight pieces.
        while self.have < BYTES {
            let room = self.bytes.get_mut(self.have..).unwrap_or_default();
            let Received { bytes, descriptors } = match receive(socket, room) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Arrival::Nothing);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Arrival::Closed);
                }
                Err(error) => return Err(error),
            };
            if bytes == 0 {
                return Ok(Arrival::Closed);
            }
            self.have += bytes;
            // One belongs to a message; with a second one it is wrong already.
            let room = 2_usize.saturating_sub(self.descriptors.len());
            self.descriptors.extend(descriptors.into_iter().take(room));
        }
        self.have = 0;
        let descriptors = std::mem::take(&mut self.descriptors);
        Ok(Arrival::Message(Message { number: LittleEndian::read_i64(&self.bytes), descriptors }))
    }
}

/// Sends one message, without waiting. A message is taken whole or not at all:
/// the kernel splits nothing this short.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    number: i64,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut bytes = [0; BYTES];
    LittleEndian::write_i64(&mut bytes, number);
    let parts = [io::IoSlice::new(&bytes)];
    let raw = descriptor.map(|fd| [fd.as_raw_fd()]);
    let rights = raw.as_ref().map(|raw| [ControlMessage::ScmRights(raw)]);
    let rights = rights.as_ref().map_or(&[][..], |rights| &rights[..]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let sent = sendmsg::<()>(socket.as_raw_fd(), &parts, rights, flags, None)?;
    if sent == BYTES { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
}
