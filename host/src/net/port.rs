//! Where the bridge gets frames from and leaves them: a tap, or a test.

use std::{fmt, io};

use shared::region::Located;

/// Frames in and out, each with its 12-byte virtio-net header in front. No
/// method waits.
pub trait FramePort<W> {
    /// Takes one frame into `capacity` bytes of window memory at `offset` and
    /// returns its length, header included. `None`: no frame waits. A frame
    /// that does not fit is dropped and counted, and the next one taken.
    ///
    /// # Errors
    /// [`PortError`]: the port is of no use any more.
    fn receive(&mut self, into: &W, offset: u64, capacity: u32) -> Result<Option<u32>, PortError>;

    /// As [`FramePort::receive`], into private memory.
    ///
    /// # Errors
    /// As there.
    fn receive_private(&mut self, into: &mut [u8]) -> Result<Option<u32>, PortError>;

    /// Sends one frame: `head`, which begins with the virtio-net header and is
    /// private memory, then the pieces of `rest` in order.
    ///
    /// # Errors
    /// [`PortError`]: the port is of no use any more. A frame that it merely
    /// would not take is [`Sent::Dropped`].
    fn send(&mut self, head: &[u8], rest: &[Located<'_, W>]) -> Result<Sent, PortError>;

    /// Frames that went through private memory of the port: one copy each
    /// that window memory which the kernel may reach would have saved.
    fn bounced(&self) -> u64 {
        0
    }
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// The port took all of it.
    Whole,
    /// The port would not take it, now or ever; the frame is gone.
    Dropped(DropCause),
}

/// Why a port would not take a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropCause {
    /// It calls the frame or its header malformed (EINVAL).
    Refused,
    /// The interface is down (EIO).
    Down,
    /// It has no room now (EAGAIN, ENOBUFS, ENOMEM).
    Full,
    /// It took only a part, or the frame has too many pieces.
    Short,
}

/// The port is of no use any more: make a new one.
#[derive(Debug)]
pub enum PortError {
    /// The interface was deleted, or its file detached (EBADFD, ENODEV).
    Gone,
    /// Another error of the operating system.
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        error: io::Error,
    },
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str(
                "the network interface has been deleted; the next session makes it again",
            ),
            Self::System { what, error } => write!(f, "{what} the network interface: {error}"),
        }
    }
}

impl std::error::Error for PortError {}
