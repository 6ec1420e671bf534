//! Who accesses what, and for what.

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

    pub(in crate::bus) const fn index(self) -> usize {
        self as usize
    }

    pub(in crate::bus) const fn home(self) -> Side {
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
    pub(in crate::bus) const fn index(self) -> usize {
        self as usize
    }

    pub(in crate::bus) const fn other(self) -> Self {
        match self {
            Self::Host => Self::Board,
            Self::Board => Self::Host,
        }
    }
}

/// What an access serves: packets, or the link that carries them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plane {
    /// Rings and buffers of the queue to the board, once [`Label`](super::Label)s
    /// have said where they are.
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

    pub(in crate::bus) const fn index(self) -> usize {
        self as usize
    }

    pub(in crate::bus) const fn of_notification(number: u32) -> Self {
        if number == 0 { Self::Link } else { Self::Data }
    }
}
