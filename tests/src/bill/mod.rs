//! What a packet costs on the bus, measured on both ends in lockstep.
//!
//! [`Awake`] is a flow: both directions at once, in batches, neither side ever
//! out of work. [`Asleep`] is the other extreme: one frame at a time, both
//! sides asleep before it. [`Table`] prints them for every layout.

mod table;

use host::bus::sim::{Bill, Counts, Initiator, Plane};
use host::session::Layout;

use crate::lockstep::{Failure, Lockstep};

pub use table::Table;

/// Every layout, the product's own first.
pub const LAYOUTS: [Layout; 3] = [Layout::Split, Layout::BarOnly, Layout::AllHost];

/// The directions, as the bill tells them apart.
pub const DIRECTIONS: [Plane; 2] = [Plane::ToBoard, Plane::ToHost];

/// Frames each way before anything is counted: several laps of both rings.
const WARM_UP: u32 = 4096;

/// What frames cost one initiator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Words and payload read across the bus.
    pub bus_reads: u64,
    /// Words stored, in own memory and across the bus.
    pub control_stores: u64,
    /// Payload across the bus, in bytes: stored and read.
    pub payload: (u64, u64),
    /// Doorbells or interrupts.
    pub notifications: u64,
    /// Packets on the bus, uncombined and combined.
    pub tlps: (u64, u64),
}

impl From<Counts> for Cost {
    fn from(counts: Counts) -> Self {
        let across = counts.remote;
        Self {
            bus_reads: counts.bus_reads(),
            control_stores: counts.control_stores(),
            payload: (across.payload_store_bytes, across.payload_load_bytes),
            notifications: counts.doorbells + counts.interrupts,
            tlps: (counts.tlps_uncached, counts.tlps_combined),
        }
    }
}

/// A flow in both directions at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Awake {
    /// The layout.
    pub layout: Layout,
    /// Frames that each step found waiting.
    pub batch: u32,
    /// Frames each way.
    pub frames: u64,
    /// All that the bus was asked to do.
    pub bill: Bill,
}

impl Awake {
    /// Sends `frames` frames each way in batches of `batch`.
    ///
    /// # Errors
    /// One end gave up.
    pub fn measure(layout: Layout, batch: u32, frames: u32) -> Result<Self, Failure> {
        let mut link = Lockstep::new(layout)?;
        flow(&mut link, batch, WARM_UP)?;
        let before = link.bill();
        let sent = flow(&mut link, batch, frames)?;
        Ok(Self { layout, batch, frames: sent, bill: link.bill() - before })
    }

    /// What `who` paid for one direction.
    #[must_use]
    pub fn cost(&self, who: Initiator, direction: Plane) -> Cost {
        self.bill[(who, direction)].into()
    }
}

/// Moves at least `frames` frames each way, in whole batches; returns how many.
///
/// # Errors
/// One end gave up, or a frame went missing.
pub fn flow(link: &mut Lockstep, batch: u32, frames: u32) -> Result<u64, Failure> {
    let (came_up, came_down) = (link.port.came, link.board().came);
    for _ in 0..frames.div_ceil(batch) {
        link.port.waiting += batch;
        link.board().waiting += batch;
        link.host_step()?;
        link.board_step();
    }
    // What the board sent last waits for the host.
    link.host_step()?;
    let (up, down) = (link.port.came - came_up, link.board().came - came_down);
    let sent = u64::from(frames.div_ceil(batch) * batch);
    if (up, down) == (sent, sent) {
        Ok(sent)
    } else {
        Err(format!("of {sent} frames each way {down} and {up} arrived").into())
    }
}

/// One frame at a time in one direction, both sides asleep before each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asleep {
    /// The layout.
    pub layout: Layout,
    /// The direction.
    pub direction: Plane,
    /// Frames.
    pub frames: u64,
    /// Sleeps of the host and of the board.
    pub sleeps: (u64, u64),
    /// Event words read back before them.
    pub flushes: (u64, u64),
    /// All that the bus was asked to do.
    pub bill: Bill,
}

impl Asleep {
    /// Sends `frames` frames one by one.
    ///
    /// # Errors
    /// One end gave up.
    pub fn measure(layout: Layout, direction: Plane, frames: u32) -> Result<Self, Failure> {
        let mut link = Lockstep::new(layout)?;
        flow(&mut link, 1, WARM_UP)?;
        link.host_to_sleep()?;
        link.board_to_sleep();
        let (before, flushed) = (link.bill(), link.sleep_flushes());
        let slept = link.sleeps();
        for _ in 0..frames {
            if direction == Plane::ToBoard {
                link.port.waiting = 1;
                // The port wakes the host, a doorbell the board.
                link.host_to_sleep()?;
                link.board_to_sleep();
            } else {
                link.board().waiting = 1;
                // The board's own code wakes it, an interrupt the host.
                link.board_to_sleep();
                link.host_to_sleep()?;
            }
        }
        let (flushes, sleeps) = (link.sleep_flushes(), link.sleeps());
        Ok(Self {
            layout,
            direction,
            frames: u64::from(frames),
            sleeps: (sleeps.0 - slept.0, sleeps.1 - slept.1),
            flushes: (flushes.0 - flushed.0, flushes.1 - flushed.1),
            bill: link.bill() - before,
        })
    }

    /// What `who` paid, for whichever queue.
    #[must_use]
    pub fn cost(&self, who: Initiator) -> Cost {
        self.bill.data(who).into()
    }
}
