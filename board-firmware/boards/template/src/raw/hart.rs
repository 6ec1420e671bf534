//! The processor: what wakes it, and sleep.

use core::arch::asm;

/// mie: the timer's interrupt and the interrupt controller's.
const WAKERS: usize = 1 << 7 | 1 << 11;

/// From now on timer and interrupt controller end a [`wait`].
pub(crate) fn enable_wakeups() {
    // SAFETY: mstatus.MIE is never set, so an interrupt ends a `wfi` and never
    // traps: no handler, nothing that runs in between.
    unsafe { asm!("csrs mie, {0}", in(reg) WAKERS, options(nostack, preserves_flags)) };
}

/// Halts until an interrupt waits; one that does already ends it at once, so
/// none is lost between a look and the halt. (On Arm: `dsb sy; wfi` with
/// PSTATE.I set. On PowerPC MSR.WE ends with interrupts that are taken only: let
/// the handler change the return address, as ../qemu-powerpc does.)
pub(crate) fn wait() {
    // SAFETY: nothing happens but time. Not `nomem`: devices and the host
    // change windows meanwhile.
    unsafe { asm!("wfi", options(nostack, preserves_flags)) };
}
