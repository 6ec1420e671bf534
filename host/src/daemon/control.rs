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
use super::worker::{self, PublishedCounters, Stop};
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

/// The worker's thread, and how it is stopped and heard of.
struct Worker {
    thread: JoinHandle<Result<(), BridgeError>>,
    stop: Arc<Stop>,
    ended: Arc<Stop>,
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
        let mut worker = None;
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
                    let worked = worker.take().map_or(Ok(()), end_worker);
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
                outcome = Some(worker.take().map_or(Ok(()), end_worker));
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
        let tell = Arc::clone(&ended);
        let counters = self.counters.clone();
        let thread = thread::Builder::new()
            .name(format!("{}-data", self.interface.name()))
            .spawn(move || {
                let outcome = worker::run(&mut pair, &mut port, &asked, &counters);
                tell.ask();
                // With the port goes the interface.
                outcome
            })
            .map_err(DaemonError::io("start a thread"))?;
        // Nobody listens any more if the caller gave up: the stop ends us.
        let _ = self.up.send(terms);
        self.settled.ask();
        Ok(Worker { thread, stop, ended })
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

/// Stops the worker and says why it ended.
fn end_worker(worker: Worker) -> Result<(), DaemonError> {
    worker.stop.ask();
    let outcome = worker.thread.join().map_err(|_panic| DaemonError::ThreadDied)?;
    outcome.map_err(DaemonError::Bridge)
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
