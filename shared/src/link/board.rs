//! The board's end of the link: publishes the control block, accepts one
//! session at a time, answers bus messages, hands the rest to the devices.

use crate::msg::body::{RegionMessage, ResultCode};
use crate::msg::device::DeviceEndpoint;
use crate::region::RegionTable;
use crate::window::Window;

use super::control::ControlError;
use super::description::{BoardDescription, Epoch};

/// Messages that one [`BoardLink::poll`] handles at most.
pub const BUDGET: usize = 64;

/// What happens to sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    /// A host attached.
    Started {
        /// Its session epoch.
        session: Epoch,
        /// The protocol version it chose.
        version: u16,
    },
    /// The session is over; devices are drained and the region table is empty.
    Ended {
        /// Its session epoch.
        session: Epoch,
    },
}

/// The board around the link: memory and devices.
pub trait BoardModel<W: Window> {
    /// A session began or ended.
    fn session(&mut self, event: SessionEvent);

    /// The host added a region (its numbers are checked, its rights are valid):
    /// the window through which this board reaches it, of exactly its length.
    ///
    /// # Errors
    /// [`ResultCode::OutOfReach`] or [`ResultCode::NoRoom`], which the host is told.
    fn add_region(&mut self, region: &RegionMessage) -> Result<W, ResultCode>;

    /// The host takes a region back that no queue uses. `false`: the DMA
    /// engine is not drained yet (the host asks again).
    fn remove_region(&mut self, id: u8) -> bool;

    /// The device with this number, if there is one; always the same one.
    fn device(&mut self, number: u16) -> Option<&mut dyn DeviceEndpoint<W>>;

    /// The host asks for a reboot of the board. Whether it will happen, after
    /// the answer has gone out.
    fn board_reset(&mut self) -> bool;
}

/// What [`BoardLink::poll`] wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkNext {
    /// Raise vector 0 now.
    pub raise_vector0: bool,
    /// The host announced buffers in band: look at all queues.
    pub look_at_queues: bool,
    /// Call again at this time at the latest, in milliseconds.
    pub come_back_at: u64,
}

/// What the board counted on its link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BoardLinkStats {
    /// Sessions accepted.
    pub sessions: u32,
    /// Sessions refused.
    pub refused: u32,
    /// Messages handled.
    pub messages: u64,
    /// Messages discarded: malformed, out of turn, not for us.
    pub discarded: u64,
    /// Sessions ended because the channel broke.
    pub channel_faults: u32,
    /// Sessions ended because the host fell silent.
    pub silent_hosts: u32,
    /// Events not sent because there was no room in time.
    pub events_dropped: u32,
}

/// A fault that the host is to be told with EVENT_FAULT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultReport {
    /// Device number.
    pub device: u16,
    /// Queue number.
    pub queue: u16,
    /// What the host did.
    pub fault: crate::fault::PeerFault,
}

/// The board's end of the link.
#[derive(Debug)]
pub struct BoardLink<W> {
    control: W,
    description: BoardDescription,
    regions: RegionTable<W>,
    stats: BoardLinkStats,
}

impl<W: Window + Clone> BoardLink<W> {
    /// A link over `control`, the first 16 KiB of BAR `control_bar`, that
    /// will publish `description`. Nothing is written yet.
    ///
    /// # Errors
    /// What in the description breaks a rule.
    pub fn new(
        control: W,
        control_bar: u8,
        description: BoardDescription,
    ) -> Result<Self, ControlError> {
        let _ = control_bar;
        Ok(Self {
            control,
            description,
            regions: RegionTable::new(),
            stats: BoardLinkStats::default(),
        })
    }

    /// Publishes the control block (steps B1 to B3).
    pub fn publish(&mut self, boot: Epoch, now_ms: u64) {
        let _ = (boot, now_ms, &self.control, &self.description);
    }

    /// Looks at the host page and the channel, handles what is due, beats the
    /// heartbeat. Never waits; handles at most [`BUDGET`] messages.
    pub fn poll(
        &mut self,
        now_ms: u64,
        doorbell_rung: bool,
        model: &mut impl BoardModel<W>,
    ) -> LinkNext {
        let _ = (doorbell_rung, model);
        LinkNext { raise_vector0: false, look_at_queues: false, come_back_at: now_ms + 10 }
    }

    /// The regions of the session, empty without one.
    pub const fn regions(&self) -> &RegionTable<W> {
        &self.regions
    }

    /// The session that is being served, if any.
    pub const fn session(&self) -> Option<Epoch> {
        None
    }

    /// Tells the host about a fault, at the next poll. Reports are summed up
    /// while they wait: the newest is sent with the number of all.
    pub const fn report_fault(&mut self, report: FaultReport) {
        let _ = report;
    }

    /// Tells the host that device `number` came (`ready`) or went.
    pub const fn announce(&mut self, number: u16, ready: bool) {
        let _ = (number, ready);
    }

    /// What was counted.
    pub const fn stats(&self) -> &BoardLinkStats {
        &self.stats
    }
}
