//! A port that is two queues of frames, each with its virtio-net header.

use std::collections::VecDeque;

use host::net::{DropCause, FramePort, PortError, Sent};
use shared::region::Located;
use shared::window::Window;
use shared::wire::net::NetHeader;

/// A port that is two queues of frames. Their memory is used again if
/// [`QueuePort::recycle`] gives it back.
#[derive(Debug, Default)]
pub struct QueuePort {
    to_board: VecDeque<Vec<u8>>,
    from_board: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    /// What the port says of frames from the board instead of taking them.
    pub refuse: Option<DropCause>,
    /// The interface is gone.
    pub gone: bool,
    /// Frames that did not fit the buffer they should have gone into.
    pub too_long: u64,
}

impl QueuePort {
    /// Queues a frame for the board.
    pub fn send(&mut self, header: &NetHeader, frame: &[u8]) {
        self.send_with(|bytes| {
            bytes.extend_from_slice(&header.encode());
            bytes.extend_from_slice(frame);
        });
    }

    /// Queues a frame that `fill` makes in an empty vector, header first.
    pub fn send_with(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        fill(&mut bytes);
        self.to_board.push_back(bytes);
    }

    /// Frames that wait for the board.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.to_board.len()
    }

    /// Frames from the board that nobody has taken.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.from_board.len()
    }

    /// The oldest frame from the board, header first.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.from_board.pop_front()
    }

    /// Takes a frame's memory back.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        self.spare.push(bytes);
    }

    /// The next frame that fits `capacity`.
    fn next(&mut self, capacity: usize) -> Result<Option<Vec<u8>>, PortError> {
        if self.gone {
            return Err(PortError::Gone);
        }
        while let Some(bytes) = self.to_board.pop_front() {
            if bytes.len() <= capacity {
                return Ok(Some(bytes));
            }
            self.too_long += 1;
            self.spare.push(bytes);
        }
        Ok(None)
    }
}

fn length(bytes: &[u8]) -> Option<u32> {
    u32::try_from(bytes.len()).ok()
}

impl<W: Window> FramePort<W> for QueuePort {
    fn receive(&mut self, into: &W, offset: u64, capacity: u32) -> Result<Option<u32>, PortError> {
        let Some(bytes) = self.next(capacity as usize)? else { return Ok(None) };
        into.write(offset, &bytes);
        let len = length(&bytes);
        self.spare.push(bytes);
        Ok(len)
    }

    fn receive_private(&mut self, into: &mut [u8]) -> Result<Option<u32>, PortError> {
        let Some(bytes) = self.next(into.len())? else { return Ok(None) };
        into[..bytes.len()].copy_from_slice(&bytes);
        let len = length(&bytes);
        self.spare.push(bytes);
        Ok(len)
    }

    fn send(&mut self, head: &[u8], rest: &[Located<'_, W>]) -> Result<Sent, PortError> {
        if self.gone {
            return Err(PortError::Gone);
        }
        if let Some(cause) = self.refuse {
            return Ok(Sent::Dropped(cause));
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(head);
        for piece in rest.iter().filter(|piece| piece.len > 0) {
            let from = bytes.len();
            bytes.resize(from + piece.len as usize, 0);
            piece.window.read(piece.offset, &mut bytes[from..]);
        }
        self.from_board.push_back(bytes);
        Ok(Sent::Whole)
    }
}
