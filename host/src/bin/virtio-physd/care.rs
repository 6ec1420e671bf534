//! From the first board to the last: start, wait, read the configuration
//! again, end.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use virtio_phys_host::config::Configuration;
use virtio_phys_host::control_socket::{ControlListener, ControlServer};
use virtio_phys_host::daemon::{Board, DaemonError};
use virtio_phys_host::signals::EndSignals;

use crate::exit::{Failure, Status};
use crate::fleet::{Ear, Fleet};
use crate::log_lines;
use crate::notify::Notifier;

/// Longest that boards may take to let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often is looked whether a second signal has come meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Cares for the boards of `configuration`, read from `path`, until a signal
/// asks to end.
pub(crate) fn care(path: &Path, configuration: Configuration) -> Result<(), Failure> {
    // Before the first thread, so that all inherit it.
    let signals = EndSignals::block()
        .map_err(|error| Failure::new(format_args!("cannot receive signals: {error}")))?;
    let notifier = Notifier::from_environment();
    // The socket first: where another daemon has it, nothing is touched.
    let daemon = &configuration.daemon;
    let listener = ControlListener::bind(&daemon.socket, daemon.socket_group.as_deref())?;
    let fleet = Arc::new(Fleet::default());
    for settings in &configuration.boards {
        fleet.start(settings)?;
    }
    let server = ControlServer::start(listener, Arc::<Fleet>::clone(&fleet))
        .map_err(|error| Failure::new(format_args!("cannot serve the control socket: {error}")))?;
    let summary = fleet.summary();
    log::info!("ready: {summary}");
    notifier.ready(&summary);
    let mut caring = Caring { path, configuration, fleet, signals, notifier, ears: Vec::new() };
    let outcome = caring.wait();
    caring.notifier.stopping();
    let outcome = outcome.and(caring.stop(caring.fleet.take_all()));
    // The socket's file goes with it, also when boards hang.
    drop(server);
    if let Err(Failure { status, .. }) = &outcome
        && *status == Status::Failed
    {
        // Threads of boards that hang must not hold the process.
        let failure = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        log::error!("{failure}");
        std::process::exit(status.code().into());
    }
    outcome
}

/// A board's name, and how its stop went.
type Stopped = (String, Result<(), DaemonError>);

/// The daemon at work.
struct Caring<'p> {
    path: &'p Path,
    configuration: Configuration,
    fleet: Arc<Fleet>,
    signals: EndSignals,
    notifier: Notifier,
    ears: Vec<Ear>,
}

impl Caring<'_> {
    /// Waits for a signal that asks to end.
    fn wait(&mut self) -> Result<(), Failure> {
        let failed = |error| Failure::new(format_args!("cannot wait for the boards: {error}"));
        self.ears = self.fleet.ears().map_err(failed)?;
        loop {
            let (ready, died) = {
                let mut fds = vec![poll_in(&self.signals)];
                fds.extend(self.ears.iter().map(|ear| poll_in(&ear.changed)));
                fds.extend(self.ears.iter().map(|ear| poll_in(&ear.ended)));
                match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) | Err(nix::Error::EINTR) => {}
                    Err(errno) => return Err(failed(errno.into())),
                }
                let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
                let died = ready.iter().skip(1 + self.ears.len()).position(|died| *died);
                (ready.iter().skip(1).any(|ready| *ready), died)
            };
            if let Some(at) = died {
                // Once: its status says the rest.
                let ear = self.ears.remove(at);
                log::error!("{}: {}", ear.name, DaemonError::ThreadDied);
            }
            if ready {
                self.fleet.acknowledge();
                self.notifier.status(&self.fleet.summary());
            }
            match self.signals.arrived() {
                Some(Signal::SIGHUP) => {
                    self.read_again();
                    self.ears = self.fleet.ears().map_err(failed)?;
                }
                Some(signal) => {
                    log::info!("ending, asked by {signal}");
                    return Ok(());
                }
                None => {}
            }
        }
    }

    /// Takes over what a changed configuration says; one that is wrong changes
    /// nothing.
    fn read_again(&mut self) {
        self.notifier.reloading();
        match Configuration::load(self.path) {
            Ok(next) => self.take_over(next),
            Err(error) => log::error!("the configuration stays as it was:\n{error}"),
        }
        self.notifier.ready(&self.fleet.summary());
    }

    fn take_over(&mut self, next: Configuration) {
        let update = self.configuration.update(next);
        log_lines::change(update.configuration.daemon.log);
        for kept in &update.kept {
            log::warn!("{kept}");
        }
        if let Err(failure) = self.stop(self.fleet.take(&update.removed)) {
            log::error!("{failure}");
        }
        let mut configuration = update.configuration;
        configuration.boards.retain(|settings| {
            if !update.added.contains(&settings.name) {
                return true;
            }
            // One that fails is tried again with the next SIGHUP.
            self.fleet.start(settings).inspect_err(|failure| log::error!("{failure}")).is_ok()
        });
        for settings in &configuration.boards {
            if update.changed.contains(&settings.name) {
                self.fleet.apply(settings);
            }
        }
        self.fleet.sort(&configuration.boards);
        log::info!(
            "configuration read again: {} added, {} removed, {} changed",
            update.added.len(),
            update.removed.len(),
            update.changed.len()
        );
        self.configuration = configuration;
    }

    /// Stops boards, all at once. A second signal, or [`PATIENCE`], ends the
    /// wait for those that hang.
    fn stop(&self, boards: Vec<(String, Board)>) -> Result<(), Failure> {
        let (tell, told) = channel();
        let mut left = 0;
        for (name, board) in boards {
            let tell = tell.clone();
            let stop = move || {
                let outcome = board.stop();
                // Nobody listens any more if it took too long.
                let _ = tell.send((name, outcome));
            };
            // Without a thread the board was dropped, which stops it as well.
            left += usize::from(thread::Builder::new().spawn(stop).is_ok());
        }
        let deadline = Instant::now() + PATIENCE;
        while left > 0 {
            match self.next_stopped(&told, deadline)? {
                Some((name, Ok(()))) => log::info!("{name}: let go of"),
                Some((name, Err(error))) => log::warn!("{name}: {error}"),
                None => continue,
            }
            left -= 1;
        }
        Ok(())
    }

    /// The next board that has stopped, if one has in [`LOOK`].
    fn next_stopped(
        &self,
        told: &Receiver<Stopped>,
        deadline: Instant,
    ) -> Result<Option<Stopped>, Failure> {
        match told.recv_timeout(LOOK) {
            Ok(stopped) => return Ok(Some(stopped)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(DaemonError::ThreadDied));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        match self.signals.arrived() {
            Some(Signal::SIGHUP) | None => {}
            Some(signal) => {
                return Err(Failure::new(format_args!(
                    "ended hard by a second signal, {signal}: a board has not let go yet"
                )));
            }
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format_args!(
                "ended hard: a board has not let go for {} s",
                PATIENCE.as_secs()
            )));
        }
        Ok(None)
    }
}

fn poll_in(fd: &impl AsFd) -> PollFd<'_> {
    PollFd::new(fd.as_fd(), PollFlags::POLLIN)
}
