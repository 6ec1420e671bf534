//! From the first board to the last: start, wait, read the configuration
//! again, end.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use virtio_phys_host::config::Configuration;
use virtio_phys_host::control_socket::{ControlListener, ControlServer};
use virtio_phys_host::daemon::DaemonError;
use virtio_phys_host::signals::EndSignals;

use crate::exit::{Failure, Status};
use crate::fleet::Fleet;
use crate::log_lines;
use crate::notify::Notifier;

/// Longest that boards may take to let go.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Cares for the boards of `configuration`, read from `path`, until a signal
/// asks to end.
pub(crate) fn care(path: &Path, configuration: Configuration) -> Result<(), Failure> {
    // Before the first thread, so that all inherit it.
    let signals = EndSignals::block()
        .map_err(|error| Failure::new(format_args!("cannot receive signals: {error}")))?;
    let mut notifier = Notifier::from_environment();
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
    notifier.ready(&summary, Instant::now());
    let asked = Asked::default();
    let mut caring =
        Caring { path, configuration, fleet, signals, notifier, asked, ears: Vec::new() };
    let outcome = caring.wait();
    caring.notifier.stopping();
    let outcome = outcome.and(caring.end());
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

/// What signals have asked for and nobody has done yet.
#[derive(Debug, Default)]
struct Asked {
    /// To end.
    end: Option<Signal>,
    /// To read the configuration again.
    again: bool,
}

impl Asked {
    fn take_note(&mut self, signal: Signal) {
        match signal {
            Signal::SIGHUP => self.again = true,
            ending => self.end = Some(ending),
        }
    }
}

/// How a wait for boards that stop came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Parted {
    /// They have stopped.
    Gone,
    /// A signal asks to end.
    Cut(Signal),
    /// They take too long.
    Late,
}

/// The daemon at work.
struct Caring<'p> {
    path: &'p Path,
    configuration: Configuration,
    fleet: Arc<Fleet>,
    signals: EndSignals,
    notifier: Notifier,
    asked: Asked,
    ears: Vec<OwnedFd>,
}

