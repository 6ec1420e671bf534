//! One step of the whole board: doorbells, link, devices, and then sleep or
//! not.
//!
//! Guarantee: a step is bounded however much the host has put into rings and
//! channels, and [`Next::Sleep`] is answered only when every queue was armed
//! and found empty *after* the doorbells were drained (R4). So a loop that
//! sleeps until a doorbell or the time it was given misses nothing.

#[cfg(test)]
mod tests;
mod view;

use shared::link::{
    BoardDescription, BoardLink, BoardModel, ControlError, Epoch, FaultReport, SessionEvent,
};
use shared::msg::body::{RegionMessage, ResultCode};
use shared::msg::device::{DeviceEndpoint, VirtioDevice};

use self::view::View;
use crate::device::{BoardDevice, Clock, ConfigChange, Context, Ran, Stop, Wake};
use crate::dma::DmaEngine;
use crate::support::BoardSupport;
use crate::trace::{Event, Trace};

/// Queues that a device of the service has at most.
pub const DEVICE_QUEUES: usize = 4;

/// What the board's loop does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Call [`Service::step`] again.
    Again,
    /// Wait for a doorbell, at most until this time, then call
    /// [`Service::step`].
    Sleep {
        /// Milliseconds of the service's time, or microseconds if the step's
        /// time was ([`Service::step_at`]).
        until: u64,
    },
}

/// How the service runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceOptions {
    /// Empty steps in a row before it asks for doorbells and sleeps (R6): a
    /// bounded time of polling saves a notification where frames come in flows.
    pub spin: u32,
    /// While frames have moved in the last second, rings are looked at this
    /// often all the same, in milliseconds.
    pub recheck_ms: u64,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { spin: 64, recheck_ms: 10 }
    }
}

/// What the service has counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ServiceStats {
    /// Steps.
    pub steps: u64,
    /// Steps that ended in sleep.
    pub sleeps: u64,
    /// Frames found by a timer whose doorbell never came: a bug counter, 0
    /// unless doorbells are lost on purpose.
    pub polled: u64,
}

/// Steps that a board still does when a reboot was asked for: whoever keeps it
/// busy does not put the reboot off for longer.
pub const LAST_STEPS: u32 = 256;

/// How long the doorbell of what a timer found may still come, in milliseconds.
const DOORBELL_GRACE: u64 = 1000;

/// By how much a clock of milliseconds may be wrong together with the wait for
/// its next tick, in microseconds: two ticks, less the least that it tells.
const COARSE_SLACK: u64 = 1999;

/// How long the board may sleep.
struct Nap {
    /// For the sake of link, devices and rings, in milliseconds.
    until: u64,
    /// For the sake of interrupts that were put off, in microseconds.
    due_us: u64,
}

/// How long after the last frame rings are looked at every `recheck_ms`.
const LIVELY: u64 = 1000;

/// A board: its support, its DMA engine, its devices (numbers 0 up, all of one
/// type, which for a board with several kinds is a
/// [`DeviceKind`](crate::device::DeviceKind)).
#[derive(Debug)]
pub struct Service<S: BoardSupport, E, M, const DEVICES: usize = 1> {
    link: BoardLink<S::Window>,
    around: Around<S, E, M, DEVICES>,
    options: ServiceOptions,
    stats: ServiceStats,
    idle_steps: u32,
    /// The last step slept, so doorbells are armed.
    slept: bool,
    /// A doorbell has rung since then. What it announced may be seen a step later.
    rung: bool,
    last_moved: Option<u64>,
    /// Something was found without a doorbell at this time.
    owed: Option<u64>,
    /// Steps since a reboot was asked for.
    last_steps: u32,
}

/// What lies around the link.
#[derive(Debug)]
struct Around<S: BoardSupport, E, M, const DEVICES: usize> {
    now: u64,
    support: S,
    dma: E,
    devices: [VirtioDevice<M, DEVICE_QUEUES>; DEVICES],
    /// Which of them are there for a host.
    present: [bool; DEVICES],
    /// One bit for each region that is open.
    open: u64,
    reboot: bool,
    trace: Trace,
}

