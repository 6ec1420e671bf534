//! Both ends on one bus, in one thread, step by step: the host's session and
//! bridge, the board's service, and in between the simulated bus.
//!
//! A [`Rig`] plays what threads, file descriptors and clocks do elsewhere
//! (`host::daemon`, a board's main loop), and nothing more: everything that
//! decides is the real code. Who has the next turn is decided by a seed, and
//! time passes only when both ends sleep, so that a test is the same each
//! time and as short as its work.
//!
//! A test makes one with [`RigOptions`], calls [`Rig::attach`], queues frames
//! at [`Rig::port`], calls [`Rig::step`] or [`Rig::run_until`], and ends with
//! [`Rig::detach`] and [`Rig::assert_clean`].

mod board;
mod bus;
mod console;
pub mod frames;
mod host;
mod lasting;
mod options;
mod port;
mod random;
mod thread;
mod turns;

use std::fmt;

use ::board::device::net::{Echo, NetBackend};
use ::host::bridge::BridgeError;
use ::host::bus::sim::{Bill, Label, Plane, SimBus};
use ::host::bus::{Bus, Stretch};
use ::host::session::{SessionError, Terms};
use shared::address::BusAddress;
use shared::region::Rights;
use shared::window::Window;

pub use board::{
    BOARD_MAC, Board, CONTROL_LEN, CacheHook, Engine, HOST_MAC, RigSupport, firmware_memory,
};
pub use bus::{RigBus, RigLatch};
pub use console::{HostConsole, Screen};
pub use host::{Host, Pair};
pub use lasting::LastingRig;
pub use options::{BoardOptions, EngineKind, Reboots, RigOptions};
pub use port::QueuePort;
pub use random::Random;
pub use thread::BoardThread;
use turns::Turns;

/// Why the host's end stopped.
#[derive(Debug)]
pub enum RigError {
    /// The session ended.
    Session(SessionError),
    /// The data path ended.
    Bridge(BridgeError),
}

impl fmt::Display for RigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(error) => error.fmt(f),
            Self::Bridge(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RigError {}

/// What a step was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Somebody had a turn.
    Taken,
    /// Both ends slept with nothing on its way: time was moved to when the
    /// first of them wakes by itself.
    Slept,
}

/// Time is moved by no more than this at once, in ms.
const LONGEST_SLEEP: u64 = 1_000;

/// Steps after which an attach or a detach counts as hanging.
const PATIENCE: u64 = 2_000_000;

/// Both ends on one bus.
#[derive(Debug)]
pub struct Rig<B: NetBackend = Echo> {
    /// The bus.
    pub bus: SimBus,
    /// The board.
    pub board: Board<B>,
    /// The host.
    pub host: Host,
    /// The host's interface.
    pub port: QueuePort,
    /// The time, in ms.
    pub now: u64,
    /// What it is like.
    pub options: RigOptions,
    /// The board gets no turns: it hangs, its memory still answers.
    pub board_hangs: bool,
    /// The host gets no turns: its process is gone, its memory still there.
    pub host_hangs: bool,
    turns: Turns,
}

impl Rig<Echo> {
    /// A rig whose board sends every frame back as it came.
    #[must_use]
    pub fn echo(options: RigOptions) -> Self {
        Self::new(options, Echo::verbatim())
    }
}

impl<B: NetBackend> Rig<B> {
    /// A rig with `backend` behind the board's network device: the board is
    /// booted, the host has not looked yet.
    ///
    /// # Panics
    /// The options contradict each other.
    #[must_use]
    pub fn new(options: RigOptions, backend: B) -> Self {
        Self::try_new(options, backend).expect("a session can be begun")
    }

    /// The same, if the host's session can be begun at all.
    ///
    /// # Errors
    /// What [`::host::session::Session::new`] says.
    ///
    /// # Panics
    /// The board's options contradict each other.
    pub fn try_new(options: RigOptions, backend: B) -> Result<Self, SessionError> {
        let bus = SimBus::new(options.sim).expect("the options of the bus");
        let board = Board::boot(&bus, &options, backend, 0x0b00_7001, 0);
        let host = Host::new(&bus, &options, 1, 0)?;
        Ok(Self {
            bus,
            board,
            host,
            port: QueuePort::default(),
            now: 0,
            options,
            board_hangs: false,
            host_hangs: false,
            turns: Turns::new(options.seed),
        })
    }

