//! Control and status registers, and sleep.

use core::arch::asm;

/// mstatus.MIE: whether an interrupt traps. One that waits ends a `wfi` all the same.
const STATUS_MIE: usize = 1 << 3;

/// mie: the timer's, and the interrupt controller's.
const TIMER: usize = 1 << 7;
const EXTERNAL: usize = 1 << 11;

/// Ticks of the machine's timer.
pub(crate) fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter. Not `nomem`: reads of the clock stay where they are.
    unsafe { asm!("csrr {}, time", out(reg) ticks, options(nostack, preserves_flags)) };
    ticks
}

/// From now on the interrupt controller's interrupts trap.
pub(crate) fn enable_interrupts() {
    // SAFETY: start.s has set mtvec and mscratch before any Rust code runs. Its
    // handler keeps all registers, and what it calls touches atomics, the
    // interrupt controller and the console's port only. No `nomem`: the
    // compiler moves no access to memory across.
    unsafe {
        asm!(
            "csrs mie, {0}",
            "csrs mstatus, {1}",
            in(reg) EXTERNAL,
            in(reg) STATUS_MIE,
            options(nostack, preserves_flags)
        );
    }
}

/// From now on no interrupt traps.
pub(crate) fn disable_interrupts() {
    // SAFETY: takes traps away, adds none.
    unsafe { asm!("csrc mstatus, {0}", in(reg) STATUS_MIE, options(nostack, preserves_flags)) };
}

/// Halts until the timer is due or the interrupt controller has something, or
/// for no reason. To be called without interrupts: then one that came before
/// the halt ends it, too.
pub(crate) fn wait() {
    // SAFETY: the timer's interrupt is enabled only here, where a caller that
    // broke the rule would get it as a trap, which is reported; else nothing
    // happens but time.
    unsafe {
        asm!(
            "csrs mie, {0}",
            "wfi",
            "csrc mie, {0}",
            in(reg) TIMER,
            options(nostack, preserves_flags)
        );
    }
}

/// Writes register `register` of this hart's interrupt file (miselect, mireg:
/// Advanced Interrupt Architecture 1.0 §2.2; by number, since assemblers differ).
pub(crate) fn imsic_write(register: usize, value: usize) {
    // SAFETY: tells the interrupt controller what to deliver, and that comes as
    // a trap, for which the argument of `enable_interrupts` holds.
    unsafe {
        asm!(
            "csrw 0x350, {0}",
            "csrw 0x351, {1}",
            in(reg) register,
            in(reg) value,
            options(nostack, preserves_flags)
        );
    }
}

/// Sets bits of a register of this hart's interrupt file.
pub(crate) fn imsic_set(register: usize, bits: usize) {
    // SAFETY: as in `imsic_write`.
    unsafe {
        asm!(
            "csrw 0x350, {0}",
            "csrs 0x351, {1}",
            in(reg) register,
            in(reg) bits,
            options(nostack, preserves_flags)
        );
    }
}

/// Takes the most urgent interrupt from the file, which forgets it (mtopei):
/// its identity, or 0 if none waits.
pub(crate) fn claim() -> usize {
    let top: usize;
    // SAFETY: as in `imsic_write`: it only takes something back.
    unsafe {
        asm!("csrrw {0}, 0x35c, zero", out(reg) top, options(nostack, preserves_flags));
    }
    top >> 16
}
