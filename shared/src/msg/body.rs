//! What messages carry, in meaningful types.

use core::fmt;

use crate::address::BusAddress;
use crate::wire::features::Features;
use crate::wire::msg::{CONFIG_DATA_MAX, FEATURE_WORDS_MAX, PAYLOAD_MAX};

use super::kind::Kind;

/// A board's answer to a bus message (docs/protocol.md, "Result codes").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResultCode {
    /// Done.
    Ok,
    /// Version outside the window, or not the one in the host page.
    Version,
    /// Boot or session epoch is not the current one.
    StaleEpoch,
    /// A field is outside its range.
    Invalid,
    /// Table full, or no outbound window left.
    NoRoom,
    /// The board cannot reach these bus addresses.
    OutOfReach,
    /// No such region, device or queue.
    Unknown,
    /// In use, or not drained yet.
    Busy,
    /// The board does not do this, or not now.
    NotAllowed,
    /// A code that version 1 does not have.
    Other(u32),
}

impl ResultCode {
    /// The codes of version 1.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Version,
        Self::StaleEpoch,
        Self::Invalid,
        Self::NoRoom,
        Self::OutOfReach,
        Self::Unknown,
        Self::Busy,
        Self::NotAllowed,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::Version => 1,
            Self::StaleEpoch => 2,
            Self::Invalid => 3,
            Self::NoRoom => 4,
            Self::OutOfReach => 5,
            Self::Unknown => 6,
            Self::Busy => 7,
            Self::NotAllowed => 8,
            Self::Other(code) => code,
        }
    }

    /// The result with this code.
    #[must_use]
    pub fn from_code(code: u32) -> Self {
        Self::ALL.into_iter().find(|known| known.code() == code).unwrap_or(Self::Other(code))
    }
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "done",
            Self::Version => "protocol version not spoken",
            Self::StaleEpoch => "boot or session epoch is not the current one",
            Self::Invalid => "a field is outside its range",
            Self::NoRoom => "no room left in the table, or no outbound window",
            Self::OutOfReach => "the board cannot reach these bus addresses",
            Self::Unknown => "no such region, device or queue",
            Self::Busy => "in use or not drained yet",
            Self::NotAllowed => "the board does not do this, or not now",
            Self::Other(code) => return write!(f, "result code {code}"),
        })
    }
}

/// Up to `N` bytes of config space.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Data<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

/// Config bytes of one message.
pub type ConfigData = Data<CONFIG_DATA_MAX>;

impl<const N: usize> Data<N> {
    /// These bytes; `None` if there are more than `N`.
    #[must_use]
    pub fn new(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; N];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self { bytes, len: from.len() })
    }

    /// No bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

impl<const N: usize> fmt::Debug for Data<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// A run of 32-bit feature words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeatureWords {
    /// Index of the first word.
    pub first: u32,
    /// How many words follow.
    pub count: u32,
    /// The words; those past `count` are 0.
    pub words: [u32; FEATURE_WORDS_MAX],
}

impl FeatureWords {
    /// Words `first` to `first + count` of `features`; `count` is cut to what
    /// a message holds.
    #[must_use]
    pub fn of(features: Features, first: u32, count: u32) -> Self {
        let most = u32::try_from(FEATURE_WORDS_MAX).unwrap_or(u32::MAX);
        let count = count.min(most);
        let mut words = [0; FEATURE_WORDS_MAX];
        for (word, index) in words.iter_mut().zip(0..count) {
            *word = features.block(first.saturating_add(index));
        }
        Self { first, count, words }
    }

    /// The words that are given, each with its index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        (0..self.count).zip(self.words).map(|(i, word)| (self.first.saturating_add(i), word))
    }

    /// `features` with these words put in; `None` if that needs bits that no
    /// feature has.
    #[must_use]
    pub fn put_into(&self, features: Features) -> Option<Features> {
        self.iter().try_fold(features, |features, (index, word)| features.with_block(index, word))
    }
}

/// What a device is: the answer to GET_DEVICE_INFO.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceInfo {
    /// virtio device id (1: network); 0: no device is there.
    pub device_id: u32,
    /// Vendor id.
    pub vendor_id: u32,
    /// Feature bits, a multiple of 32.
    pub feature_bits: u32,
    /// Config space, in bytes.
    pub config_size: u32,
    /// Queues.
    pub queues: u32,
    /// First admin queue; 0.
    pub admin_start: u16,
    /// Admin queues; 0.
    pub admin_count: u16,
}

