//! What the operator decides about one board's session.

use std::fmt;
use std::str::FromStr;

use shared::virtq::QueueSize;
use shared::wire::features::{Features, REQUIRED};
use shared::wire::net_control::Coalescing;

use super::error::SessionError;
use super::placement::Layout;
use crate::net::{Vlans, check_mtu};
use crate::net_control::Receive;

/// Settings of a session. [`SessionConfig::default`] suits one board with a
/// few megabytes of memory in its BAR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionConfig {
    /// Where rings and buffers lie.
    pub layout: Layout,
    /// Feature bits that may be negotiated.
    pub feature_mask: u64,
    /// Descriptors of the receiveq, at most.
    pub to_host_size: QueueSize,
    /// Descriptors of the transmitq, at most.
    pub to_board_size: QueueSize,
    /// Frames of up to this many bytes, header included, are copied into board
    /// memory; longer ones the board fetches.
    pub push_limit: u32,
    /// The interface's MTU in bytes, 68 to 65521.
    pub mtu: u32,
    /// The interface's MAC address, where it is not to be the board's choice.
    pub mac: Option<[u8; 6]>,
    /// How long the board may put interrupts off; `None`: as it does by itself.
    pub coalescing: Option<Coalescing>,
    /// Which frames the board is to send.
    pub receive: Receive,
    /// The VLANs whose tagged frames pass.
    pub vlans: Vlans,
    /// The board's own MAC address, where only the one with this is wanted.
    pub board_mac: Option<[u8; 6]>,
    /// Whether consoles are taken.
    pub console: bool,
}

impl SessionConfig {
    /// What can be said of the settings before there is a board.
    ///
    /// # Errors
    /// The feature mask leaves nothing, or the MTU cannot be.
    pub fn check(&self) -> Result<(), SessionError> {
        let missing = REQUIRED.without(Features::new(self.feature_mask));
        if !missing.is_empty() {
            return Err(SessionError::FeatureMask { missing });
        }
        // What is planned from it takes it for possible.
        check_mtu(self.mtu, None).map(drop).map_err(SessionError::Mtu)
    }
}

/// Feature bits that may be negotiated, as an operator writes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeatureMask(pub u64);

impl FeatureMask {
    /// All of them.
    pub const ALL: Self = Self(u64::MAX);
}

/// A text that is no feature mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeatureMaskError;

impl fmt::Display for FeatureMaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("choose a hexadecimal number of at most 16 digits, such as 0x1300000000")
    }
}

impl std::error::Error for FeatureMaskError {}

impl FromStr for FeatureMask {
    type Err = FeatureMaskError;

    fn from_str(text: &str) -> Result<Self, FeatureMaskError> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        // A sign is not one.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(FeatureMaskError);
        }
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| FeatureMaskError)
    }
}

impl fmt::Display for FeatureMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Bytes of each buffer on the way to the host while several make a frame.
pub const MERGEABLE_BUFFER: u32 = 4096;

/// Bytes of a buffer that holds any frame with offloads: 64 KiB and headers,
/// rounded up.
pub const LARGE_BUFFER: u32 = 68 * 1024;

/// Without mergeable buffers, large frames are taken only if there is room
/// for this many of them.
pub(super) const LEAST_LARGE_BUFFERS: u64 = 16;

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            layout: Layout::Split,
            feature_mask: u64::MAX,
            to_host_size: queue_size(256),
            to_board_size: queue_size(64),
            push_limit: 2048,
            mtu: 1500,
            mac: None,
            coalescing: None,
            receive: Receive::default(),
            vlans: Vlans::NONE,
            board_mac: None,
            console: false,
        }
    }
}

/// A size that is known to be a power of two.
fn queue_size(size: u32) -> QueueSize {
    QueueSize::try_from(size).unwrap_or(QueueSize::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_hexadecimal() {
        assert_eq!("0x13".parse(), Ok(FeatureMask(0x13)));
        assert_eq!("FFFFffffFFFFffff".parse(), Ok(FeatureMask::ALL));
        assert_eq!(FeatureMask::ALL.to_string().parse(), Ok(FeatureMask::ALL));
        for wrong in ["", "0x", "0x0x1", "+1", "-1", "g", "1_0", "10000000000000000"] {
            assert!(wrong.parse::<FeatureMask>().is_err(), "{wrong}");
        }
    }
}
