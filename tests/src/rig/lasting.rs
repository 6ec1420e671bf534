//! A rig for sessions that end and begin again: the host's end is the
//! supervisor that a daemon runs, and either side may go and come back.

use std::collections::BTreeMap;
use std::fmt;

use board::device::net::Echo;
use host::bus::Bus;
use host::bus::sim::SimBus;
use host::session::{Ended, Event, Session, SessionError, Supervised, Supervisor};

use super::board::Board;
use super::bus::{RigBus, RigLatch};
use super::host::{Data, Pair, turn};
use super::options::{Reboots, RigOptions};
use super::port::QueuePort;
use super::turns::{Next, Turns};
use super::{PATIENCE, Turn};

/// Both ends on one bus, for as long as a test likes.
pub struct LastingRig {
    /// The bus.
    pub bus: SimBus,
    /// The board.
    pub board: Board<Echo>,
    /// The host's interface: it stays, whatever becomes of the rest.
    pub port: QueuePort,
    /// The time, in ms.
    pub now: u64,
    /// What it is like.
    pub options: RigOptions,
    /// The board gets no turns, until something resets it.
    pub board_hangs: bool,
    host: Option<LastingHost>,
    turns: Turns,
    boots: u32,
    /// Why sessions ended, and how often.
    pub endings: BTreeMap<String, u64>,
}

/// The daemon's two threads.
struct LastingHost {
    supervisor: Supervisor<RigBus>,
    pair: Option<Box<Pair>>,
    data: Data,
    wait_until: u64,
    spin: u32,
    control_next: bool,
    stopped: Option<Result<(), SessionError>>,
}

impl fmt::Debug for LastingRig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let up = self.host.as_ref().map(|host| host.pair.is_some());
        f.debug_struct("LastingRig")
            .field("seed", &self.options.seed)
            .field("layout", &self.options.session.layout)
            .field("now", &self.now)
            .field("turns", &self.turns.taken())
            .field("up", &up)
            .field("boots", &self.boots)
            .field("endings", &self.endings)
            .finish_non_exhaustive()
    }
}

impl LastingRig {
    /// A board that is booted, and no host.
    ///
    /// # Panics
    /// The options contradict each other.
    #[must_use]
    pub fn new(options: RigOptions) -> Self {
        let bus = SimBus::new(options.sim).expect("the options of the bus");
        let board = Board::boot(&bus, &options, Echo::verbatim(), 1, 0);
        Self {
            bus,
            board,
            port: QueuePort::default(),
            now: 0,
            options,
            board_hangs: false,
            host: None,
            turns: Turns::new(options.seed),
            boots: 1,
            endings: BTreeMap::new(),
        }
    }

    /// A host begins; `random` is another one for each.
    pub fn start_host(&mut self, random: u32) {
        let supervisor = Supervisor::new(RigBus(self.bus.host()), self.options.session, random);
        self.host = Some(LastingHost {
            supervisor,
            pair: None,
            data: Data::Awake { idle: 0 },
            wait_until: self.now,
            spin: self.options.host_spin.max(1),
            control_next: false,
            stopped: None,
        });
    }

    /// The host's process is killed: it does nothing more, and the kernel
    /// takes its memory away.
    pub fn kill_host(&mut self) {
        self.host = None;
        self.bus.host().unshare_all();
    }

    /// Asks the host to end.
    ///
    /// # Panics
    /// There is no host.
    pub fn begin_stop(&mut self) {
        let now = self.now;
        let host = self.host.as_mut().expect("a host");
        host.pair = None;
        host.supervisor.stop(now);
        host.wait_until = now;
    }

    /// The same, and waits until it has.
    ///
    /// # Errors
    /// The board did not let go by itself.
    ///
    /// # Panics
    /// There is no host, or it does not end.
    pub fn stop_host(&mut self) -> Result<(), SessionError> {
        self.begin_stop();
        for _ in 0..PATIENCE {
            self.step(u64::MAX);
            if let Some(outcome) = self.host.as_mut().and_then(|host| host.stopped.take()) {
                self.host = None;
                return outcome;
            }
        }
        panic!("the host does not stop: {self:?}");
    }