impl<S, E, M, const DEVICES: usize> Service<S, E, M, DEVICES>
where
    S: BoardSupport,
    E: DmaEngine<S::Window>,
    M: BoardDevice<S::Window>,
{
    /// A board that has published nothing yet. `control` is the first 16 KiB
    /// of BAR `control_bar`.
    ///
    /// # Errors
    /// What in the description breaks a rule of the protocol.
    pub fn new(
        control: S::Window,
        control_bar: u8,
        description: BoardDescription,
        support: S,
        dma: E,
        devices: [M; DEVICES],
        options: ServiceOptions,
    ) -> Result<Self, ControlError> {
        let link = BoardLink::new(control, control_bar, description)?;
        Ok(Self::of(link, support, dma, devices.map(VirtioDevice::new), options))
    }

    /// The same of parts that are made already: they move once.
    pub fn of(
        link: BoardLink<S::Window>,
        support: S,
        dma: E,
        devices: [VirtioDevice<M, DEVICE_QUEUES>; DEVICES],
        options: ServiceOptions,
    ) -> Self {
        Self {
            link,
            around: Around {
                now: 0,
                support,
                dma,
                devices,
                present: [true; DEVICES],
                open: 0,
                reboot: false,
                trace: Trace::new(),
            },
            options,
            stats: ServiceStats::default(),
            idle_steps: 0,
            slept: false,
            rung: false,
            last_moved: None,
            owed: None,
            last_steps: 0,
        }
    }

    /// Publishes the control block: from here on a host may attach. Call it
    /// once, with an epoch that differs from the last boot's.
    pub fn boot(&mut self, epoch: Epoch, now: u64) {
        self.link.publish(epoch, now);
        self.around.trace.record(now, Event::Boot { epoch: epoch.get() });
    }

    /// Does what is due. `now` is in milliseconds, from any start, and never
    /// goes back; so is the answer. An interrupt that is put off for less than
    /// the clock can tell is raised early.
    pub fn step(&mut self, now: u64) -> Next {
        let clock = Clock { now_us: now.saturating_mul(1000), slack_us: COARSE_SLACK };
        match self.advance(now, clock) {
            None => Next::Again,
            Some(Nap { until, due_us }) => {
                let due = due_us.saturating_sub(COARSE_SLACK).div_ceil(1000);
                Next::Sleep { until: until.min(due).max(now) }
            }
        }
    }

    /// The same for a board that tells and waits for microseconds: `now` and
    /// the answer are in microseconds. A board calls this or [`Self::step`],
    /// always the same one.
    pub fn step_at(&mut self, now: u64) -> Next {
        match self.advance(now / 1000, Clock { now_us: now, slack_us: 0 }) {
            None => Next::Again,
            Some(Nap { until, due_us }) => {
                Next::Sleep { until: until.saturating_mul(1000).min(due_us).max(now) }
            }
        }
    }

    /// One step; `None`: there is more to do now.
    fn advance(&mut self, now: u64, clock: Clock) -> Option<Nap> {
        self.stats.steps += 1;
        self.last_steps = self.last_steps.saturating_add(u32::from(self.around.reboot));
        self.around.now = now;
        self.pass_config_changes();

        // 1. Drain, before anything is looked at.
        let rung = self.around.support.take_doorbells();
        self.settle_debt(now, rung.queues());

        // 2. The link: sessions, messages, heartbeat.
        let link = self.link.poll(now, rung.channel(), &mut self.around);
        if link.raise_vector0 {
            self.around.support.raise(0);
        }

        self.rung |= rung.queues() || link.look_at_queues;
        if self.link.session().is_none() {
            // No doorbell of a session that is over will come.
            self.owed = None;
        }

        // 3. The devices.
        // A doorbell may have rung before the step in which it is seen.
        let looked = rung.queues() || link.look_at_queues;
        let Ran { moved, announced, wake } = self.run_devices(now, clock, looked);
        let stopped = self.report_stops(now);
        if announced > 0 && self.slept && !self.rung {
            self.owed.get_or_insert(now);
        }
        if moved > 0 {
            self.last_moved = Some(now);
        }

        // 4. Awake, or asleep?
        let busy = moved > 0 || stopped || wake == Wake::Again || link.raise_vector0;
        if busy {
            self.idle_steps = 0;
            self.slept = false;
            for device in &mut self.around.devices {
                device.model_mut().park();
            }
            return None;
        }
        if self.idle_steps < self.options.spin && !self.slept {
            self.idle_steps += 1;
            return None;
        }
        let mut quiet = true;
        for device in &mut self.around.devices {
            quiet &= device.model_mut().arm();
        }
        if self.report_stops(now) || !quiet {
            return None;
        }
        self.idle_steps = 0;
        (self.slept, self.rung) = (true, false);
        self.stats.sleeps += 1;
        let due = self.around.devices.iter().filter_map(|device| device.model().due_us()).min();
        Some(Nap {
            until: self.until(now, link.come_back_at, wake),
            due_us: due.unwrap_or(u64::MAX),
        })
    }

    /// Tells the link of config spaces that changed since the last step.
    fn pass_config_changes(&mut self) {
        for device in &mut self.around.devices {
            match device.model_mut().take_config_change() {
                None => {}
                Some(ConfigChange::Asked) => device.config_adjusted(),
                Some(ConfigChange::News) => device.config_changed(),
            }
        }
    }

    fn run_devices(&mut self, now: u64, clock: Clock, rung: bool) -> Ran {
        let mut all = Ran { moved: 0, announced: 0, wake: Wake::Idle };
        let mut reboot = false;
        let Around { support, dma, devices, present, trace, .. } = &mut self.around;
        for number in 0..DEVICES {
            let Some((before, rest)) = devices.split_at_mut_checked(number) else { break };
            let Some((device, behind)) = rest.split_first_mut() else { break };
            let (link, regions) = (&self.link, self.link.regions());
            let board = &View { link, trace, before, behind, present };
            let mut context =
                Context { now, clock, rung, support, dma, regions, board, reboot: false };
            let ran = device.model_mut().run(&mut context);
            reboot |= context.reboot;
            all.moved = all.moved.saturating_add(ran.moved);
            all.announced = all.announced.saturating_add(ran.announced);
            all.wake = all.wake.sooner(ran.wake);
        }
        if reboot {
            self.around.ask_for_reboot();
        }
        all
    }

    /// Tells the host and the trace of queues that stopped. `true`: one did.
    fn report_stops(&mut self, now: u64) -> bool {
        let mut any = false;
        for (number, device) in (0..).zip(&mut self.around.devices) {
            // At most one stop a queue waits.
            for _ in 0..DEVICE_QUEUES {
                let Some((queue, stop)) = device.model_mut().take_stop() else { break };
                any = true;
                device.fail();
                let event = match stop {
                    Stop::Peer(fault) => {
                        self.link.report_fault(FaultReport { device: number, queue, fault });
                        Event::QueueFault { device: number, queue, fault }
                    }
                    Stop::Dma(error) => Event::QueueDma { device: number, queue, error },
                };
                self.around.trace.record(now, event);
            }
        }
        any
    }

    /// Whether what a timer found was announced after all.
    fn settle_debt(&mut self, now: u64, rung: bool) {
        let Some(since) = self.owed else { return };
        if rung {
            self.owed = None;
        } else if now.saturating_sub(since) >= DOORBELL_GRACE {
            self.owed = None;
            self.stats.polled += 1;
        }
    }

    fn until(&self, now: u64, link: u64, wake: Wake) -> u64 {
        let lively = self.last_moved.is_some_and(|last| now.saturating_sub(last) < LIVELY);
        let recheck = if lively { now.saturating_add(self.options.recheck_ms) } else { u64::MAX };
        let device = match wake {
            Wake::At(due) => due,
            _ => u64::MAX,
        };
        link.min(recheck).min(device).max(now)
    }

    /// Lets a device appear or vanish; all are there at first. One that
    /// vanishes is reset, and the host is told when it is drained; its number
    /// stays its own. Behind this call [`Self::step`], also when asleep.
    pub fn set_present(&mut self, number: u16, present: bool) {
        let Some(there) = self.around.present.get_mut(usize::from(number)) else { return };
        if core::mem::replace(there, present) != present {
            self.link.announce(number, present, &mut self.around);
            let event = if present {
                Event::DeviceCame { device: number }
            } else {
                Event::DeviceWent { device: number }
            };
            self.around.trace.record(self.around.now, event);
        }
    }

    /// The devices' models, by number.
    pub fn device(&mut self, number: usize) -> Option<&mut M> {
        self.around.devices.get_mut(number).map(VirtioDevice::model_mut)
    }

    /// The link's end, for its counters and the session.
    pub const fn link(&self) -> &BoardLink<S::Window> {
        &self.link
    }

    /// The board under the service.
    pub const fn support(&mut self) -> &mut S {
        &mut self.around.support
    }

    /// The DMA engine.
    pub const fn dma(&mut self) -> &mut E {
        &mut self.around.dma
    }

    /// What happened so far.
    pub const fn trace(&self) -> &Trace {
        &self.around.trace
    }

    /// What was counted.
    pub const fn stats(&self) -> &ServiceStats {
        &self.stats
    }

    /// Whether the board is to start over now: asked behind each step. The
    /// host or a device has asked for it, the board has agreed, and what was to
    /// be said has been: it has gone to sleep, or was kept from it for
    /// [`LAST_STEPS`] steps.
    pub const fn reboot_due(&self) -> bool {
        self.around.reboot && (self.slept || self.last_steps >= LAST_STEPS)
    }
}