/// A queue's size and where its three parts lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueAddresses {
    /// Entries; 0: not set up.
    pub size: u32,
    /// Descriptor area.
    pub descriptors: BusAddress,
    /// Driver area (avail ring).
    pub driver: BusAddress,
    /// Device area (used ring).
    pub device: BusAddress,
}

/// A bitmap of device numbers: the answer to GET_DEVICES.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceMap {
    /// First number, a multiple of 8.
    pub first: u16,
    /// How many numbers, a multiple of 8.
    pub count: u16,
    /// Where to go on; 0: no more.
    pub next: u16,
    /// Lowest number in the lowest bit of the first byte.
    pub bits: Data<{ PAYLOAD_MAX - 6 }>,
}

/// Whether a region is host or board memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionKind {
    /// Host memory at an IOVA.
    Host {
        /// Its first 4 KiB are the status page.
        status_page: bool,
    },
    /// Board memory that the control block describes.
    Board {
        /// Index among the board's regions.
        index: u32,
    },
}

/// What ADD_REGION says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegionMessage {
    /// Number that both sides call the region by.
    pub id: u32,
    /// Host or board memory.
    pub kind: RegionKind,
    /// The device's rights, as wire bits.
    pub rights: u32,
    /// First bus address.
    pub base: BusAddress,
    /// Length in bytes.
    pub len: u64,
}

/// A request: wants a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are docs/protocol.md's tables, word for word")]
pub enum Request {
    /// What is this device?
    GetDeviceInfo,
    /// What does it offer?
    GetDeviceFeatures { first: u32, count: u32 },
    /// What the driver accepts.
    SetDriverFeatures(FeatureWords),
    /// Config space, please.
    GetConfig { offset: u32, count: u32 },
    /// Write config space.
    SetConfig { generation: u32, offset: u32, data: ConfigData },
    /// Device status, please.
    GetDeviceStatus,
    /// New device status; 0 resets.
    SetDeviceStatus { status: u32 },
    /// A queue's set-up, please.
    GetVqueue { queue: u32 },
    /// Set a queue up.
    SetVqueue { queue: u32, addresses: QueueAddresses },
    /// Reset one queue.
    ResetVqueue { queue: u32 },
    /// A device's shared memory, please.
    GetShm { index: u32 },
    /// Which devices are there?
    GetDevices { first: u16, count: u16 },
    /// Are you there?
    Ping { data: u32 },
    /// Begin the session.
    Attach { version: u32, boot: u32, session: u32 },
    /// Take this region.
    AddRegion(RegionMessage),
    /// Give this region back.
    RemoveRegion { id: u32 },
    /// Which doorbell and vector a queue uses.
    RouteQueue { device: u32, queue: u32, doorbell: u32, vector: u32 },
    /// Reboot.
    BoardReset { boot: u32 },
}

/// A response to the request of the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are docs/protocol.md's tables, word for word")]
pub enum Response {
    /// To GET_DEVICE_INFO.
    DeviceInfo(DeviceInfo),
    /// To GET_DEVICE_FEATURES.
    DeviceFeatures(FeatureWords),
    /// To SET_DRIVER_FEATURES: says nothing.
    DriverFeatures,
    /// To GET_CONFIG.
    Config { generation: u32, offset: u32, data: ConfigData },
    /// To SET_CONFIG; no data: rejected.
    SetConfig { generation: u32, offset: u32, data: ConfigData },
    /// To GET_DEVICE_STATUS.
    DeviceStatus { status: u32 },
    /// To SET_DEVICE_STATUS.
    SetDeviceStatus { status: u32 },
    /// To GET_VQUEUE.
    Vqueue { queue: u32, largest: u32, addresses: QueueAddresses },
    /// To SET_VQUEUE: says nothing.
    SetVqueue,
    /// To RESET_VQUEUE: says nothing.
    ResetVqueue,
    /// To GET_SHM.
    Shm { index: u32, len: u32, address: u32 },
    /// To GET_DEVICES.
    Devices(DeviceMap),
    /// To PING.
    Pong { data: u32 },
    /// To ATTACH.
    Attach { result: ResultCode, version: u32, boot: u32, session: u32 },
    /// To ADD_REGION.
    AddRegion { id: u32, result: ResultCode },
    /// To REMOVE_REGION.
    RemoveRegion { id: u32, result: ResultCode },
    /// To ROUTE_QUEUE.
    RouteQueue { device: u32, queue: u32, result: ResultCode },
    /// To BOARD_RESET.
    BoardReset { result: ResultCode },
}