    /// Whether a session is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.host.as_ref().is_some_and(|host| host.pair.is_some())
    }

    /// Sessions of this host that came up.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.host.as_ref().map_or(0, |host| host.supervisor.sessions())
    }

    /// Message tokens that are taken: (in flight, in quarantine).
    #[must_use]
    pub fn tokens(&self) -> (usize, usize) {
        let session = self.host.as_ref().and_then(|host| host.supervisor.session());
        session.map_or((0, 0), Session::tokens)
    }

    /// How often the board has booted.
    #[must_use]
    pub const fn boots(&self) -> u32 {
        self.boots
    }

    /// The host's own code cannot go on with the session.
    ///
    /// # Panics
    /// There is no host.
    pub fn fail(&mut self, why: Ended) {
        let now = self.now;
        self.host.as_mut().expect("a host").fail(why, now);
    }

    /// The host's operator asks for a reset of the board.
    ///
    /// # Panics
    /// There is no host, or its bus cannot.
    pub fn ask_for_reset(&mut self) {
        let now = self.now;
        let host = self.host.as_mut().expect("a host");
        host.supervisor.reset_board(now).expect("the bus can");
        host.wait_until = now;
    }

    /// The board's processor starts over; the firmware boots at its next turn.
    pub fn reboot_board(&mut self) {
        self.bus.reboot_board();
    }

    /// One turn of one side, or a sleep of both, at most until `limit` (ms).
    pub fn step(&mut self, limit: u64) -> Turn {
        let Next { host_first, bus_steps, millisecond } = self.turns.next();
        if millisecond {
            self.pass(1);
        }
        self.bus.run(bus_steps);
        if self.turn_of(host_first) || self.turn_of(!host_first) {
            return Turn::Taken;
        }
        self.bus.settle();
        if self.turn_of(host_first) || self.turn_of(!host_first) {
            return Turn::Taken;
        }
        let host = self.host.as_ref().map_or(u64::MAX, LastingHost::wakes_at);
        let board = self.board.asleep().filter(|_| !self.board_hangs).unwrap_or(u64::MAX);
        let until = host.min(board).min(limit).min(self.now.saturating_add(super::LONGEST_SLEEP));
        self.pass(until.saturating_sub(self.now).max(1));
        Turn::Slept
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.bus.tick(self.now);
    }

    fn turn_of(&mut self, host: bool) -> bool {
        if !host {
            return self.board_turn();
        }
        let Some(host) = &mut self.host else { return false };
        host.turn(self.now, &mut self.port, &mut self.endings)
    }

    fn board_turn(&mut self) -> bool {
        if self.bus.board().take_reset() {
            self.boots += 1;
            self.board_hangs = false;
            // Bare metal has little entropy: boot epochs come again.
            let epoch = 1 + self.boots % 3;
            let echo = Echo::verbatim();
            self.board = Board::boot(&self.bus, &self.options, echo, epoch, self.now);
            return true;
        }
        if self.board_hangs || !self.board.wants(self.now) {
            return false;
        }
        self.board.turn(self.now);
        if self.options.board.reboots == Reboots::Does && self.board.service.reboot_due() {
            self.bus.reboot_board();
        }
        true
    }
}

impl LastingHost {
    fn turn(
        &mut self,
        now: u64,
        port: &mut QueuePort,
        endings: &mut BTreeMap<String, u64>,
    ) -> bool {
        self.control_next = !self.control_next;
        if self.control_next && self.control(now, endings) || self.data(now, port) {
            return true;
        }
        self.control(now, endings)
    }

    /// What the caller of the supervisor cannot go on with.
    fn fail(&mut self, why: Ended, now: u64) {
        self.pair = None;
        self.supervisor.fail(why);
        self.wait_until = now;
    }

    fn wakes_at(&self) -> u64 {
        match (self.data, &self.pair) {
            (Data::Asleep { until }, Some(_)) => until.min(self.wait_until),
            _ => self.wait_until,
        }
    }

    fn control(&mut self, now: u64, endings: &mut BTreeMap<String, u64>) -> bool {
        let interrupt = self.supervisor.session().and_then(Session::message_interrupt);
        let message = interrupt.is_some_and(RigLatch::peek);
        if self.stopped.is_some() || now < self.wait_until && !message {
            return false;
        }
        let step = self.supervisor.step(now);
        self.wait_until = step.wait_until;
        if step.event.is_some() {
            self.wait_until = now;
        }
        match step.event {
            Some(Supervised::Event(Event::Up(link))) => {
                let mut link = *link;
                link.pair.to_host.start();
                self.pair = Some(Box::new(link.pair));
                self.data = Data::Awake { idle: 0 };
            }
            Some(Supervised::Event(Event::Removed { .. })) => self.pair = None,
            Some(Supervised::Event(_)) | None => {}
            Some(Supervised::Ended(why)) => {
                *endings.entry(why.to_string()).or_default() += 1;
                self.pair = None;
                self.supervisor.released(now);
            }
            Some(Supervised::Stopped(outcome)) => self.stopped = Some(outcome),
        }
        true
    }

    fn data(&mut self, now: u64, port: &mut QueuePort) -> bool {
        let Some(pair) = &mut self.pair else { return false };
        match turn(pair, &mut self.data, self.spin, now, port) {
            Ok(turn) => turn.is_some(),
            Err(error) => {
                // As the daemon: the worker has ended, and the control thread sees it.
                self.fail(Ended::Bridge(error), now);
                true
            }
        }
    }
}
