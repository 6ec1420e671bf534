//! The host's end of the link: the numbered steps of the attach, then the
//! watch over the session, then the detach (docs/protocol.md, "Bring-up").
//!
//! Guarantee: every wait has a deadline, each word of the control block is
//! read once an attempt, and a refusal names its step. The caller is asked for
//! what only it can decide (regions, features, queues) by [`Progress`].
//!
//! [`HostLink::step`] walks the modes below; what is asked of the board, one
//! request at a time, is a task.

mod answers;
mod find;
mod plug;
mod run;
mod supply;
mod tasks;
mod types;
mod wishes;

pub use types::{
    AcceptedRegion, DeviceFacts, HostOptions, HostRegion, LinkEvent, Progress, QueuePlacement, Step,
};
pub use wishes::MAX_WISHES;

use crate::address::BusAddress;
use crate::fault::PeerFault;
use crate::msg::body::DeviceInfo;
use crate::msg::driver::{DriverEndpoint, RequestError};
use crate::region::MAX_REGIONS;
use crate::window::Window;
use crate::wire::features::Features;

use super::description::{BoardDescription, Epoch};
use super::refusal::{AttachStep, Reason, Refusal};
use super::words::{HeartbeatWatch, LinkGuard, LinkLoss};
use plug::Return;
use tasks::Task;
use wishes::{Wish, Wishes};

/// Most queues of a device.
pub const MAX_QUEUES: usize = 64;
/// Largest config space, in bytes.
pub const MAX_CONFIG: usize = 4096;
/// Most feature bits that a device may state.
pub const MAX_FEATURE_BITS: u32 = 128;

/// The timers of docs/protocol.md, "Timers", in milliseconds.
pub mod timer {
    /// Find and read the block.
    pub const BLOCK: u64 = 10_000;
    /// Acceptance, beside the time that a board takes to notice an old host.
    pub const ACCEPT: u64 = 2_000;
    /// Start of the channel.
    pub const CHANNEL: u64 = 2_000;
    /// A request.
    pub const REQUEST: u64 = 1_000;
    /// An attach as a whole, beside the time that a board takes to notice an old host.
    pub const ATTACH: u64 = 60_000;
    /// Bringing up one device that came while the session runs.
    pub const DEVICE: u64 = 10_000;
    /// The reset of a device or a queue, and the removal of a region.
    pub const RESET: u64 = 2_000;
    /// From one look at what resets or drains to the next.
    pub const RESET_LOOK: u64 = 5;
    /// A detach as a whole.
    pub const DETACH: u64 = 5_000;
    /// The first looks while waiting.
    pub const LOOK_SOON: u64 = 1;
    /// Looks while waiting.
    pub const LOOK: u64 = 10;
    /// With a status page: the least time between two looks at the live words in the BAR.
    pub const BAR_LOOK: u64 = 250;
}

/// Messages that one step handles at most.
const BUDGET: u32 = 64;

/// Where the link stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Steps 1 and 2.
    Find,
    /// Step 5.
    Await,
    /// Step 6.
    Start,
    /// A task is under way.
    Tasks,
    /// The caller has to supply something.
    NeedRegions,
    NeedFeatures,
    NeedQueues,
    /// Say once that the device is up.
    SayUp,
    /// Step 20; a task may be under way.
    Running,
    /// Step 21: devices are being reset.
    Resetting,
    /// Step 21: waiting for accepted session 0.
    Leaving,
    /// Over, by refusal or detach.
    Over {
        clean: bool,
    },
}

/// A task, and whether its request is out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TaskState {
    ToSend { not_before_ms: u64 },
    InFlight { token: u16 },
}

/// What is known of the device that is being brought up.
#[derive(Debug)]
struct Current {
    device: u16,
    info: DeviceInfo,
    offered: Features,
    accepted: Features,
    config: [u8; MAX_CONFIG],
    config_len: usize,
    generation: u32,
    restarts: u32,
    queue_sizes: [u16; MAX_QUEUES],
    sizes_len: usize,
    queues: [Option<QueuePlacement>; MAX_QUEUES],
    declined: bool,
}

impl Current {
    fn new(device: u16) -> Self {
        Self {
            device,
            info: DeviceInfo::default(),
            offered: Features::NONE,
            accepted: Features::NONE,
            config: [0; MAX_CONFIG],
            config_len: 0,
            generation: 0,
            restarts: 0,
            queue_sizes: [0; MAX_QUEUES],
            sizes_len: 0,
            queues: [None; MAX_QUEUES],
            declined: false,
        }
    }
}

