//! The host's end of the link: the numbered steps of the attach, then the
//! watch over the session, then the detach (docs/protocol.md, "Bring-up").

use crate::address::BusAddress;
use crate::msg::DeviceInfo;
use crate::region::Rights;
use crate::virtq::QueueSize;
use crate::window::Window;
use crate::wire::features::Features;
use crate::wire::status::DeviceStatus;

use super::control::BarLengths;
use super::description::{BoardDescription, BoardRegion, Epoch};
use super::refusal::Refusal;
use super::words::LinkGuard;

/// What a host wants of an attach.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Another one than the last attach's.
    pub session: Epoch,
    /// BAR that holds the control block.
    pub control_bar: u8,
    /// Lengths of the BARs, as the bus reports them.
    pub bars: BarLengths,
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
    /// A device needs a reset: end the session and attach again.
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
    /// A device came or went.
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
    /// All devices are up, the session runs, nothing happened.
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

/// The host's end of the link, for one session.
#[derive(Debug)]
pub struct HostLink<W> {
    control: W,
    options: HostOptions,
    description: Option<BoardDescription>,
}

impl<W: Window + Clone> HostLink<W> {
    /// A link over `control`, the window on the whole control BAR.
    pub const fn new(control: W, options: HostOptions) -> Self {
        Self { control, options, description: None }
    }

    /// Goes on. Never waits.
    ///
    /// # Errors
    /// The step that refused and why; the link is over then: make a new one,
    /// with another session epoch, after a back-off.
    pub fn step(&mut self, now_ms: u64, vector0_fired: bool) -> Result<Step, Refusal> {
        let _ = (vector0_fired, &self.control, &self.options);
        Ok(Step { progress: Progress::Waiting, ring: 0, come_back_at: now_ms + 10 })
    }

    /// What the board says about itself, from step 2 on.
    pub const fn description(&self) -> Option<&BoardDescription> {
        self.description.as_ref()
    }

    /// The board's regions with the bus addresses that they have or will have.
    pub fn board_regions(&self) -> impl Iterator<Item = AcceptedRegion> + '_ {
        core::iter::empty()
    }

    /// Answers [`Progress::NeedRegions`]: the host's regions, the first one
    /// device-writable with the status page at its start, and the window on
    /// that page. Empty and `None` for a BAR-only session.
    ///
    /// # Errors
    /// What is wrong with them, or [`super::Reason::OutOfTurn`].
    pub fn supply_regions(
        &mut self,
        regions: &[HostRegion],
        status: Option<W>,
    ) -> Result<(), Refusal> {
        let _ = (regions, status);
        Ok(())
    }

    /// The device that is being brought up, or whose config was read last.
    pub const fn facts(&self) -> Option<DeviceFacts<'_>> {
        None
    }

    /// Answers [`Progress::NeedFeatures`]: the features to accept.
    ///
    /// # Errors
    /// If they are not a subset of those offered, or lack a required one.
    pub fn supply_features(&mut self, accepted: Features) -> Result<(), Refusal> {
        let _ = accepted;
        Ok(())
    }

    /// Answers [`Progress::NeedQueues`]: the queues to set up, by rising
    /// number; their rings are initialised. At most 64.
    ///
    /// # Errors
    /// If one of them cannot be.
    pub fn supply_queues(&mut self, queues: &[QueuePlacement]) -> Result<(), Refusal> {
        let _ = queues;
        Ok(())
    }

    /// Answers [`Progress::NeedFeatures`] or [`Progress::NeedQueues`]: leave
    /// this device alone (it is reset) and go on with the next.
    ///
    /// # Errors
    /// [`super::Reason::OutOfTurn`].
    pub fn decline_device(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    /// While the session runs: read a device's config space again;
    /// [`LinkEvent::ConfigRead`] says when it is there.
    ///
    /// # Errors
    /// [`super::Reason::OutOfTurn`] while another one is being read.
    pub fn refresh_config(&mut self, device: u16) -> Result<(), Refusal> {
        let _ = device;
        Ok(())
    }

    /// What the data path checks before each batch; from the acceptance on.
    pub fn guard(&self) -> Option<LinkGuard<W>> {
        None
    }

    /// Begins the detach, whatever step the link is at; go on stepping until
    /// [`Progress::Detached`].
    pub const fn detach(&mut self, now_ms: u64) {
        let _ = now_ms;
    }

    /// Answers that came after their deadline, or that nobody waited for.
    pub const fn late_answers(&self) -> u64 {
        0
    }
}
