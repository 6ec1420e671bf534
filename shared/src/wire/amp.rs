//! virtio-msg-amp version 1: the channel layout (docs/protocol.md, "Channels").

/// Magic of the layout header.
pub const LAYOUT_MAGIC: u16 = 0x4C4F;
/// Length that the header states.
pub const LAYOUT_LEN: u16 = 64;
/// Layout version.
pub const LAYOUT_VERSION: u16 = 1;
/// Header feature: masked notifications. Without notification words it has no effect.
pub const FEATURE_MASKED: u16 = 1;

/// Offset of magic (low half) and length.
pub const MAGIC_LENGTH: u64 = 0;
/// Offset of version (low half) and features.
pub const VERSION_FEATURES: u64 = 4;
/// Offset of notification counts (two bytes) and elements a queue.
pub const COUNTS: u64 = 8;
/// Offset of bytes an element (low half) and the reserved half.
pub const ELEMENT_SIZE: u64 = 12;
/// Offset of the device side's three offsets (notification area, head, elements), 8 bytes each.
pub const DEVICE_OFFSETS: u64 = 16;
/// Offset of the driver side's three offsets.
pub const DRIVER_OFFSETS: u64 = 40;

/// Magic of a queue head.
pub const HEAD_MAGIC: u16 = 0x514F;
/// Offset of magic (low half) and status in a queue head.
pub const HEAD_STATUS: u64 = 0;
/// Offset of tail (low half) and head in a queue head.
pub const HEAD_INDICES: u64 = 4;
/// Bytes of a queue head.
pub const HEAD_LEN: u64 = 8;

/// The bits of a status that count.
pub const STATUS_MASK: u16 = 0x1F;
/// Queue status: set up, not yet seen by the peer.
pub const STATUS_INIT: u16 = 0;
/// Queue status: has seen the peer.
pub const STATUS_READY: u16 = 1;
/// Queue status: messages flow.
pub const STATUS_RUN: u16 = 2;
/// Queue status: ended on purpose.
pub const STATUS_SHUTDOWN: u16 = 3;
/// Queue status: gave the peer up.
pub const STATUS_PEER_DEAD: u16 = 4;
