//! The control thread: walks the sessions, starts and ends the worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use log::Level;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shared::wire::features::Features;
use shared::wire::net::feature;

use super::changes::Changes;
use super::console::Terminal;
use super::error::DaemonError;
use super::interface::Interface;
use super::stations::{Shown, Station, Stations};
use super::status::{FeatureReport, LinkState, PublishedStatus};
use super::told::{Lines, Told};
use super::worker::{PublishedCounters, Stop, Worker};
use super::{Command, LiveOptions};
use crate::bus::{Bus, Latch};
use crate::limit::RateLimit;
use crate::net_control::NetConfigChange;
use crate::session::{Ended, Event, Link, SessionConfig, Supervised, Supervisor};

/// How often a minute a board may take its network device away and keep its
/// session: to bring it back costs as much as to attach it.
const REMOVALS: u32 = 20;

/// What the control thread owns.
pub(super) struct Control {
    pub(super) name: String,
    pub(super) interface: Interface,
    pub(super) config: SessionConfig,
    pub(super) commands: Receiver<Command>,
    /// Asked for with each command.
    pub(super) wake: Arc<Stop>,
    pub(super) counters: PublishedCounters,
    pub(super) status: PublishedStatus,
    pub(super) stations: Stations,
    pub(super) idle_looks: Arc<AtomicU32>,
}

impl Control {
    /// Keeps the link to the board on `bus` until it is stopped.
    pub(super) fn run<B: Bus>(
        self,
        bus: B,
        terminal: Option<Terminal<B>>,
    ) -> Result<(), DaemonError> {
        let random = random()?;
        let mut config = self.config;
        if !self.interface.supported().uso4 {
            // Linux before 6.2 knows no segmented UDP.
            config.feature_mask &= !(feature::GUEST_USO4 | feature::GUEST_USO6);
            config.feature_mask &= !feature::HOST_USO;
        }
        let mut supervisor = Supervisor::new(bus, config, random);
        let pin = config.board_mac.map(|mac| self.stations.pin(&self.name, mac));
        supervisor.set_receive(config.receive, self.interface.addresses());
        Walk {
            start: Instant::now(),
            supervisor,
            _pin: pin,
            station: None,
            last_mac: None,
            worker: None,
            terminal,
            net_device: None,
            changes: Changes::new(),
            removals: RateLimit::new(REMOVALS, 60_000),
            told: Told::new(),
            console_told: Told::new(),
            lines: Lines::new(),
            control: self,
        }
        .run()
    }
}

/// The control thread at work.
struct Walk<B: Bus> {
    control: Control,
    supervisor: Supervisor<B>,
    worker: Option<Worker>,
    terminal: Option<Terminal<B>>,
    start: Instant,
    /// What keeps its MAC address for it, if the operator has named it.
    _pin: Option<Station>,
    /// The place that its MAC address has among those of all boards.
    station: Option<Station>,
    /// The MAC address of the last session.
    last_mac: Option<[u8; 6]>,
    /// The number of the network device that is up.
    net_device: Option<u16>,
    changes: Changes,
    removals: RateLimit,
    told: Told,
    console_told: Told,
    lines: Lines,
}

impl<B: Bus> Walk<B> {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn run(mut self) -> Result<(), DaemonError> {
        loop {
            let waited = self.supervisor.next_attempt().is_some();
            let step = self.supervisor.step(self.now());
            if waited && self.supervisor.next_attempt().is_none() {
                self.control.status.enter(LinkState::Attaching);
            }
            match step.event {
                Some(Supervised::Event(event)) => self.happened(event),
                Some(Supervised::Ended(why)) => self.ended(&why),
                Some(Supervised::Stopped(outcome)) => {
                    self.control.status.enter(LinkState::Stopped);
                    return Ok(outcome?);
                }
                None => {
                    let until = step.wait_until.min(self.step_console());
                    let until = until.min(self.changes.due_at().unwrap_or(u64::MAX));
                    self.wait(until.saturating_sub(self.now()));
                }
            }
            if let Some(change) = self.changes.due(self.now()) {
                self.changed(change);
            }
            self.take_commands();
            self.look_after_worker();
        }
    }

    fn happened(&mut self, event: Event<B>) {
        match event {
            Event::Up(link) => {
                if let Err(error) = self.up(*link) {
                    let why = Ended::Caller(error.to_string());
                    self.end_data();
                    self.supervisor.fail(why);
                }
            }
            Event::Removed { device } if self.net_device == Some(device) => self.removed(),
            Event::Changed(change) => self.changes.add(change),
            Event::Console(link) => {
                if let Some(terminal) = &mut self.terminal {
                    terminal.connect(*link);
                }
            }
            Event::Removed { device } => {
                if self.terminal.as_mut().is_some_and(|terminal| terminal.forget(device))
                    && let Some(untold) = self.lines.console.admit(self.now())
                {
                    log::info!("{}: the board took its console away{untold}", self.control.name);
                }
            }
            // Nobody here asks for a queue's reset.
            Event::QueueReset(_) | Event::QueueUp(_) | Event::Down => {}
        }
    }

