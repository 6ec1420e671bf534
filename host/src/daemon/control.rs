//! The control thread: walks the session, starts and ends the worker.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shared::link::Epoch;
use shared::wire::net::feature;

use super::error::DaemonError;
use super::interface::Interface;
use super::worker::{self, AskAtEnd, PublishedCounters, Stop};
use crate::bridge::BridgeError;
use crate::bus::{Bus, Latch};
use crate::session::{Event, Link, Session, SessionConfig, SessionError, Terms};

/// What the control thread owns.
pub(super) struct Control {
    pub(super) interface: Interface,
    pub(super) config: SessionConfig,
    pub(super) stop: Arc<Stop>,
    pub(super) counters: PublishedCounters,
    pub(super) up: SyncSender<Terms>,
    /// Asked for once `up` has its answer.
    pub(super) settled: Arc<Stop>,
}

/// The worker's thread, and how it is stopped and heard of. Dropped, it ends:
/// nothing may touch the rings when the session is gone.
struct Worker {
    thread: Option<JoinHandle<Result<(), BridgeError>>>,
    stop: Arc<Stop>,
    ended: Arc<Stop>,
}

impl Worker {
    /// Stops the thread and says why it ended.
    fn end(&mut self) -> Result<(), DaemonError> {
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

impl Control {
    /// Attaches over `bus` and keeps the link until it ends or is stopped.
    pub(super) fn run<B: Bus>(mut self, bus: B) -> Result<(), DaemonError> {
        let start = Instant::now();
        let now = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let epoch = Epoch::from_random(random()?);
        if !self.interface.supported().uso4 {
            // Linux before 6.2 knows no segmented UDP.
            self.config.feature_mask &= !(feature::GUEST_USO4 | feature::GUEST_USO6);
            self.config.feature_mask &= !feature::HOST_USO;
        }
        let mut session = Session::new(bus, self.config, epoch)?;
        let mut worker: Option<Worker> = None;
        // What ended the link; `Ok` while it was only asked to end.
        let mut outcome: Option<Result<(), DaemonError>> = None;
        loop {
            let step = match session.step(now()) {
                Ok(step) => step,
                Err(error) => {
                    let orderly = matches!(error, SessionError::NeedsReset);
                    let leaving = outcome.is_some();
                    // The worker first: nothing may touch the rings once the
                    // board is told to let go of them.
                    let worked = worker.take().map_or(Ok(()), |mut worker| worker.end());
                    let ended = outcome.get_or_insert(worked);
                    if ended.is_ok() {
                        *ended = Err(error.into());
                    }
                    if orderly && !leaving {
                        session.detach(now());
                        continue;
                    }
                    session.abandon();
                    break;
                }
            };
            match step.event {
                Some(Event::Up(link)) => match self.start_worker::<B>(*link) {
                    Ok(started) => worker = Some(started),
                    Err(error) => {
                        outcome = Some(Err(error));
                        session.detach(now());
                    }
                },
                Some(Event::Down) => break,
                None => {}
            }
            let timeout = step.wait_until.saturating_sub(now());
            if self.wait(&session, worker.as_ref(), outcome.is_some(), timeout) {
                outcome = Some(worker.take().map_or(Ok(()), |mut worker| worker.end()));
                session.detach(now());
            }
        }
        outcome.unwrap_or(Ok(()))
    }

    /// Tells the kernel what the board takes, and starts the data thread.
    fn start_worker<B: Bus>(&mut self, link: Link<B>) -> Result<Worker, DaemonError> {
        let Link { mut pair, terms } = link;
        self.interface.configure(&terms)?;
        let mut port = self.interface.take_port().ok_or(DaemonError::ThreadDied)?;
        let stop = Arc::new(Stop::new()?);
        let ended = Arc::new(Stop::new()?);
        let asked = Arc::clone(&stop);
        let tell = AskAtEnd(Arc::clone(&ended));
        let counters = self.counters.clone();
        let thread = thread::Builder::new()
            .name(format!("{}-data", self.interface.name()))
            .spawn(move || {
                let _tell = tell;
                // With the port goes the interface.
                worker::run(&mut pair, &mut port, &asked, &counters)
            })
            .map_err(DaemonError::io("start a thread"))?;
        // Nobody listens any more if the caller gave up: the stop ends us.
        let _ = self.up.send(terms);
        self.settled.ask();
        Ok(Worker { thread: Some(thread), stop, ended })
    }

    /// Waits for a message interrupt, the worker's end, a stop, or `timeout`
    /// (ms); `true` when it is time to leave. Once `leaving`, only messages
    /// and the time matter.
    fn wait<B: Bus>(
        &self,
        session: &Session<B>,
        worker: Option<&Worker>,
        leaving: bool,
        timeout: u64,
    ) -> bool {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = Vec::with_capacity(3);
        if !leaving {
            fds.push(readable(self.stop.fd()));
            fds.extend(worker.map(|worker| readable(worker.ended.fd())));
        }
        let reasons_to_leave = fds.len();
        fds.extend(session.message_interrupt().and_then(Latch::fd).map(readable));
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        // A signal only makes the session look a little early.
        let woken = poll(&mut fds, timeout).unwrap_or(0);
        woken > 0 && fds.iter().take(reasons_to_leave).any(|fd| fd.any().unwrap_or(false))
    }
}

/// A number that differs from attach to attach.
fn random() -> Result<u32, DaemonError> {
    use std::io::Read;
    let mut bytes = [0; 4];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(DaemonError::io("read /dev/urandom"))?;
    Ok(u32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn readable(stop: &Stop) -> bool {
        let mut fds = [PollFd::new(stop.fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
    }

    #[test]
    fn a_thread_that_panics_is_heard_of() {
        let ended = Arc::new(Stop::new().unwrap());
        let tell = AskAtEnd(Arc::clone(&ended));
        let thread = thread::spawn(move || {
            let _tell = tell;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert!(readable(&ended));
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
