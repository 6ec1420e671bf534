//! Why an attach went no further, or a session ended, in the host's words.

use core::fmt;

use crate::fault::PeerFault;
use crate::msg::{Kind, ResultCode};
use crate::wire::features::Features;
use crate::wire::status::DeviceStatus;

use super::control::ControlError;
use super::description::Versions;
use super::words::LinkLoss;

/// The host's numbered steps (docs/protocol.md, "Host").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum AttachStep {
    /// Find the magic.
    FindBlock = 1,
    /// Copy and check the control block.
    ReadBlock,
    /// Choose the version.
    ChooseVersion,
    /// Write the session epoch.
    WriteSession,
    /// Wait for the board to accept it.
    AwaitAcceptance,
    /// Start the message channel.
    StartChannel,
    /// ATTACH.
    Attach,
    /// ADD_REGION for each region.
    AddRegions,
    /// GET_DEVICES.
    ListDevices,
    /// GET_DEVICE_INFO.
    DeviceInfo,
    /// Reset, ACKNOWLEDGE, DRIVER.
    ResetDevice,
    /// Features offered and chosen.
    Features,
    /// FEATURES_OK.
    FeaturesOk,
    /// Config space.
    Config,
    /// GET_VQUEUE for each queue's largest size.
    QueueSizes,
    /// ROUTE_QUEUE.
    RouteQueue,
    /// SET_VQUEUE.
    SetQueue,
    /// GET_VQUEUE, compared.
    VerifyQueue,
    /// DRIVER_OK.
    DriverOk,
    /// The session runs.
    Running,
    /// Detach.
    Detach,
}

impl AttachStep {
    /// The step's number in the document.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    const fn name(self) -> &'static str {
        match self {
            Self::FindBlock => "find the control block",
            Self::ReadBlock => "read the control block",
            Self::ChooseVersion => "choose the protocol version",
            Self::WriteSession => "write the session epoch",
            Self::AwaitAcceptance => "wait for the board to accept the session",
            Self::StartChannel => "start the message channel",
            Self::Attach => "attach",
            Self::AddRegions => "add the memory regions",
            Self::ListDevices => "list the devices",
            Self::DeviceInfo => "ask what a device is",
            Self::ResetDevice => "reset the device",
            Self::Features => "negotiate features",
            Self::FeaturesOk => "settle features",
            Self::Config => "read config space",
            Self::QueueSizes => "ask for queue sizes",
            Self::RouteQueue => "route a queue",
            Self::SetQueue => "set a queue up",
            Self::VerifyQueue => "verify a queue",
            Self::DriverOk => "start the device",
            Self::Running => "run",
            Self::Detach => "detach",
        }
    }
}

