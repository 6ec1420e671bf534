//! Which messages exist, who sends them, and how long they are.

use crate::wire::msg::HEADER_LEN;

/// A message id with its type's bus bit: what the message is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// Transport 0x02.
    GetDeviceInfo,
    /// Transport 0x03.
    GetDeviceFeatures,
    /// Transport 0x04.
    SetDriverFeatures,
    /// Transport 0x05.
    GetConfig,
    /// Transport 0x06.
    SetConfig,
    /// Transport 0x07.
    GetDeviceStatus,
    /// Transport 0x08.
    SetDeviceStatus,
    /// Transport 0x09.
    GetVqueue,
    /// Transport 0x0A.
    SetVqueue,
    /// Transport 0x0B.
    ResetVqueue,
    /// Transport 0x0C.
    GetShm,
    /// Transport event 0x40.
    EventConfig,
    /// Transport event 0x41.
    EventAvail,
    /// Transport event 0x42.
    EventUsed,
    /// Bus 0x02.
    GetDevices,
    /// Bus 0x03.
    Ping,
    /// Bus event 0x40.
    EventDevice,
    /// Bus 0x80, ours.
    Attach,
    /// Bus 0x81, ours.
    AddRegion,
    /// Bus 0x82, ours.
    RemoveRegion,
    /// Bus 0x83, ours.
    RouteQueue,
    /// Bus 0x84, ours.
    BoardReset,
    /// Bus event 0xC0, ours.
    EventFault,
}

/// The two ends of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The host: virtio driver side.
    Driver,
    /// The board: virtio device side.
    Device,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Driver => Self::Device,
            Self::Device => Self::Driver,
        }
    }
}

impl Kind {
    /// Every kind, in the order of the document's tables.
    pub const ALL: [Self; 23] = [
        Self::GetDeviceInfo,
        Self::GetDeviceFeatures,
        Self::SetDriverFeatures,
        Self::GetConfig,
        Self::SetConfig,
        Self::GetDeviceStatus,
        Self::SetDeviceStatus,
        Self::GetVqueue,
        Self::SetVqueue,
        Self::ResetVqueue,
        Self::GetShm,
        Self::EventConfig,
        Self::EventAvail,
        Self::EventUsed,
        Self::GetDevices,
        Self::Ping,
        Self::EventDevice,
        Self::Attach,
        Self::AddRegion,
        Self::RemoveRegion,
        Self::RouteQueue,
        Self::BoardReset,
        Self::EventFault,
    ];

    /// Whether it is a bus message, and its id.
    #[must_use]
    pub const fn wire(self) -> (bool, u8) {
        match self {
            Self::GetDeviceInfo => (false, 0x02),
            Self::GetDeviceFeatures => (false, 0x03),
            Self::SetDriverFeatures => (false, 0x04),
            Self::GetConfig => (false, 0x05),
            Self::SetConfig => (false, 0x06),
            Self::GetDeviceStatus => (false, 0x07),
            Self::SetDeviceStatus => (false, 0x08),
            Self::GetVqueue => (false, 0x09),
            Self::SetVqueue => (false, 0x0A),
            Self::ResetVqueue => (false, 0x0B),
            Self::GetShm => (false, 0x0C),
            Self::EventConfig => (false, 0x40),
            Self::EventAvail => (false, 0x41),
            Self::EventUsed => (false, 0x42),
            Self::GetDevices => (true, 0x02),
            Self::Ping => (true, 0x03),
            Self::EventDevice => (true, 0x40),
            Self::Attach => (true, 0x80),
            Self::AddRegion => (true, 0x81),
            Self::RemoveRegion => (true, 0x82),
            Self::RouteQueue => (true, 0x83),
            Self::BoardReset => (true, 0x84),
            Self::EventFault => (true, 0xC0),
        }
    }

    /// The kind with this id, if there is one.
    #[must_use]
    pub fn from_wire(bus: bool, id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.wire() == (bus, id))
    }

    /// Whether it is an event: no token, no response.
    #[must_use]
    pub const fn is_event(self) -> bool {
        matches!(
            self,
            Self::EventConfig
                | Self::EventAvail
                | Self::EventUsed
                | Self::EventDevice
                | Self::EventFault
        )
    }

    /// Whether `side` may send it as request or event.
    #[must_use]
    pub const fn sent_by(self, side: Side) -> bool {
        match self {
            Self::Ping => true,
            Self::EventConfig | Self::EventUsed | Self::EventDevice | Self::EventFault => {
                matches!(side, Side::Device)
            }
            _ => matches!(side, Side::Driver),
        }
    }

    /// The least payload of its request or event, in bytes.
    #[must_use]
    pub const fn request_len(self) -> usize {
        match self {
            Self::GetDeviceInfo | Self::GetDeviceStatus => 0,
            Self::GetDevices
            | Self::SetDeviceStatus
            | Self::GetVqueue
            | Self::ResetVqueue
            | Self::GetShm
            | Self::EventUsed
            | Self::EventDevice
            | Self::Ping => 4,
            Self::GetDeviceFeatures
            | Self::SetDriverFeatures
            | Self::GetConfig
            | Self::EventAvail
            | Self::RemoveRegion
            | Self::BoardReset => 8,
            Self::SetConfig => 12,
            Self::EventConfig | Self::Attach | Self::RouteQueue => 16,
            Self::EventFault => 20,
            Self::SetVqueue | Self::AddRegion => 40,
        }
    }

    /// The least payload of its response, in bytes; `None` for an event.
    #[must_use]
    pub const fn response_len(self) -> Option<usize> {
        match self {
            Self::SetDriverFeatures | Self::SetVqueue | Self::ResetVqueue => Some(0),
            Self::GetDeviceStatus | Self::SetDeviceStatus | Self::Ping => Some(4),
            Self::GetDevices => Some(6),
            Self::GetDeviceFeatures | Self::AddRegion | Self::RemoveRegion | Self::BoardReset => {
                Some(8)
            }
            Self::GetConfig | Self::SetConfig | Self::GetShm => Some(12),
            Self::Attach | Self::RouteQueue => Some(16),
            Self::GetDeviceInfo => Some(24),
            Self::GetVqueue => Some(40),
            Self::EventConfig
            | Self::EventAvail
            | Self::EventUsed
            | Self::EventDevice
            | Self::EventFault => None,
        }
    }

    /// The least `msg_size` of its request, event or response.
    #[must_use]
    pub const fn least_size(self, response: bool) -> Option<usize> {
        let payload = if response { self.response_len() } else { Some(self.request_len()) };
        match payload {
            Some(len) => Some(HEADER_LEN + len),
            None => None,
        }
    }
}
