//! The simulated PCIe bus: an instrument with two faces.
//!
//! A [`SimBus`] joins a host ([`SimHostPort`], the [`Bus`](super::Bus) of the
//! layers above) and a board ([`SimBoardPort`], what a board-support package
//! stands on). Both see the same two memories, host memory and BAR 0, through
//! [`SimWindow`]s that belong to one of three [`Initiator`]s.
//!
//! - **Instrument mode** does to stores and loads all that the rules allow:
//!   they wait in store buffers, leave in any order that the barriers leave
//!   open, travel in posted queues, and loads see the past. A seed decides.
//!   For one thread at a time (any may be that one). [`FaultHook`]s break
//!   single accesses, [`BrokenOrder`] breaks whole rules.
//! - **Counted mode** is plain shared memory between threads, with eventfds.
//!
//! Both keep the [`Bill`]. What each kind of access does is a table in
//! docs/testing.md, "The simulated bus"; `tests/litmus.rs` holds it line by
//! line.
//!
//! A window never fails: what does not fit, what the IOMMU refuses, and what
//! goes to a dead board is dropped or gives all ones, as on a real bus.
//!
//! Not for: time (that is counted in steps).

mod access;
mod board_port;
mod core;
mod counted;
mod faults;
mod host_port;
mod machine;
mod memory;
mod options;
mod presence;
mod schedule;
#[cfg(test)]
mod tests;
mod window;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16};
use std::sync::{Arc, Mutex};

use shared::link::DoorbellDescription;
use shared::region::Rights;

pub use access::{Access, AccessKind};
pub use board_port::SimBoardPort;
pub use faults::{Fault, FaultHook};
pub use host_port::{DOORBELL_BAR, DOORBELL_STRIDE, SimDoorbell, SimHostPort, SimInterrupt};
pub use options::{BrokenOrder, Instrument, Mode, OutboundLimits, SimOptions};
pub use schedule::Profile;
pub use window::SimWindow;

use self::core::{Core, Engine, lock};
use super::BusError;
pub use super::bill::{Accesses, Bill, Counts, Initiator, Label, Plane, Side};
use super::bill::{MemoryLabels, Meter, NotificationLabels};
use crate::raw::SharedMemory;
use counted::Signals;
use machine::{Machine, Reset};
use memory::{Directory, Memory};
use presence::Presence;

/// Bytes of a line of the board processor's cache.
pub const CACHE_LINE: u64 = machine::LINE as u64;

/// A host and a board joined by a simulated bus. Clones are the same bus.
#[derive(Clone, Debug)]
pub struct SimBus {
    core: Arc<Core>,
}

impl SimBus {
    /// Makes a bus; all memory is zero.
    ///
    /// # Errors
    /// [`BusError::System`] where the kernel gives no memory or eventfds.
    pub fn new(options: SimOptions) -> Result<Self, BusError> {
        let options = SimOptions {
            vectors: options.vectors.min(64),
            doorbells: options.doorbells.min(64),
            ..options
        };
        let len = options.bar_len;
        let board = Arc::new(Presence::default());
        let meter = Arc::new(Meter::new());
        let bytes = usize::try_from(len).map_err(|_| too_long())?;
        let bar = |id, ram| {
            Arc::new(Memory {
                labels: MemoryLabels::new(options.bar_link_len),
                id,
                home: Side::Board,
                base: 0,
                len,
                rights: Rights::READ_WRITE,
                live: AtomicBool::new(true),
                ram,
            })
        };
        let (engine, bar) = match options.mode {
            Mode::Instrument(settings) => {
                let mut machine = Machine::new(settings, Arc::clone(&board), Arc::clone(&meter));
                let bar = machine.add_memory(bytes, |id| bar(id, None));
                (Engine::Instrument(Arc::new(Mutex::new(machine))), bar)
            }
            Mode::Counted => {
                let what = "set up the simulated board";
                let system = |error| BusError::System { what, error };
                let signals = Signals::new(options.vectors).map_err(system)?;
                let memory = SharedMemory::new(bytes).map_err(system)?;
                (Engine::Counted(signals), bar(0, Some(memory.window())))
            }
        };
        Ok(Self {
            core: Arc::new(Core {
                options,
                bar,
                directory: Mutex::new(Directory::default()),
                outbound_open: AtomicU16::new(0),
                board,
                meter,
                engine,
                notifications: NotificationLabels::default(),
            }),
        })
    }

