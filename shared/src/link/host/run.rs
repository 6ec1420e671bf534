//! Steps 20 and 21: the watch over a running session, and the detach.

use crate::msg::body::Event;
use crate::msg::driver::Incoming;
use crate::window::{Barrier, Window};
use crate::wire::control::{host_page, host_state};
use crate::wire::status::DeviceStatus;

use super::super::words::{StatusWords, next_beat};
use super::tasks::bit;
use super::{HostLink, LinkEvent, LinkLoss, Mode, Progress, Reason, fault_reason, timer};

impl<W: Window + Clone> HostLink<W> {
    /// Beats our heartbeat and watches theirs.
    pub(super) fn keep_watch(&mut self, now_ms: u64) -> Result<(), Reason> {
        let Some(board) = &self.board else { return Ok(()) };
        let due = now_ms >= self.next_beat_ms;
        if due {
            self.heartbeat = next_beat(self.heartbeat);
            board.host_page.store(host_page::HEARTBEAT, self.heartbeat);
            let interval = board.description.heartbeat.interval_ms;
            self.next_beat_ms = now_ms.saturating_add(interval.into());
        }
        // Across the bus: once an interval, and no more than a few times a second.
        if due && (now_ms >= self.next_bar_look_ms || !self.status_live) {
            let words = StatusWords::load(&board.live);
            words.check(board.boot, self.options.session).map_err(Reason::Lost)?;
            self.next_bar_look_ms = now_ms.saturating_add(timer::BAR_LOOK);
            if !self.status_live {
                return self.beats(words.heartbeat, now_ms);
            }
        }
        match &self.status {
            Some(page) if self.status_live => {
                let words = StatusWords::load(page);
                words.check(board.boot, self.options.session).map_err(Reason::Lost)?;
                self.beats(words.heartbeat, now_ms)
            }
            _ => Ok(()),
        }
    }

    const fn beats(&mut self, heartbeat: u32, now_ms: u64) -> Result<(), Reason> {
        match self.watch.beats(heartbeat, now_ms) {
            true => Ok(()),
            false => Err(Reason::Lost(LinkLoss::HeartbeatLost)),
        }
    }

    /// Step 20.
    pub(super) fn run(
        &mut self,
        now_ms: u64,
        fired: bool,
        budget: &mut u32,
    ) -> Result<Option<Progress>, Reason> {
        if self.task.is_some() {
            return match self.run_task(now_ms, budget)? {
                Some(Progress::Waiting) => Ok(Some(Progress::Running)),
                other => Ok(other),
            };
        }
        if self.begin_wish(now_ms) || self.begin_bring_up(now_ms) {
            return Ok(None);
        }
        if !fired && now_ms < self.next_look_ms {
            return Ok(Some(Progress::Running));
        }
        let board = self.board.as_mut().ok_or(Reason::OutOfTurn)?;
        // With the next beat: an idle link wakes once an interval, not once for each.
        self.next_look_ms = self.next_beat_ms;
        board.endpoint.channel().poll().map_err(fault_reason)?;
        let incoming = board.endpoint.poll(now_ms, budget).map_err(fault_reason)?;
        if incoming.is_some() {
            // There may be more, whether or not the vector fires again.
            self.next_look_ms = now_ms;
        }
        match incoming {
            Some(Incoming::Event { device, event }) => {
                Ok(self.event(now_ms, device, event).map(Progress::Event))
            }
            // A request of an earlier task; its time was counted.
            Some(Incoming::Answer { .. } | Incoming::TimedOut { .. }) => Ok(None),
            None => Ok(Some(Progress::Running)),
        }
    }

    /// What an event means to the caller; `None`: nothing.
    pub(super) fn event(&mut self, now_ms: u64, device: u16, event: Event) -> Option<LinkEvent> {
        let up = self.up & bit(device) != 0;
        match event {
            Event::Config { status, .. } if up => {
                let status = DeviceStatus::new(status);
                if status.contains(DeviceStatus::DEVICE_NEEDS_RESET) {
                    Some(LinkEvent::NeedsReset { device })
                } else {
                    Some(LinkEvent::Config { device, status })
                }
            }
            Event::Used { queue } if up => {
                Some(LinkEvent::Used { device, queue: u16::try_from(queue).ok()? })
            }
            Event::Device { device, state } => self.device_event(now_ms, device, state),
            Event::Fault { code, device, queue, count, .. } => {
                Some(LinkEvent::Fault { code, device, queue, count })
            }
            Event::Config { .. } | Event::Used { .. } | Event::Avail { .. } => None,
        }
    }

    /// Begins the detach, whatever step the link is at, also after a refusal;
    /// go on stepping until [`Progress::Detached`].
    pub fn detach(&mut self, now_ms: u64) {
        if matches!(self.mode, Mode::Resetting | Mode::Leaving) {
            return;
        }
        let deadline = Some(now_ms.saturating_add(timer::DETACH));
        self.detach_deadline_ms = deadline;
        self.task = None;
        self.active = None;
        match (self.mode, &self.board) {
            (_, None) => self.enter(Mode::Over { clean: true }, now_ms, None),
            // The channel is not to be trusted after a refusal: the board resets by itself.
            (Mode::Over { .. } | Mode::Await | Mode::Start, Some(_)) => {
                self.sign_off(now_ms, deadline)
            }
            (_, Some(_)) => {
                // What is left is for the last wait.
                let resets = now_ms.saturating_add(timer::DETACH - timer::RESET);
                self.enter(Mode::Resetting, now_ms, Some(resets));
                self.next_reset(now_ms);
            }
        }
    }

    /// Ends the session on our side; the board drains and says so.
    pub(super) fn sign_off(&mut self, now_ms: u64, deadline_ms: Option<u64>) {
        if let Some(board) = &mut self.board {
            board.host_page.store(host_page::STATE, host_state::LEAVING);
            board.endpoint.channel().close(false);
            board.host_page.barrier(Barrier::Write);
            board.host_page.store(host_page::SESSION, 0_u32);
            board.host_page.barrier(Barrier::Full);
        }
        self.ring = self.ring.saturating_add(1);
        self.task = None;
        self.enter(Mode::Leaving, now_ms, deadline_ms);
    }

    pub(super) fn leave(&mut self, now_ms: u64) -> Option<Progress> {
        let over = self.timed_out(now_ms).is_some();
        let clean = match &self.board {
            Some(board) => {
                let words = StatusWords::load(&board.live);
                match words.check(board.boot, self.options.session) {
                    // Not in our session any more, so drained; or booted again.
                    Err(LinkLoss::SessionDropped | LinkLoss::Rebooted) => true,
                    Err(LinkLoss::AllOnes | LinkLoss::HeartbeatLost) => false,
                    Ok(()) if over => false,
                    Ok(()) => return Some(Progress::Waiting),
                }
            }
            None => true,
        };
        self.enter(Mode::Over { clean }, now_ms, None);
        None
    }
}
