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
use worker::{AskAtEnd, PublishedCounters};

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
    interface: String,
    stop: Arc<Stop>,
    ended: Arc<Stop>,
    control: Option<JoinHandle<Result<(), DaemonError>>>,
    counters: PublishedCounters,
    terms: Terms,
}

/// A board that is being attached. Dropped, it is let go of again.
#[derive(Debug)]
pub struct Starting {
    interface: String,
    stop: Arc<Stop>,
    ended: Arc<Stop>,
    settled: Arc<Stop>,
    control: Option<JoinHandle<Result<(), DaemonError>>>,
    counters: PublishedCounters,
    is_up: mpsc::Receiver<Terms>,
}

impl Starting {
    /// Creates the interface and begins to attach the board.
    ///
    /// # Errors
    /// [`DaemonError`] says what is wrong with the interface and what to do;
    /// nothing is left behind.
    pub fn begin<B: Bus + Send + 'static>(
        bus: B,
        options: BoardOptions,
    ) -> Result<Self, DaemonError> {
        // The interface first: what is wrong with it is the operator's to mend
        // and should not cost the board an attach.
        let interface = Interface::create(&options.interface)?;
        let stop = Arc::new(Stop::new()?);
        let ended = Arc::new(Stop::new()?);
        let settled = Arc::new(Stop::new()?);
        let tell = [&ended, &settled].map(|stop| AskAtEnd(Arc::clone(stop)));
        let counters = PublishedCounters::default();
        let (up, is_up) = mpsc::sync_channel(1);
        let name = interface.name().to_owned();
        let control = control::Control {
            interface,
            config: options.session,
            stop: Arc::clone(&stop),
            counters: counters.clone(),
            up,
            settled: Arc::clone(&settled),
        };
        let control = thread::Builder::new()
            .name(format!("{name}-control"))
            .spawn(move || {
                let _tell = tell;
                control.run(bus)
            })
            .map_err(DaemonError::io("start a thread"))?;
        let control = Some(control);
        Ok(Self { interface: name, stop, ended, settled, control, counters, is_up })
    }

    /// The interface's name.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Becomes readable when [`Starting::finish`] need not wait any more.
    #[must_use]
    pub fn settled(&self) -> BorrowedFd<'_> {
        self.settled.fd()
    }

    /// Waits until the link is up.
    ///
    /// # Errors
    /// Why it did not come up. The interface is gone again then, and the board
    /// detached as far as it answers.
    pub fn finish(mut self) -> Result<Running, DaemonError> {
        match self.is_up.recv() {
            Ok(terms) => Ok(Running {
                interface: std::mem::take(&mut self.interface),
                stop: Arc::clone(&self.stop),
                ended: Arc::clone(&self.ended),
                control: self.control.take(),
                counters: self.counters.clone(),
                terms,
            }),
            // It ended before the link was up: its error says why.
            Err(mpsc::RecvError) => Err(self
                .control
                .take()
                .map_or(Ok(()), join)
                .err()
                .unwrap_or(DaemonError::ThreadDied)),
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(control) = self.control.take() {
            self.stop.ask();
            if let Err(error) = join(control) {
                log::debug!("given up: {error}");
            }
        }
    }
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
        Starting::begin(bus, options)?.finish()
    }

    /// The interface's name.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
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
