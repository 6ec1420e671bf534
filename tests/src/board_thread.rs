//! A rig's board in a thread of its own, for tests with the real daemon: it
//! sleeps until a doorbell rings, and starts over when it is reset.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use board::device::net::NetBackend;
use board::service::Next;
use board::trace::NetCounters;
use host::bus::sim::SimBus;
use host::daemon::Stop;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::rig::{Board, RigOptions};

/// Something that happens to a board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happening {
    /// The link behind its network device comes up or goes down.
    Link(bool),
    /// Its network wants to hear of the host.
    Announce,
    /// The network device appears or vanishes.
    Net(bool),
    /// The console does.
    Console(bool),
    /// Its own code has something to say.
    Look,
}

/// A board that runs until it is dropped.
#[derive(Debug)]
pub struct BoardThread {
    stop: Arc<Stop>,
    wake: Arc<Stop>,
    boots: Arc<AtomicU64>,
    seen: Arc<Mutex<Seen>>,
    happenings: Sender<Happening>,
    thread: Option<JoinHandle<()>>,
}

impl BoardThread {
    /// Boots a board on the other end of `bus`, which is in counted mode. Each boot
    /// gets a `backend` of its own, told how many boots there were before.
    ///
    /// # Panics
    /// The options contradict each other, or the system has no thread left.
    #[must_use]
    pub fn start<B: NetBackend + 'static>(
        bus: &SimBus,
        options: RigOptions,
        backend: impl Fn(u64) -> B + Send + 'static,
    ) -> Self {
        let stop = Arc::new(Stop::new().expect("an eventfd"));
        let boots = Arc::new(AtomicU64::new(0));
        let wake = Arc::new(Stop::new().expect("an eventfd"));
        let seen = Arc::<Mutex<Seen>>::default();
        let (happenings, happened) = mpsc::channel();
        let (counted, bus) = (Arc::clone(&boots), bus.clone());
        let outside = Outside {
            stop: Arc::clone(&stop),
            wake: Arc::clone(&wake),
            seen: Arc::clone(&seen),
            happened,
        };
        let thread = thread::Builder::new().name("board".to_owned()).spawn(move || {
            let start = Instant::now();
            let mut epoch = 0x0b00_7001;
            loop {
                let before = counted.fetch_add(1, Ordering::Relaxed);
                if run(&bus, &options, backend(before), epoch, start, &outside) {
                    return;
                }
                epoch += 1;
            }
        });
        let thread = Some(thread.expect("a thread"));
        Self { stop, wake, boots, seen, happenings, thread }
    }

    /// Lets something happen to it, and waits until it has.
    ///
    /// # Panics
    /// The board does not take notice of it.
    pub fn happens(&self, happening: Happening) {
        let before = self.seen().happenings;
        // One that has panicked says so when it is dropped.
        let _ = self.happenings.send(happening);
        self.wake.ask();
        let deadline = Instant::now() + PATIENCE;
        while self.seen().happenings == before {
            assert!(Instant::now() < deadline, "the board takes no notice of {happening:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that were typed at its console in this boot, until its last step.
    #[must_use]
    pub fn typed(&self) -> u64 {
        self.seen().typed
    }

    /// What its network device had counted in this boot with its last step.
    #[must_use]
    pub fn counters(&self) -> NetCounters {
        self.seen().counters
    }

    /// How often it has booted.
    #[must_use]
    pub fn boots(&self) -> u64 {
        self.boots.load(Ordering::Relaxed)
    }
}

impl Drop for BoardThread {
    fn drop(&mut self) {
        self.stop.ask();
        let outcome = self.thread.take().map(JoinHandle::join);
        // In a test that fails already it says why by itself.
        assert!(thread::panicking() || matches!(outcome, Some(Ok(()))), "the board panicked");
    }
}

/// How long a board may take to notice something.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is seen of a board from outside.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    counters: NetCounters,
    typed: u64,
    happenings: u64,
}

/// What reaches the board's thread, and leaves it.
struct Outside {
    stop: Arc<Stop>,
    wake: Arc<Stop>,
    seen: Arc<Mutex<Seen>>,
    happened: Receiver<Happening>,
}

impl Outside {
    /// Lets one thing happen, so that a step lies between two.
    fn happen<B: NetBackend>(&self, board: &mut Board<B>) -> u64 {
        let happening = self.happened.try_recv();
        if let Ok(happening) = happening {
            match happening {
                Happening::Link(up) => board.device().set_link(up),
                Happening::Announce => {
                    let _ = board.device().announce();
                }
                Happening::Net(present) => board.set_net(present),
                Happening::Console(present) => board.set_console(present),
                Happening::Look => {}
            }
        }
        happening.is_ok().into()
    }
}

/// Serves until it is to stop (`true`) or is reset (`false`).
fn run<B: NetBackend>(
    bus: &SimBus,
    options: &RigOptions,
    backend: B,
    epoch: u32,
    start: Instant,
    outside: &Outside,
) -> bool {
    let now = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let port = bus.board();
    // What is written below this line is the new boot's.
    let _ = port.take_reset();
    let mut board = Board::boot(bus, options, backend, epoch, now());
    loop {
        let happenings = outside.happen(&mut board);
        let next = board.service.step(now());
        let (counters, typed) = (board.counters(), board.typed());
        let mut seen = outside.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Seen { counters, typed, happenings: seen.happenings + happenings };
        drop(seen);
        if port.take_reset() {
            return false;
        }
        let timeout = match next {
            Next::Again => PollTimeout::ZERO,
            Next::Sleep { until } => {
                PollTimeout::try_from(until.saturating_sub(now())).unwrap_or(PollTimeout::MAX)
            }
        };
        let stop = &outside.stop;
        let doorbell = port.doorbell_fd().unwrap_or(stop.fd());
        let mut fds =
            [stop.fd(), outside.wake.fd(), doorbell].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // A signal only makes it look a little early.
        let woken = poll(&mut fds, timeout).unwrap_or(0) > 0;
        if woken && fds.first().and_then(PollFd::any).unwrap_or(false) {
            return true;
        }
        outside.wake.forget();
    }
}
