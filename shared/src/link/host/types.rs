//! What goes in and out of the host's end of the link.

use crate::address::BusAddress;
use crate::msg::DeviceInfo;
use crate::region::Rights;
use crate::virtq::QueueSize;
use crate::wire::features::Features;
use crate::wire::status::DeviceStatus;

use super::super::control::BarLengths;
use super::super::description::{BoardRegion, Epoch, Versions};
use super::super::refusal::Reason;
#[cfg(doc)]
use super::HostLink;

/// What a host wants of an attach.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Another one than the last attach's.
    pub session: Epoch,
    /// BAR that holds the control block.
    pub control_bar: u8,
    /// Lengths of the BARs, as the bus reports them.
    pub bars: BarLengths,
    /// The protocol versions that this host speaks: [`Versions::OURS`].
    pub versions: Versions,
}

/// Host memory that the caller offers to the board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostRegion {
    /// IOVA.
    pub base: BusAddress,
    /// Length in bytes.
    pub len: u64,
    /// The device's rights.
    pub rights: Rights,
}

/// Board memory that the link gave a bus address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcceptedRegion {
    /// Where it lies.
    pub region: BoardRegion,
    /// Number that both sides call it by.
    pub id: u8,
    /// First bus address.
    pub base: BusAddress,
}

/// Where the caller put a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueuePlacement {
    /// Queue number.
    pub queue: u16,
    /// Entries.
    pub size: QueueSize,
    /// Descriptor area.
    pub descriptors: BusAddress,
    /// Driver area (avail ring).
    pub driver: BusAddress,
    /// Device area (used ring).
    pub device: BusAddress,
    /// Doorbell, from 1 up.
    pub doorbell: u32,
    /// Vector, from 1 up.
    pub vector: u32,
}

/// What is known of the device that is being brought up.
#[derive(Clone, Copy, Debug)]
pub struct DeviceFacts<'a> {
    /// Device number.
    pub device: u16,
    /// What it is.
    pub info: DeviceInfo,
    /// What it offers.
    pub offered: Features,
    /// What was accepted; none before features are chosen.
    pub accepted: Features,
    /// Config space; empty before it was read.
    pub config: &'a [u8],
    /// The largest size of each queue; empty before they were asked.
    pub queue_sizes: &'a [u16],
}

/// Something that the board said while the session ran.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkEvent {
    /// A device changed its config space or status. Read the new config with
    /// [`HostLink::refresh_config`].
    Config {
        /// Device number.
        device: u16,
        /// Its status.
        status: DeviceStatus,
    },
    /// A device needs a reset: [`HostLink::reset_device`], or end the session
    /// and attach again.
    NeedsReset {
        /// Device number.
        device: u16,
    },
    /// The config space that was asked for is in [`HostLink::facts`].
    ConfigRead {
        /// Device number.
        device: u16,
    },
    /// Look at this queue (a board without vectors says so in band).
    Used {
        /// Device number.
        device: u16,
        /// Queue number.
        queue: u16,
    },
    /// The config space took what was written, or did not.
    ConfigWritten {
        /// Device number.
        device: u16,
        /// It did.
        accepted: bool,
    },
    /// The queue is reset: its rings and buffers are the host's.
    QueueReset {
        /// Device number.
        device: u16,
        /// Queue number.
        queue: u16,
    },
    /// The queue is set up again: ring its doorbell.
    QueueUp {
        /// Device number.
        device: u16,
        /// Queue number.
        queue: u16,
    },
    /// The device is reset, as was asked, and is left alone.
    DeviceReset {
        /// Device number.
        device: u16,
    },
    /// Something about the device is wrong, so it was reset and is left alone.
    DeviceRefused {
        /// Device number.
        device: u16,
        /// What.
        reason: Reason,
    },
    /// Whether the board boots again, as was asked.
    BoardReset {
        /// It does: the session ends by itself.
        granted: bool,
    },
    /// The board has let go of this host region: it may be unmapped.
    RegionRemoved {
        /// Its place in the list that was supplied.
        number: u8,
    },
    /// A device came, and is brought up, or went: then it has let go of its
    /// queues, and whatever was asked of it is dropped.
    Device {
        /// Device number.
        device: u16,
        /// 1 ready, 2 removed.
        state: u16,
    },
    /// The board met a fault.
    Fault {
        /// Fault code (docs/safety.md).
        code: u32,
        /// Device number.
        device: u32,
        /// Queue number.
        queue: u32,
        /// Faults so far.
        count: u32,
    },
}

/// Where an attach, session or detach stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Waiting for the board.
    Waiting,
    /// The board is known ([`HostLink::description`],
    /// [`HostLink::board_regions`]): call [`HostLink::supply_regions`].
    NeedRegions,
    /// A device and what it offers are known ([`HostLink::facts`]): call
    /// [`HostLink::supply_features`] or [`HostLink::decline_device`].
    NeedFeatures {
        /// Device number.
        device: u16,
    },
    /// Its config space and queue sizes are known: initialise rings, then call
    /// [`HostLink::supply_queues`] or [`HostLink::decline_device`].
    NeedQueues {
        /// Device number.
        device: u16,
    },
    /// The device just became live: ring its doorbells, begin to use it.
    DeviceUp {
        /// Device number.
        device: u16,
    },
    /// The devices of the attach are up, the session runs, nothing happened.
    Running,
    /// The session runs, and this happened; step again for the next.
    Event(LinkEvent),
    /// Detached. Without `clean` the board did not confirm: have the bus reset
    /// it before its memory is reused.
    Detached {
        /// The board confirmed everything.
        clean: bool,
    },
}

/// What [`HostLink::step`] wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Where things stand.
    pub progress: Progress,
    /// Ring doorbell 0, this many times.
    pub ring: u32,
    /// Step again at this time at the latest, in milliseconds, or when vector
    /// 0 fires. Does not matter where the caller has to supply something.
    pub come_back_at: u64,
}
