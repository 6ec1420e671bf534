//! The memories of the simulated machine pair, and which bus addresses they have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::MmapRaw;
use shared::address::BusAddress;
use shared::raw::RamWindow;
use shared::region::{MAX_REGIONS, Rights};
use shared::window::{Window, fits};

use crate::bus::bill::{MemoryLabels, Side};

pub(super) fn usize_of(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// One memory: BAR 0, or a shared region. Its bytes lie in `ram` (counted
/// mode) or in the machine, under `id` (instrument mode).
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) id: usize,
    pub(super) home: Side,
    /// What [`Access::address`](super::Access::address) says of offset 0.
    pub(super) base: u64,
    pub(super) len: u64,
    pub(super) rights: Rights,
    pub(super) labels: MemoryLabels,
    /// Whether the other side still reaches it.
    pub(super) live: AtomicBool,
    pub(super) ram: Option<RamWindow<Arc<MmapRaw>>>,
}

impl Memory {
    /// Zeroes it, where the bytes lie here.
    pub(super) fn wipe(&self) {
        const ZEROS: [u8; 4096] = [0; 4096];
        let Some(ram) = &self.ram else { return };
        for offset in (0..self.len).step_by(ZEROS.len()) {
            let len = usize_of(self.len - offset).min(ZEROS.len());
            ram.write(offset, &ZEROS[..len]);
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.live.load(Ordering::Relaxed)
    }
}

/// The shared regions, and the bus addresses that are left.
#[derive(Debug, Default)]
pub(super) struct Directory {
    regions: Vec<Arc<Memory>>,
    next: u64,
    shared: u64,
    ids: usize,
}

impl Directory {
    pub(super) fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    pub(super) fn shared_bytes(&self) -> u64 {
        self.shared
    }

    /// Whether one more region may be shared: as many as a session may have.
    pub(super) fn has_room(&self) -> bool {
        self.regions.len() < MAX_REGIONS
    }

    /// A number for the next region, never used again; the BAR has 0.
    pub(super) fn next_id(&mut self) -> usize {
        self.ids += 1;
        self.ids
    }

    /// The first free address for `len` bytes from `from` on, aligned to
    /// `len` rounded up to a power of two, if its end stays below `limit`.
    pub(super) fn place(&self, len: u64, from: u64, limit: u64) -> Option<u64> {
        let align = len.checked_next_power_of_two()?;
        let at = self.next.max(from).checked_next_multiple_of(align)?;
        (at.checked_add(len)? <= limit).then_some(at)
    }

    pub(super) fn insert(&mut self, memory: Arc<Memory>) {
        self.next = memory.base + memory.len;
        self.shared += memory.len;
        self.regions.push(memory);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Memory>> {
        self.regions.iter()
    }

    pub(super) fn clear(&mut self) {
        for region in self.regions.drain(..) {
            region.live.store(false, Ordering::Relaxed);
        }
        (self.next, self.shared) = (0, 0);
    }

    /// The region that holds the whole range, and the range's offset in it.
    pub(super) fn find(&self, address: BusAddress, len: u64) -> Option<(Arc<Memory>, u64)> {
        self.regions.iter().find_map(|region| {
            let offset = address.offset_from(BusAddress::new(region.base))?;
            fits(region.len, offset, len).then(|| (Arc::clone(region), offset))
        })
    }
}
