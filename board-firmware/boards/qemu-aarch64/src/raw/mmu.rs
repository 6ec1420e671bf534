//! The translation tables: every address is itself, and the stack has a hole
//! below it.

use core::arch::asm;
use core::cell::UnsafeCell;

/// 512 entries of one level, as the processor reads them.
#[repr(C, align(4096))]
struct Table(UnsafeCell<[u64; 512]>);

// SAFETY: written by `on` alone, which runs once, before interrupts, on the
// only processor; afterwards nothing but the processor's own walks reads it.
unsafe impl Sync for Table {}

/// 1 GiB an entry.
static GIBS: Table = Table(UnsafeCell::new([0; 512]));
/// 2 MiB an entry, of the GiB that starts with the RAM.
static RAM: Table = Table(UnsafeCell::new([0; 512]));

const RAM_START: u64 = 0x4000_0000;
const BLOCK: u64 = 2 << 20;
/// As the linker script has it.
const HOLE: u64 = 0x4100_0000;

// Arm ARM D8.3: the descriptors' fields.
const IS_BLOCK: u64 = 0b01;
const IS_TABLE: u64 = 0b11;
const DEVICE: u64 = 0 << 2;
const NORMAL: u64 = 1 << 2 | 0b11 << 8;
const READ_ONLY: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 10;
const NO_CODE: u64 = 0b11 << 53;

/// Attribute 0: Device-nGnRnE; attribute 1: normal memory, write-back.
const MAIR: u64 = 0xFF00;
/// 39 bits of address in 4 KiB pages from TTBR0, walks through the caches;
/// nothing from TTBR1.
const TCR: u64 = 25 | 0b01 << 8 | 0b01 << 10 | 0b11 << 12 | 1 << 23;
/// MMU, alignment checks on loads and stores, data cache, on the stack
/// pointer, instruction cache, and no code in what can be written.
const SCTLR: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19;

/// Switches the MMU on, with alignment faults.
///
/// # Safety
/// Called once, on the only processor, before any interrupt is taken.
pub(super) unsafe fn on() {
    let gibs = [ACCESSED | NO_CODE | DEVICE | IS_BLOCK, RAM.0.get() as u64 | IS_TABLE];
    // SAFETY: nobody else touches the tables yet (this function's contract),
    // and the indices are below 512.
    unsafe {
        for (at, entry) in gibs.into_iter().enumerate() {
            GIBS.0.get().cast::<u64>().add(at).write(entry);
        }
        for at in 0..512 {
            let block = RAM_START + BLOCK * at as u64;
            let rights = match block {
                RAM_START => READ_ONLY,
                _ => NO_CODE,
            };
            if block != HOLE {
                let entry = block | ACCESSED | NORMAL | rights | IS_BLOCK;
                RAM.0.get().cast::<u64>().add(at).write(entry);
            }
        }
    }
    // SAFETY: the tables map code, constants, data and stack where they are,
    // so the next instruction is found; registers of EL1, which this is.
    unsafe {
        asm!(
            "dsb sy",
            "msr mair_el1, {mair}",
            "msr tcr_el1, {tcr}",
            "msr ttbr0_el1, {tables}",
            "isb",
            "tlbi vmalle1",
            "dsb sy",
            "ic iallu",
            "dsb sy",
            "isb",
            "mrs {old}, sctlr_el1",
            "orr {old}, {old}, {new}",
            "msr sctlr_el1, {old}",
            "isb",
            mair = in(reg) MAIR,
            tcr = in(reg) TCR,
            tables = in(reg) GIBS.0.get(),
            new = in(reg) SCTLR,
            old = out(reg) _,
            options(nostack),
        );
    }
}
