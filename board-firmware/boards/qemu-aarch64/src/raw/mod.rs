//! The unsafe module of this board: the way in from reset, the processor's
//! registers, and where things are.
#![allow(unsafe_code)]

mod mmu;

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, Ordering};

use qemu_common::machine::End;
use qemu_common::raw::{Aperture, Message, PaintedStack, Registers};

global_asm!(include_str!("start.s"));

/// A device of QEMU's virt machine (hw/arm/virt.c, `base_memmap`).
const fn device(at: usize, len: usize) -> Registers {
    // SAFETY: only called for the devices below. They lie under 1 GiB, which is
    // mapped uncached and holds no RAM, and none of them starts a transfer;
    // what functions behind configuration space do is the aperture's promise.
    unsafe { Registers::new(at, len) }
}

pub(crate) const DISTRIBUTOR: Registers = device(0x0800_0000, 0x1000);
pub(crate) const CPU_INTERFACE: Registers = device(0x0801_0000, 0x1000);
pub(crate) const MESSAGES: Registers = device(0x0802_0000, 0x1000);
pub(crate) const UART: Registers = device(0x0900_0000, 0x1000);
pub(crate) const CLOCK: Registers = device(0x0901_0000, 0x1000);
pub(crate) const CONFIG_SPACE: Registers = device(0x3F00_0000, 0x100_0000);

/// Memory space below the I/O window (`VIRT_PCIE_MMIO`).
pub(crate) fn aperture() -> Aperture {
    // SAFETY: only PCI functions answer there, uncached; QEMU's host bridge and
    // ivshmem start no transfers but messages.
    unsafe { Aperture::new(0x1000_0000, 0x1000_0000, 0x2EFF_0000) }
}

/// The message that raises the shared interrupt `number`.
pub(crate) fn message(number: u16) -> Message {
    // SAFETY: MSI_SETSPI_NS of the GICv2m frame: a register, no memory.
    unsafe { Message::new(0x0802_0040, number.into()) }
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

/// The stack that all of this runs on.
pub(crate) fn stack() -> PaintedStack {
    // SAFETY: the addresses of these symbols, multiples of 8, are the stack's
    // ends; the start-up painted it, and nothing but the stack is in between.
    unsafe { PaintedStack::new(&raw const __stack_start, &raw const __stack_end) }
}

/// From the start-up: stack and initial values are in place.
#[unsafe(no_mangle)]
extern "C" fn start() -> ! {
    // SAFETY: the first thing that is done, by the only processor.
    unsafe { mmu::on() };
    crate::main()
}

/// From the vector of interrupts; the registers are saved.
#[unsafe(no_mangle)]
extern "C" fn take_interrupt() {
    crate::interrupts::take();
}

/// From all other vectors: x0 to x30, where it happened, and the state then.
#[unsafe(no_mangle)]
extern "C" fn exception(registers: &[u64; 33], syndrome: u64, address: u64) -> ! {
    crate::unexpected(registers, syndrome, address)
}

/// Reads a system register.
macro_rules! system_register {
    ($(#[$doc:meta])* $name:ident, $register:literal) => {
        $(#[$doc])*
        pub(crate) fn $name() -> u64 {
            let value;
            // SAFETY: a register of EL1 whose read changes nothing. Not
            // `nomem`: reads of the clock stay where they are.
            unsafe {
                asm!(concat!("isb\nmrs {}, ", $register), out(reg) value,
                    options(nostack, preserves_flags));
            }
            value
        }
    };
}

system_register!(
    /// Ticks of the virtual counter.
    ticks, "cntvct_el0"
);
system_register!(
    /// Ticks a second.
    tick_rate, "cntfrq_el0"
);
system_register!(
    /// System control: bit 1 is the check of alignment.
    system_control, "sctlr_el1"
);

/// Has the virtual timer interrupt when the counter reaches `at`; `None`: never.
pub(crate) fn set_timer(at: Option<u64>) {
    // SAFETY: the timer's own registers: it raises its interrupt or does not.
    unsafe {
        asm!("msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", "isb",
            in(reg) at.unwrap_or(u64::MAX), in(reg) u64::from(at.is_some()), options(nostack));
    }
}

/// Sleeps until an interrupt is pending or the counter reaches `until`, unless
/// `awake` says no. From the question to the sleep none is taken, neither the
/// timer's: one that comes then ends the sleep.
pub(crate) fn sleep_unless(awake: impl FnOnce() -> bool, until: Option<u64>) {
    // SAFETY: masks interrupts, for as long as this function runs.
    unsafe { asm!("msr daifset, #2", options(nostack)) };
    if !awake() {
        set_timer(until);
        // SAFETY: `wfi` ends with an interrupt that is masked, too.
        unsafe { asm!("dsb sy", "wfi", options(nostack)) };
    }
    set_timer(None);
    unmask();
}

/// Lets interrupts and system errors come.
pub(crate) fn unmask() {
    // SAFETY: the vectors are in place, and their code saves all registers.
    unsafe { asm!("msr daifclr, #6", "isb", options(nostack)) };
}

/// Loads a word from between two words.
pub(crate) fn load_misaligned() {
    let words = [0_u32; 2];
    // SAFETY: four bytes inside `words`, read into a register that is given up.
    // The processor raises an exception, or reads them.
    unsafe {
        asm!("ldr {0:w}, [{0}, #1]", inout(reg) &raw const words => _, options(readonly, nostack));
    }
}

/// Whether QEMU was asked to end.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Ends this boot.
pub(crate) fn end(how: End) -> ! {
    match how {
        // SAFETY: PSCI's SYSTEM_RESET, which QEMU serves itself.
        End::Reset => unsafe { asm!("hvc #0", in("x0") 0x8400_0009_u64, options(nostack)) },
        // Without semihosting the instruction below is one more exception.
        End::Exit(_) if ENDING.swap(true, Ordering::Relaxed) => {
            // SAFETY: PSCI's SYSTEM_OFF, which QEMU serves itself.
            unsafe { asm!("hvc #0", in("x0") 0x8400_0008_u64, options(nostack)) }
        }
        End::Exit(status) => {
            // ADP_Stopped_ApplicationExit, and the status.
            let block = [0x2_0026, u64::from(status)];
            // SAFETY: semihosting's SYS_EXIT reads this block and does not return.
            unsafe { asm!("hlt #0xf000", in("x0") 0x18, in("x1") &raw const block) }
        }
    }
    loop {
        // SAFETY: waits; nothing comes that would be of use.
        unsafe { asm!("wfi", options(nomem, nostack)) };
    }
}
