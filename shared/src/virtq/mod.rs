//! Split virtqueues, both sides, and the notification protocol between them.
//!
//! Guarantee: whatever the peer writes into a queue, no method panics, loops
//! longer than the queue is, or touches memory outside the three parts. What
//! the protocol forbids is a [`PeerFault`](crate::fault::PeerFault); from then
//! on the queue is *broken*, gives the same fault on every call and writes
//! nothing, until it is set up anew. Each shared word is read once an
//! operation, and nothing of a side's own is ever read back to decide.
//!
//! Not for: addresses (the region table turns them into memory), payload, and
//! deciding when to sleep. Contract: docs/protocol-rings.md.
//!
//! - [`DriverQueue`]: makes buffers available, takes them back.
//! - [`DeviceQueue`]: pops chains, completes them.
//! - [`notify`]: the pure decisions of the notification protocol.

mod chain;
mod device;
mod driver;
mod handshake;
mod layout;
pub mod notify;
mod slots;
#[cfg(test)]
mod tests;

use core::fmt;

pub use chain::{Chain, MAX_CHAIN};
pub use device::{CompleteError, DeviceQueue, DeviceSlot, UsedEntry};
pub use driver::{AddError, Completion, DriverQueue, DriverSlot, IndirectTables};
pub use layout::QueueSize;

use crate::address::BusAddress;
use crate::window::Window;
use crate::wire::virtq::{AVAIL_ALIGN, USED_ALIGN};

/// The three parts of a queue, each of which may lie elsewhere. A window may
/// be longer than its part.
#[derive(Clone, Debug)]
pub struct Parts<D, A, U> {
    /// The descriptor table, [`QueueSize::descriptor_table_len`] long.
    pub descriptors: D,
    /// The avail ring, [`QueueSize::avail_len`] long behind `avail_at`.
    pub avail: A,
    /// Where the avail ring begins in `avail`, a multiple of 4.
    pub avail_at: u64,
    /// The used ring, [`QueueSize::used_len`] long behind `used_at`.
    pub used: U,
    /// Where the used ring begins in `used`, a multiple of 4. At 4 modulo 8
    /// its entries are aligned to 8, and each is one 64-bit word; our own
    /// drivers place it so. A window's first byte is aligned to 8.
    pub used_at: u64,
}

/// How this side flushes before its last look (R4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SleepFlush {
    /// Its event word lies across the bus, what it looks at does not: the
    /// event word is read back.
    ReadBack,
    /// The look, or the peer's load of the event word, crosses the bus itself.
    LookFlushes,
}

/// What was negotiated for a queue, and how its bus behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingOptions {
    /// Entries.
    pub size: QueueSize,
    /// VIRTIO_F_IN_ORDER.
    pub in_order: bool,
    /// VIRTIO_F_EVENT_IDX; else the flags suppress notifications.
    pub event_idx: bool,
    /// VIRTIO_F_INDIRECT_DESC. The driver uses tables if it has memory for
    /// them ([`DriverQueue::with_tables`]), the device takes them if it can
    /// look them up ([`DeviceQueue::pop_with_tables`]).
    pub indirect: bool,
    /// How this side's sleeper flushes.
    pub sleep_flush: SleepFlush,
    /// The peer cannot promise that its notifications are ordered behind its
    /// writes: the own event word is read back at publishes too.
    pub publish_flush: bool,
}

/// One stretch of a buffer, one descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// First byte.
    pub address: BusAddress,
    /// Bytes.
    pub len: u32,
    /// Device-writable, else device-readable.
    pub writable: bool,
}

/// What a side of a queue has counted since it was set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueStats {
    /// Event words read back before sleeping (R4: one a sleep).
    pub flushes: u64,
    /// Event words read back at publishes (`publish_flush` only).
    pub publish_flushes: u64,
    /// Publishes that asked for a notification.
    pub notifications: u64,
    /// Publishes that the peer wanted no notification for.
    pub suppressed: u64,
    /// Driver: descriptors whose address changed from one buffer to the next.
    pub address_rewrites: u64,
}

/// Why a queue cannot be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetupError {
    /// Not a power of two from 2 to 32768.
    Size {
        /// The size asked for.
        size: u32,
    },
    /// Fewer private records than descriptors.
    SlotsShort {
        /// Records brought.
        found: usize,
        /// Records needed.
        needed: usize,
    },
    /// A part's window is shorter than the part.
    PartShort {
        /// Bytes of the window.
        found: u64,
        /// Bytes of the part.
        needed: u64,
    },
    /// The avail ring or the used ring is not aligned to 4.
    Misaligned,
    /// Indirect tables whose bus address is no multiple of 16, or wraps.
    TableAddress,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Size { size } => {
                write!(f, "queue size {size} is not a power of two from 2 to 32768")
            }
            Self::SlotsShort { found, needed } => {
                write!(f, "{found} private records for a queue of {needed}")
            }
            Self::PartShort { found, needed } => {
                write!(f, "a window of {found} bytes for a queue part of {needed}")
            }
            Self::Misaligned => f.write_str("an avail or used ring that is not aligned to 4 bytes"),
            Self::TableAddress => f.write_str(
                "indirect tables at an address that wraps or is not aligned to 16 bytes",
            ),
        }
    }
}

impl core::error::Error for SetupError {}

/// Checks that the windows hold their parts.
fn check_parts<D, A, U>(parts: &Parts<D, A, U>, size: QueueSize) -> Result<(), SetupError>
where
    D: Window,
    A: Window,
    U: Window,
{
    let aligned =
        parts.avail_at.is_multiple_of(AVAIL_ALIGN) && parts.used_at.is_multiple_of(USED_ALIGN);
    if !aligned {
        return Err(SetupError::Misaligned);
    }
    for (found, needed) in [
        (parts.descriptors.len(), size.descriptor_table_len()),
        (parts.avail.len(), size.avail_len().saturating_add(parts.avail_at)),
        (parts.used.len(), size.used_len().saturating_add(parts.used_at)),
    ] {
        if found < needed {
            return Err(SetupError::PartShort { found, needed });
        }
    }
    Ok(())
}