    /// One turn of one side, as the seed has it, or a sleep of both.
    ///
    /// # Errors
    /// The host's end stopped; a daemon would detach now.
    pub fn step(&mut self) -> Result<Turn, RigError> {
        let turns::Next { host_first, bus_steps, millisecond } = self.turns.next();
        if millisecond {
            self.pass(1);
        }
        self.bus.run(bus_steps);
        if self.turn_of(host_first)? || self.turn_of(!host_first)? {
            return Ok(Turn::Taken);
        }
        // Both sleep; what is on its way may wake one.
        self.bus.settle();
        if self.turn_of(host_first)? || self.turn_of(!host_first)? {
            return Ok(Turn::Taken);
        }
        let host = if self.host_hangs { u64::MAX } else { self.host.wakes_at() };
        let board = self.board.asleep().filter(|_| !self.board_hangs).unwrap_or(u64::MAX);
        self.pass(host.min(board).saturating_sub(self.now).clamp(1, LONGEST_SLEEP));
        Ok(Turn::Slept)
    }

    /// One turn of the host; `false`: it sleeps.
    ///
    /// # Errors
    /// As for [`Rig::step`].
    pub fn host_turn(&mut self) -> Result<bool, RigError> {
        self.turn_of(true)
    }

    /// One turn of the board; `false`: it sleeps.
    pub fn board_turn(&mut self) -> bool {
        let wants = self.board.wants(self.now);
        self.board.turn(self.now);
        wants
    }

    /// Gives a side its turn; `false`: it sleeps.
    fn turn_of(&mut self, host: bool) -> Result<bool, RigError> {
        match host {
            true if self.host_hangs => Ok(false),
            true => self.host.turn(self.now, &mut self.port),
            false if self.board_hangs => Ok(false),
            false => Ok(self.board_turn()),
        }
    }

