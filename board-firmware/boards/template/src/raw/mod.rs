//! The unsafe module of this board: first instructions, registers, memory that
//! is shared, caches.
#![allow(unsafe_code)]

mod cache;
mod hart;
mod memory;
mod registers;

pub(crate) use cache::{clean, invalidate};
pub(crate) use hart::{enable_wakeups, wait};
pub(crate) use memory::{Owned, bar, bounce, count_boot, outbound};
pub(crate) use registers::{CONSOLE, ENDPOINT, ENGINE, INTERRUPTS, SYSTEM, TIMER};

core::arch::global_asm!(include_str!("start.s"));

/// From start.s, once, when memory is as Rust wants it.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    crate::main()
}

/// From start.s, when something is wrong with the program or its memory.
#[unsafe(no_mangle)]
extern "C" fn take_trap(cause: usize, counter: usize, value: usize) -> ! {
    crate::trapped(cause, counter, value)
}
