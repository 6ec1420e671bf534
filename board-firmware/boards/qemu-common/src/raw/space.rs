//! Addresses that PCI functions are given, and what is made of them.

use core::ptr::NonNull;

use shared::raw::{BusWindow, StoreWidth};

use super::Registers;

/// Where PCI addresses may be given out, and where the processor sees them.
#[derive(Debug)]
pub struct Aperture {
    bus: u64,
    cpu: usize,
    len: u64,
    used: u64,
}

/// A part of an [`Aperture`], given to one BAR.
#[derive(Debug)]
pub struct Span {
    bus: u64,
    cpu: usize,
    len: usize,
}

/// A message-signalled interrupt: what the function writes, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    address: u64,
    data: u32,
}

impl Aperture {
    /// The `len` bytes that have the address `bus` on the bus, and `cpu` for
    /// the processor, both multiples of 4 KiB.
    ///
    /// # Safety
    /// Until the next reset the processor finds there what PCI functions answer
    /// with, and nothing else; all of it is mapped for reading and writing,
    /// uncached and so that no store is held back or merged; no Rust object
    /// lies there. Functions that get addresses there start no transfer by
    /// themselves but messages ([`Message`]).
    #[must_use]
    pub const unsafe fn new(bus: u64, cpu: usize, len: u64) -> Self {
        Self { bus, cpu, len, used: 0 }
    }

    /// The next free `len` bytes, a power of two, aligned to their length on
    /// the bus. `None`: no power of two, or no room.
    pub fn take(&mut self, len: u64) -> Option<Span> {
        let free = self.bus.checked_add(self.used).filter(|_| len.is_power_of_two())?;
        let bus = free.checked_next_multiple_of(len)?;
        let used = (bus - self.bus).checked_add(len).filter(|used| *used <= self.len)?;
        let cpu = self.cpu.checked_add(usize::try_from(used - len).ok()?)?;
        let len = usize::try_from(len).ok().filter(|len| cpu.checked_add(*len).is_some())?;
        self.used = used;
        Some(Span { bus, cpu, len })
    }
}

impl Span {
    /// Its address on the bus.
    #[must_use]
    pub const fn bus(&self) -> u64 {
        self.bus
    }

    /// Bytes, a power of two.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Never: a span has at least a byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// It as device registers.
    #[must_use]
    pub const fn registers(&self) -> Registers {
        // SAFETY: inside an aperture, whose maker promised the mapping, that no
        // Rust object lies there, and that its functions start no transfers.
        // Parts smaller than 8 bytes hold no register wider than themselves.
        unsafe { Registers::new(self.cpu, self.len) }
    }

    /// It as memory that the other side of the bus reads and writes too;
    /// `None` if it is not aligned to 8 bytes for the processor.
    #[must_use]
    pub fn window(&self) -> Option<BusWindow> {
        let start = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(self.cpu))
            .filter(|start| start.as_ptr().addr().is_multiple_of(8))?;
        // SAFETY: `len` bytes inside an aperture: mapped until the next reset,
        // and no Rust object lies there, so no reference to one either.
        Some(unsafe { BusWindow::new(start, self.len, StoreWidth::Bits64, ()) })
    }
}

impl Message {
    /// `data`, written to `address` on the bus.
    ///
    /// # Safety
    /// A write there, whenever it comes, raises an interrupt, and touches no
    /// memory.
    #[must_use]
    pub const unsafe fn new(address: u64, data: u32) -> Self {
        Self { address, data }
    }

    /// The address on the bus.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// What is written there.
    #[must_use]
    pub const fn data(&self) -> u32 {
        self.data
    }
}

#[cfg(test)]
impl Aperture {
    /// One whose spans are given out, and touched by nobody.
    pub(crate) const fn untouched(bus: u64, len: u64) -> Self {
        Self { bus, cpu: 0, len, used: 0 }
    }
}

#[cfg(test)]
impl Message {
    /// One that is written into tables, and sent by nobody.
    pub(crate) const fn unsent(address: u64, data: u32) -> Self {
        Self { address, data }
    }
}