    /// Lets `ms` milliseconds pass.
    pub fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.bus.tick(self.now);
    }

    /// Steps until `done`.
    ///
    /// # Errors
    /// As for [`Rig::step`].
    ///
    /// # Panics
    /// It takes more than `limit` steps.
    pub fn run_until(
        &mut self,
        limit: u64,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), RigError> {
        for _ in 0..limit {
            if done(self) {
                return Ok(());
            }
            self.step()?;
        }
        panic!("not done after {limit} steps: {}", self.state());
    }

    /// Steps until both ends sleep with nothing on its way.
    ///
    /// # Errors
    /// As for [`Rig::step`].
    ///
    /// # Panics
    /// They do not, for very long.
    pub fn run_until_idle(&mut self) -> Result<(), RigError> {
        for _ in 0..PATIENCE {
            if self.step()? == Turn::Slept {
                return Ok(());
            }
        }
        panic!("never idle: {}", self.state());
    }

    /// Steps for at least `ms` milliseconds, in which both ends wake by their
    /// timers as often as they like.
    ///
    /// # Errors
    /// As for [`Rig::step`].
    ///
    /// # Panics
    /// They are never idle long enough for the time to pass.
    pub fn idle_for(&mut self, ms: u64) -> Result<(), RigError> {
        let until = self.now + ms;
        self.run_until(PATIENCE, |rig| rig.now >= until)
    }

    /// Attaches.
    ///
    /// # Errors
    /// Why the board was refused. The daemon's next call, which gives the
    /// memory back, has been made.
    ///
    /// # Panics
    /// Neither comes of it, for very long.
    pub fn attach(&mut self) -> Result<(), SessionError> {
        let up = self.run_until(PATIENCE, |rig| rig.host.pair.is_some());
        match up {
            Ok(()) => {
                self.label();
                Ok(())
            }
            Err(RigError::Session(error)) => Err(error),
            Err(RigError::Bridge(error)) => panic!("no data path yet, and yet {error}"),
        }
    }

    /// Begins another session on the same bus, after the last one ended.
    ///
    /// # Errors
    /// As for [`Rig::try_new`].
    pub fn next_session(&mut self) -> Result<(), SessionError> {
        let epoch = self.host.epoch + 1;
        self.host = Host::new(&self.bus, &self.options, epoch, self.now)?;
        Ok(())
    }

    /// Detaches, the data path first.
    ///
    /// # Errors
    /// The board did not let go, and was reset instead.
    ///
    /// # Panics
    /// Neither, for very long.
    pub fn detach(&mut self) -> Result<(), SessionError> {
        self.host.pair = None;
        self.host.begin_detach(self.now);
        match self.run_until(PATIENCE, |rig| rig.host.down) {
            Err(RigError::Session(error)) => Err(error),
            Err(RigError::Bridge(error)) => panic!("no data path any more, and yet {error}"),
            Ok(()) => {
                // The board may still be about to let go of its windows.
                let closed = |rig: &mut Self| rig.board.service.support().open_regions().is_empty();
                let _ = self.run_until(PATIENCE, closed);
                Ok(())
            }
        }
    }

    /// What the session agreed on.
    ///
    /// # Panics
    /// There has not been one.
    pub fn terms(&self) -> &Terms {
        self.host.terms.as_ref().expect("a session that is up, or was")
    }

    /// The bill so far.
    #[must_use]
    pub fn bill(&self) -> Bill {
        self.bus.bill()
    }

    /// Bills each direction's memory to its own plane.
    fn label(&mut self) {
        let areas = &self.terms().areas;
        let (to_board, to_host) = (&areas.to_board, &areas.to_host);
        self.bus.label(&[
            Label { plane: Plane::ToBoard, stretches: to_board, notification: 2 },
            Label { plane: Plane::ToHost, stretches: to_host, notification: 1 },
        ]);
    }

    /// Boots the board anew, with this epoch: what it knew is lost.
    pub fn reboot(&mut self, backend: B, epoch: u32) {
        let _ = self.bus.board().take_reset();
        self.board = Board::boot(&self.bus, &self.options, backend, epoch, self.now);
    }

    /// Lets `change` change a stretch of memory that both ends see, as the
    /// board's processor may at any time.
    ///
    /// # Panics
    /// The board cannot reach it.
    pub fn scribble(&self, stretch: Stretch, change: impl FnOnce(&mut [u8])) {
        let board = self.bus.board();
        let window = match stretch.bar {
            Some(_) => board.memory(stretch.start, stretch.len),
            None => board.outbound(BusAddress::new(stretch.start), stretch.len),
        };
        let window = window.expect("memory that the board reaches");
        let mut bytes = vec![0; usize::try_from(stretch.len).expect("a length")];
        window.read(0, &mut bytes);
        change(&mut bytes);
        window.write(0, &bytes);
        self.bus.settle();
    }

    /// Asserts that nothing was found by a timer alone, on either side.
    ///
    /// # Panics
    /// Something was.
    pub fn assert_nothing_polled(&self) {
        let board = self.board.stats().polled;
        let host = self.host.counters().to_host.completion_polled;
        assert_eq!((host, board), (0, 0), "completions polled, host and board: {}", self.state());
        // Time passes only when nothing is on its way: here none is merely late.
        assert!(!self.host.timer_found, "the host's timer found something: {}", self.state());
    }

    /// Asserts that a session that is over has left nothing behind: no memory
    /// of the host's is shared, and the board has no window open.
    ///
    /// # Panics
    /// It has.
    pub fn assert_clean(&mut self) {
        let board = self.bus.board();
        for stretch in &self.host.shared {
            let address = BusAddress::new(stretch.start);
            let still = board.dma(address, stretch.len).is_ok();
            assert!(!still, "{stretch:?} is still shared");
        }
        let open = self.board.service.support().open_regions();
        assert!(open.is_empty(), "the board has regions {open:?} open");
        self.assert_nothing_shared();
        // All windows can be had again.
        let mut fresh = RigBus(self.bus.host());
        let page = fresh.share(4096, Rights::READ).expect("host memory");
        let open = |_| board.outbound(page.iova, 4096).expect("an outbound window");
        drop((0..board.limits().windows).map(open).collect::<Vec<_>>());
        fresh.unshare_all();
    }

    /// Asserts that no memory of the host's is shared, whatever the board does.
    ///
    /// # Panics
    /// Some is.
    pub fn assert_nothing_shared(&self) {
        assert_eq!(self.bus.shared_bytes(), 0, "bytes of host memory are shared");
    }

    fn state(&self) -> String {
        format!(
            "seed {:#x}, at {} ms, turn {}; board {:?} asleep {:?}; host {:?}",
            self.options.seed,
            self.now,
            self.turns.taken(),
            self.board.stats(),
            self.board.asleep(),
            self.host,
        )
    }
}