/// What the control block said.
#[derive(Debug)]
struct Board<W> {
    description: BoardDescription,
    boot: Epoch,
    version: u16,
    live: W,
    host_page: W,
    endpoint: DriverEndpoint<W>,
}

/// The host's end of the link, for one session.
#[derive(Debug)]
pub struct HostLink<W> {
    control: W,
    options: HostOptions,
    mode: Mode,
    deadline_ms: Option<u64>,
    mode_since_ms: u64,
    detach_deadline_ms: Option<u64>,
    send_deadline_ms: Option<u64>,
    board: Option<Board<W>>,
    task: Option<(Task, TaskState)>,
    ring: u32,
    heartbeat: u32,
    next_beat_ms: u64,
    next_look_ms: u64,
    watch: HeartbeatWatch,
    /// Answers and events may come: the session was accepted.
    accepted: bool,
    host_regions: [Option<HostRegion>; MAX_REGIONS],
    status: Option<W>,
    /// The board has posted to the status page.
    status_live: bool,
    devices: u64,
    /// Devices that were touched and so have to be reset at the end.
    touched: u64,
    up: u64,
    /// Devices that came while the session runs and wait to be brought up.
    arrived: u64,
    /// How soon each device that comes again is brought up.
    returns: [Return; 64],
    /// Devices that are left alone until they go.
    alone: u64,
    /// Devices whose queues can be reset.
    ring_reset: u64,
    /// The generation of each device's config space that was read last.
    generations: [u32; 64],
    current: Current,
    /// The device that the task is about.
    target: u16,
    /// Until when what resets or drains may take.
    wait_deadline_ms: u64,
    /// Why the device of the task is being reset.
    refused: Option<Reason>,
    /// Until when a device that came may take to come up.
    device_deadline_ms: Option<u64>,
    began_ms: Option<u64>,
    attach_limit_ms: u64,
    next_bar_look_ms: u64,
    /// The attach is done: what happens now happens in a running session.
    started: bool,
    wishes: Wishes,
    /// The wish that the task serves.
    active: Option<Wish>,
}

impl<W: Window + Clone> HostLink<W> {
    /// A link over `control`, the window on the whole control BAR.
    pub fn new(control: W, options: HostOptions) -> Self {
        Self {
            control,
            options,
            mode: Mode::Find,
            deadline_ms: None,
            mode_since_ms: 0,
            detach_deadline_ms: None,
            send_deadline_ms: None,
            board: None,
            task: None,
            ring: 0,
            heartbeat: 1,
            next_beat_ms: 0,
            next_look_ms: 0,
            watch: HeartbeatWatch::new(0, 0, u64::MAX),
            accepted: false,
            host_regions: [None; MAX_REGIONS],
            status: None,
            status_live: false,
            devices: 0,
            touched: 0,
            up: 0,
            arrived: 0,
            returns: [Return::default(); 64],
            alone: 0,
            ring_reset: 0,
            generations: [0; 64],
            current: Current::new(0),
            target: 0,
            wait_deadline_ms: 0,
            refused: None,
            device_deadline_ms: None,
            began_ms: None,
            attach_limit_ms: timer::ATTACH,
            next_bar_look_ms: 0,
            started: false,
            wishes: Wishes::default(),
            active: None,
        }
    }

    /// Goes on. Never waits.
    ///
    /// # Errors
    /// The step that refused and why; the link is over then. Call
    /// [`Self::detach`] to learn whether memory may be reused, then make a new
    /// link, with another session epoch, after a back-off.
    pub fn step(&mut self, now_ms: u64, vector0_fired: bool) -> Result<Step, Refusal> {
        let result = self.walk(now_ms, vector0_fired);
        match result {
            Ok(progress) => {
                if let Some(board) = &mut self.board {
                    self.ring = self.ring.saturating_add(board.endpoint.take_sent());
                }
                if matches!(self.mode, Mode::Await | Mode::Start | Mode::Leaving) {
                    // The caller may not have had a doorbell for the first ring.
                    self.ring = self.ring.max(1);
                }
                let ring = core::mem::replace(&mut self.ring, 0);
                Ok(Step { progress, ring, come_back_at: self.come_back_at(now_ms) })
            }
            Err(refusal) => {
                self.mode = Mode::Over { clean: self.board.is_none() };
                self.task = None;
                Err(refusal)
            }
        }
    }

