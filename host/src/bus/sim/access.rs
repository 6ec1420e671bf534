//! Who accesses what, in the simulated bus's own words.

use std::fmt;

/// Who makes an access. Initiators are not ordered with each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Initiator {
    /// The host's processor.
    HostCpu,
    /// The board's processor.
    BoardCpu,
    /// The board's DMA engine.
    BoardDma,
}

impl Initiator {
    /// All of them, in the bill's order.
    pub const ALL: [Self; 3] = [Self::HostCpu, Self::BoardCpu, Self::BoardDma];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    pub(super) const fn home(self) -> Side {
        match self {
            Self::HostCpu => Side::Host,
            Self::BoardCpu | Self::BoardDma => Side::Board,
        }
    }
}

impl fmt::Display for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HostCpu => "host CPU",
            Self::BoardCpu => "board CPU",
            Self::BoardDma => "board DMA",
        })
    }
}

/// One end of the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Host memory.
    Host,
    /// The board's BARs.
    Board,
}

impl Side {
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Host => Self::Board,
            Self::Board => Self::Host,
        }
    }
}

/// What an access serves: packets, or the link that carries them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plane {
    /// Rings and buffers of the queue to the board, once
    /// [`SimBus::label`](super::SimBus::label) has said where they are.
    ToBoard,
    /// The same of the queue to the host.
    ToHost,
    /// Other rings and buffers; doorbells and vectors from 1 on.
    Data,
    /// Control pages, message channels, status page; doorbell 0 and vector 0.
    Link,
}

impl Plane {
    /// All, in the bill's order.
    pub const ALL: [Self; 4] = [Self::ToBoard, Self::ToHost, Self::Data, Self::Link];

    /// Those that carry packets.
    pub const DATA: [Self; 3] = [Self::ToBoard, Self::ToHost, Self::Data];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    pub(super) const fn of_notification(number: u32) -> Self {
        if number == 0 { Self::Link } else { Self::Data }
    }
}

/// The kinds of access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessKind {
    /// One word loaded.
    Load,
    /// One word stored.
    Store,
    /// Payload copied out of a window.
    PayloadLoad,
    /// Payload copied into a window.
    PayloadStore,
    /// A doorbell rung; the address is its index.
    Doorbell,
    /// A vector raised; the address is its number.
    Interrupt,
}

/// One access, as fault hooks see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Who makes it.
    pub initiator: Initiator,
    /// What it serves.
    pub plane: Plane,
    /// What it is.
    pub kind: AccessKind,
    /// Whose memory it goes to.
    pub target: Side,
    /// Where: an IOVA, or an offset into BAR 0, or a notification's number.
    pub address: u64,
    /// Bytes.
    pub len: u64,
    /// The word stored or, for loads, found; the first eight bytes of payload.
    pub value: u64,
    /// How many accesses this initiator has made before, barriers left out.
    pub nth: u64,
    /// The time that [`SimBus::tick`](super::SimBus::tick) was last told.
    pub now: u64,
}

impl Access {
    /// Whether it crosses the bus.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.initiator.home() != self.target
    }
}
