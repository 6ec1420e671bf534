//! Devices that come, go, or turn out to be no good while the session runs.

use crate::window::Window;

use super::super::backoff::Backoff;
use super::super::board::{DEVICE_READY, DEVICE_REMOVED};
use super::tasks::{DEVICE_NUMBERS, Task, bit};
use super::{Current, HostLink, LinkEvent, Mode, Progress, Reason, TaskState, timer};

/// How soon a device that goes and comes back is brought up again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Return {
    backoff: Backoff,
    came_ms: u64,
    not_before_ms: u64,
}

impl Return {
    /// It is brought up.
    const fn comes(&mut self, now_ms: u64) {
        self.came_ms = now_ms;
    }

    /// It is gone.
    fn goes(&mut self, now_ms: u64) {
        self.backoff.session_lasted(now_ms.saturating_sub(self.came_ms));
        self.not_before_ms = now_ms.saturating_add(self.backoff.next_ms(0));
    }
}

impl<W: Window + Clone> HostLink<W> {
    #[cfg(test)]
    pub(in crate::link) fn forget_returns(&mut self) {
        self.returns = [Return::default(); 64];
    }

    /// When a device is to be brought up that has come, in ms; [`u64::MAX`]: there is none.
    pub(super) fn next_bring_up_ms(&self) -> u64 {
        let arrived = self.returns.iter().enumerate().filter(|(at, _)| self.arrived >> at & 1 != 0);
        arrived.map(|(_, device)| device.not_before_ms).min().unwrap_or(u64::MAX)
    }

    /// EVENT_DEVICE; what of it is news to the caller.
    pub(super) fn device_event(
        &mut self,
        now_ms: u64,
        device: u16,
        state: u16,
    ) -> Option<LinkEvent> {
        let known = self.up | self.alone | self.devices | self.arrived | self.bring_up_bit();
        let is_known = known & bit(device) != 0;
        match state {
            DEVICE_READY if device < DEVICE_NUMBERS && !is_known => {
                self.arrived |= bit(device);
            }
            DEVICE_REMOVED if is_known => self.forget_device(now_ms, device),
            // Nothing new, or nothing that we know of.
            _ => return None,
        }
        Some(LinkEvent::Device { device, state })
    }

    /// The device that is being brought up, as a bit.
    fn bring_up_bit(&self) -> u64 {
        match self.mode {
            Mode::Tasks | Mode::NeedFeatures | Mode::NeedQueues | Mode::SayUp
                if self.task.is_none_or(|(task, _)| task.is_of_a_bring_up()) =>
            {
                self.device_bit()
            }
            _ => 0,
        }
    }

    /// A device is gone, and drained: whatever was under way with it has ended.
    fn forget_device(&mut self, now_ms: u64, device: u16) {
        let (gone, coming_up) = (bit(device), self.bring_up_bit());
        if let Some(device) = self.returns.get_mut(usize::from(device)) {
            device.goes(now_ms);
        }
        for set in [
            &mut self.devices,
            &mut self.arrived,
            &mut self.up,
            &mut self.touched,
            &mut self.alone,
            &mut self.ring_reset,
        ] {
            *set &= !gone;
        }
        self.wishes.forget(device);
        let busy_with_it = self.target == device
            && (coming_up != 0
                || self.mode == Mode::Resetting
                || self.refused.is_some()
                || self.active.is_some_and(|wish| wish.device() == Some(device)));
        if self.current.device == device {
            self.current = Current::new(device);
        }
        if busy_with_it {
            self.drop_request();
            self.refused = None;
            self.after_the_device(now_ms);
        }
    }

    /// Gives up the task; its answer may never come.
    fn drop_request(&mut self) {
        if let (Some((_, TaskState::InFlight { token })), Some(board)) =
            (self.task.take(), &mut self.board)
        {
            board.endpoint.give_up(token);
        }
    }

    /// Nothing is left to do with the device of the task.
    fn after_the_device(&mut self, now_ms: u64) {
        self.task = None;
        self.active = None;
        match self.mode {
            Mode::Resetting => self.next_reset(now_ms),
            Mode::Running => {}
            _ => self.next_device(now_ms),
        }
    }

    /// Begins to bring a device up that came while the session runs.
    /// `false`: there is none, or none may come up yet.
    pub(super) fn begin_bring_up(&mut self, now_ms: u64) -> bool {
        if self.arrived == 0 {
            return false;
        }
        // One at a time, so that wishes come in between.
        let arrived = self.returns.iter_mut().zip(0_u16..);
        let next = arrived.filter(|(_, device)| self.arrived & bit(*device) != 0);
        let Some((device, number)) =
            next.into_iter().find(|(device, _)| now_ms >= device.not_before_ms)
        else {
            return false;
        };
        device.comes(now_ms);
        self.devices = bit(number);
        self.arrived &= !self.devices;
        self.enter(Mode::Tasks, now_ms, None);
        self.next_device(now_ms);
        self.device_deadline_ms = Some(now_ms.saturating_add(timer::DEVICE));
        true
    }

    /// One turn of a bring-up.
    pub(super) fn bring_up(
        &mut self,
        now_ms: u64,
        budget: &mut u32,
    ) -> Result<Option<Progress>, Reason> {
        let late = self.device_deadline_ms.is_some_and(|deadline| now_ms >= deadline);
        let progress = if late && self.refused.is_none() {
            self.drop_request();
            self.refuse_device(now_ms, Reason::Timeout { after_ms: timer::DEVICE })?
        } else {
            self.run_task(now_ms, budget)?
        };
        Ok(match progress {
            Some(Progress::Waiting) if self.started => Some(Progress::Running),
            other => other,
        })
    }

    /// What goes wrong with a device costs a running session that device only:
    /// it is reset and left alone. What goes wrong with the channel is passed on.
    pub(super) fn refuse_device(
        &mut self,
        now_ms: u64,
        reason: Reason,
    ) -> Result<Option<Progress>, Reason> {
        let of_the_device = match reason {
            Reason::DeviceLimits { .. }
            | Reason::FeaturesMissing { .. }
            | Reason::FeaturesRefused { .. }
            | Reason::Status { .. }
            | Reason::ConfigUnstable { .. }
            | Reason::QueueDiffers { .. }
            | Reason::Result(crate::msg::Kind::RouteQueue, _) => true,
            Reason::Timeout { after_ms } => after_ms == timer::DEVICE,
            _ => false,
        };
        if !of_the_device || !self.started || self.mode == Mode::Resetting {
            return Err(reason);
        }
        self.refused = Some(reason);
        self.touched |= self.device_bit();
        self.up &= !self.device_bit();
        self.begin(Task::Reset, now_ms);
        Ok(None)
    }

    /// The device of the task is reset and stays so.
    pub(super) fn left_alone(
        &mut self,
        now_ms: u64,
        event: impl FnOnce(u16) -> LinkEvent,
    ) -> Option<Progress> {
        let device = self.target;
        self.up &= !bit(device);
        self.touched &= !bit(device);
        self.ring_reset &= !bit(device);
        self.alone |= bit(device);
        self.wishes.forget(device);
        self.after_the_device(now_ms);
        Some(Progress::Event(event(device)))
    }
}
