//! What the board says of itself while the session runs: devices that go or
//! give up, faults, changes.

use shared::link::{LinkEvent, Reason, Refusal};

use super::attach::{Event, Session};
use super::control::Beside;
use super::error::SessionError;
use super::ring_reset::way;
use crate::bus::Bus;

/// EVENT_DEVICE: the device is gone (docs/protocol.md, "Bus messages of the draft").
const REMOVED: u16 = 2;

impl<B: Bus> Session<B> {
    /// Has a device reset, and leaves it alone until it comes anew.
    pub(super) fn leave_device(&mut self, device: u16) {
        // It has a place as long as its queues may be live.
        self.unwanted |= bit(device);
    }

    /// Has the devices reset that nobody wants, as far as there is room for wishes.
    pub(super) fn leave_unwanted(&mut self) {
        while self.unwanted != 0 {
            let lowest = self.unwanted & self.unwanted.wrapping_neg();
            let device = u16::try_from(lowest.trailing_zeros()).unwrap_or(u16::MAX);
            match self.link.reset_device(device) {
                Err(Refusal { reason: Reason::Busy, .. }) => break,
                // One that is not up any more needs no reset.
                Ok(()) | Err(_) => self.unwanted &= !lowest,
            }
        }
    }

    /// A device is gone: what the caller has of it is of no use any more.
    fn forget(&mut self, device: u16) -> Option<Event<B>> {
        self.unwanted &= !bit(device);
        let net = self.net_device.take_if(|net| *net == device).is_some();
        if net {
            self.beside = Beside::default();
            self.frame_queues = None;
        }
        let ours = self.slow.forget_console(device) || net;
        ours.then_some(Event::Removed { device })
    }

    pub(super) fn board_said(
        &mut self,
        now: u64,
        event: LinkEvent,
    ) -> Result<Option<Event<B>>, SessionError> {
        match event {
            LinkEvent::NeedsReset { device } if self.net_device == Some(device) => {
                Err(SessionError::NeedsReset)
            }
            LinkEvent::NeedsReset { device } => {
                if let Some(untold) = self.lines.devices.admit(now) {
                    log::warn!("device {device} asks for a reset and is left alone{untold}");
                }
                self.leave_device(device);
                Ok(None)
            }
            LinkEvent::Config { device, .. } if self.net_device == Some(device) => {
                self.config_changed();
                self.refresh_config();
                Ok(None)
            }
            LinkEvent::BoardReset { granted: false } => Err(SessionError::ResetRefused),
            LinkEvent::QueueReset { device, queue } if self.net_device == Some(device) => {
                Ok(way(queue).map(Event::QueueReset))
            }
            LinkEvent::QueueUp { device, queue } if self.net_device == Some(device) => {
                Ok(way(queue).map(Event::QueueUp))
            }
            LinkEvent::ConfigRead { device } if self.net_device == Some(device) => {
                Ok(self.config_read())
            }
            LinkEvent::DeviceRefused { device, reason } => {
                if let Some(untold) = self.lines.devices.admit(now) {
                    log::warn!("device {device} is left alone: {reason}{untold}");
                }
                Ok(self.forget(device))
            }
            LinkEvent::DeviceReset { device } => Ok(self.forget(device)),
            LinkEvent::Device { device, state: REMOVED } => Ok(self.forget(device)),
            LinkEvent::Fault { code, device, queue, count } => {
                // A board may say so as often as it likes.
                if let Some(untold) = self.lines.faults.admit(now) {
                    log::warn!(
                        "board fault {code} on device {device} queue {queue}, {count} so far{untold}"
                    );
                }
                Ok(None)
            }
            // News of devices that nobody here uses, and in-band notifications.
            other => {
                if let Some(untold) = self.lines.events.admit(now) {
                    log::debug!("board: {other:?}{untold}");
                }
                Ok(None)
            }
        }
    }
}

/// A device's bit in a set of them: the link knows numbers below 64 only.
fn bit(device: u16) -> u64 {
    1_u64.checked_shl(device.into()).unwrap_or(0)
}
