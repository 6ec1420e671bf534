//! virtio-msg revision 1: header layout, ids and sizes (docs/protocol.md, "Messages").

/// Bytes of the common header.
pub const HEADER_LEN: usize = 8;
/// Bytes of a message slot on our channels, and so the largest message.
pub const FRAME_LEN: usize = 64;
/// The largest payload.
pub const PAYLOAD_MAX: usize = FRAME_LEN - HEADER_LEN;

/// Offset of the type byte.
pub const TYPE: usize = 0;
/// Offset of the message id.
pub const ID: usize = 1;
/// Offset of the device number.
pub const DEVICE: usize = 2;
/// Offset of the token.
pub const TOKEN: usize = 4;
/// Offset of the size (header and payload).
pub const SIZE: usize = 6;

/// Type bit: a response (else a request or an event).
pub const TYPE_RESPONSE: u8 = 1;
/// Type bit: a bus message (else a transport message).
pub const TYPE_BUS: u8 = 2;

/// Config bytes in one GET_CONFIG or SET_CONFIG message of [`FRAME_LEN`] bytes.
pub const CONFIG_DATA_MAX: usize = PAYLOAD_MAX - 12;
/// Config bytes in one EVENT_CONFIG message of [`FRAME_LEN`] bytes.
pub const EVENT_CONFIG_DATA_MAX: usize = PAYLOAD_MAX - 16;
/// Feature words in one message of [`FRAME_LEN`] bytes.
pub const FEATURE_WORDS_MAX: usize = (PAYLOAD_MAX - 8) / 4;
/// Device numbers in one GET_DEVICES response of [`FRAME_LEN`] bytes.
pub const DEVICE_NUMBERS_MAX: usize = (PAYLOAD_MAX - 6) * 8;

/// Device status bits (VirtIO 1.3 §2.1).
pub mod status {
    /// The driver has noticed the device.
    pub const ACKNOWLEDGE: u32 = 1;
    /// The driver knows how to drive it.
    pub const DRIVER: u32 = 2;
    /// The driver is set up and the device live.
    pub const DRIVER_OK: u32 = 4;
    /// Features are negotiated.
    pub const FEATURES_OK: u32 = 8;
    /// The device met a fault that only a reset mends.
    pub const NEEDS_RESET: u32 = 64;
    /// The driver has given up.
    pub const FAILED: u32 = 128;
    /// The bits that a driver may write.
    pub const DRIVER_BITS: u32 = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;
}

/// Device-independent feature bits that the protocol has rules for (VirtIO 1.3 §6).
pub mod feature {
    /// VIRTIO_F_INDIRECT_DESC.
    pub const INDIRECT_DESC: u128 = 1 << 28;
    /// VIRTIO_F_EVENT_IDX.
    pub const EVENT_IDX: u128 = 1 << 29;
    /// VIRTIO_F_VERSION_1.
    pub const VERSION_1: u128 = 1 << 32;
    /// VIRTIO_F_ACCESS_PLATFORM.
    pub const ACCESS_PLATFORM: u128 = 1 << 33;
    /// VIRTIO_F_RING_PACKED: never offered.
    pub const RING_PACKED: u128 = 1 << 34;
    /// VIRTIO_F_IN_ORDER.
    pub const IN_ORDER: u128 = 1 << 35;
    /// VIRTIO_F_ORDER_PLATFORM.
    pub const ORDER_PLATFORM: u128 = 1 << 36;
    /// VIRTIO_F_SR_IOV: never offered.
    pub const SR_IOV: u128 = 1 << 37;
    /// VIRTIO_F_NOTIFICATION_DATA: never with doorbells.
    pub const NOTIFICATION_DATA: u128 = 1 << 38;
    /// VIRTIO_F_NOTIF_CONFIG_DATA: never offered.
    pub const NOTIF_CONFIG_DATA: u128 = 1 << 39;
    /// VIRTIO_F_RING_RESET.
    pub const RING_RESET: u128 = 1 << 40;
    /// VIRTIO_F_ADMIN_VQ: never offered.
    pub const ADMIN_VQ: u128 = 1 << 41;
    /// What both sides must accept.
    pub const REQUIRED: u128 = VERSION_1 | ACCESS_PLATFORM | ORDER_PLATFORM;
    /// What no device of ours offers, whatever its model says, and no driver of ours accepts.
    pub const FORBIDDEN: u128 =
        RING_PACKED | SR_IOV | NOTIFICATION_DATA | NOTIF_CONFIG_DATA | ADMIN_VQ;
}
