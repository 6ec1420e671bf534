//! A board without hardware: the board library with its IP stack, over one
//! bus or another, in a thread ([`EmulatedBoard`]) or as a process of its own.

mod machine;
mod port;
mod talk;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use board::program::{Card, Counters, Order, Surroundings, mac};
use clap::ValueEnum;
use nix::poll::{PollFd, PollFlags};
use virtio_phys_host::bus::sim::SimBus;
use virtio_phys_host::daemon::Stop;

pub(crate) use machine::{Clock, run};
pub(crate) use port::{IvshmemPort, SimPort};
pub(crate) use talk::Talk;

/// What the board is to be like.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Its name.
    pub(crate) name: String,
    /// Tells the MAC addresses of several boards apart.
    pub(crate) number: u8,
    /// Its addresses on the link.
    pub(crate) addresses: Addresses,
    /// What lies behind its network device.
    pub(crate) behind: Behind,
    /// What it does wrong.
    pub(crate) fault: Option<BoardFault>,
}

impl Setup {
    /// The board's own MAC address.
    pub(crate) const fn mac(&self) -> [u8; 6] {
        mac(self.number, Card::Board)
    }
}

/// The board's addresses on the link, with their prefix lengths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) v4: (Ipv4Addr, u8),
    pub(crate) v6: (Ipv6Addr, u8),
}

/// What lies behind the network device.
#[derive(Clone, Debug, ValueEnum)]
pub(crate) enum Behind {
    /// An IP stack: ping, TCP and UDP echo, and a status page.
    Stack,
    /// Each frame comes back, its MAC addresses exchanged.
    Echo,
    /// Code of its own that sends frames to another station.
    #[value(skip)]
    Talker(Talk),
}

/// What the board does wrong, to see how the host takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BoardFault {
    /// It speaks a later version of the protocol only.
    Version,
    /// It does nothing any more.
    Silent {
        /// This many milliseconds after its boot.
        after_ms: u64,
    },
}

/// A board that runs in a thread of this process.
pub(crate) struct EmulatedBoard {
    stop: Arc<Stop>,
    counters: Arc<Mutex<Counters>>,
    thread: JoinHandle<()>,
}

impl EmulatedBoard {
    /// Boots a board on the other end of `bus`.
    pub(crate) fn start(bus: &SimBus, setup: Setup) -> Result<Self> {
        let stop = Arc::new(Stop::new()?);
        let counters = Arc::default();
        let beside = (Arc::clone(&stop), Arc::clone(&counters));
        let port = SimPort(bus.board());
        let thread = thread::Builder::new()
            .name("board".into())
            .spawn(move || {
                let (stop, counters) = beside;
                let mut around =
                    Beside { clock: Clock::new(), port: &port, stop, counters, fault: setup.fault };
                if let Err(error) = run(&port, &setup, &mut around) {
                    log::error!("the emulated board stopped: {error:#}");
                }
            })
            .context("cannot start the board's thread")?;
        Ok(Self { stop, counters, thread })
    }

    /// The counters as of the board's last sleep.
    pub(crate) fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Switches the board off.
    pub(crate) fn stop(self) {
        self.stop.ask();
        // A panic of the board has been printed by the thread itself.
        let _ = self.thread.join();
    }
}

/// The rest of the process, for a board in a thread.
struct Beside<'a> {
    clock: Clock,
    port: &'a SimPort,
    stop: Arc<Stop>,
    counters: Arc<Mutex<Counters>>,
    fault: Option<BoardFault>,
}

impl Surroundings for Beside<'_> {
    fn now_us(&mut self) -> u64 {
        self.clock.now_us()
    }

    fn pause(&mut self, until_us: u64) -> Order {
        let silent = matches!(
            self.fault,
            Some(BoardFault::Silent { after_ms }) if self.clock.now_us() / 1000 >= after_ms
        );
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        loop {
            let bus = self.port.0.doorbell_fd().filter(|_| !silent);
            let mut fds = [readable(self.stop.fd()), readable(bus.unwrap_or(self.stop.fd()))];
            let until_us = if silent { u64::MAX } else { until_us };
            let woken = self.clock.wait(&mut fds, until_us).unwrap_or(0) > 0;
            if woken && fds[0].any().unwrap_or(false) {
                return Order::Off;
            }
            if !silent {
                return Order::Go;
            }
        }
    }

    fn counted(&mut self, counters: &Counters) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = *counters;
    }
}