/// An event: nobody answers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are docs/protocol.md's tables, word for word")]
pub enum Event {
    /// Status or config space changed.
    Config { status: u32, generation: u32, offset: u32, data: Data<{ PAYLOAD_MAX - 16 }> },
    /// Look at this queue (to the device).
    Avail { queue: u32, next: u32 },
    /// Look at this queue (to the driver).
    Used { queue: u32 },
    /// A device came or went.
    Device { device: u16, state: u16 },
    /// A fault on the board.
    Fault { code: u32, device: u32, queue: u32, detail: u32, count: u32 },
}

/// What a message carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
    /// An event.
    Event(Event),
}

/// A whole message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Device number; 0 for bus messages.
    pub device: u16,
    /// Token; 0 for events.
    pub token: u16,
    /// The rest.
    pub body: Body,
}

impl Request {
    /// The kind of this request.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::GetDeviceInfo => Kind::GetDeviceInfo,
            Self::GetDeviceFeatures { .. } => Kind::GetDeviceFeatures,
            Self::SetDriverFeatures(_) => Kind::SetDriverFeatures,
            Self::GetConfig { .. } => Kind::GetConfig,
            Self::SetConfig { .. } => Kind::SetConfig,
            Self::GetDeviceStatus => Kind::GetDeviceStatus,
            Self::SetDeviceStatus { .. } => Kind::SetDeviceStatus,
            Self::GetVqueue { .. } => Kind::GetVqueue,
            Self::SetVqueue { .. } => Kind::SetVqueue,
            Self::ResetVqueue { .. } => Kind::ResetVqueue,
            Self::GetShm { .. } => Kind::GetShm,
            Self::GetDevices { .. } => Kind::GetDevices,
            Self::Ping { .. } => Kind::Ping,
            Self::Attach { .. } => Kind::Attach,
            Self::AddRegion(_) => Kind::AddRegion,
            Self::RemoveRegion { .. } => Kind::RemoveRegion,
            Self::RouteQueue { .. } => Kind::RouteQueue,
            Self::BoardReset { .. } => Kind::BoardReset,
        }
    }
}

impl Response {
    /// The kind of the request that this answers.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::DeviceInfo(_) => Kind::GetDeviceInfo,
            Self::DeviceFeatures(_) => Kind::GetDeviceFeatures,
            Self::DriverFeatures => Kind::SetDriverFeatures,
            Self::Config { .. } => Kind::GetConfig,
            Self::SetConfig { .. } => Kind::SetConfig,
            Self::DeviceStatus { .. } => Kind::GetDeviceStatus,
            Self::SetDeviceStatus { .. } => Kind::SetDeviceStatus,
            Self::Vqueue { .. } => Kind::GetVqueue,
            Self::SetVqueue => Kind::SetVqueue,
            Self::ResetVqueue => Kind::ResetVqueue,
            Self::Shm { .. } => Kind::GetShm,
            Self::Devices(_) => Kind::GetDevices,
            Self::Pong { .. } => Kind::Ping,
            Self::Attach { .. } => Kind::Attach,
            Self::AddRegion { .. } => Kind::AddRegion,
            Self::RemoveRegion { .. } => Kind::RemoveRegion,
            Self::RouteQueue { .. } => Kind::RouteQueue,
            Self::BoardReset { .. } => Kind::BoardReset,
        }
    }
}

impl Event {
    /// The kind of this event.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Config { .. } => Kind::EventConfig,
            Self::Avail { .. } => Kind::EventAvail,
            Self::Used { .. } => Kind::EventUsed,
            Self::Device { .. } => Kind::EventDevice,
            Self::Fault { .. } => Kind::EventFault,
        }
    }
}
