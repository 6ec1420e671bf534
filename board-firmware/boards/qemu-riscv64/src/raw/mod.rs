//! The unsafe module of this board: the way in from reset, traps, the
//! processor's registers, and where things are.
#![allow(unsafe_code)]

mod csr;

use qemu_common::raw::{Aperture, Message, PaintedStack, Registers};

pub(crate) use csr::{
    claim, disable_interrupts, enable_interrupts, imsic_set, imsic_write, ticks, wait,
};

core::arch::global_asm!(include_str!("start.s"));

// Where QEMU's virt machine has its devices (hw/riscv/virt.c, `virt_memmap`).
// SAFETY: machine mode translates nothing, and below the RAM is nothing but
// devices, uncached; none of these starts a transfer.
pub(crate) const UART: Registers = unsafe { Registers::new(0x1000_0000, 0x100) };
// SAFETY: as for the first of them.
pub(crate) const FINISHER: Registers = unsafe { Registers::new(0x10_0000, 0x1000) };
// SAFETY: as for the first of them.
pub(crate) const CLOCK: Registers = unsafe { Registers::new(0x10_1000, 0x1000) };
// SAFETY: as for the first of them.
pub(crate) const TIMER: Registers = unsafe { Registers::new(0x200_4000, 8) };
// SAFETY: as above; what functions behind it do is the aperture's promise.
pub(crate) const CONFIG_SPACE: Registers = unsafe { Registers::new(0x3000_0000, 0x1000_0000) };

/// Memory space with 32-bit addresses (`VIRT_PCIE_MMIO`).
pub(crate) fn aperture() -> Aperture {
    // SAFETY: only PCI functions answer there, uncached; QEMU's host bridge and
    // ivshmem start no transfers but messages.
    unsafe { Aperture::new(0x4000_0000, 0x4000_0000, 0x4000_0000) }
}

/// The message that raises interrupt `identity` of hart 0's machine-level file
/// (`VIRT_IMSIC_M`).
pub(crate) fn message(identity: u16) -> Message {
    // SAFETY: seteipnum_le of an interrupt file: a register, no memory.
    unsafe { Message::new(0x2400_0000, identity.into()) }
}

unsafe extern "C" {
    // Symbols of the linker script, whose addresses count.
    static __stack_start: u8;
    static __stack_end: u8;
    static __parameters: [u8; 4096];
}

/// What QEMU was told for this board.
pub(crate) fn parameters() -> &'static [u8] {
    // SAFETY: RAM that only QEMU's loader writes, before the processor starts.
    unsafe { &__parameters }
}

/// The stack that all but traps runs on.
pub(crate) fn stack() -> PaintedStack {
    // SAFETY: the addresses of these symbols, multiples of 8, are the stack's
    // ends; the start-up painted it, and nothing but the stack is in between.
    unsafe { PaintedStack::new(&raw const __stack_start, &raw const __stack_end) }
}

/// From the start-up: stack and initial values are in place.
#[unsafe(no_mangle)]
extern "C" fn start() -> ! {
    crate::main()
}

/// mcause of the interrupt controller's interrupt.
const EXTERNAL: usize = 1 << (usize::BITS - 1) | 11;

/// From any trap, on the trap's stack: the program counter, then x1 to x31.
#[unsafe(no_mangle)]
extern "C" fn take_trap(cause: usize, value: usize, registers: &[usize; 32]) {
    if cause == EXTERNAL {
        crate::take_interrupts();
    } else {
        crate::unexpected(cause, value, registers);
    }
}