/// What was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The BAR is too short to hold a control block.
    BarTooShort {
        /// Its length in bytes.
        len: u64,
    },
    /// There is no magic.
    NoBlock {
        /// What is in its place.
        found: u32,
    },
    /// The control block is not acceptable.
    Block(ControlError),
    /// The version windows do not meet.
    Versions {
        /// The board's window.
        board: Versions,
        /// The host's.
        host: Versions,
    },
    /// The board refused the session.
    SessionRefused(ResultCode),
    /// The board did not do it in time.
    Timeout {
        /// How long we waited, in milliseconds.
        after_ms: u64,
    },
    /// The board did not answer a request in time.
    NoAnswer(Kind),
    /// The board answered a bus message with this.
    Result(Kind, ResultCode),
    /// The board's answer does not fit the question.
    BadAnswer(Kind),
    /// A region that the caller supplied breaks a rule.
    Region {
        /// Its place in the list.
        index: usize,
        /// The rule.
        why: RegionFault,
    },
    /// The board has no device.
    NoDevice,
    /// A device states more than the protocol's limits allow.
    DeviceLimits {
        /// Device number.
        device: u16,
    },
    /// The device does not offer what the protocol requires.
    FeaturesMissing {
        /// Device number.
        device: u16,
        /// The bits that are not there.
        missing: Features,
    },
    /// The caller chose features that were not offered, or left required ones out.
    FeatureChoice {
        /// Device number.
        device: u16,
        /// The bits that are wrong.
        wrong: Features,
    },
    /// The device did not take FEATURES_OK.
    FeaturesRefused {
        /// Device number.
        device: u16,
    },
    /// The device's status is not what was written.
    Status {
        /// Device number.
        device: u16,
        /// What was written.
        wanted: DeviceStatus,
        /// What is there.
        found: DeviceStatus,
    },
    /// Config space kept changing while it was read.
    ConfigUnstable {
        /// Device number.
        device: u16,
    },
    /// A queue that the caller supplied cannot be: size, number or route.
    Placement {
        /// Queue number.
        queue: u16,
    },
    /// The device keeps something else than what was set.
    QueueDiffers {
        /// Queue number.
        queue: u16,
    },
    /// The session is lost.
    Lost(LinkLoss),
    /// The peer broke a rule of the channel.
    Fault(PeerFault),
    /// Too many requests went without an answer.
    TooManyLate,
    /// The caller supplied or asked for something at the wrong moment.
    OutOfTurn,
    /// The device is not up, so nothing can be asked of it.
    DeviceNotUp {
        /// Device number.
        device: u16,
    },
    /// The device did not negotiate VIRTIO_F_RING_RESET.
    NoRingReset {
        /// Device number.
        device: u16,
    },
    /// More than 44 bytes, none, or outside of config space.
    ConfigWrite {
        /// Device number.
        device: u16,
    },
    /// As many wishes wait as the link takes.
    Busy,
}

/// What is wrong with a region that the host supplied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionFault {
    /// More than 64 regions in all.
    TooMany,
    /// Length zero or not a multiple of 4096, or the base is not.
    Unaligned,
    /// It wraps or is not host memory.
    Wraps,
    /// It overlaps another.
    Overlaps,
    /// A board without outbound windows cannot use it.
    BarOnly,
    /// Above what the board reaches.
    OutOfReach {
        /// Bits of bus address that the board has.
        address_bits: u32,
    },
    /// More outbound windows than the board has.
    TooFewWindows {
        /// How many it has.
        windows: u32,
    },
    /// The first host region must be device-writable: it holds the status page.
    StatusPage,
    /// Not there, or the first, which goes with the session only.
    NotToRemove,
}

impl fmt::Display for RegionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => f.write_str("more than 64 regions; use fewer, larger ones"),
            Self::Unaligned => f.write_str("base and length must be multiples of 4096, not zero"),
            Self::Wraps => f.write_str("it wraps or has bit 63 set; choose another IOVA"),
            Self::Overlaps => f.write_str("it overlaps another region; choose another IOVA"),
            Self::BarOnly => f.write_str(
                "the board has no window into host memory; use the layout in which everything lies in the BAR",
            ),
            Self::OutOfReach { address_bits } => write!(
                f,
                "the board reaches only bus addresses below 2^{address_bits}; map the pool lower"
            ),
            Self::TooFewWindows { windows } => write!(
                f,
                "the board's {windows} outbound windows do not cover it; use a smaller or better aligned pool"
            ),
            Self::StatusPage => {
                f.write_str("the first host region must be device-writable, for the status page")
            }
            Self::NotToRemove => f.write_str(
                "it is not there, or holds the status page; end the session to take it back",
            ),
        }
    }
}

/// An attach that went no further, or a session that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The step that refused.
    pub step: AttachStep,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} ({}): {}", self.step.number(), self.step.name(), self.reason)
    }
}