    /// The host's face.
    #[must_use]
    pub fn host(&self) -> SimHostPort {
        SimHostPort::new(Arc::clone(&self.core))
    }

    /// The board's face.
    #[must_use]
    pub fn board(&self) -> SimBoardPort {
        SimBoardPort::new(Arc::clone(&self.core))
    }

    /// BAR 0's length in bytes.
    #[must_use]
    pub fn bar_len(&self) -> u64 {
        self.core.bar.len
    }

    /// What the board's control block says of its doorbells: one register
    /// each, any value rings.
    #[must_use]
    pub fn doorbells(&self) -> DoorbellDescription {
        self.board().doorbells()
    }

    /// What the bus has been asked to do so far.
    #[must_use]
    pub fn bill(&self) -> Bill {
        self.core.meter.bill()
    }

    /// Bills accesses to these stretches (BAR, or `None` for host memory;
    /// first byte; length), and these doorbells and vectors, to `plane`. Once
    /// for each memory: all of a session's labels come in one call.
    pub fn label(&self, labels: &[Label<'_>]) {
        let set = |memory: &Memory, bar| memory.labels.set(labels, bar, memory.base, memory.len);
        set(&self.core.bar, Some(0));
        for memory in self.core.directory().iter() {
            set(memory, None);
        }
        self.core.notifications.set(labels);
    }

    fn machine(&self) -> Option<&Mutex<Machine>> {
        match &self.core.engine {
            Engine::Instrument(machine) => Some(machine),
            Engine::Counted(_) => None,
        }
    }

    /// Lets `steps` steps of the schedule pass: stores leave their buffers,
    /// posted writes arrive. Nothing in counted mode.
    pub fn run(&self, steps: u64) {
        if let Some(machine) = self.machine() {
            lock(machine).run(steps);
        }
    }

    /// Tells the bus the time, which fault hooks see, and runs one step.
    pub fn tick(&self, now: u64) {
        if let Some(machine) = self.machine() {
            lock(machine).tick(now);
        }
    }

    /// Lets everything that is under way arrive, what faults delay included.
    pub fn settle(&self) {
        if let Some(machine) = self.machine() {
            lock(machine).settle();
        }
    }

    /// Puts a fault hook in, or takes it out.
    ///
    /// # Errors
    /// [`BusError::NotInstrument`] in counted mode.
    pub fn set_faults(&self, hook: Option<Box<dyn FaultHook>>) -> Result<(), BusError> {
        let machine = self.machine().ok_or(BusError::NotInstrument { what: "fault injection" })?;
        lock(machine).set_hook(hook);
        Ok(())
    }

    /// From here on the board answers all ones and sends nothing. What it had
    /// on the bus before still arrives.
    pub fn kill_board(&self) {
        self.core.board.die();
    }

    /// The board answers again, its memory as it was.
    pub fn revive_board(&self) {
        self.core.board.revive();
    }

    /// The card is pulled out: as [`kill_board`](Self::kill_board), and the
    /// host's [`reset`](super::Bus::reset) finds no card either.
    pub fn unplug_board(&self) {
        self.core.board.unplug();
    }

    /// The card is back, without what its memory held. The board finds a reset
    /// ([`SimBoardPort::take_reset`]) and is silent before it has.
    pub fn replug_board(&self) {
        let bar = &self.core.bar;
        match &self.core.engine {
            Engine::Instrument(machine) => lock(machine).wipe(bar.id),
            Engine::Counted(_) => bar.wipe(),
        }
        self.core.start_over(Reset::Bus);
        self.core.board.revive();
    }

    /// The board starts over by itself: a watchdog, a crash. What it has sent
    /// still arrives. It finds a reset and is silent before it has.
    pub fn reboot_board(&self) {
        self.core.start_over(Reset::Board);
    }

    /// How much host memory the board can reach right now, in bytes.
    #[must_use]
    pub fn shared_bytes(&self) -> u64 {
        self.core.directory().shared_bytes()
    }
}

fn too_long() -> BusError {
    let what = "set up the simulated board";
    BusError::System { what, error: io::Error::from(io::ErrorKind::OutOfMemory) }
}
