//! One board under the daemon's care: its threads and its interface.
//!
//! Two threads a board. The *control* thread walks the sessions (messages,
//! heartbeat, bring-up, one after the other for ever); the *worker* moves frames. [`Board`] is the whole of
//! it for a caller: the demo, `virtio-physd`, or somebody else's launcher.

mod changes;
mod console;
mod control;
mod error;
mod interface;
mod options;
mod stations;
mod status;
mod told;
mod worker;

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use shared::wire::net_control::Coalescing;

use crate::bus::Bus;
use crate::net_control::Receive;
use crate::session::SessionConfig;

pub use error::DaemonError;
pub use options::{BoardOptions, IDLE_LOOKS, InterfaceMode, InterfaceOptions, WorkerOptions};
pub use stations::Stations;
pub use status::{BoardStatus, FeatureReport, LinkState};
pub use worker::Stop;

use console::Terminal;
use interface::Interface;
use status::PublishedStatus;
use worker::{AskAtEnd, PublishedCounters, asked};

/// What may change while a board is attached.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// The interface's addresses with their prefix lengths: others that were
    /// given before are removed.
    pub addresses: Vec<(IpAddr, u8)>,
    /// How its data thread works.
    pub worker: WorkerOptions,
    /// How long the board may put interrupts off.
    pub coalescing: Option<Coalescing>,
    /// Which frames the board is to send.
    pub receive: Receive,
}

/// What a caller asks of the control thread.
#[derive(Debug)]
enum Command {
    Reset,
    Apply(LiveOptions),
    Stop,
}

/// A board under the daemon's care: attached when it is there, attached again
/// when it comes back. Its interface stays until [`Board::stop`]; dropped, it
/// stops as well.
#[derive(Debug)]
pub struct Board {
    status: PublishedStatus,
    counters: PublishedCounters,
    commands: mpsc::Sender<Command>,
    wake: Arc<Stop>,
    ended: Arc<Stop>,
    control: Option<JoinHandle<Result<(), DaemonError>>>,
}

impl Board {
    /// Creates the interface, without carrier, and begins to attach the board.
    ///
    /// # Errors
    /// [`DaemonError`] says what is wrong with the options or the interface and
    /// what to do; nothing is left behind. What is wrong with the board is told by
    /// [`Board::status`].
    pub fn start<B: Bus + Send + 'static>(
        bus: B,
        options: BoardOptions,
    ) -> Result<Self, DaemonError> {
        options.session.check()?;
        // The interface first: what is wrong with it is the operator's to mend
        // and should not cost the board an attach.
        let interface = Interface::create(&options.interface)?;
        let terminal = options.console.as_deref().map(Terminal::open).transpose()?;
        let status = PublishedStatus::new(BoardStatus::new(&options.name, interface.name()))?;
        let (wake, ended) = (Arc::new(Stop::new()?), Arc::new(Stop::new()?));
        let tell = (DeathNotice(status.clone()), AskAtEnd(Arc::clone(&ended)));
        let counters = PublishedCounters::default();
        let (commands, taken) = mpsc::channel();
        let name = interface.name().to_owned();
        let control = control::Control {
            name: options.name,
            interface,
            config: SessionConfig { console: terminal.is_some(), ..options.session },
            commands: taken,
            wake: Arc::clone(&wake),
            counters: counters.clone(),
            status: status.clone(),
            stations: options.stations,
            idle_looks: Arc::new(AtomicU32::new(options.worker.idle_looks)),
        };
        let control = thread::Builder::new()
            .name(format!("{name}-control"))
            .spawn(move || {
                let _tell = tell;
                control.run(bus, terminal)
            })
            .map_err(DaemonError::io("start a thread"))?;
        Ok(Self { status, counters, commands, wake, ended, control: Some(control) })
    }

    /// What is known of the board: a copy, at most a tenth of a second old.
    /// Never waits for the board.
    #[must_use]
    pub fn status(&self) -> BoardStatus {
        BoardStatus { counters: self.counters.get(), ..self.status.get() }
    }

    /// Becomes readable when the status has changed, counters apart, and stays
    /// so until [`Board::acknowledge`].
    #[must_use]
    pub fn changed(&self) -> BorrowedFd<'_> {
        self.status.changed()
    }

    /// Makes [`Board::changed`] unreadable until the next change. Ask for the
    /// status behind it.
    pub fn acknowledge(&self) {
        self.status.acknowledge();
    }

    /// Becomes readable when the board's control thread has ended, which only
    /// [`Board::stop`] or a bug does.
    #[must_use]
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.fd()
    }

    /// Whether it has.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        asked(&self.ended)
    }

    /// Has the board reset. The link comes back by itself.
    pub fn reset(&self) {
        self.ask(Command::Reset);
    }

    /// Changes what may change while the board is attached.
    pub fn apply(&self, live: LiveOptions) {
        self.ask(Command::Apply(live));
    }

    /// Begins what [`Board::stop`] does, without waiting: it is done when
    /// [`Board::has_ended`], and [`Board::stop`] then returns at once.
    pub fn begin_stop(&self) {
        if !self.has_ended() {
            self.status.enter(LinkState::Stopping);
        }
        self.ask(Command::Stop);
    }

    /// Detaches the board and removes the interface.
    ///
    /// # Errors
    /// The board did not let go by itself, and was reset.
    pub fn stop(mut self) -> Result<(), DaemonError> {
        self.end()
    }

    fn ask(&self, command: Command) {
        // A control thread that is gone has nothing to do.
        let _ = self.commands.send(command);
        self.wake.ask();
    }

    fn end(&mut self) -> Result<(), DaemonError> {
        self.ask(Command::Stop);
        let Some(control) = self.control.take() else { return Ok(()) };
        control.join().unwrap_or(Err(DaemonError::ThreadDied))
    }
}

/// Says at the end of the control thread that the board is cared for no more,
/// unless the thread ended as it should.
struct DeathNotice(PublishedStatus);

impl Drop for DeathNotice {
    fn drop(&mut self) {
        self.0.change(|status| {
            if status.state != LinkState::Stopped {
                (status.state, status.since) = (LinkState::Failed, Instant::now());
                let died = DaemonError::ThreadDied;
                status.last_failure = Some(format!("{died}. Restart the daemon"));
                status.retry_at = None;
            }
        });
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            log::error!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> PublishedStatus {
        PublishedStatus::new(BoardStatus::new("b0", "vphys0")).unwrap()
    }

    #[test]
    fn a_control_thread_that_dies_is_no_link_that_is_up() {
        let status = published();
        status.enter(LinkState::Up);
        status.acknowledge();
        let (ended, told) = (Arc::new(Stop::new().unwrap()), status.clone());
        let tell = (DeathNotice(told), AskAtEnd(Arc::clone(&ended)));
        let thread = thread::spawn(move || {
            let _tell = tell;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert!(asked(&ended));
        let status = status.get();
        assert_eq!(status.state, LinkState::Failed);
        assert_eq!(status.state.to_string(), "failed");
        assert_eq!(
            status.last_failure.as_deref(),
            Some(
                "a thread of the daemon died: a bug, its message is in the log. Restart the daemon"
            )
        );
    }

    #[test]
    fn a_control_thread_that_ends_as_it_should_leaves_no_failure() {
        let status = published();
        status.enter(LinkState::Stopped);
        drop(DeathNotice(status.clone()));
        let status = status.get();
        assert_eq!((status.state, status.last_failure), (LinkState::Stopped, None));
    }
}
