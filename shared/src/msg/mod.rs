//! virtio-msg messages and the channels that carry them.
//!
//! Guarantee: decoding is total (any bytes give a message or [`Malformed`]),
//! a message is parsed only from a private copy, no table grows with what the
//! peer sends, and no request waits without a deadline.
//!
//! [`codec`] turns messages into bytes and back, [`channel`] moves the bytes,
//! [`driver`] matches answers to requests, [`device`] answers for one device.

pub mod body;
pub mod channel;
pub mod codec;
pub mod device;
pub mod driver;
pub mod kind;
pub mod status;
#[cfg(test)]
pub(crate) mod tests;

pub use body::{
    Body, ConfigData, Data, DeviceInfo, DeviceMap, Event, FeatureWords, Message, QueueAddresses,
    RegionKind, RegionMessage, Request, Response, ResultCode,
};
pub use codec::{Frame, Malformed};
pub use kind::{Kind, Side};
