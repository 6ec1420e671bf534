//! Control block: page plan, field offsets and limits (docs/protocol.md, "Pages of the control BAR").

/// Bytes of the control part of the control BAR: four pages.
pub const CONTROL_LEN: u64 = 0x4000;
/// Bytes that the board writes: control block, then its half of the channels.
pub const BOARD_PAGES: u64 = 0x2000;

/// Magic of the control block: the bytes `vphy`.
pub const MAGIC_VALUE: u32 = 0x7968_7076;
/// The protocol version that this code speaks.
pub const VERSION: u16 = 1;

/// Where our boards put the live words.
pub const LIVE_OFFSET: u32 = 0xF00;
/// Bytes that our boards give the live words.
pub const LIVE_LEN: u32 = 0x40;
/// Where our boards put the channel layout.
pub const CHANNEL_OFFSET: u32 = 0x1000;
/// Bytes of the channel layout.
pub const CHANNEL_LEN: u32 = 0x2000;
/// Where our boards have the host page.
pub const HOST_PAGE_OFFSET: u32 = 0x3000;
/// Bytes of the host page.
pub const HOST_PAGE_LEN: u32 = 0x1000;

/// Bytes of the static part without regions.
pub const STATIC_LEN: usize = 0x100;
/// Bytes of one board region's entry.
pub const REGION_LEN: usize = 32;
/// Board regions that a block may describe.
pub const MAX_BOARD_REGIONS: usize = 32;
/// The longest static part.
pub const STATIC_LEN_MAX: usize = STATIC_LEN + REGION_LEN * MAX_BOARD_REGIONS;
/// Bytes of a text field.
pub const TEXT_LEN: usize = 32;

/// Field offsets of the static part, in bytes.
pub mod field {
    /// Magic.
    pub const MAGIC: usize = 0x00;
    /// Length of the static part.
    pub const LENGTH: usize = 0x04;
    /// CRC-32C.
    pub const CHECKSUM: usize = 0x08;
    /// Lowest version.
    pub const VERSION_MIN: usize = 0x0C;
    /// Highest version.
    pub const VERSION_MAX: usize = 0x10;
    /// Flags.
    pub const FLAGS: usize = 0x14;
    /// Interrupt vectors.
    pub const VECTORS: usize = 0x18;
    /// Store widths that the BARs take.
    pub const STORE_WIDTHS: usize = 0x1C;
    /// Live words: offset, then length.
    pub const LIVE: usize = 0x20;
    /// Channel layout: offset, then length.
    pub const CHANNEL: usize = 0x28;
    /// Host page: offset, then length.
    pub const HOST_PAGE: usize = 0x30;
    /// Heartbeat interval.
    pub const HEARTBEAT_INTERVAL: usize = 0x38;
    /// Heartbeats that may be missed.
    pub const HEARTBEAT_MISSES: usize = 0x3C;
    /// Doorbell BAR.
    pub const DOORBELL_BAR: usize = 0x40;
    /// Doorbell store width.
    pub const DOORBELL_WIDTH: usize = 0x44;
    /// Doorbell offset (u64).
    pub const DOORBELL_OFFSET: usize = 0x48;
    /// Doorbell stride.
    pub const DOORBELL_STRIDE: usize = 0x50;
    /// Doorbell count.
    pub const DOORBELL_COUNT: usize = 0x54;
    /// Value for doorbell 0.
    pub const DOORBELL_VALUE: usize = 0x58;
    /// What each further doorbell adds to the value.
    pub const DOORBELL_STEP: usize = 0x5C;
    /// The board's own MAC address, then two reserved bytes.
    pub const MAC: usize = 0x60;
    /// Board name.
    pub const NAME: usize = 0x68;
    /// Firmware version.
    pub const FIRMWARE: usize = 0x88;
    /// Board regions.
    pub const REGION_COUNT: usize = 0xA8;
    /// Outbound windows.
    pub const OUTBOUND_COUNT: usize = 0xAC;
    /// Size of an outbound window (u64).
    pub const OUTBOUND_SIZE: usize = 0xB0;
    /// Alignment of an outbound window (u64).
    pub const OUTBOUND_ALIGN: usize = 0xB8;
    /// Address bits of the outbound windows.
    pub const OUTBOUND_BITS: usize = 0xC0;
    /// Reserved to the end of the fixed part.
    pub const RESERVED: usize = 0xC4;
    /// In a region's entry: BAR.
    pub const REGION_BAR: usize = 0;
    /// In a region's entry: rights.
    pub const REGION_RIGHTS: usize = 4;
    /// In a region's entry: offset (u64).
    pub const REGION_OFFSET: usize = 8;
    /// In a region's entry: length (u64).
    pub const REGION_LENGTH: usize = 16;
    /// In a region's entry: reserved (u64).
    pub const REGION_RESERVED: usize = 24;
}

/// Flag: interrupts are not ordered behind the board's writes.
pub const FLAG_INTERRUPTS_UNORDERED: u32 = 1;
/// Flag: a DMA engine fetches from host memory, so large frames may stay there.
pub const FLAG_DMA_ENGINE: u32 = 2;
/// Store width bit: 32-bit stores, always set.
pub const WIDTH_32: u32 = 1;
/// Store width bit: 64-bit stores too.
pub const WIDTH_64: u32 = 2;
/// Most vectors and most doorbells that a block may state.
pub const MAX_NOTIFICATIONS: u32 = 2048;
/// Most outbound windows that a block may state.
pub const MAX_OUTBOUND: u32 = 64;

/// Offsets of the live words, also of the status page's first four.
pub mod live {
    /// Boot epoch.
    pub const BOOT_EPOCH: u64 = 0;
    /// Board state.
    pub const STATE: u64 = 4;
    /// Accepted session.
    pub const ACCEPTED: u64 = 8;
    /// Heartbeat.
    pub const HEARTBEAT: u64 = 12;
    /// Refused session (control block only).
    pub const REFUSED: u64 = 16;
    /// Result code of the refusal (control block only).
    pub const REFUSAL: u64 = 20;
    /// Bytes of the live words.
    pub const LEN: u64 = 24;
    /// Bytes of the part that the status page has too.
    pub const STATUS_LEN: u64 = 16;
}

/// Offsets of the host page's words.
pub mod host_page {
    /// Session epoch, written last.
    pub const SESSION: u64 = 0;
    /// Version chosen.
    pub const VERSION: u64 = 4;
    /// Boot epoch that the session is with.
    pub const BOOT_EPOCH: u64 = 8;
    /// Host state.
    pub const STATE: u64 = 12;
    /// Heartbeat.
    pub const HEARTBEAT: u64 = 16;
    /// Bytes of the host page's words.
    pub const LEN: u64 = 20;
}

/// Board states (live word).
pub mod board_state {
    /// Booting.
    pub const BOOTING: u32 = 1;
    /// Ready for a session.
    pub const READY: u32 = 2;
    /// In a session.
    pub const SESSION: u32 = 3;
    /// Draining a session that ended.
    pub const DRAINING: u32 = 4;
    /// Failed: will take no session.
    pub const FAILED: u32 = 5;
}

/// Host states (host page).
pub mod host_state {
    /// Attaching.
    pub const ATTACHING: u32 = 1;
    /// Running.
    pub const RUNNING: u32 = 2;
    /// Leaving.
    pub const LEAVING: u32 = 3;
}
