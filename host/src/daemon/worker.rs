//! The data thread: one a queue pair. It owns the queue pair and the port,
//! moves frames, polls a bounded time, then sleeps as R4 says.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use shared::window::Window;

use super::error::DaemonError;
use crate::bridge::{BridgeCounters, BridgeError, QueuePair};
use crate::bus::{Latch, Ring};
use crate::net::FramePort;

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
        Ok(Self { event: event()? })
    }

    /// Asks.
    pub fn ask(&self) {
        // The counter cannot overflow: nobody asks 2^64 times.
        let _ = self.event.write(1);
    }

    /// Takes back what was asked.
    pub fn forget(&self) {
        // Empty if nobody has asked.
        let _ = self.event.read();
    }

    /// Becomes readable once asked for, and stays so.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// An eventfd that nobody has written to yet.
pub(super) fn event() -> Result<EventFd, DaemonError> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    EventFd::from_value_and_flags(0, flags)
        .map_err(|errno| DaemonError::io("make an eventfd")(errno.into()))
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
pub(super) struct PublishedCounters {
    now: Arc<Mutex<BridgeCounters>>,
    /// What earlier sessions have counted.
    before: BridgeCounters,
}

impl PublishedCounters {
    /// The counters as of the worker's last sleep, at most a second old.
    #[must_use]
    pub(super) fn get(&self) -> BridgeCounters {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a new session's worker, which counts from zero.
    pub(super) fn next_session(&self) -> Self {
        Self { now: Arc::clone(&self.now), before: self.get() }
    }

    fn set(&self, counters: BridgeCounters) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = counters + self.before;
    }
}

/// The worker's thread, and how it is stopped and heard of. Dropped, it ends:
/// nothing may touch the rings when the session is gone.
pub(super) struct Worker {
    thread: Option<JoinHandle<Result<(), BridgeError>>>,
    stop: Arc<Stop>,
    ended: Arc<Stop>,
}

impl Worker {
    /// Starts to move frames between `pair` and `port`.
    pub(super) fn start<W, R, L, P>(
        interface: &str,
        mut pair: QueuePair<W, R, L>,
        mut port: P,
        counters: PublishedCounters,
        idle_looks: Arc<AtomicU32>,
    ) -> Result<Self, DaemonError>
    where
        W: Window + Send + 'static,
        R: Ring + Send + 'static,
        L: Latch + Send + 'static,
        P: FramePort<W> + AsFd + Send + 'static,
    {
        let (stop, ended) = (Arc::new(Stop::new()?), Arc::new(Stop::new()?));
        let (asked, tell) = (Arc::clone(&stop), AskAtEnd(Arc::clone(&ended)));
        let thread = thread::Builder::new()
            .name(format!("{interface}-data"))
            .spawn(move || {
                let _tell = tell;
                run(&mut pair, &mut port, &asked, &counters, &idle_looks)
            })
            .map_err(DaemonError::io("start a thread"))?;
        Ok(Self { thread: Some(thread), stop, ended })
    }

    /// Becomes readable when the thread has ended.
    pub(super) fn ended(&self) -> BorrowedFd<'_> {
        self.ended.fd()
    }

    /// Whether the thread has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        asked(&self.ended)
    }

    /// Stops the thread and says why it ended.
    pub(super) fn end(&mut self) -> Result<(), DaemonError> {
        self.stop.ask();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let outcome = thread.join().map_err(|_panic| DaemonError::ThreadDied)?;
        outcome.map_err(DaemonError::Bridge)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Only where the control thread panics is there anything left to end.
        if let Err(error) = self.end() {
            log::error!("{error}");
        }
    }
}

/// Moves frames until asked to stop.
///
/// # Errors
/// The board broke the protocol, or the interface failed.
fn run<W, R, L, P>(
    pair: &mut QueuePair<W, R, L>,
    port: &mut P,
    stop: &Stop,
    published: &PublishedCounters,
    idle_looks: &AtomicU32,
) -> Result<(), BridgeError>
where
    W: Window,
    R: Ring,
    L: Latch,
    P: FramePort<W> + AsFd,
{
    pair.to_host.start();
    let result = move_frames(pair, port, stop, published, idle_looks);
    // Also what it did before an error.
    published.set(pair.counters());
    result
}

fn move_frames<W, R, L, P>(
    pair: &mut QueuePair<W, R, L>,
    port: &mut P,
    stop: &Stop,
    published: &PublishedCounters,
    idle_looks: &AtomicU32,
) -> Result<(), BridgeError>
where
    W: Window,
    R: Ring,
    L: Latch,
    P: FramePort<W> + AsFd,
{
    let start = Instant::now();
    let now = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (mut published_at, mut woken) = (0, Woken::Work);
    loop {
        let most = idle_looks.load(Ordering::Relaxed).max(1);
        // The timer announces nothing: one look tells whether it is worth more.
        let (mut idle, mut looks) = (0, if matches!(woken, Woken::Timer) { 1 } else { most });
        while idle < looks {
            let moved = pair.step(now(), port)?;
            (idle, looks) =
                if moved.frames > 0 || moved.more { (0, most) } else { (idle + 1, looks) };
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
        woken = sleep(pair, port, stop, now());
        match woken {
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

/// Whether somebody has asked.
pub(super) fn asked(stop: &Stop) -> bool {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_thread_that_panics_is_heard_of() {
        let ended = Arc::new(Stop::new().unwrap());
        let tell = AskAtEnd(Arc::clone(&ended));
        let thread = thread::spawn(move || {
            let _tell = tell;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert!(asked(&ended));
    }

    #[test]
    fn a_worker_that_is_dropped_has_ended() {
        let stop = Arc::new(Stop::new().unwrap());
        let gone = Arc::new(AtomicBool::new(false));
        let (asked, tell) = (Arc::clone(&stop), Arc::clone(&gone));
        let thread = thread::spawn(move || {
            poll(&mut [PollFd::new(asked.fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
            tell.store(true, Ordering::SeqCst);
            Ok(())
        });
        let ended = Arc::new(Stop::new().unwrap());
        drop(Worker { thread: Some(thread), stop, ended });
        assert!(gone.load(Ordering::SeqCst));
    }
}
