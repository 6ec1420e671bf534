//! Resetting one of the queues with frames while the session runs
//! (VIRTIO_F_RING_RESET). The rings' side of it: `bridge::QueuePair::hold`.

use super::attach::Session;
use super::error::SessionError;
use super::net::{TO_BOARD_QUEUE, TO_HOST_QUEUE};
use crate::bridge::Way;
use crate::bus::Bus;

/// The way that virtio-net's `queue` is; `None`: neither.
pub(super) const fn way(queue: u16) -> Option<Way> {
    match queue {
        TO_HOST_QUEUE => Some(Way::ToHost),
        TO_BOARD_QUEUE => Some(Way::ToBoard),
        _ => None,
    }
}

impl<B: Bus> Session<B> {
    /// Asks the board to reset the queue of `way`, which its owner holds.
    /// [`Event::QueueReset`](super::Event::QueueReset) says when the board has
    /// let go of it.
    ///
    /// # Errors
    /// No network device is up, or this was not negotiated.
    pub fn reset_queue(&mut self, way: Way) -> Result<(), SessionError> {
        let device = self.net_device.ok_or(SessionError::NoNetworkDevice)?;
        let queue = match way {
            Way::ToHost => TO_HOST_QUEUE,
            Way::ToBoard => TO_BOARD_QUEUE,
        };
        Ok(self.link.reset_queue(device, queue)?)
    }

    /// Tells the board of the queue of `way` again: its rings are restarted.
    /// [`Event::QueueUp`](super::Event::QueueUp) says when it is up.
    ///
    /// # Errors
    /// No network device is up.
    pub fn set_up_queue(&mut self, way: Way) -> Result<(), SessionError> {
        let device = self.net_device.ok_or(SessionError::NoNetworkDevice)?;
        let [to_host, to_board] = self.frame_queues.ok_or(SessionError::NoNetworkDevice)?;
        let placement = match way {
            Way::ToHost => to_host,
            Way::ToBoard => to_board,
        };
        Ok(self.link.set_up_queue(device, placement)?)
    }
}
