//! Configuration space as PCI Express maps it into memory.

use super::{ConfigSpace, Function};
use crate::raw::Registers;

/// Configuration space behind a block of registers: 4 KiB a function
/// (PCI Express Base Specification 5.0 §7.2.2). What the block is too short for
/// reads all ones.
#[derive(Clone, Copy, Debug)]
pub struct Ecam {
    registers: Registers,
}

impl Ecam {
    /// The configuration space that starts with bus 0 in `registers`.
    #[must_use]
    pub const fn new(registers: Registers) -> Self {
        Self { registers }
    }
}

fn place(function: Function, offset: u16) -> usize {
    let Function { bus, device, function } = function;
    usize::from(bus) << 20
        | usize::from(device & 31) << 15
        | usize::from(function & 7) << 12
        | usize::from(offset & 0xFFC)
}

impl ConfigSpace for Ecam {
    // Configuration space is little-endian for every processor.
    fn read(&self, function: Function, offset: u16) -> u32 {
        u32::from_le(self.registers.read32(place(function, offset)))
    }

    fn write(&self, function: Function, offset: u16, value: u32) {
        self.registers.write32(place(function, offset), value.to_le());
    }
}
