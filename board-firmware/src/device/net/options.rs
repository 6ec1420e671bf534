//! What a net device is made of.

use core::fmt;

use shared::virtq::DeviceSlot;
use shared::wire::net::{HEADER_LEN, MAX_FRAME, MTU_RANGE};

use super::checksum::ETHERNET_HEADER;

/// Bytes that a frame may have beyond the MTU: Ethernet header and one tag.
pub(super) const BEYOND_MTU: usize = ETHERNET_HEADER + 4;

/// What the device is told when it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetOptions {
    /// The *host interface's* MAC address (VirtIO 1.3 §5.1.4).
    pub mac: [u8; 6],
    /// Longest packet without Ethernet header, in bytes: 68 to 65521.
    pub mtu: u16,
    /// Feature bits that are not offered though the device has them: for tests
    /// and for hosts that get one wrong.
    pub withhold: u64,
}

/// The memory of a device, from the caller, for its whole life.
#[derive(Debug)]
pub struct NetMemory<'b> {
    /// Records of the receiveq and of the transmitq: as many as the queue may
    /// have entries, a power of two from 2 up; the shorter one counts.
    pub slots: [&'b mut [DeviceSlot]; 2],
    /// The frame from the host at work: [`NetMemory::FRAME_BYTES`] for every
    /// offload, at least an MTU, 30 bytes more.
    pub frame: &'b mut [u8],
    /// The frame to the host at work: the same.
    pub waiting: &'b mut [u8],
}

impl NetMemory<'_> {
    /// Bytes that hold the longest frame with its header.
    pub const FRAME_BYTES: usize = HEADER_LEN + MAX_FRAME;
}

/// Checks that frame buffers of these lengths hold a frame of `mtu`.
///
/// # Errors
/// [`NetError::Mtu`] or [`NetError::Frame`].
pub(super) fn check_mtu(mtu: u16, buffers: [usize; 2]) -> Result<(), NetError> {
    if !MTU_RANGE.contains(&mtu) {
        return Err(NetError::Mtu);
    }
    let needed = HEADER_LEN + BEYOND_MTU + usize::from(mtu);
    match buffers.into_iter().find(|found| *found < needed) {
        Some(found) => Err(NetError::Frame { found, needed }),
        None => Ok(()),
    }
}

/// Why a device cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetError {
    /// Fewer than 2 records for a queue.
    Slots,
    /// A frame buffer holds no frame of the MTU.
    Frame {
        /// Bytes brought.
        found: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// The MTU is none: below 68 bytes (VirtIO 1.3 §5.1.4.1), or above 65521,
    /// which no frame carries.
    Mtu,
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Slots => f.write_str("a queue needs at least 2 records"),
            Self::Frame { found, needed } => {
                write!(f, "a frame buffer of {found} bytes where the MTU needs {needed}")
            }
            Self::Mtu => f.write_str("an MTU that is not 68 to 65521 bytes"),
        }
    }
}

impl core::error::Error for NetError {}
