//! A rig's board in a thread of its own, for tests with the real daemon: it
//! sleeps until a doorbell rings, and starts over when it is reset.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use board::device::net::NetBackend;
use board::service::Next;
use host::bus::sim::SimBus;
use host::daemon::Stop;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::rig::{Board, RigOptions};

/// A board that runs until it is dropped.
#[derive(Debug)]
pub struct BoardThread {
    stop: Arc<Stop>,
    boots: Arc<AtomicU64>,
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
        let (asked, counted, bus) = (Arc::clone(&stop), Arc::clone(&boots), bus.clone());
        let thread = thread::Builder::new().name("board".to_owned()).spawn(move || {
            let start = Instant::now();
            let mut epoch = 0x0b00_7001;
            loop {
                let before = counted.fetch_add(1, Ordering::Relaxed);
                if run(&bus, &options, backend(before), epoch, start, &asked) {
                    return;
                }
                epoch += 1;
            }
        });
        Self { stop, boots, thread: Some(thread.expect("a thread")) }
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

/// Serves until it is to stop (`true`) or is reset (`false`).
fn run<B: NetBackend>(
    bus: &SimBus,
    options: &RigOptions,
    backend: B,
    epoch: u32,
    start: Instant,
    stop: &Stop,
) -> bool {
    let now = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let port = bus.board();
    // What is written below this line is the new boot's.
    let _ = port.take_reset();
    let mut board = Board::boot(bus, options, backend, epoch, now());
    loop {
        let next = board.service.step(now());
        if port.take_reset() {
            return false;
        }
        let timeout = match next {
            Next::Again => PollTimeout::ZERO,
            Next::Sleep { until } => {
                PollTimeout::try_from(until.saturating_sub(now())).unwrap_or(PollTimeout::MAX)
            }
        };
        let doorbell = port.doorbell_fd().unwrap_or(stop.fd());
        let mut fds = [stop.fd(), doorbell].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // A signal only makes it look a little early.
        let woken = poll(&mut fds, timeout).unwrap_or(0) > 0;
        if woken && fds.first().and_then(PollFd::any).unwrap_or(false) {
            return true;
        }
    }
}