    /// Moves what there is on the console: when to look again.
    fn step_console(&mut self) -> u64 {
        let now = self.now();
        let Some(terminal) = &mut self.terminal else { return u64::MAX };
        match terminal.step(now) {
            Ok(until) if terminal.is_connected() => {
                self.supervisor.session().map_or(until, |s| until.min(s.console_look(now)))
            }
            Ok(until) => until,
            Err((device, error)) => {
                // The frames go on: only this device is of no use any more.
                if let Some((level, untold)) = self.console_told.level(&error.to_string(), now) {
                    let name = &self.control.name;
                    log::log!(level, "{name}: the console is left alone: {error}{untold}");
                }
                self.supervisor.leave_device(device);
                now
            }
        }
    }

    /// The board took its network device away; it may bring it back.
    fn removed(&mut self) {
        let (now, name) = (self.now(), &self.control.name);
        if let Some(untold) = self.lines.removed.admit(now) {
            log::warn!("{name}: the board took its network device away{untold}");
        }
        self.net_device = None;
        self.changes.forget();
        self.end_worker();
        self.carrier_off();
        self.control.status.enter(LinkState::NoLink);
        if self.removals.admit(now).is_none() {
            let text =
                "the board takes its network device away again and again; check its firmware";
            self.end_data();
            self.supervisor.fail(Ended::Caller(text.to_owned()));
        }
    }

    /// The board's network device says that its link or its MTU changed.
    fn changed(&mut self, change: NetConfigChange) {
        let now = self.now();
        let Control { name, interface, status, .. } = &mut self.control;
        let mut outcome = Ok(());
        if let Some(up) = change.link_up {
            if let Some(untold) = self.lines.link.admit(now) {
                log::info!(
                    "{name}: the board's link is {}{untold}",
                    if up { "up" } else { "down" }
                );
            }
            outcome = interface.set_carrier(up);
            status.enter(if up { LinkState::Up } else { LinkState::NoLink });
        }
        if let Some(mtu) = change.mtu {
            if let Some(untold) = self.lines.mtu.admit(now) {
                log::info!("{name}: the board takes packets of up to {mtu} bytes{untold}");
            }
            outcome = outcome.and(interface.limit_mtu(mtu));
        }
        if change.announce {
            interface.announce();
            self.supervisor.announced();
        }
        self.report(outcome);
    }

    /// Says what went wrong with the interface, if something did.
    fn report(&mut self, outcome: Result<(), DaemonError>) {
        if let Err(error) = outcome
            && let Some(untold) = self.lines.interface.admit(self.now())
        {
            // What the board takes is the board's affair, the rest is ours.
            let of_board = matches!(error, DaemonError::Mtu(_));
            let level = if of_board { Level::Warn } else { Level::Error };
            log::log!(level, "{}: {error}{untold}", self.control.name);
        }
    }

    /// Tells the kernel what the board takes, and starts the data thread.
    fn up(&mut self, link: Link<B>) -> Result<(), DaemonError> {
        let now = self.now();
        let Link { pair, terms } = link;
        let Control { name, interface, config, counters, status, stations, idle_looks, .. } =
            &mut self.control;
        let mask = Features::new(config.feature_mask);
        let mac = terms.board.mac;
        // In a session its network device may come anew.
        self.station = None;
        let station = stations.enter(name, mac);
        self.station = Some(station.map_err(|other| DaemonError::SameMac { mac, other })?);
        if let Some(last) = self.last_mac.replace(mac).filter(|last| *last != mac)
            && let Some(untold) = self.lines.mac.admit(now)
        {
            let (mac, last) = (Shown(mac), Shown(last));
            log::warn!(
                "{name}: the board's MAC address is {mac} and was {last}: another board; board_mac \
                 refuses such{untold}"
            );
        }
        let port = interface.connect(&terms)?;
        *counters = counters.next_session();
        let looks = Arc::clone(idle_looks);
        self.worker = Some(Worker::start(interface.name(), pair, port, counters.clone(), looks)?);
        self.net_device = Some(terms.device);
        self.changes.forget();
        if let Some(untold) = self.lines.up.admit(now) {
            log::info!(
                "{name}: board \"{}\" is up on {}: {}{untold}",
                terms.board.name,
                interface.name(),
                terms.features
            );
        }
        let features = FeatureReport {
            offered: terms.offered,
            masked: terms.offered.without(mask),
            negotiated: terms.features,
        };
        let link_up = terms.link_up;
        let sessions = self.supervisor.sessions();
        status.change(|status| {
            status.terms = Some(terms);
            status.features = Some(features);
            status.sessions = sessions;
        });
        status.enter(if link_up { LinkState::Up } else { LinkState::NoLink });
        self.told.good();
        Ok(())
    }

