//! The host's answers in the bring-up: memory, features, queues.

use std::net::IpAddr;

use shared::link::{
    AcceptedRegion, Epoch, HostLink, HostOptions, HostRegion, LinkLoss, Progress, QueuePlacement,
    Reason, Refusal, Versions,
};
use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::window::Window;
use shared::wire::net::DEVICE_ID;

use super::choice::{Room, plan, shared_len};
use super::config::SessionConfig;
use super::control::Beside;
use super::error::SessionError;
use super::lines::Lines;
use super::memory::SessionMemory;
use super::net::Link;
use super::placement::{Layout, Placement};
use super::slow::{CONSOLE_ID, ConsoleLink, Slow};
use crate::bridge::Way;
use crate::bus::{Bus, HostMemory, Latch, Ring};
use crate::limit::RateLimit;
use crate::net_control::NetConfigChange;
use crate::pool::LockLimit;

/// The BAR that holds the control block.
const CONTROL_BAR: u8 = 0;

/// Events that one step handles, so that its caller goes on as well.
const EVENTS: u32 = 16;

/// Interrupts and events a second that are listened to: an attach needs a few hundred.
const INTERRUPTS: u32 = 1000;

/// A board that has more to say is looked at this often, in ms.
const STORM_LOOK: u64 = 10;

/// What the board has too much to say about to be listened to.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Storm {
    messages: bool,
    pub(super) slow: bool,
}

/// Something that happened in a session.
pub enum Event<B: Bus> {
    /// The network device is up.
    Up(Box<Link<B>>),
    /// A console is up.
    Console(Box<ConsoleLink<B>>),
    /// The device is gone: its queues may not be touched any more.
    Removed {
        /// Device number.
        device: u16,
    },
    /// The network device's configuration has changed.
    Changed(NetConfigChange),
    /// The board has let go of a queue with frames, as was asked: restart it
    /// (`bridge::QueuePair::restart`), then call [`Session::set_up_queue`].
    QueueReset(Way),
    /// It is set up again: `bridge::QueuePair::resume`.
    QueueUp(Way),
    /// The session is over; the board has let go of everything.
    Down,
}

/// What [`Session::step`] wants.
pub struct Step<B: Bus> {
    /// What happened.
    pub event: Option<Event<B>>,
    /// Step again at this time at the latest, in ms, or on a message interrupt.
    pub wait_until: u64,
}

/// One board's session.
pub struct Session<B: Bus> {
    pub(super) bus: B,
    pub(super) config: SessionConfig,
    pub(super) link: HostLink<B::Window>,
    /// Doorbell 0 and vector 0: the message channel's.
    doorbell: Option<B::Doorbell>,
    interrupt: Option<B::Interrupt>,
    pub(super) memory: Option<(Placement, SessionMemory<B::Window>)>,
    pub(super) region: Option<AcceptedRegion>,
    /// What waits for its device to be up.
    pub(super) up: Option<Event<B>>,
    pub(super) net_device: Option<u16>,
    /// Where the two queues with frames lie.
    pub(super) frame_queues: Option<[QueuePlacement; 2]>,
    pub(super) slow: Slow<B>,
    pub(super) beside: Beside<B>,
    /// A device of use was there.
    found: bool,
    shares_memory: bool,
    /// The board has left the session by itself and needs no reset.
    board_left: bool,
    /// Message interrupts and events; those of the slow queues.
    interrupts: RateLimit,
    slow_interrupts: RateLimit,
    pub(super) storm: Storm,
    /// Devices to be reset and left alone once the link takes the wish.
    pub(super) unwanted: u64,
    /// What the board had said in the log.
    pub(super) lines: Lines,
    /// The host's IP addresses, by which it is asked for.
    pub(super) addresses: Vec<IpAddr>,
}

impl<B: Bus> Session<B> {
    /// A session over `bus`; `epoch` differs from the board's last one.
    ///
    /// # Errors
    /// The board has no control BAR, the feature mask leaves nothing, or the
    /// MTU cannot be.
    pub fn new(bus: B, config: SessionConfig, epoch: Epoch) -> Result<Self, SessionError> {
        Self::begin(bus, config, epoch).map_err(|(error, _)| error)
    }

    /// The same; gives the bus back where there is no session.
    pub(super) fn begin(
        bus: B,
        config: SessionConfig,
        epoch: Epoch,
    ) -> Result<Self, (SessionError, B)> {
        let control =
            match config.check().and_then(|()| Ok(bus.bar(CONTROL_BAR, StoreWidth::Bits32)?)) {
                Ok(control) => control,
                Err(error) => return Err((error, bus)),
            };
        let bars = std::array::from_fn(|bar| u8::try_from(bar).map_or(0, |bar| bus.bar_len(bar)));
        let options = HostOptions {
            session: epoch,
            control_bar: CONTROL_BAR,
            bars,
            versions: Versions::OURS,
        };
        Ok(Self {
            bus,
            config,
            link: HostLink::new(control, options),
            doorbell: None,
            interrupt: None,
            memory: None,
            region: None,
            up: None,
            net_device: None,
            frame_queues: None,
            slow: Slow::default(),
            beside: Beside::default(),
            found: false,
            shares_memory: false,
            board_left: false,
            interrupts: RateLimit::new(INTERRUPTS, 1000),
            slow_interrupts: RateLimit::new(INTERRUPTS, 1000),
            storm: Storm::default(),
            unwanted: 0,
            lines: Lines::new(),
            addresses: Vec::new(),
        })
    }