    fn come_back_at(&self, now_ms: u64) -> u64 {
        let waited = now_ms.saturating_sub(self.mode_since_ms);
        let look = if waited < 20 { timer::LOOK_SOON } else { timer::LOOK };
        let soon = now_ms.saturating_add(look);
        match self.mode {
            Mode::NeedRegions | Mode::NeedFeatures | Mode::NeedQueues | Mode::SayUp => now_ms,
            Mode::Over { .. } => u64::MAX,
            Mode::Running if self.is_idle() => {
                let beats = self.next_beat_ms.min(self.watch.deadline_ms());
                beats.min(self.next_look_ms).min(self.next_bring_up_ms())
            }
            Mode::Tasks
            | Mode::Running
            | Mode::Find
            | Mode::Await
            | Mode::Start
            | Mode::Resetting
            | Mode::Leaving => soon,
        }
    }

    /// Whether a running session has nothing to ask of the board.
    fn is_idle(&self) -> bool {
        self.task.is_none() && self.wishes.is_empty()
    }

    fn enter(&mut self, mode: Mode, now_ms: u64, deadline_ms: Option<u64>) {
        self.mode = mode;
        self.mode_since_ms = now_ms;
        self.deadline_ms = deadline_ms;
    }

    fn walk(&mut self, now_ms: u64, vector0_fired: bool) -> Result<Progress, Refusal> {
        let mut budget = BUDGET;
        let mut fired = vector0_fired;
        // Each turn but the last changes the mode or handles a message.
        for _ in 0..4 * BUDGET {
            let before = self.mode;
            if let Some(progress) = self.turn(now_ms, fired, &mut budget)? {
                return Ok(progress);
            }
            if self.mode == before && budget == 0 {
                break;
            }
            fired = true;
        }
        self.next_look_ms = now_ms.saturating_add(timer::LOOK_SOON);
        let running = self.started && matches!(self.mode, Mode::Running | Mode::Tasks);
        Ok(if running { Progress::Running } else { Progress::Waiting })
    }

    /// One turn; `Some`: there is nothing more to do now.
    fn turn(
        &mut self,
        now_ms: u64,
        fired: bool,
        budget: &mut u32,
    ) -> Result<Option<Progress>, Refusal> {
        if self.accepted && !matches!(self.mode, Mode::Leaving | Mode::Over { .. }) {
            match self.keep_watch(now_ms) {
                Err(_) if self.mode == Mode::Resetting => {
                    self.sign_off(now_ms, self.detach_deadline_ms);
                }
                result => result.map_err(|reason| self.refuse_now(reason))?,
            }
        }
        self.check_attach_time(now_ms).map_err(|reason| self.refuse_now(reason))?;
        let step = self.step_now();
        let refuse = |reason: Reason| Refusal { step, reason };
        match self.mode {
            Mode::Find => self.find(now_ms),
            Mode::Await => self.await_acceptance(now_ms).map_err(refuse),
            Mode::Start => self.start_channel(now_ms).map_err(refuse),
            Mode::Tasks => self.bring_up(now_ms, budget).map_err(|r| self.refuse_now(r)),
            Mode::NeedRegions => Ok(Some(Progress::NeedRegions)),
            Mode::NeedFeatures => Ok(Some(Progress::NeedFeatures { device: self.current.device })),
            Mode::NeedQueues => Ok(Some(Progress::NeedQueues { device: self.current.device })),
            Mode::SayUp => {
                let device = self.current.device;
                self.next_device(now_ms);
                Ok(Some(Progress::DeviceUp { device }))
            }
            Mode::Running => self.run(now_ms, fired, budget).map_err(|r| self.refuse_now(r)),
            Mode::Resetting => Ok(self.reset_devices(now_ms, budget)),
            Mode::Leaving => Ok(self.leave(now_ms)),
            Mode::Over { clean } => Ok(Some(Progress::Detached { clean })),
        }
    }

    /// A board that answers each request just in time is refused all the same.
    fn check_attach_time(&mut self, now_ms: u64) -> Result<(), Reason> {
        let began = *self.began_ms.get_or_insert(now_ms);
        let attaching = !self.started
            && !matches!(self.mode, Mode::Resetting | Mode::Leaving | Mode::Over { .. });
        let after_ms = now_ms.saturating_sub(began);
        if attaching && after_ms >= self.attach_limit_ms {
            return Err(Reason::Timeout { after_ms });
        }
        Ok(())
    }