impl<S: BoardSupport, E, M, const DEVICES: usize> Around<S, E, M, DEVICES> {
    /// Whether the board will restart.
    fn ask_for_reboot(&mut self) -> bool {
        self.trace.record(self.now, Event::ResetAsked);
        self.reboot |= self.support.reboot();
        self.reboot
    }
}

impl<S, E, M, const DEVICES: usize> BoardModel<S::Window> for Around<S, E, M, DEVICES>
where
    S: BoardSupport,
    E: DmaEngine<S::Window>,
    M: BoardDevice<S::Window>,
{
    fn session(&mut self, event: SessionEvent) {
        let event = match event {
            SessionEvent::Started { session, .. } => Event::Attached { session: session.get() },
            SessionEvent::Ended { session } => {
                for number in 0..u64::BITS {
                    if self.open & (1 << number) != 0 {
                        self.support.close_region(number);
                    }
                }
                self.open = 0;
                Event::Detached { session: session.get() }
            }
        };
        self.trace.record(self.now, event);
    }

    fn quiesce(&mut self) {
        self.dma.drain();
    }

    fn add_region(&mut self, region: &RegionMessage) -> Result<S::Window, ResultCode> {
        let bit = 1_u64.checked_shl(region.id).ok_or(ResultCode::Invalid)?;
        let window = self.support.open_region(region)?;
        self.open |= bit;
        Ok(window)
    }

    fn remove_region(&mut self, id: u8) -> bool {
        // Devices leave nothing under way, but an engine may still be busy
        // with what it was told to forget.
        self.dma.drain();
        let number = u32::from(id);
        self.open &= !1_u64.checked_shl(number).unwrap_or(0);
        self.support.close_region(number);
        true
    }

    fn device(&mut self, number: u16) -> Option<&mut dyn DeviceEndpoint<S::Window>> {
        let device = self.devices.get_mut(usize::from(number))?;
        Some(device)
    }

    fn present(&self, number: u16) -> bool {
        self.present.get(usize::from(number)).is_some_and(|present| *present)
    }

    fn board_reset(&mut self) -> bool {
        self.ask_for_reboot()
    }
}