    /// The bus, once the session is over and released.
    pub(super) fn into_bus(self) -> B {
        self.bus
    }

    /// Goes on at time `now` (ms). Never waits.
    ///
    /// # Errors
    /// Why there is no session, or none any more. Call [`Session::abandon`] then.
    pub fn step(&mut self, now: u64) -> Result<Step<B>, SessionError> {
        self.lines.now = now;
        let mut fired = self.interrupt.as_ref().is_some_and(Latch::drain);
        if fired {
            let _ = self.interrupts.admit(now);
        }
        if self.slow.drain() {
            let _ = self.slow_interrupts.admit(now);
        }
        self.storm.slow = self.slow_interrupts.is_reached(now);
        self.leave_unwanted();
        self.step_control(now)?;
        self.refresh_config();
        let mut events = 0;
        loop {
            let step = self.link.step(now, fired).inspect_err(|refusal| {
                self.board_left = has_left(refusal);
            })?;
            log::trace!("{now} ms: {:?}", step.progress);
            fired = false;
            if let Some(doorbell) = &self.doorbell {
                for _ in 0..step.ring {
                    doorbell.ring();
                }
            }
            let event = match step.progress {
                Progress::Waiting => None,
                Progress::Running if !self.found => return Err(SessionError::NoNetworkDevice),
                Progress::Running => None,
                Progress::NeedRegions => {
                    self.share_memory()?;
                    continue;
                }
                Progress::NeedFeatures { device } => {
                    self.choose_features(device)?;
                    continue;
                }
                Progress::NeedQueues { device } => {
                    self.set_up_queues(device)?;
                    continue;
                }
                Progress::DeviceUp { device } => {
                    self.start_control(device);
                    self.up.take()
                }
                Progress::Event(event) => {
                    let _ = self.interrupts.admit(now);
                    let event = self.board_said(now, event)?;
                    events += 1;
                    if event.is_none() && events < EVENTS {
                        continue;
                    }
                    event
                }
                Progress::Detached { clean } => {
                    self.release(clean)?;
                    Some(Event::Down)
                }
            };
            if self.doorbell.is_none() {
                self.open_channel()?;
            }
            self.storm.messages = self.interrupts.is_reached(now);
            let link = if self.storm.messages { now + STORM_LOOK } else { step.come_back_at };
            let wait_until = link.min(self.arm_control(now)?);
            return Ok(Step { event, wait_until });
        }
    }

    /// Begins the detach; go on stepping until [`Event::Down`].
    pub fn detach(&mut self, now: u64) {
        // Nothing is asked of the device any more.
        self.beside = Beside::default();
        self.link.detach(now);
    }

    /// After an error: takes the host's memory away from the board.
    pub fn abandon(&mut self) {
        if let Err(SessionError::Bus(error)) = self.release(false) {
            // Its memory is out of the board's reach all the same.
            if let Some(untold) = self.lines.resets.admit(self.lines.now) {
                log::error!("cannot reset the board: {error}{untold}");
            }
        }
    }

    /// Asks the board to boot again; `false`: it cannot be asked now. If it
    /// will not, the session ends with [`SessionError::ResetRefused`].
    pub(super) fn ask_for_reboot(&mut self) -> bool {
        self.link.reset_board().is_ok()
    }

    /// Whether the board has left the session by itself.
    pub(super) const fn board_left(&self) -> bool {
        self.board_left
    }

    /// Resets the board, and takes the host's memory away from it.
    pub(super) fn reset_board(&mut self) {
        (self.shares_memory, self.board_left) = (true, false);
        self.abandon();
    }

    /// What becomes readable when the board has a message; `None` while there
    /// is nothing yet, or while the board interrupts too often to be listened to.
    #[must_use]
    pub fn message_interrupt(&self) -> Option<&B::Interrupt> {
        self.interrupt.as_ref().filter(|_| !self.storm.messages)
    }

    /// Message tokens that are taken: (in flight, in quarantine).
    #[must_use]
    pub fn tokens(&self) -> (usize, usize) {
        self.link.tokens()
    }

