//! A board in a thread whose windows and interrupts lie: everything that a host
//! sees of a board is stores in its windows, and interrupts.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use board::device::net::Echo;
use board::dma::CpuCopy;
use board::program::{Memory, Order, Port, Setup, Surroundings, Wiring, boot};
use board::support::Doorbells;
use host::bus::sim::{SimBoardPort, SimBus, SimWindow};
use host::daemon::Stop;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shared::address::BusAddress;
use shared::link::{Epoch, Heartbeat, Outbound, Versions};
use shared::window::{Barrier, Window, Word};

use super::faults::{Fault, Place};

/// What the wrapper remembers between stores.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// The first value of a word that is to stay, or the last one.
    pub(super) first: Option<u32>,
}

/// The board's face of the bus, with a fault in it.
#[derive(Clone, Debug)]
pub(super) struct Wires {
    bus: SimBoardPort,
    fault: Option<Fault>,
    memo: Arc<Mutex<Memo>>,
}

/// A window through which a fault stores.
#[derive(Clone, Debug)]
pub(super) struct Lying {
    window: SimWindow,
    place: Place,
    start: u64,
    fault: Option<Fault>,
    memo: Arc<Mutex<Memo>>,
}

impl Window for Lying {
    fn len(&self) -> u64 {
        self.window.len()
    }

    fn load<T: Word>(&self, offset: u64) -> T {
        self.window.load(offset)
    }

    fn store<T: Word>(&self, offset: u64, value: T) {
        let Some(fault) = self.fault else { return self.window.store(offset, value) };
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.start + offset;
        if let Some(value) = fault.store(self.place, at, T::BYTES, value.to_u64(), &mut memo) {
            self.window.store(offset, T::from_u64(value));
        }
        fault.behind(
            self.place,
            at,
            |at, value| {
                if let Some(offset) = at.checked_sub(self.start) {
                    self.window.store(offset, value);
                }
            },
            |at| at.checked_sub(self.start).map_or(0, |offset| self.window.load(offset)),
        );
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        self.window.read(offset, into);
        if let Some(fault) = self.fault {
            fault.request(self.place, into);
        }
    }

    fn write(&self, offset: u64, from: &[u8]) {
        let mut bytes = from.to_vec();
        if let Some(fault) = self.fault {
            let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
            fault.write(self.place, &mut bytes, &mut memo);
        }
        self.window.write(offset, &bytes);
    }

    fn barrier(&self, barrier: Barrier) {
        self.window.barrier(barrier);
    }

    fn part(&self, offset: u64, len: u64) -> Option<Self> {
        let window = self.window.part(offset, len)?;
        Some(Self { window, start: self.start + offset, memo: Arc::clone(&self.memo), ..*self })
    }
}

impl Wires {
    fn lying(&self, window: SimWindow, place: Place, start: u64) -> Lying {
        Lying { window, place, start, fault: self.fault, memo: Arc::clone(&self.memo) }
    }
}

impl Port for Wires {
    type Window = Lying;
    type Engine = CpuCopy;

    fn wiring(&self) -> Wiring {
        let limits = self.bus.limits();
        Wiring {
            bar_len: self.bus.bar_len(),
            doorbell: self.bus.doorbells(),
            outbound: Some(Outbound {
                windows: limits.windows.into(),
                size: limits.window_len,
                alignment: limits.alignment,
                address_bits: limits.address_bits.into(),
            }),
            vectors: 4,
            dma_engine: false,
        }
    }

    fn memory(&self, offset: u64, len: u64) -> Option<Lying> {
        let place = if offset == 0 { Place::Control } else { Place::Memory };
        Some(self.lying(self.bus.memory(offset, len).ok()?, place, offset))
    }

    fn outbound(&self, iova: BusAddress, len: u64) -> Option<Lying> {
        let window = self.bus.outbound(iova, len).ok()?;
        // Its page is what tells the kit's rings from its status page.
        Some(self.lying(window, Place::Host, 0))
    }

    fn take_doorbells(&self) -> Doorbells {
        if self.fault == Some(Fault::Storm) {
            for vector in 1..4 {
                self.bus.raise(vector);
            }
        }
        Doorbells(u32::try_from(self.bus.take_doorbells()).unwrap_or(u32::MAX))
    }

    fn raise(&self, vector: u16) {
        let lost = match self.fault {
            Some(Fault::NoInterrupt) => vector > 0,
            Some(Fault::NoMessageInterrupt) => vector == 0,
            _ => false,
        };
        if !lost {
            self.bus.raise(vector);
        }
    }

    fn take_reset(&self) -> bool {
        self.bus.take_reset()
    }
}

/// A board that runs until it is dropped.
pub(super) struct Planted {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

/// Ten times a second: the kit waits the sooner for what does not come. Many boards
/// and kits share few processors, so that a kit may not beat for a while; of a board
/// that hangs it is to be known soon.
const fn heartbeat(fault: Option<Fault>) -> Heartbeat {
    let misses = if matches!(fault, Some(Fault::Hangs)) { 4 } else { 20 };
    Heartbeat { interval_ms: 100, misses }
}

impl Planted {
    /// Boots an echo board with a fault on the other end of `bus`.
    pub(super) fn start(bus: &SimBus, fault: Option<Fault>) -> Self {
        let stop = Arc::new(Stop::new().unwrap());
        let port = Wires { bus: bus.board(), fault, memo: Arc::default() };
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let setup = Setup {
                name: "planted",
                firmware: "1",
                number: 7,
                versions: Versions::OURS,
                heartbeat: heartbeat(fault),
            };
            let mut memory = Box::new(Memory::new());
            let mut around =
                Around { start: Instant::now(), bus: port.bus.clone(), stop: stopped, fault };
            let mut epoch = Epoch::from_random(0x0B00_7001);
            while boot(&port, &setup, epoch, &mut memory, Echo::swapping(), &mut around).unwrap()
                != Order::Off
            {
                epoch = epoch.next();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        self.stop.ask();
        if let Some(thread) = self.thread.take() {
            // A board that panicked fails the points, and says so itself.
            let _ = thread.join();
        }
    }
}

/// Time, and waits.
struct Around {
    start: Instant,
    bus: SimBoardPort,
    stop: Arc<Stop>,
    fault: Option<Fault>,
}

impl Surroundings for Around {
    fn now_us(&mut self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn pause(&mut self, until_us: u64) -> Order {
        let left = Duration::from_micros(until_us.saturating_sub(self.now_us()));
        let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let doorbells = self.bus.doorbell_fd();
        let fds = [Some(self.stop.fd()), doorbells].into_iter().flatten();
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        if self.fault == Some(Fault::Hangs) && self.bus.take_doorbells() & 1 == 1 {
            // Until it is switched off.
            fds.truncate(1);
            let _ = poll(&mut fds, PollTimeout::NONE);
            return Order::Off;
        }
        let _ = poll(&mut fds, limit);
        if fds[0].any().unwrap_or(false) { Order::Off } else { Order::Go }
    }
}
