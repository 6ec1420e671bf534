//! A window of the simulated bus, in both modes.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use memmap2::MmapRaw;
use shared::raw::{RamWindow, StoreWidth};
use shared::region::Rights;
use shared::window::{Barrier, Window, Word, fits};

use super::core::{Core, Engine, lock};
use super::machine::{Machine, Target};
use super::memory::{Memory, usize_of};
use crate::bus::KernelMemory;
use crate::bus::bill::{Initiator, Metered, Side};
use crate::raw::KernelRange;

/// Memory as one initiator sees it. What a store does, and when, is the mode's
/// business; who may reach what is decided here.
#[derive(Clone, Debug)]
pub struct SimWindow {
    core: Arc<Core>,
    who: Initiator,
    memory: Arc<Memory>,
    /// Offset of this window in the memory.
    start: u64,
    len: u64,
    widest: StoreWidth,
    /// Payload goes through the board processor's cache.
    cached: bool,
    backing: Backing,
    /// Held by the board's outbound windows: how many are open.
    #[expect(dead_code, reason = "held for its drop")]
    slot: Option<Arc<Slot>>,
}

/// Where the bytes are.
#[derive(Clone)]
enum Backing {
    Instrument(Arc<Mutex<Machine>>),
    /// The stretch itself.
    Counted(RamWindow<Arc<MmapRaw>>),
}

impl fmt::Debug for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instrument(_) => "instrument",
            Self::Counted(_) => "counted",
        })
    }
}

/// So many of the board's outbound windows, closed when the last handle goes.
#[derive(Debug)]
pub(super) struct Slot(pub(super) Arc<Core>, pub(super) u16);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.outbound_open.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl SimWindow {
    pub(super) fn new(
        core: &Arc<Core>,
        who: Initiator,
        memory: Arc<Memory>,
        start: u64,
        len: u64,
        slot: Option<Slot>,
    ) -> Option<Self> {
        if !fits(memory.len, start, len) {
            return None;
        }
        let backing = match (&memory.ram, &core.engine) {
            (Some(ram), _) => Backing::Counted(ram.part(start, len)?),
            (None, Engine::Instrument(machine)) => Backing::Instrument(Arc::clone(machine)),
            (None, Engine::Counted(_)) => return None,
        };
        let core = Arc::clone(core);
        let slot = slot.map(Arc::new);
        let widest = StoreWidth::Bits64;
        Some(Self { core, who, memory, start, len, widest, cached: false, backing, slot })
    }

    /// Who accesses through this window.
    #[must_use]
    pub fn initiator(&self) -> Initiator {
        self.who
    }

    /// The same memory as the board's DMA engine sees it; `None` for windows
    /// of the host's, and where there is no engine.
    #[must_use]
    pub fn dma_view(&self) -> Option<Self> {
        let has_engine = self.core.options.outbound.dma && self.who != Initiator::HostCpu;
        let engine = Initiator::BoardDma;
        let widest = StoreWidth::Bits64;
        has_engine.then(|| Self { who: engine, widest, slot: None, cached: false, ..self.clone() })
    }

    /// The same memory for a processor or a bus that stores no wider words.
    pub(super) fn with_widest(self, widest: StoreWidth) -> Self {
        Self { widest, ..self }
    }

    /// The same memory with payload through the board processor's cache.
    pub(super) fn through_cache(self) -> Self {
        Self { cached: true, ..self }
    }

    /// Writes the dirty cache lines that `len` bytes at `offset` touch back to
    /// memory. Nothing where the window is not cached or the bytes do not fit.
    pub fn clean(&self, offset: u64, len: u64) {
        if let Some((machine, at)) = self.cache_at(offset, len) {
            lock(machine).clean(self.target(at), usize_of(len));
        }
    }

    /// Forgets the cache lines that `len` bytes at `offset` touch: what is
    /// dirty in them is lost. Nothing where [`clean`](Self::clean) does nothing.
    pub fn invalidate(&self, offset: u64, len: u64) {
        if let Some((machine, at)) = self.cache_at(offset, len) {
            lock(machine).invalidate(self.target(at), usize_of(len));
        }
    }

    fn cache_at(&self, offset: u64, len: u64) -> Option<(&Mutex<Machine>, u64)> {
        match &self.backing {
            Backing::Instrument(machine) if self.cached => {
                Some((machine, self.at(offset, len, 1)?))
            }
            _ => None,
        }
    }

    /// Whether its accesses cross the bus.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.who.home() != self.memory.home
    }

    /// The offset in the memory, if the access fits.
    #[inline]
    fn at(&self, offset: u64, len: u64, align: u64) -> Option<u64> {
        (fits(self.len, offset, len) && offset.is_multiple_of(align)).then(|| self.start + offset)
    }
}

impl SimWindow {
    fn metered(&self, at: u64, len: u64) -> Metered {
        let plane = self.memory.labels.plane(at);
        let (who, remote, memory) = (self.who, self.is_remote(), self.memory.id);
        let narrow = self.core.options.bar_32_bit && who == Initiator::HostCpu;
        let piece = if narrow { 4 } else { 8 };
        Metered { who, plane, remote, memory, at, len, piece }
    }

