//! The counters behind the bill: relaxed atomics, a cache line or more for
//! each initiator and plane.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::counts::{Accesses, Bill, Counts};
use super::party::{Initiator, Plane};

/// Bytes that a combining bridge or write-combining buffer sends at once.
const LINE: u64 = 64;

/// No line is open for combining.
const CLOSED: u64 = u64::MAX;

#[derive(Debug, Default)]
struct Side {
    control_loads: AtomicU64,
    control_stores: AtomicU64,
    payload_loads: AtomicU64,
    payload_load_bytes: AtomicU64,
    payload_stores: AtomicU64,
    payload_store_bytes: AtomicU64,
}

impl Side {
    fn read(&self) -> Accesses {
        Accesses {
            control_loads: self.control_loads.load(Relaxed),
            control_stores: self.control_stores.load(Relaxed),
            payload_loads: self.payload_loads.load(Relaxed),
            payload_load_bytes: self.payload_load_bytes.load(Relaxed),
            payload_stores: self.payload_stores.load(Relaxed),
            payload_store_bytes: self.payload_store_bytes.load(Relaxed),
        }
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Row {
    local: Side,
    remote: Side,
    interrupts: AtomicU64,
    doorbells: AtomicU64,
    tlps_uncached: AtomicU64,
    tlps_combined: AtomicU64,
    stalled_ns: AtomicU64,
}

/// The line that an initiator's remote stores are being combined into.
#[derive(Debug)]
#[repr(align(64))]
struct OpenLine(AtomicU64);

/// All counters of one bus.
#[derive(Debug)]
pub(in crate::bus) struct Meter {
    rows: [[Row; 4]; 3],
    open: [OpenLine; 3],
    iommu_faults: AtomicU64,
    width_faults: AtomicU64,
}

/// An access as the meter sees it.
#[derive(Clone, Copy)]
pub(in crate::bus) struct Metered {
    pub(in crate::bus) who: Initiator,
    pub(in crate::bus) plane: Plane,
    pub(in crate::bus) remote: bool,
    /// Tells memories apart.
    pub(in crate::bus) memory: usize,
    pub(in crate::bus) at: u64,
    pub(in crate::bus) len: u64,
    /// The widest piece that a store across the bus goes in if nothing is
    /// combined, in bytes.
    pub(in crate::bus) piece: u64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

/// How many aligned units of `unit` bytes the range touches.
fn units(at: u64, len: u64, unit: u64) -> u64 {
    if len == 0 { 0 } else { (at + len - 1) / unit - at / unit + 1 }
}

impl Meter {
    pub(in crate::bus) fn new() -> Self {
        Self {
            rows: Default::default(),
            open: [const { OpenLine(AtomicU64::new(CLOSED)) }; 3],
            iommu_faults: AtomicU64::new(0),
            width_faults: AtomicU64::new(0),
        }
    }

    fn row(&self, who: Initiator, plane: Plane) -> &Row {
        &self.rows[who.index()][plane.index()]
    }

    fn side(&self, access: &Metered) -> &Side {
        let row = self.row(access.who, access.plane);
        if access.remote { &row.remote } else { &row.local }
    }

    pub(in crate::bus) fn load(&self, access: Metered) {
        add(&self.side(&access).control_loads, 1);
        if access.remote {
            self.requested(&access, 1, 1);
        }
    }

    pub(in crate::bus) fn store(&self, access: Metered) {
        add(&self.side(&access).control_stores, 1);
        if access.remote {
            self.posted(&access, 1);
        }
    }

    pub(in crate::bus) fn payload_load(&self, access: Metered) {
        let side = self.side(&access);
        add(&side.payload_loads, 1);
        add(&side.payload_load_bytes, access.len);
        if access.remote {
            let Metered { at, len, .. } = access;
            self.requested(&access, units(at, len, 8), units(at, len, LINE));
        }
    }

    pub(in crate::bus) fn payload_store(&self, access: Metered) {
        let side = self.side(&access);
        add(&side.payload_stores, 1);
        add(&side.payload_store_bytes, access.len);
        if access.remote {
            self.posted(&access, units(access.at, access.len, access.piece));
        }
    }

    /// Read requests: each one closes the open line, as the initiator waits.
    fn requested(&self, access: &Metered, uncached: u64, combined: u64) {
        let row = self.row(access.who, access.plane);
        add(&row.tlps_uncached, uncached);
        add(&row.tlps_combined, combined);
        self.close(access.who);
    }

    /// Posted writes: a store into the line that is open costs nothing more.
    fn posted(&self, access: &Metered, uncached: u64) {
        let row = self.row(access.who, access.plane);
        add(&row.tlps_uncached, uncached);
        let lines = units(access.at, access.len, LINE);
        if lines == 0 {
            return;
        }
        let line = |at: u64| ((access.memory as u64) << 48) | (at / LINE);
        let open = &self.open[access.who.index()].0;
        let before = open.swap(line(access.at + access.len - 1), Relaxed);
        add(&row.tlps_combined, lines - u64::from(before == line(access.at)));
    }

    /// A barrier or notification sends off what was being combined.
    pub(in crate::bus) fn close(&self, who: Initiator) {
        self.open[who.index()].0.store(CLOSED, Relaxed);
    }

    pub(in crate::bus) fn doorbell(&self, who: Initiator, plane: Plane) {
        add(&self.row(who, plane).doorbells, 1);
        self.notified(who, plane);
    }

    pub(in crate::bus) fn interrupt(&self, who: Initiator, plane: Plane) {
        add(&self.row(who, plane).interrupts, 1);
        self.notified(who, plane);
    }

    fn notified(&self, who: Initiator, plane: Plane) {
        let row = self.row(who, plane);
        add(&row.tlps_uncached, 1);
        add(&row.tlps_combined, 1);
        self.close(who);
    }

    pub(in crate::bus) fn stalled(&self, who: Initiator, plane: Plane, ns: u64) {
        add(&self.row(who, plane).stalled_ns, ns);
    }

    pub(in crate::bus) fn iommu_fault(&self) {
        add(&self.iommu_faults, 1);
    }

    pub(in crate::bus) fn width_fault(&self) {
        add(&self.width_faults, 1);
    }

    pub(in crate::bus) fn bill(&self) -> Bill {
        let mut bill = Bill::default();
        bill.iommu_faults = self.iommu_faults.load(Relaxed);
        bill.width_faults = self.width_faults.load(Relaxed);
        for who in Initiator::ALL {
            for plane in Plane::ALL {
                let row = self.row(who, plane);
                bill[(who, plane)] = Counts {
                    local: row.local.read(),
                    remote: row.remote.read(),
                    interrupts: row.interrupts.load(Relaxed),
                    doorbells: row.doorbells.load(Relaxed),
                    tlps_uncached: row.tlps_uncached.load(Relaxed),
                    tlps_combined: row.tlps_combined.load(Relaxed),
                    stalled_ns: row.stalled_ns.load(Relaxed),
                };
            }
        }
        bill
    }
}