    /// The document's number for where the link stands.
    const fn step_now(&self) -> AttachStep {
        match (self.mode, &self.task) {
            (Mode::Find, _) => AttachStep::FindBlock,
            (Mode::Await, _) => AttachStep::AwaitAcceptance,
            (Mode::Start, _) => AttachStep::StartChannel,
            (Mode::Resetting | Mode::Leaving | Mode::Over { .. }, _) => AttachStep::Detach,
            (Mode::Running, _) => AttachStep::Running,
            _ if self.started => AttachStep::Running,
            (_, Some((task, _))) => task.step(),
            (Mode::NeedRegions | Mode::Tasks, None) => AttachStep::AddRegions,
            (Mode::NeedFeatures, None) => AttachStep::Features,
            (Mode::NeedQueues, None) => AttachStep::QueueSizes,
            (Mode::SayUp, None) => AttachStep::DriverOk,
        }
    }

    const fn refuse_now(&self, reason: Reason) -> Refusal {
        Refusal { step: self.step_now(), reason }
    }

    fn timed_out(&self, now_ms: u64) -> Option<Reason> {
        let over = self.deadline_ms.is_some_and(|deadline| now_ms >= deadline);
        over.then(|| Reason::Timeout { after_ms: now_ms.saturating_sub(self.mode_since_ms) })
    }

    /// What the board says about itself, from step 2 on.
    pub fn description(&self) -> Option<&BoardDescription> {
        self.board.as_ref().map(|board| &board.description)
    }

    /// The protocol version of the session, from step 3 on.
    pub fn version(&self) -> Option<u16> {
        self.board.as_ref().map(|board| board.version)
    }

    /// The board's regions with the bus addresses that they have or will have:
    /// one after the other from `1 << 63`, each aligned to its place, numbered
    /// as in the control block.
    pub fn board_regions(&self) -> impl Iterator<Item = AcceptedRegion> + '_ {
        let regions = self.description().into_iter().flat_map(|board| board.regions.iter());
        (0_u8..).zip(regions).scan(0_u64, |next, (id, region)| {
            // A region's length may be anything up to 2^64: those that no
            // longer fit the board's half are not used.
            let base = BusAddress::board(*next);
            let end = next.checked_add(region.len).filter(|end| *end <= 1 << 63)?;
            *next = end;
            Some(AcceptedRegion { region, id, base })
        })
    }

    /// The device that is being brought up, or whose config was read last.
    pub fn facts(&self) -> Option<DeviceFacts<'_>> {
        let current = &self.current;
        (current.info.device_id != 0).then(|| DeviceFacts {
            device: current.device,
            info: current.info,
            offered: current.offered,
            accepted: current.accepted,
            config: current.config.get(..current.config_len).unwrap_or(&[]),
            queue_sizes: current.queue_sizes.get(..current.sizes_len).unwrap_or(&[]),
        })
    }

    /// What the data path checks before each batch; from the acceptance on.
    pub fn guard(&self) -> Option<LinkGuard<W>> {
        let board = self.board.as_ref().filter(|_| self.accepted)?;
        let status = self.status.clone().filter(|_| self.status_live);
        Some(LinkGuard { status, boot: board.boot, session: self.options.session })
    }

    /// Message tokens that are taken: (in flight, in quarantine). A session
    /// begins with none.
    pub fn tokens(&self) -> (usize, usize) {
        self.board.as_ref().map_or((0, 0), |board| board.endpoint.tokens())
    }

    /// Answers that came after their deadline, or that nobody waited for.
    pub fn late_answers(&self) -> u64 {
        self.board.as_ref().map_or(0, |board| board.endpoint.stats().unmatched)
    }
}

const fn fault_reason(fault: PeerFault) -> Reason {
    match fault {
        PeerFault::LinkLost => Reason::Lost(LinkLoss::AllOnes),
        fault => Reason::Fault(fault),
    }
}

const fn request_reason(error: RequestError) -> Option<Reason> {
    match error {
        RequestError::Full => None,
        RequestError::TooManyLate => Some(Reason::TooManyLate),
        RequestError::Fault(fault) => Some(fault_reason(fault)),
    }
}
