//! One board under the daemon's care: its threads and its interface.
//!
//! Two threads a board. The *control* thread walks the session (messages,
//! heartbeat, bring-up) and is the only one that reads across the bus; the
//! *worker* moves frames. [`Running`] is the whole of it for a caller: the
//! demo, `virtio-physd`, or somebody else's launcher.

mod control;
mod error;
mod interface;
mod worker;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crate::bridge::BridgeCounters;
use crate::bus::Bus;
use crate::session::{SessionConfig, Terms};

pub use error::DaemonError;
pub use interface::InterfaceOptions;
pub use worker::Stop;

use interface::Interface;
use worker::PublishedCounters;

/// What the operator decides about one board.
#[derive(Clone, Debug)]
pub struct BoardOptions {
    /// The interface that the host sees.
    pub interface: InterfaceOptions,
    /// Rings, buffers, features.
    pub session: SessionConfig,
}

/// A board that is attached and carries frames.
#[derive(Debug)]
pub struct Running {
    stop: Arc<Stop>,
    ended: Arc<Stop>,
    control: Option<JoinHandle<Result<(), DaemonError>>>,
    counters: PublishedCounters,
    terms: Terms,
}

impl Running {
    /// Creates the interface, attaches the board and starts to carry frames.
    /// Returns when the link is up.
    ///
    /// # Errors
    /// [`DaemonError`] says what is wrong and what to do. The interface is gone
    /// again then, and the board detached as far as it answers.
    pub fn start<B: Bus + Send + 'static>(
        bus: B,
        options: BoardOptions,
    ) -> Result<Self, DaemonError> {
        // The interface first: what is wrong with it is the operator's to mend
        // and should not cost the board an attach.
        let interface = Interface::create(&options.interface)?;
        let stop = Arc::new(Stop::new()?);
        let ended = Arc::new(Stop::new()?);
        let tell = Arc::clone(&ended);
        let counters = PublishedCounters::default();
        let (up, is_up) = mpsc::sync_channel(1);
        let control = control::Control {
            interface,
            config: options.session,
            stop: Arc::clone(&stop),
            counters: counters.clone(),
            up,
        };
        let control = thread::Builder::new()
            .name(format!("{}-control", options.interface.name))
            .spawn(move || {
                let outcome = control.run(bus);
                tell.ask();
                outcome
            })
            .map_err(DaemonError::io("start a thread"))?;
        match is_up.recv() {
            Ok(terms) => Ok(Self { stop, ended, control: Some(control), counters, terms }),
            // It ended before the link was up: its error says why.
            Err(mpsc::RecvError) => Err(join(control).err().unwrap_or(DaemonError::ThreadDied)),
        }
    }

    /// The bridge's counters, at most a tenth of a second old.
    #[must_use]
    pub fn counters(&self) -> BridgeCounters {
        self.counters.get()
    }

    /// What the session agreed on.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Becomes readable when the link has ended by itself; [`Running::stop`]
    /// then says why.
    #[must_use]
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.fd()
    }

    /// Detaches the board and removes the interface.
    ///
    /// # Errors
    /// Why the link had ended before, or why the board could not be detached.
    pub fn stop(mut self) -> Result<(), DaemonError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), DaemonError> {
        self.stop.ask();
        self.control.take().map_or(Ok(()), join)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            log::error!("{error}");
        }
    }
}

fn join(thread: JoinHandle<Result<(), DaemonError>>) -> Result<(), DaemonError> {
    thread.join().unwrap_or(Err(DaemonError::ThreadDied))
}