    fn target(&self, at: u64) -> Target<'_> {
        Target { who: self.who, memory: &self.memory, at }
    }

    /// Whether the BAR drops a store for its width, and counts it.
    fn is_too_wide(&self, fits: bool) -> bool {
        let narrow = self.core.options.bar_32_bit && self.memory.home == Side::Board;
        let refused = narrow && self.is_remote() && !(fits && self.widest == StoreWidth::Bits32);
        if refused {
            self.core.meter.width_fault();
        }
        refused
    }

    fn store_word(&self, offset: u64, len: u64, value: u64) {
        let at = self.start + offset;
        self.core.meter.store(self.metered(at, len));
        match &self.backing {
            Backing::Instrument(machine) => {
                lock(machine).store(self.target(at), usize_of(len), value);
            }
            Backing::Counted(ram) => {
                if self.gets_through(Rights::WRITE) {
                    match len {
                        8 => ram.store(offset, value),
                        _ => ram.store(offset, u32::from_u64(value)),
                    }
                }
            }
        }
    }

    fn gets_through(&self, right: Rights) -> bool {
        !self.is_remote() || self.core.reaches(&self.memory, right)
    }
}

impl Window for SimWindow {
    fn len(&self) -> u64 {
        self.len
    }

    fn load<T: Word>(&self, offset: u64) -> T {
        let Some(at) = self.at(offset, T::BYTES, T::BYTES) else {
            return T::ALL_ONES;
        };
        self.core.meter.load(self.metered(at, T::BYTES));
        match &self.backing {
            Backing::Instrument(machine) => {
                let len = usize_of(T::BYTES);
                T::from_u64(lock(machine).load(self.target(at), len))
            }
            Backing::Counted(ram) if self.gets_through(Rights::READ) => ram.load(offset),
            Backing::Counted(_) => T::ALL_ONES,
        }
    }

    fn store<T: Word>(&self, offset: u64, value: T) {
        if self.at(offset, T::BYTES, T::BYTES).is_none() {
            return;
        }
        let value = value.to_u64();
        if T::BYTES == 8 && self.widest == StoreWidth::Bits32 {
            self.store_word(offset, 4, value & u64::from(u32::MAX));
            self.store_word(offset + 4, 4, value >> 32);
        } else if T::BYTES != 8 || !self.is_too_wide(false) {
            self.store_word(offset, T::BYTES, value);
        }
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        let Some(at) = self.at(offset, into.len() as u64, 1) else {
            into.fill(0xFF);
            return;
        };
        self.core.meter.payload_load(self.metered(at, into.len() as u64));
        match &self.backing {
            Backing::Instrument(machine) if self.cached => {
                lock(machine).read_cached(self.target(at), into);
            }
            Backing::Instrument(machine) => lock(machine).read(self.target(at), into),
            Backing::Counted(ram) if self.gets_through(Rights::READ) => ram.read(offset, into),
            Backing::Counted(_) => into.fill(0xFF),
        }
    }

    fn write(&self, offset: u64, from: &[u8]) {
        let Some(at) = self.at(offset, from.len() as u64, 1) else {
            return;
        };
        // What begins or ends within a word would be stored in bytes.
        if self.is_too_wide(at.is_multiple_of(4) && from.len().is_multiple_of(4)) {
            return;
        }
        self.core.meter.payload_store(self.metered(at, from.len() as u64));
        match &self.backing {
            Backing::Instrument(machine) if self.cached => {
                lock(machine).write_cached(self.target(at), from);
            }
            Backing::Instrument(machine) => lock(machine).write(self.target(at), from),
            Backing::Counted(ram) => {
                if self.gets_through(Rights::WRITE) {
                    ram.write(offset, from);
                }
            }
        }
    }

    fn barrier(&self, barrier: Barrier) {
        if barrier != Barrier::Read {
            self.core.meter.close(self.who);
        }
        match &self.backing {
            Backing::Instrument(machine) => lock(machine).barrier(self.who, barrier),
            Backing::Counted(ram) => ram.barrier(barrier),
        }
    }

    fn part(&self, offset: u64, len: u64) -> Option<Self> {
        if !fits(self.len, offset, len) || !offset.is_multiple_of(8) {
            return None;
        }
        let backing = match &self.backing {
            Backing::Instrument(machine) => Backing::Instrument(Arc::clone(machine)),
            Backing::Counted(ram) => Backing::Counted(ram.part(offset, len)?),
        };
        Some(Self { start: self.start + offset, len, backing, ..self.clone() })
    }
}

impl KernelMemory for SimWindow {
    /// In counted mode, for the host's windows of host memory.
    fn kernel_range(&self, offset: u64, len: usize) -> Option<KernelRange<'_>> {
        match &self.backing {
            Backing::Counted(ram) if self.memory.home == Side::Host && !self.is_remote() => {
                KernelRange::of(ram, self.at(offset, len as u64, 1)? - self.start, len)
            }
            _ => None,
        }
    }
}
