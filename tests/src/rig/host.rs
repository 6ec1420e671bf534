//! The rig's host: what the daemon's two threads do, turn by turn.

use std::fmt;

use host::bridge::{BridgeCounters, QueuePair, Way};
use host::bus::Stretch;
use host::bus::sim::{SimBus, SimDoorbell, SimWindow};
use host::net_control::{Request, Unable};
use host::session::{Event, Session, SessionError, Terms};
use shared::link::Epoch;

use super::bus::{RigBus, RigLatch};
use super::console::HostConsole;
use super::options::RigOptions;
use super::port::QueuePort;
use super::{RigError, Turn};

/// The data path.
pub type Pair = QueuePair<SimWindow, SimDoorbell, RigLatch>;

/// The host: a session and, once it is up, its data path.
pub struct Host {
    /// The session.
    pub session: Session<RigBus>,
    /// The data path while the session is up.
    pub pair: Option<Box<Pair>>,
    /// The board's console.
    pub console: HostConsole,
    /// What the session agreed on.
    pub terms: Option<Terms>,
    /// The session has ended in an orderly way.
    pub down: bool,
    /// The session's epoch.
    pub epoch: u32,
    /// Times that the data path went to sleep.
    pub sleeps: u64,
    /// Times that it tried to, those included.
    pub sleep_attempts: u64,
    /// Queues with frames that were reset and are up again.
    pub restarted: u64,
    /// Host memory that the session has shared for its data path.
    pub shared: Vec<Stretch>,
    data: Data,
    session_at: u64,
    spin: u32,
    control_next: bool,
    last: BridgeCounters,
    /// Whether a timer ever found frames that no interrupt had announced.
    pub timer_found: bool,
}