    /// Opens the message channel's doorbell and vector, once they are known.
    fn open_channel(&mut self) -> Result<(), SessionError> {
        let Some(board) = self.link.description() else { return Ok(()) };
        self.doorbell = Some(self.bus.doorbell(&board.doorbell, 0)?);
        self.interrupt = Some(self.bus.interrupt(0)?);
        Ok(())
    }

    /// Plans where everything lies, and shares host memory for it.
    fn share_memory(&mut self) -> Result<(), SessionError> {
        let layout = self.config.layout;
        let board = self.link.description().ok_or(SessionError::NoNetworkDevice)?;
        if layout != Layout::BarOnly && board.outbound.is_none() {
            return Err(SessionError::NoReach { layout });
        }
        if let Some(wanted) = self.config.board_mac.filter(|wanted| *wanted != board.mac) {
            return Err(SessionError::OtherBoard { found: board.mac, wanted });
        }
        let (dma_engine, widest) = (board.dma_engine, board.widest_store);
        let reach = board.outbound;
        let region = self.best_region(layout)?;
        let offered = region.region.len;
        let lock = LockLimit::current().map_err(SessionError::LockUnknown)?;
        let placement =
            plan(&self.config, &Room { board_memory: offered, dma_engine, lock, reach })?;
        let board = HostMemory {
            iova: region.base,
            window: self
                .bus
                .bar(region.region.bar, widest)?
                .part(region.region.offset, offered)
                .ok_or(SessionError::NoBoardMemory { layout })?,
        };
        self.shares_memory = placement.host_writable + placement.host_readable > 0;
        // The board reads its event words back from what it writes (R4).
        let host_writable = self.share(placement.host_writable, Rights::READ_WRITE)?;
        let host_readable = self.share(placement.host_readable, Rights::READ)?;
        let offer = |memory: &HostMemory<B::Window>, rights| HostRegion {
            base: memory.iova,
            len: memory.window.len(),
            rights,
        };
        let mut regions = Vec::with_capacity(2);
        regions.extend(host_writable.as_ref().map(|m| offer(m, Rights::READ_WRITE)));
        regions.extend(host_readable.as_ref().map(|m| offer(m, Rights::READ)));
        let memory = SessionMemory { host_writable, host_readable, board };
        let status = placement.status_page.map(|spot| memory.place(spot)).transpose()?;
        self.link.supply_regions(&regions, status.map(|(window, _)| window))?;
        self.memory = Some((placement, memory));
        self.region = Some(region);
        Ok(())
    }

    fn share(
        &mut self,
        len: u64,
        rights: Rights,
    ) -> Result<Option<HostMemory<B::Window>>, SessionError> {
        if len == 0 {
            return Ok(None);
        }
        let reach = self.link.description().and_then(|board| board.outbound);
        Ok(Some(self.bus.share(shared_len(len, reach.as_ref()), rights)?))
    }

    /// The largest region with the rights that the layout needs.
    fn best_region(&self, layout: Layout) -> Result<AcceptedRegion, SessionError> {
        let need = match layout {
            Layout::Split | Layout::AllHost => Rights::READ,
            Layout::BarOnly => Rights::READ_WRITE,
        };
        self.link
            .board_regions()
            .filter(|accepted| accepted.region.rights.contains(need))
            .max_by_key(|accepted| accepted.region.len)
            .ok_or(SessionError::NoBoardMemory { layout })
    }

    /// Takes the network device and consoles, and leaves others alone.
    fn choose_features(&mut self, device: u16) -> Result<(), SessionError> {
        let facts = self.link.facts().ok_or(SessionError::NoNetworkDevice)?;
        match facts.info.device_id {
            DEVICE_ID if self.net_device.is_none() => self.choose_net_features(device),
            CONSOLE_ID if self.config.console => self.choose_console_features(device),
            _ => Ok(self.link.decline_device()?),
        }
    }

    /// Initialises a device's rings and tells the board where they are.
    fn set_up_queues(&mut self, device: u16) -> Result<(), SessionError> {
        self.up = None;
        let up = if self.net_device == Some(device) {
            Some(self.set_up_net(device)?)
        } else {
            self.set_up_console(device)?
        };
        self.found |= up.is_some();
        self.up = up;
        Ok(())
    }

    /// Takes the host's memory away from the board; without `clean` the bus
    /// first makes sure that the board no longer writes there.
    fn release(&mut self, clean: bool) -> Result<(), SessionError> {
        let quiet = clean || self.board_left || !self.shares_memory;
        let reset = if quiet { Ok(()) } else { self.bus.reset() };
        self.bus.unshare_all();
        self.shares_memory = false;
        reset?;
        if clean { Ok(()) } else { Err(SessionError::NotDetached) }
    }
}

/// Whether the board is no longer in the session, so that nothing of it is
/// under way.
const fn has_left(refusal: &Refusal) -> bool {
    matches!(refusal.reason, Reason::Lost(LinkLoss::Rebooted | LinkLoss::SessionDropped))
}