impl Caring<'_> {
    /// Waits for a signal that asks to end.
    fn wait(&mut self) -> Result<(), Failure> {
        self.listen()?;
        loop {
            if let Some(signal) = self.asked.end.take() {
                log::info!("ending, asked by {signal}");
                return Ok(());
            }
            if std::mem::take(&mut self.asked.again) {
                self.read_again()?;
                continue;
            }
            self.sleep(None)?;
        }
    }

    /// Listens to the boards that there are now.
    fn listen(&mut self) -> Result<(), Failure> {
        self.ears = self.fleet.ears().map_err(cannot_wait)?;
        Ok(())
    }

    /// Sleeps until a signal or a board has something to say, at most until
    /// `end`; takes note of either.
    fn sleep(&mut self, end: Option<Instant>) -> Result<(), Failure> {
        let end = end.into_iter().chain(self.notifier.due()).min();
        let timeout = end.map_or(PollTimeout::NONE, |end| {
            // Rounded up: not to look too early, again and again.
            let left = end.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![poll_in(&self.signals)];
        fds.extend(self.ears.iter().map(poll_in));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(cannot_wait(errno.into())),
        }
        let heard = fds.iter().skip(1).any(|fd| fd.any().unwrap_or(false));
        // One at a time: the second one means something else.
        if let Some(signal) = self.signals.arrived() {
            self.asked.take_note(signal);
        }
        if heard {
            self.look()?;
        }
        self.notifier.tell_if_due(Instant::now());
        Ok(())
    }

    /// Looks what has become of the boards.
    fn look(&mut self) -> Result<(), Failure> {
        self.fleet.acknowledge();
        let (stopped, dead) = (self.fleet.take_stopped(), self.fleet.take_dead());
        for (name, outcome) in &stopped {
            match outcome {
                Ok(()) => log::info!("{name}: let go of"),
                Err(error) => log::warn!("{name}: {error}"),
            }
        }
        for name in &dead {
            log::error!("{name}: {}", DaemonError::ThreadDied);
        }
        self.notifier.status(self.fleet.summary());
        if stopped.is_empty() && dead.is_empty() { Ok(()) } else { self.listen() }
    }

    /// Takes over what a changed configuration says; one that is wrong changes
    /// nothing.
    fn read_again(&mut self) -> Result<(), Failure> {
        self.notifier.reloading();
        match Configuration::load(self.path) {
            Ok(next) => self.take_over(next)?,
            Err(error) => log::error!("the configuration stays as it was:\n{error}"),
        }
        self.notifier.ready(&self.fleet.summary(), Instant::now());
        self.listen()
    }

    fn take_over(&mut self, next: Configuration) -> Result<(), Failure> {
        let update = self.configuration.update(next);
        log_lines::change(update.configuration.daemon.log);
        for kept in &update.kept {
            log::warn!("{kept}");
        }
        // They first: a new one may have the interface or the socket of one of them.
        self.fleet.begin_stop(&update.removed);
        match self.see_off()? {
            Parted::Gone => {}
            // The end has the rest of it.
            Parted::Cut(_) => return Ok(()),
            Parted::Late => {
                let late = self.fleet.give_up();
                log::error!("{}", late_in_reload(&late));
            }
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
        Ok(())
    }

    /// Lets go of all boards. A second signal, or [`PATIENCE`], ends the wait
    /// for those that hang.
    fn end(&mut self) -> Result<(), Failure> {
        self.fleet.begin_stop_all();
        match self.see_off()? {
            Parted::Gone => Ok(()),
            Parted::Cut(signal) => Err(Failure::second_signal(signal, &self.fleet.leaving())),
            Parted::Late => Err(Failure::late(&self.fleet.leaving())),
        }
    }

    /// Waits for the boards that are leaving. A signal that asks to end is left
    /// for whoever comes next.
    fn see_off(&mut self) -> Result<Parted, Failure> {
        self.listen()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.fleet.leaving().is_empty() {
                return Ok(Parted::Gone);
            }
            if let Some(signal) = self.asked.end {
                return Ok(Parted::Cut(signal));
            }
            if Instant::now() >= deadline {
                return Ok(Parted::Late);
            }
            self.sleep(Some(deadline))?;
        }
    }
}

fn cannot_wait(error: std::io::Error) -> Failure {
    Failure::new(format_args!(
        "cannot wait for the boards: {error}; raise LimitNOFILE (`ulimit -n`) if there are many \
         boards"
    ))
}

/// What is said of boards that the configuration has no more and that do not
/// let go.
fn late_in_reload(names: &[String]) -> String {
    format!(
        "{} not let go for {} s: the rest of the configuration is taken over without waiting; an \
         interface or a socket of it may not be free yet, then send SIGHUP once more",
        crate::exit::have(names),
        PATIENCE.as_secs()
    )
}

fn poll_in(fd: &impl AsFd) -> PollFd<'_> {
    PollFd::new(fd.as_fd(), PollFlags::POLLIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_says_what_is_wanted_until_it_is_done() {
        let mut asked = Asked::default();
        asked.take_note(Signal::SIGHUP);
        asked.take_note(Signal::SIGTERM);
        asked.take_note(Signal::SIGHUP);
        assert_eq!((asked.end, asked.again), (Some(Signal::SIGTERM), true));
    }

    #[test]
    fn what_is_said_of_a_wait_that_fails() {
        let error = std::io::Error::from_raw_os_error(24);
        assert_eq!(
            cannot_wait(error).to_string(),
            "cannot wait for the boards: Too many open files (os error 24); raise LimitNOFILE \
             (`ulimit -n`) if there are many boards"
        );
    }

    #[test]
    fn what_is_said_of_a_board_that_is_late() {
        assert_eq!(
            late_in_reload(&["b0".into(), "b1".into()]),
            "b0, b1 have not let go for 10 s: the rest of the configuration is taken over without \
             waiting; an interface or a socket of it may not be free yet, then send SIGHUP once \
             more"
        );
    }
}