    /// The session is over: stops all that touches it, and says why.
    fn ended(&mut self, why: &Ended) {
        self.end_data();
        self.net_device = None;
        self.station = None;
        self.changes.forget();
        self.carrier_off();
        self.supervisor.released(self.now());
        let now = self.now();
        let retry = self.supervisor.next_attempt().map(|at| at.saturating_sub(now));
        let name = &self.control.name;
        let text = why.to_string();
        let next = retry.map(Duration::from_millis).unwrap_or_default();
        // Before it is said: who has read it may ask.
        self.control.status.change(|status| {
            status.failures += 1;
            status.last_failure = Some(text.clone());
            status.retry_at = Some(Instant::now() + next);
            (status.state, status.since) = (LinkState::Waiting, Instant::now());
        });
        if let Some((level, untold)) = self.told.level(&text, now) {
            log::log!(level, "{name}: {text}; next attempt in {:.1} s{untold}", next.as_secs_f64());
        }
    }

    fn carrier_off(&mut self) {
        let outcome = self.control.interface.set_carrier(false);
        self.report(outcome);
    }

    /// Ends all that touches the session's queues.
    fn end_data(&mut self) {
        self.end_worker();
        if let Some(terminal) = &mut self.terminal {
            terminal.disconnect();
        }
    }

    /// Ends the worker, if there is one; what it says is of no use any more.
    fn end_worker(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            let _ = worker.end();
        }
    }

    /// Hears why the worker has ended by itself.
    fn look_after_worker(&mut self) {
        let Some(mut worker) = self.worker.take_if(|worker| worker.has_ended()) else { return };
        self.end_data();
        self.supervisor.fail(match worker.end() {
            Err(DaemonError::Bridge(error)) => Ended::Bridge(error),
            Err(error) => Ended::Caller(error.to_string()),
            Ok(()) => Ended::Caller(DaemonError::ThreadDied.to_string()),
        });
    }

    fn take_commands(&mut self) {
        // Few: each is the operator's.
        loop {
            match self.control.commands.try_recv() {
                Ok(Command::Reset) => {
                    log::info!("{}: the operator asks for a reset", self.control.name);
                    if let Err(error) = self.supervisor.reset_board(self.now()) {
                        log::error!("{}: cannot reset the board: {error}", self.control.name);
                    }
                }
                Ok(Command::Apply(live)) => self.apply(live),
                // With the handle goes the board.
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    self.control.status.enter(LinkState::Stopping);
                    self.end_data();
                    self.carrier_off();
                    self.supervisor.stop(self.now());
                    return;
                }
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    fn apply(&mut self, live: LiveOptions) {
        self.control.idle_looks.store(live.worker.idle_looks, Ordering::Relaxed);
        self.supervisor.set_coalescing(live.coalescing);
        if let Err(error) = self.control.interface.set_addresses(live.addresses) {
            log::error!("{}: {error}", self.control.name);
        }
        // By the addresses that it has now.
        self.supervisor.set_receive(live.receive, self.control.interface.addresses());
    }

    /// Waits for a message interrupt, the worker's end, a command, or
    /// `timeout` (ms).
    fn wait(&self, timeout: u64) {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let session = self.supervisor.session();
        let mut fds = Vec::with_capacity(6);
        fds.push(readable(self.control.wake.fd()));
        fds.extend(self.worker.as_ref().map(|worker| readable(worker.ended())));
        let message = session.and_then(|session| session.message_interrupt()).and_then(Latch::fd);
        fds.extend(message.map(readable));
        let terminal = self.terminal.as_ref().and_then(Terminal::wants);
        fds.extend(terminal.map(|(fd, flags)| PollFd::new(fd, flags)));
        let slow = session.and_then(|session| session.slow_interrupt()).and_then(Latch::fd);
        fds.extend(slow.map(readable));
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        // A signal only makes the session look a little early.
        let _ = poll(&mut fds, timeout);
        self.control.wake.forget();
    }
}

/// A number that differs from daemon to daemon.
fn random() -> Result<u32, DaemonError> {
    use std::io::Read;
    let mut bytes = [0; 4];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(DaemonError::io("read /dev/urandom"))?;
    Ok(u32::from_ne_bytes(bytes))
}
