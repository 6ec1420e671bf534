//! A board without hardware: the board library with its IP stack, over one
//! bus or another, in a thread ([`EmulatedBoard`]) or as a process of its own.

mod machine;
mod port;
mod talker;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use board::service::ServiceStats;
use board::trace::NetCounters;
use clap::ValueEnum;
use nix::poll::{PollFd, PollFlags};
use shared::virtq::QueueStats;
use virtio_phys_host::bus::sim::SimBus;
use virtio_phys_host::daemon::Stop;

pub(crate) use machine::{Order, Surroundings, run, wait};
pub(crate) use port::{IvshmemPort, Port};
pub(crate) use talker::{Talk, Tally, Task};

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
        machine::mac(self.number, machine::Card::Board)
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

/// What the board has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BoardCounters {
    pub(crate) net: NetCounters,
    pub(crate) service: ServiceStats,
    /// The receiveq's and the transmitq's.
    pub(crate) queues: [QueueStats; 2],
}

/// A board that runs in a thread of this process.
pub(crate) struct EmulatedBoard {
    stop: Arc<Stop>,
    counters: Arc<Mutex<BoardCounters>>,
    thread: JoinHandle<()>,
}

impl EmulatedBoard {
    /// Boots a board on the other end of `bus`.
    pub(crate) fn start(bus: &SimBus, setup: Setup) -> Result<Self> {
        let stop = Arc::new(Stop::new()?);
        let counters = Arc::default();
        let mut around = Beside { stop: Arc::clone(&stop), counters: Arc::clone(&counters) };
        let port = bus.board();
        let thread = thread::Builder::new()
            .name("board".into())
            .spawn(move || {
                if let Err(error) = run(&port, &setup, &mut around) {
                    log::error!("the emulated board stopped: {error:#}");
                }
            })
            .context("cannot start the board's thread")?;
        Ok(Self { stop, counters, thread })
    }

    /// The counters as of the board's last sleep.
    pub(crate) fn counters(&self) -> BoardCounters {
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
struct Beside {
    stop: Arc<Stop>,
    counters: Arc<Mutex<BoardCounters>>,
}

impl Surroundings for Beside {
    fn pause(&mut self, bus: Option<BorrowedFd<'_>>, timeout: u64) -> Order {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [readable(self.stop.fd()), readable(bus.unwrap_or(self.stop.fd()))];
        let asked = wait(&mut fds, timeout).unwrap_or(0) > 0 && fds[0].any().unwrap_or(false);
        if asked { Order::Off } else { Order::Go }
    }

    fn counted(&mut self, counters: &BoardCounters) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = *counters;
    }
}
