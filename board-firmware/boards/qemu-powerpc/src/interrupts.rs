//! The interrupt controller, an MPIC with shared message interrupts (MPC8544E
//! Reference Manual ch. 10; QEMU's hw/intc/openpic.c).

use qemu_common::raw::Message;
use qemu_common::vectors;

use crate::raw::{self, CCSR};

const GLOBAL: usize = 0x4_1020;
const RESET: u32 = 1 << 31;
/// Interrupts are its own affair, and not passed through from a pin.
const MIXED: u32 = 1 << 29;

/// The first group of 32 message interrupts: reading it clears it.
const MESSAGES: usize = 0x4_1600;
/// The interrupt of that group, not masked from the start on: vector and priority.
const SOURCE: usize = 0x5_1C00;
/// And its destination, in bits of processors.
const SOURCE_DESTINATION: usize = 0x5_1C10;
const VECTOR: u32 = 1;
const PRIORITY: u32 = 8 << 16;

const TASK_PRIORITY: usize = 0x6_0080;
const ACKNOWLEDGE: usize = 0x6_00A0;
const END: usize = 0x6_00B0;

/// Switches it on, with the messages' interrupt.
pub(crate) fn on() {
    CCSR.write32(GLOBAL, RESET);
    while CCSR.read32(GLOBAL) & RESET != 0 {}
    CCSR.write32(GLOBAL, MIXED);
    CCSR.write32(SOURCE_DESTINATION, 1);
    CCSR.write32(SOURCE, PRIORITY | VECTOR);
    CCSR.write32(TASK_PRIORITY, 0);
    raw::settle();
    raw::unmask();
}

/// The message of vector `vector`; there are 32 of them.
pub(crate) fn message(vector: u16) -> Option<Message> {
    u8::try_from(vector).ok().filter(|bit| *bit < 32).map(raw::message)
}

/// Takes the interrupt that is pending.
pub(crate) fn take() {
    if CCSR.read32(ACKNOWLEDGE) != VECTOR {
        // Spurious: what it was for has been seen to.
        return;
    }
    let came = CCSR.read32(MESSAGES);
    for bit in (0..32).filter(|bit| came >> bit & 1 != 0) {
        vectors::arrived(bit);
    }
    raw::settle();
    CCSR.write32(END, 0);
}
