//! The data thread: one a queue pair. It owns the queue pair and the port,
//! moves frames, polls a bounded time, then sleeps as R4 says.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use shared::window::Window;

use super::error::DaemonError;
use crate::bridge::{BridgeCounters, BridgeError, QueuePair};
use crate::bus::{Latch, Ring};
use crate::net::FramePort;

/// Looks that find nothing before the worker goes to sleep: a few
/// microseconds, so that a busy link takes no wake-ups.
const IDLE_LOOKS: u32 = 32;

/// Asks a thread to stop, and wakes it.
#[derive(Debug)]
pub struct Stop {
    event: EventFd,
}

impl Stop {
    /// A stop that nobody has asked for yet.
    ///
    /// # Errors
    /// No file descriptor left.
    pub fn new() -> Result<Self, DaemonError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_value_and_flags(0, flags)
            .map_err(|errno| DaemonError::io("make an eventfd")(errno.into()))?;
        Ok(Self { event })
    }

    /// Asks.
    pub fn ask(&self) {
        // The counter cannot overflow: nobody asks 2^64 times.
        let _ = self.event.write(1);
    }

    /// Becomes readable once asked for, and stays so.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Asks when it goes, also by a panic of its thread.
#[derive(Debug)]
pub(super) struct AskAtEnd(pub(super) Arc<Stop>);

impl Drop for AskAtEnd {
    fn drop(&mut self) {
        self.0.ask();
    }
}

/// Where the worker leaves a copy of its counters before each sleep.
#[derive(Clone, Debug, Default)]
pub(super) struct PublishedCounters(Arc<Mutex<BridgeCounters>>);

impl PublishedCounters {
    /// The counters as of the worker's last sleep, at most a second old.
    #[must_use]
    pub(super) fn get(&self) -> BridgeCounters {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, counters: BridgeCounters) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
}

/// Moves frames until asked to stop.
///
/// # Errors
/// The board broke the protocol, or the interface failed.
pub(super) fn run<W, R, L, P>(
    pair: &mut QueuePair<W, R, L>,
    port: &mut P,
    stop: &Stop,
    published: &PublishedCounters,
) -> Result<(), BridgeError>
where
    W: Window,
    R: Ring,
    L: Latch,
    P: FramePort<W> + AsFd,
{
    let start = Instant::now();
    let now = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut published_at = 0;
    pair.to_host.start();
    loop {
        let mut idle = 0;
        while idle < IDLE_LOOKS {
            let moved = pair.step(now(), port)?;
            idle = if moved.frames > 0 || moved.more { 0 } else { idle + 1 };
            if now() - published_at > 100 {
                published_at = now();
                published.set(pair.counters());
                if asked(stop) {
                    return Ok(());
                }
            }
            std::hint::spin_loop();
        }
        if !pair.prepare_sleep()? {
            continue;
        }
        published.set(pair.counters());
        match sleep(pair, port, stop, now()) {
            Woken::Stop => return Ok(()),
            Woken::Work => pair.woke(now(), false)?,
            Woken::Timer => pair.woke(now(), true)?,
        }
    }
}

enum Woken {
    Stop,
    Work,
    Timer,
}

fn asked(stop: &Stop) -> bool {
    let mut fds = [PollFd::new(stop.fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0)
}

/// Sleeps until an interrupt, a frame that there is room for, `stop`, or as
/// long as a sleep that begins at `now` may last.
fn sleep<W, R, L, P>(pair: &QueuePair<W, R, L>, port: &P, stop: &Stop, now: u64) -> Woken
where
    W: Window,
    R: Ring,
    L: Latch,
    P: AsFd,
{
    let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let listens = pair.listens(now);
    let to_host = pair.to_host_interrupt.fd().filter(|_| listens).unwrap_or(stop.fd());
    // A full ring wants no frame, only buffers back.
    let room = if pair.to_board.is_full() {
        pair.to_board_interrupt.fd().filter(|_| listens).unwrap_or(stop.fd())
    } else {
        port.as_fd()
    };
    let mut fds = [readable(stop.fd()), readable(to_host), readable(room)];
    let longest = Duration::from_millis(pair.longest_sleep(now));
    let timeout = PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(0) => Woken::Timer,
        Ok(_) if fds.first().and_then(PollFd::any).unwrap_or(false) => Woken::Stop,
        // A signal for this thread: look again, nothing is lost by it.
        Ok(_) | Err(_) => Woken::Work,
    }
}
