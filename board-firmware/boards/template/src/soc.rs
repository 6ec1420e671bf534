//! The datasheet: every address and every number of this board, and nothing else.
//!
//! The registers are those of an imagined controller, in the form that real
//! ones have: change the offsets, keep the names, and the rest of the board
//! follows. Start with the addresses: the build of a copy fails until none of
//! them is [`TO_BE_REPLACED`]. link.ld has three more.

use shared::raw::StoreWidth;

/// What nobody has looked up yet.
const TO_BE_REPLACED: usize = 0x0BAD_0000;

/// Where the blocks of registers and memory lie, as the processor sees them.
pub(crate) mod address {
    /// The PCIe endpoint controller's registers, [`super::endpoint`].
    pub(crate) const ENDPOINT: usize = super::TO_BE_REPLACED;
    /// The memory that the host finds behind BAR 0, a multiple of 4 KiB. Behind its
    /// [`super::BAR_LEN`] bytes come the [`super::BOUNCE_LEN`] of the DMA engine.
    pub(crate) const BAR_MEMORY: usize = super::TO_BE_REPLACED;
    /// The same memory mapped cached, by a cache that does not see the host's
    /// accesses, for payload alone; or [`BAR_MEMORY`] again: simpler and, up to
    /// some gigabit, no slower.
    pub(crate) const BAR_PAYLOAD: usize = BAR_MEMORY;
    /// Where outbound window 0 appears; the others follow it.
    pub(crate) const OUTBOUND: usize = super::TO_BE_REPLACED;
    /// The DMA engine's registers, [`super::engine`].
    pub(crate) const ENGINE: usize = super::TO_BE_REPLACED;
    /// The interrupt controller's registers, [`super::interrupts`].
    pub(crate) const INTERRUPTS: usize = super::TO_BE_REPLACED;
    /// The timer's registers, [`super::timer`].
    pub(crate) const TIMER: usize = super::TO_BE_REPLACED;
    /// The registers of watchdog and reset, [`super::system`].
    pub(crate) const SYSTEM: usize = super::TO_BE_REPLACED;
    /// The serial port's registers, [`super::console`].
    pub(crate) const CONSOLE: usize = super::TO_BE_REPLACED;

    pub(super) const ALL: [usize; 8] =
        [ENDPOINT, BAR_MEMORY, OUTBOUND, ENGINE, INTERRUPTS, TIMER, SYSTEM, CONSOLE];
}

/// Whether an address is still to be looked up: then the firmware refuses to start.
pub(crate) const INCOMPLETE: bool = {
    let mut incomplete = false;
    let mut at = 0;
    while at < address::ALL.len() {
        incomplete |= address::ALL[at] == TO_BE_REPLACED;
        at += 1;
    }
    incomplete
};

/// The template itself may be built as it is; a copy has another name.
const IS_TEMPLATE: bool =
    matches!(env!("CARGO_PKG_NAME").as_bytes(), b"virtio-phys-board-template");

const _: () = assert!(
    IS_TEMPLATE || !INCOMPLETE,
    "src/soc.rs: an address is still TO_BE_REPLACED: look it up in the datasheet"
);

/// Bytes of BAR 0: a power of two, 1 MiB or more: rings and frames lie there.
pub(crate) const BAR_LEN: usize = 1 << 20;

/// Bytes through which the DMA engine copies, a large frame; never cached.
pub(crate) const BOUNCE_LEN: usize = 64 << 10;

/// The widest store that BAR 0 takes from the host: the endpoint controller
/// may want 32 bits, where memory behind it would take 64.
pub(crate) const WIDEST_STORE_IN: StoreWidth = StoreWidth::Bits32;

/// The widest that this processor sends through an outbound window.
pub(crate) const WIDEST_STORE_OUT: StoreWidth = StoreWidth::Bits32;

/// Whether payload in board memory needs cache maintenance.
pub(crate) const BAR_CACHED: bool = address::BAR_PAYLOAD != address::BAR_MEMORY;

/// Bytes of a cache line, a power of two. With more than 64 no payload is cached (R2).
pub(crate) const CACHE_LINE: usize = 64;

/// The endpoint controller.
pub(crate) mod endpoint {
    /// Bit n: doorbell n has rung. Writing 1 forgets it. Look up: an inbound
    /// doorbell or mailbox register that raises an interrupt; without one, a
    /// watchpoint on an inbound address, or else polling.
    pub(crate) const DOORBELLS: usize = 0x00;
    /// Where in which BAR the host finds the register that sets them: it
    /// writes the number of the doorbell there.
    pub(crate) const DOORBELL_BAR: u8 = 1;
    /// See [`DOORBELL_BAR`].
    pub(crate) const DOORBELL_OFFSET: u64 = 0x10;
    /// At least 3: the message channel's and one for each of the network
    /// device's queues. A fourth is what the rest of the queues share.
    pub(crate) const DOORBELL_COUNT: u32 = 4;

