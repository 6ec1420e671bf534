//! One access, in the simulated bus's own words.

use crate::bus::bill::{Initiator, Plane, Side};

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