/// The data thread.
#[derive(Clone, Copy, Debug)]
pub(super) enum Data {
    Awake { idle: u32 },
    Asleep { until: u64 },
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("data", &self.data)
            .field("session_at", &self.session_at)
            .field("down", &self.down)
            .field("sleeps", &self.sleeps)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl Host {
    pub(super) fn new(
        bus: &SimBus,
        options: &RigOptions,
        epoch: u32,
        now: u64,
    ) -> Result<Self, SessionError> {
        let session = Session::new(RigBus(bus.host()), options.session, Epoch::from_random(epoch))?;
        Ok(Self {
            session,
            pair: None,
            console: HostConsole::default(),
            terms: None,
            down: false,
            epoch,
            sleeps: 0,
            sleep_attempts: 0,
            restarted: 0,
            shared: Vec::new(),
            data: Data::Awake { idle: 0 },
            session_at: now,
            // It looks before it sleeps, or it would never find anything.
            spin: options.host_spin.max(1),
            control_next: false,
            last: BridgeCounters::default(),
            timer_found: false,
        })
    }

    /// The data path's counters, also when it has ended.
    #[must_use]
    pub fn counters(&self) -> BridgeCounters {
        self.pair.as_ref().map_or(self.last, |pair| pair.counters())
    }

    /// A turn of the control thread or of the data thread, the one behind the
    /// other; `false`: both sleep.
    pub(super) fn turn(&mut self, now: u64, port: &mut QueuePort) -> Result<bool, RigError> {
        self.control_next = !self.control_next;
        if self.control_next && self.control(now, port)? || self.data(now, port)? {
            return Ok(true);
        }
        Ok(self.control(now, port)? || self.console.turn(now))
    }

    /// When the first thread wakes by itself.
    pub(super) fn wakes_at(&self) -> u64 {
        let control = self.session_at.min(self.console.wakes_at());
        match (self.data, &self.pair) {
            (Data::Asleep { until }, Some(_)) => until.min(control),
            _ => control,
        }
    }

    pub(super) fn begin_detach(&mut self, now: u64) {
        self.session.detach(now);
        self.session_at = now;
    }

    /// Asks the board's network device for something, and wakes the control
    /// thread for it.
    ///
    /// # Errors
    /// As for [`Session::ask`].
    pub fn ask(&mut self, request: Request) -> Result<(), Unable> {
        self.session_at = 0;
        self.session.ask(request)
    }

    /// Begins the reset of a queue with frames. It goes on by itself until
    /// [`Host::restarted`] counts it.
    ///
    /// # Errors
    /// It cannot be asked for.
    pub fn reset_queue(&mut self, way: Way) -> Result<(), SessionError> {
        if let Some(pair) = &mut self.pair {
            pair.hold(way);
        }
        self.session_at = 0;
        self.session.reset_queue(way)
    }

    fn control(&mut self, now: u64, port: &mut QueuePort) -> Result<bool, RigError> {
        let interrupts = [self.session.message_interrupt(), self.session.slow_interrupt()];
        let news = interrupts.into_iter().flatten().any(RigLatch::peek);
        if self.session.slow_interrupt().is_some_and(RigLatch::peek) {
            // The session drains it; it may have been the console's.
            self.console.wake();
        }
        if self.down || (now < self.session_at && !news) {
            return Ok(false);
        }
        let step = self.session.step(now).map_err(|error| {
            // As the daemon does: a board that asks for a reset still answers.
            if !matches!(error, SessionError::NeedsReset) {
                self.session.abandon();
            }
            RigError::Session(error)
        })?;
        self.session_at = step.wait_until;
        if self.console.is_up() && self.session.slow_interrupt().is_none() {
            // Nothing announces it: it is looked at by time.
            self.session_at = self.session_at.min(self.session.console_look(now));
            self.console.wake();
        }
        match step.event {
            Some(Event::Up(link)) => {
                let mut link = *link;
                link.pair.to_host.start();
                let areas = &link.terms.areas;
                let both = areas.to_board.iter().chain(&areas.to_host);
                self.shared = both.filter(|stretch| stretch.bar.is_none()).copied().collect();
                self.pair = Some(Box::new(link.pair));
                self.terms = Some(link.terms);
                self.data = Data::Awake { idle: 0 };
            }
            Some(Event::Down) => self.down = true,
            Some(Event::QueueReset(way)) => {
                if let Some(pair) = &mut self.pair {
                    pair.restart(way, port).map_err(RigError::Bridge)?;
                }
                self.session.set_up_queue(way).map_err(RigError::Session)?;
                self.session_at = now;
            }
            Some(Event::QueueUp(way)) => {
                if let Some(pair) = &mut self.pair {
                    pair.resume(way);
                }
                self.data = Data::Awake { idle: 0 };
                self.restarted += 1;
            }
            Some(Event::Console(link)) => self.console.up(*link),
            Some(Event::Removed { device }) => {
                if !self.console.removed(device) {
                    self.pair = None;
                }
            }
            Some(Event::Changed(_)) | None => {}
        }
        Ok(true)
    }

    fn data(&mut self, now: u64, port: &mut QueuePort) -> Result<bool, RigError> {
        let Some(pair) = &mut self.pair else { return Ok(false) };
        let tries = matches!(self.data, Data::Awake { idle } if idle >= self.spin);
        self.sleep_attempts += u64::from(tries);
        let turn = turn(pair, &mut self.data, self.spin, now, port).map_err(RigError::Bridge)?;
        self.sleeps += u64::from(turn == Some(Turn::Slept));
        self.last = pair.counters();
        self.timer_found |= pair.owes_interrupt();
        Ok(turn.is_some())
    }
}

/// One turn of the data thread; `None`: it sleeps.
pub(super) fn turn(
    pair: &mut Pair,
    data: &mut Data,
    spin: u32,
    now: u64,
    port: &mut QueuePort,
) -> Result<Option<Turn>, host::bridge::BridgeError> {
    match *data {
        Data::Awake { idle } if idle < spin => {
            let moved = pair.step(now, port)?;
            let busy = moved.frames > 0 || moved.more;
            *data = Data::Awake { idle: if busy { 0 } else { idle.saturating_add(1) } };
        }
        Data::Awake { .. } => {
            if pair.prepare_sleep()? {
                *data = Data::Asleep { until: now + pair.longest_sleep(now) };
                return Ok(Some(Turn::Slept));
            }
            *data = Data::Awake { idle: 0 };
        }
        Data::Asleep { until } => {
            let announced = pair.to_host_interrupt.peek();
            let room = if pair.to_board.is_full() {
                pair.to_board_interrupt.peek()
            } else {
                port.waiting() > 0 || port.gone
            };
            if !announced && !room && now < until {
                return Ok(None);
            }
            pair.woke(now, !announced && !room)?;
            *data = Data::Awake { idle: 0 };
        }
    }
    Ok(Some(Turn::Taken))
}
