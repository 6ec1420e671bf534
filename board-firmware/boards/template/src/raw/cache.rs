//! Cache maintenance by address, for BAR memory that is mapped cached.
//!
//! Look up: the instructions, the length of a line, and how far they reach
//! (on Arm `dc cvac` and `dc ivac`, to the point of coherency; on PowerPC
//! `dcbst` and `dcbi`). Here: RISC-V's Zicbom, as numbers, since the target's
//! name does not promise it to the assembler.

use core::arch::asm;

use shared::raw::BusWindow;
use shared::window::{Window, fits};

use crate::soc::CACHE_LINE;

/// The first bytes of the lines that `len` bytes at `offset` touch.
fn lines(window: &BusWindow, offset: u64, len: u32) -> impl Iterator<Item = usize> {
    let inside = fits(window.len(), offset, len.into()) && len > 0;
    let start = window.as_ptr().addr() + usize::try_from(offset).unwrap_or(0);
    let end = if inside { start + len as usize } else { start };
    (start & !(CACHE_LINE - 1)..end).step_by(CACHE_LINE)
}

/// Writes lines back; they may stay.
pub(crate) fn clean(window: &BusWindow, offset: u64, len: u32) {
    for line in lines(window, offset, len) {
        // SAFETY: cbo.clean changes no value that this processor sees.
        unsafe { asm!(".insn i 0x0f, 2, x0, {0}, 1", in(reg) line, options(nostack)) };
    }
}

/// Drops lines, and lets no later load pass that.
pub(crate) fn invalidate(window: &BusWindow, offset: u64, len: u32) {
    for line in lines(window, offset, len) {
        // SAFETY: cbo.inval takes back stores that have not been written back.
        // In the lines of a window no Rust object lies: it starts and ends at
        // a page's edge, or inside one that does.
        unsafe { asm!(".insn i 0x0f, 2, x0, {0}, 0", in(reg) line, options(nostack)) };
    }
    // SAFETY: a barrier: no operand, no register, no flag.
    unsafe { asm!("fence iorw, iorw", options(nostack)) };
}
