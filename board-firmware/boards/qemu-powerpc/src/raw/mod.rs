//! The unsafe module of this board: the way in from reset, the processor's
//! registers, and where things are.
#![allow(unsafe_code)]

mod memory;

use core::arch::{asm, global_asm};

use qemu_common::raw::{Aperture, Message, PaintedStack, Registers};

global_asm!(include_str!("start.s"));

const CCSR_AT: usize = 0xE000_0000;
/// Configuration, control and status: all of the chip's own devices.
// SAFETY: where QEMU's mpc8544ds has them (hw/ppc/mpc8544ds.c), mapped uncached
// and guarded; no object lies there, and the PCI bridge's own registers, which
// let functions reach RAM, are set by `bridge` alone: to reach none.
pub(crate) const CCSR: Registers = unsafe { Registers::new(CCSR_AT, 0x10_0000) };

/// Where PCI functions find CCSR: at the same address.
pub(crate) const CCSR_ON_BUS: u32 = 0xE000_0000;
/// The shared message register, of the interrupt controller in CCSR.
const MSIIR: u64 = 0x4_1740;

/// The first and only address of the PCI window, on both sides.
pub(crate) const WINDOW: u32 = 0xC000_0000;
/// Its length is 2 to the power of this.
pub(crate) const WINDOW_BITS: u32 = 29;
/// Of its bytes, the last, which `panic_device` gives out.
const APART: u64 = 4096;

/// What of the window the endpoint's BARs may take.
pub(crate) fn aperture() -> Aperture {
    // SAFETY: `bridge` makes the window before BARs get addresses. It is mapped
    // uncached and guarded, below CCSR and above RAM. QEMU's functions there,
    // ivshmem and pvpanic, start no transfers but messages.
    unsafe { Aperture::new(WINDOW.into(), WINDOW as usize, (1 << WINDOW_BITS) - APART) }
}

/// What of it another function's BAR may.
pub(crate) fn apart() -> Aperture {
    let start = WINDOW + ((1 << WINDOW_BITS) - 4096);
    // SAFETY: as in `aperture`, of which it is no part.
    unsafe { Aperture::new(start.into(), start as usize, APART) }
}

/// The message that sets bit `bit` of the first group of shared interrupts.
pub(crate) fn message(bit: u8) -> Message {
    // The group is in the register's upper three bits, the bit in the five
    // below, and a function's little-endian word comes in with its first byte
    // on top: so they are the data's lowest eight.
    // SAFETY: MSIIR, through the bridge's BAR: a register, no memory.
    unsafe { Message::new(u64::from(CCSR_ON_BUS) + MSIIR, (bit & 31).into()) }
}

unsafe extern "C" {
    // Symbols of the linker script, whose addresses count.
    static __stack_start: u8;
    static __stack_end: u8;
    static __parameters: [u8; 4096];
    /// In start.s.
    fn sleep(msr: u32);
}

/// What QEMU was told for this board.
pub(crate) fn parameters() -> &'static [u8] {
    // SAFETY: RAM that only QEMU's loader writes, before the processor starts.
    unsafe { &__parameters }
}

/// The stack that all of this runs on.
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

/// From the vector of external interrupts; the registers are saved.
#[unsafe(no_mangle)]
extern "C" fn external_interrupt() {
    crate::interrupts::take();
}

/// From the decrementer's: all that it is for is to end a sleep.
#[unsafe(no_mangle)]
extern "C" fn decrementer_interrupt() {
    clear_timer();
}

/// From all other vectors: r0 to r31, and the link register.
#[unsafe(no_mangle)]
extern "C" fn unexpected_interrupt(number: u32, registers: &[u32; 33]) -> ! {
    // Each class has its own pair of where it happened and MSR then.
    let place = match number {
        1 => [special!(570), special!(571)],
        0 | 12 | 15 => [special!(58), special!(59)],
        _ => [special!(26), special!(27)],
    };
    crate::unexpected(number, registers, place, [special!(62), special!(61), special!(572)])
}

/// Reads a special register.
macro_rules! special {
    ($number:literal) => {{
        let value: u32;
        // SAFETY: a register whose read changes nothing. Not `nomem`: reads of
        // the clock stay where they are.
        unsafe {
            asm!(concat!("mfspr {}, ", $number), out(reg) value,
                options(nostack, preserves_flags));
        }
        value
    }};
}
use special;

/// Ticks of the time base.
pub(crate) fn ticks() -> u64 {
    loop {
        let (upper, lower) = (special!(269), special!(268));
        // The lower half may have run over between the two.
        if special!(269) == upper {
            return u64::from(upper) << 32 | u64::from(lower);
        }
    }
}

/// Forgets that the decrementer has come to its end.
fn clear_timer() {
    // SAFETY: TSR[DIS]: written with 1 it becomes 0, and so its interrupt.
    unsafe { asm!("mtspr 336, {}", in(reg) 1_u32 << 27, options(nostack)) };
}

/// Sleeps until an interrupt comes, the decrementer's after `ticks` of the time
/// base; at once if `awake` says so. Between question and sleep none is taken,
/// and one that comes then ends the sleep.
pub(crate) fn sleep_unless(awake: impl FnOnce() -> bool, ticks: u32) {
    /// Waits, external, critical and machine check interrupts on.
    const WE_CE_EE_ME: u32 = 1 << 18 | 1 << 17 | 1 << 15 | 1 << 12;
    // SAFETY: masks interrupts, for as long as this function runs.
    unsafe { asm!("wrteei 0", options(nostack)) };
    if !awake() {
        clear_timer();
        // SAFETY: the decrementer, which interrupts when it counts from 1 to 0.
        unsafe { asm!("mtspr 22, {}", in(reg) ticks.max(1), options(nostack)) };
        // SAFETY: a function by the C calling convention; the vectors are in
        // place, and HID0 says what waiting is.
        unsafe { sleep(WE_CE_EE_ME) };
    }
    unmask();
}

/// Lets external and decrementer interrupts come.
pub(crate) fn unmask() {
    // SAFETY: the vectors are in place, and their code saves all registers.
    unsafe { asm!("wrteei 1", options(nostack)) };
}

/// Waits until all accesses before it are done: the processor may let a load
/// of one register pass a store to another.
pub(crate) fn settle() {
    // SAFETY: a barrier without operands, called msync on this processor.
    unsafe { asm!("sync", options(nostack, preserves_flags)) };
}
