//! Blocks of device registers.

use core::ptr::with_exposed_provenance_mut;

use crate::soc::address;

/// A block of device registers of 32 bits, in the processor's byte order (what
/// is little-endian on a big-endian processor: `to_le` and `from_le` here).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    base: usize,
}

impl Registers {
    /// # Safety
    /// At `base`, a multiple of 4, are device registers, mapped uncached, as
    /// far as src/soc.rs names offsets of them. No access to them makes a
    /// device write where Rust objects are.
    const unsafe fn new(base: usize) -> Self {
        Self { base }
    }

    pub(crate) fn read(self, offset: usize) -> u32 {
        // SAFETY: a register of the block: `new` was promised it, and all
        // offsets are src/soc.rs's. Volatile: one access of this width.
        unsafe { with_exposed_provenance_mut::<u32>(self.base + offset).read_volatile() }
    }

    pub(crate) fn write(self, offset: usize, value: u32) {
        // SAFETY: as in `read`.
        unsafe { with_exposed_provenance_mut::<u32>(self.base + offset).write_volatile(value) }
    }
}

// Nothing is read or written before `crate::main` has seen that src/soc.rs is
// complete; that its addresses are right is whoever's promise who filled it in.
// SAFETY: the datasheet's address of these registers, which start no transfer.
pub(crate) const ENDPOINT: Registers = unsafe { Registers::new(address::ENDPOINT) };
// SAFETY: as above, but for transfers: src/engine.rs gives the engine addresses
// in windows only, where no Rust object lies.
pub(crate) const ENGINE: Registers = unsafe { Registers::new(address::ENGINE) };
// SAFETY: as for the endpoint controller.
pub(crate) const INTERRUPTS: Registers = unsafe { Registers::new(address::INTERRUPTS) };
// SAFETY: as for the endpoint controller.
pub(crate) const TIMER: Registers = unsafe { Registers::new(address::TIMER) };
// SAFETY: as for the endpoint controller.
pub(crate) const SYSTEM: Registers = unsafe { Registers::new(address::SYSTEM) };
// SAFETY: as for the endpoint controller.
pub(crate) const CONSOLE: Registers = unsafe { Registers::new(address::CONSOLE) };