impl core::error::Error for Refusal {}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BarTooShort { len } => write!(
                f,
                "the BAR has {len} bytes and a control block needs 16384; this is not the control BAR, or not a virtio-phys board: name another"
            ),
            Self::NoBlock { found } => write!(
                f,
                "no control block (found {found:#010x}); check that the firmware runs and that this is its control BAR"
            ),
            Self::Block(error) => {
                write!(f, "{error}; the firmware is broken or of another make, update it")
            }
            Self::Versions { board, host } => write!(
                f,
                "the board speaks protocol versions {} to {}, this host {} to {}; update the older side",
                board.min, board.max, host.min, host.max
            ),
            Self::SessionRefused(code) => {
                write!(f, "the board refused the session: {code}; if that stays so, reset it")
            }
            Self::Timeout { after_ms } => {
                write!(
                    f,
                    "not done after {after_ms} ms; the board hangs or is overloaded, reset it"
                )
            }
            Self::NoAnswer(kind) => {
                write!(f, "no answer to {kind:?}; the board hangs or does not know it, reset it")
            }
            Self::Result(kind, code) => write!(
                f,
                "the board answered {kind:?} with: {code}; reset it, or update its firmware"
            ),
            Self::BadAnswer(kind) => {
                write!(
                    f,
                    "the answer to {kind:?} does not fit the question; the firmware is broken, update it"
                )
            }
            Self::Region { index, why } => write!(f, "host region {index}: {why}"),
            Self::NoDevice => f.write_str("the board has no virtio device; check its firmware"),
            Self::DeviceLimits { device } => write!(
                f,
                "device {device} states more features, config space or queues than the protocol allows; update its firmware"
            ),
            Self::FeaturesMissing { device, missing } => write!(
                f,
                "device {device} does not offer required features {missing}; update its firmware"
            ),
            Self::FeatureChoice { device, wrong } => write!(
                f,
                "the feature choice for device {device} is wrong in {wrong}: not offered, or required and left out; correct the feature mask"
            ),
            Self::FeaturesRefused { device } => {
                write!(
                    f,
                    "device {device} does not take these features; try a smaller feature mask"
                )
            }
            Self::Status { device, wanted, found } => write!(
                f,
                "device {device} has status \"{found}\" where \"{wanted}\" was written; reset the board"
            ),
            Self::ConfigUnstable { device } => {
                write!(
                    f,
                    "the config space of device {device} kept changing while it was read; reset the board"
                )
            }
            Self::Placement { queue } => write!(
                f,
                "queue {queue} cannot be set up as planned: size, number, doorbell or vector out of range; choose other queue sizes"
            ),
            Self::QueueDiffers { queue } => {
                write!(
                    f,
                    "the board keeps other values for queue {queue} than those set; update its firmware"
                )
            }
            Self::Lost(LinkLoss::AllOnes) => f.write_str(
                "the bus answers all ones; the card is gone or switched off, put it back",
            ),
            Self::Lost(LinkLoss::Rebooted) => f.write_str(
                "the board booted again; if that goes on, look at its log and its power",
            ),
            Self::Lost(LinkLoss::SessionDropped) => {
                f.write_str("the board dropped the session; if that goes on, look at its log")
            }
            Self::Lost(LinkLoss::HeartbeatLost) => {
                f.write_str("the board's heartbeat stands still; reset it")
            }
            Self::Fault(PeerFault::ChannelClosed { status }) => write!(
                f,
                "the board closed its message channel (status {status:#06x}): it was switched off or boots again; if that goes on, look at its log"
            ),
            Self::Fault(fault) => write!(
                f,
                "the board broke the protocol: {fault}; if that goes on, update its firmware"
            ),
            Self::TooManyLate => f.write_str("too many requests went unanswered; reset the board"),
            Self::OutOfTurn => f.write_str(
                "something was supplied that the link had not asked for (a bug of this program)",
            ),
            Self::DeviceNotUp { device } => {
                write!(f, "device {device} is not up; wait until the board says that it is ready")
            }
            Self::NoRingReset { device } => write!(
                f,
                "device {device} cannot reset single queues; reset the device, or allow RING_RESET in the feature mask"
            ),
            Self::ConfigWrite { device } => write!(
                f,
                "a write to the config space of device {device} takes 1 to 44 bytes below offset 4096; split it"
            ),
            Self::Busy => {
                f.write_str("too many requests to the board wait; ask again when one is done")
            }
        }
    }
}
