//! A queue's reset under traffic (VIRTIO_F_RING_RESET, VirtIO 1.3 §2.6.1), as
//! far as it concerns the owner of the rings:
//!
//! 1. [`QueuePair::hold`]: from now on the queue is left alone. Only then the
//!    board is asked to reset it.
//! 2. [`QueuePair::restart`]: the board has let go of rings and buffers. What
//!    it had returned until then is taken as always; then the rings are in
//!    their first state. Only then the board is told of the queue again.
//! 3. [`QueuePair::resume`]: the queue is up, frames move.
//!
//! The other way's frames move all the time. Counters are kept. No frame is
//! delivered twice: those that the board had not returned count as lost.

use shared::fault::PeerFault;
use shared::window::Window;

use super::{BridgeError, Moved, QueuePair, ToBoard, ToHost};
use crate::bus::{Latch, Ring};
use crate::net::FramePort;

/// One of the two queues of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the board.
    ToHost,
    /// To the board.
    ToBoard,
}

impl<W: Window, R: Ring, L: Latch> QueuePair<W, R, L> {
    /// Leaves the queue of `way` alone until [`Self::resume`].
    pub const fn hold(&mut self, way: Way) {
        match way {
            Way::ToHost => self.to_host.held = true,
            Way::ToBoard => self.to_board.held = true,
        }
    }

    /// Takes what the board had returned, and brings the rings of `way` into
    /// their first state: the board has *confirmed* the reset of that queue.
    ///
    /// # Errors
    /// The board broke the protocol before it let go, or the port failed.
    pub fn restart(&mut self, way: Way, port: &mut impl FramePort<W>) -> Result<(), BridgeError> {
        match way {
            Way::ToHost => self.to_host.restart(port),
            Way::ToBoard => self.to_board.restart(),
        }
    }

    /// The queue of `way` is up again.
    pub fn resume(&mut self, way: Way) {
        match way {
            Way::ToHost => {
                self.to_host.held = false;
                self.to_host.start();
            }
            // The port's frames have waited; the next step takes them.
            Way::ToBoard => self.to_board.held = false,
        }
    }
}

impl<W: Window, R: Ring> ToHost<W, R> {
    fn restart(&mut self, port: &mut impl FramePort<W>) -> Result<(), BridgeError> {
        let mut moved = Moved::default();
        // Buffers that go back meanwhile are not published, so the board can
        // have returned no more than a queue full.
        self.empty_ring(port, self.queue.size(), &mut moved)?;
        let impossible = PeerFault::QueueSetup { queue: 0 };
        self.queue.restart(self.queue.options()).map_err(|_| impossible)?;
        self.refill();
        Ok(())
    }
}

impl<W: Window, R: Ring> ToBoard<W, R> {
    fn restart(&mut self) -> Result<(), BridgeError> {
        self.reclaim()?;
        self.counters.lost_in_reset += u64::from(self.queue.buffers());
        let impossible = PeerFault::QueueSetup { queue: 1 };
        Ok(self.queue.restart(self.queue.options()).map_err(|_| impossible)?)
    }
}