    /// Writing n sends MSI-X vector n. Look up: a register that sends, or the
    /// function's MSI-X table, from which you read address and data to write
    /// through an outbound window of its own (and the mask bits to respect).
    pub(crate) const RAISE: usize = 0x04;
    /// MSI-X vectors in the function's configuration: 1 works, 4 are better.
    pub(crate) const VECTORS: u32 = 4;
    /// Whether a vector may overtake what this processor wrote before: `true`
    /// unless the manual says that both leave by the same queue.
    pub(crate) const INTERRUPTS_UNORDERED: bool = true;

    /// Bit 0: the host has reset the function, or the link went down. Writing 1 forgets it.
    pub(crate) const RESETS: usize = 0x08;

    /// Outbound window n (ATU, "region", "LAW"): its registers, from here on.
    pub(crate) const WINDOW: usize = 0x100;
    /// Bytes from one window's registers to the next one's.
    pub(crate) const WINDOW_STRIDE: usize = 0x20;
    /// In a window's registers: the bus address, low half and high half, that its first byte shows.
    pub(crate) const WINDOW_TARGET: usize = 0x00;
    /// In a window's registers: 1 opens it, 0 closes it.
    pub(crate) const WINDOW_ENABLE: usize = 0x08;
    /// How many windows there are for host memory.
    pub(crate) const WINDOWS: u32 = 4;
    /// Bytes of each.
    pub(crate) const WINDOW_LEN: u64 = 16 << 20;
    /// Its bus address is a multiple of this.
    pub(crate) const WINDOW_ALIGNMENT: u64 = 64 << 10;
    /// Bits of a bus address that it can show.
    pub(crate) const ADDRESS_BITS: u32 = 48;
}

/// The DMA engine: one transfer at a time, by addresses that the processor uses.
pub(crate) mod engine {
    /// Where it reads.
    pub(crate) const SOURCE: usize = 0x00;
    /// Where it writes.
    pub(crate) const TARGET: usize = 0x04;
    /// Bytes.
    pub(crate) const LEN: usize = 0x08;
    /// 1 starts, 2 aborts.
    pub(crate) const CONTROL: usize = 0x0C;
    /// Bit 0: busy. Bit 1: the bus refused something; writing 1 forgets it.
    pub(crate) const STATUS: usize = 0x10;
    /// Below this many bytes the processor is quicker: measure it.
    pub(crate) const LEAST: usize = 256;
    /// Longest that a transfer may take, in microseconds: more than a PCIe
    /// completion timeout (50 ms by default).
    pub(crate) const PATIENCE_US: u64 = 100_000;
}

/// The interrupt controller: here a PLIC, context 0.
pub(crate) mod interrupts {
    /// The endpoint controller's interrupt, level-triggered while a doorbell or
    /// a reset waits.
    pub(crate) const ENDPOINT: u32 = 1;
    /// A word for each source: above 0 it is heard.
    pub(crate) const PRIORITY: usize = 0x0;
    /// A bit for each source: enabled.
    pub(crate) const ENABLE: usize = 0x2000;
    /// Priorities above this are heard.
    pub(crate) const THRESHOLD: usize = 0x20_0000;
    /// Reading takes the source that waits, writing it gives it back.
    pub(crate) const CLAIM: usize = 0x20_0004;
}

/// The timer: here the one of a CLINT.
pub(crate) mod timer {
    /// An interrupt waits from this time on.
    pub(crate) const COMPARE: usize = 0x4000;
    /// The time, in ticks.
    pub(crate) const NOW: usize = 0xBFF8;
    /// Ticks in a microsecond.
    pub(crate) const TICKS: u64 = 10;
}

/// Watchdog and reset.
pub(crate) mod system {
    /// Any write feeds the watchdog. Set its time to at least 1 s: the board
    /// sleeps half a second at most.
    pub(crate) const FEED: usize = 0x00;
    /// Writing 1 resets the board. The PCIe controller may stay up: the host
    /// then keeps its link, and sees another boot epoch.
    pub(crate) const RESET: usize = 0x04;
}

/// The serial port: here an NS16550 with registers 4 bytes apart, set up by the boot ROM.
pub(crate) mod console {
    /// Writing sends a byte.
    pub(crate) const DATA: usize = 0x00;
    /// Whether there is room for one: these bits.
    pub(crate) const STATUS: usize = 0x14;
    /// See [`STATUS`].
    pub(crate) const ROOM: u32 = 1 << 5;
}
