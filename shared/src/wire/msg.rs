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
