//! The bill: what the bus was asked to do, by whom and for what.

use std::ops::{Index, IndexMut};

use super::access::{Initiator, Plane};

/// Accesses to one side's memory.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Accesses {
    /// Words loaded.
    pub control_loads: u64,
    /// Words stored.
    pub control_stores: u64,
    /// Copies out of windows.
    pub payload_loads: u64,
    /// Their bytes.
    pub payload_load_bytes: u64,
    /// Copies into windows.
    pub payload_stores: u64,
    /// Their bytes.
    pub payload_store_bytes: u64,
}

/// What one initiator did for one plane.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// In its own side's memory.
    pub local: Accesses,
    /// Across the bus.
    pub remote: Accesses,
    /// Vectors raised.
    pub interrupts: u64,
    /// Doorbells rung.
    pub doorbells: u64,
    /// Packets on the bus if nothing is combined: one for each aligned
    /// eight bytes or part of them, stored or asked for.
    pub tlps_uncached: u64,
    /// Packets on the bus if stores and payload loads are combined into
    /// 64-byte lines.
    pub tlps_combined: u64,
    /// Nanoseconds that injected faults made it wait.
    pub stalled_ns: u64,
}

impl Counts {
    /// Loads across the bus, payload included: each made the initiator wait.
    #[must_use]
    pub fn bus_reads(&self) -> u64 {
        self.remote.control_loads + self.remote.payload_loads
    }

    /// Words stored, wherever to.
    #[must_use]
    pub fn control_stores(&self) -> u64 {
        self.local.control_stores + self.remote.control_stores
    }
}

/// What the bus was asked to do since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Bill {
    rows: [[Counts; 2]; 3],
    /// Accesses of the board that the IOMMU refused.
    pub iommu_faults: u64,
}

impl Index<(Initiator, Plane)> for Bill {
    type Output = Counts;
    fn index(&self, (who, plane): (Initiator, Plane)) -> &Counts {
        &self.rows[who.index()][plane.index()]
    }
}

impl IndexMut<(Initiator, Plane)> for Bill {
    fn index_mut(&mut self, (who, plane): (Initiator, Plane)) -> &mut Counts {
        &mut self.rows[who.index()][plane.index()]
    }
}
