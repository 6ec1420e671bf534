//! What a misbehaving peer did, and the policy that answers it.
//!
//! A [`PeerFault`] is never lumped with an I/O error and never looks like "no
//! more data". docs/safety.md lists the policy for each; a test keeps the two
//! in step.

use core::fmt;

/// A value that the peer wrote and that the protocol forbids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PeerFault {
    /// avail.idx is further ahead than the queue has entries.
    AvailIndexAhead {
        /// Entries that the peer claims.
        claimed: u16,
        /// Entries that can be there.
        limit: u16,
    },
    /// used.idx is further ahead than buffers are in flight.
    UsedIndexAhead {
        /// Entries that the peer claims.
        claimed: u16,
        /// Buffers in flight.
        limit: u16,
    },
    /// An avail entry or a `next` names a descriptor outside the table.
    DescriptorIndex {
        /// The index found.
        index: u16,
        /// The queue's size.
        size: u16,
    },
    /// A head was made available again while it is in flight.
    HeadInFlight {
        /// The head found.
        head: u16,
    },
    /// A chain has more descriptors than the queue, or than the receiver takes.
    ChainTooLong {
        /// The longest chain accepted, in descriptors.
        limit: u16,
    },
    /// A chain's bytes add up to more than 32 bits hold.
    ChainTooLarge,
    /// A device-readable descriptor follows a device-writable one.
    ReadableAfterWritable,
    /// A descriptor has flags that the negotiated features do not allow.
    DescriptorFlags {
        /// The flags found.
        flags: u16,
    },
    /// An indirect table inside an indirect table.
    IndirectInIndirect,
    /// An indirect table's length is zero, not a multiple of 16, or too long.
    IndirectLength {
        /// The length found, in bytes.
        length: u32,
    },
    /// A bus address range wraps, or changes its kind of memory.
    AddressWraps {
        /// The first address.
        address: u64,
        /// The length, in bytes.
        length: u64,
    },
    /// A bus address lies in no region, or its range runs into a hole.
    AddressUnmapped {
        /// The first address that has no region.
        address: u64,
    },
    /// The region does not give the right that this use needs.
    AddressRights {
        /// The address.
        address: u64,
    },
    /// A ring part or table that must lie in one region crosses into another,
    /// or a buffer crosses more than one boundary.
    AddressStraddles {
        /// The first address.
        address: u64,
    },
    /// used.id names no buffer in flight, or not the next ones in order.
    UsedId {
        /// The id found.
        id: u32,
    },
    /// used.len is more than the buffer's device-writable bytes.
    UsedLength {
        /// The length found.
        length: u32,
        /// The buffer's device-writable bytes.
        limit: u32,
    },
    /// An in-order batch reaches beyond used.idx.
    BatchBeyondIndex {
        /// The id found.
        id: u16,
    },
    /// `num_buffers` is zero, more than there are, or more than a frame needs.
    NumBuffers {
        /// The count found.
        count: u16,
    },
    /// A chain too short for what it must carry.
    ChainTooShort {
        /// Bytes found.
        found: u32,
        /// Bytes needed.
        needed: u32,
    },
    /// A queue's set-up is impossible (size, alignment, overlap).
    QueueSetup {
        /// The queue.
        queue: u32,
    },
    /// A message channel's index leaves the ring.
    ChannelIndex {
        /// The index found.
        index: u16,
    },
    /// A message channel's peer says that it has shut down or died.
    ChannelClosed {
        /// The status found.
        status: u16,
    },
    /// A message channel's magic or layout is not what was agreed.
    ChannelLayout,
    /// The bus answers all ones: the card is gone or does not answer.
    LinkLost,
}

/// What is done about a fault, from the mildest to the hardest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FaultPolicy {
    /// Stop this queue: device side sets DEVICE_NEEDS_RESET, driver side
    /// resets the device. Everything else runs on.
    StopQueue,
    /// End this session and set up a new one after the back-off.
    ResetSession,
    /// The peer is gone: carrier down, wait for it to come back.
    LinkLost,
}

impl PeerFault {
    /// The fault's code in EVENT_FAULT (docs/safety.md, "Policy for each fault").
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::AvailIndexAhead { .. } => 1,
            Self::UsedIndexAhead { .. } => 2,
            Self::DescriptorIndex { .. } => 3,
            Self::HeadInFlight { .. } => 4,
            Self::ChainTooLong { .. } => 5,
            Self::ChainTooLarge => 6,
            Self::ReadableAfterWritable => 7,
            Self::DescriptorFlags { .. } => 8,
            Self::IndirectInIndirect => 9,
            Self::IndirectLength { .. } => 10,
            Self::AddressWraps { .. } => 11,
            Self::AddressUnmapped { .. } => 12,
            Self::AddressRights { .. } => 13,
            Self::AddressStraddles { .. } => 14,
            Self::UsedId { .. } => 15,
            Self::UsedLength { .. } => 16,
            Self::BatchBeyondIndex { .. } => 17,
            Self::NumBuffers { .. } => 18,
            Self::ChainTooShort { .. } => 19,
            Self::QueueSetup { .. } => 20,
            Self::ChannelIndex { .. } => 21,
            Self::ChannelClosed { .. } => 22,
            Self::ChannelLayout => 23,
            Self::LinkLost => 24,
        }
    }

    /// The policy for this fault (docs/safety.md, "Policy for each fault").
    #[must_use]
    pub const fn policy(self) -> FaultPolicy {
        match self {
            Self::AvailIndexAhead { .. }
            | Self::UsedIndexAhead { .. }
            | Self::DescriptorIndex { .. }
            | Self::HeadInFlight { .. }
            | Self::ChainTooLong { .. }
            | Self::ChainTooLarge
            | Self::ReadableAfterWritable
            | Self::DescriptorFlags { .. }
            | Self::IndirectInIndirect
            | Self::IndirectLength { .. }
            | Self::AddressWraps { .. }
            | Self::AddressUnmapped { .. }
            | Self::AddressRights { .. }
            | Self::AddressStraddles { .. }
            | Self::UsedId { .. }
            | Self::UsedLength { .. }
            | Self::BatchBeyondIndex { .. }
            | Self::NumBuffers { .. }
            | Self::ChainTooShort { .. }
            | Self::QueueSetup { .. } => FaultPolicy::StopQueue,
            Self::ChannelIndex { .. } | Self::ChannelClosed { .. } | Self::ChannelLayout => {
                FaultPolicy::ResetSession
            }
            Self::LinkLost => FaultPolicy::LinkLost,
        }
    }
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AvailIndexAhead { claimed, limit } => {
                write!(f, "avail.idx claims {claimed} new entries, at most {limit} can be there")
            }
            Self::UsedIndexAhead { claimed, limit } => {
                write!(f, "used.idx claims {claimed} buffers, {limit} are in flight")
            }
            Self::DescriptorIndex { index, size } => {
                write!(f, "descriptor index {index} in a queue of {size}")
            }
            Self::HeadInFlight { head } => {
                write!(f, "head {head} made available while it is in flight")
            }
            Self::ChainTooLong { limit } => {
                write!(f, "descriptor chain loops or is longer than {limit}")
            }
            Self::ChainTooLarge => f.write_str("descriptor chain's lengths exceed 32 bits"),
            Self::ReadableAfterWritable => {
                f.write_str("device-readable descriptor behind a device-writable one")
            }
            Self::DescriptorFlags { flags } => {
                write!(f, "descriptor flags {flags:#06x} were not negotiated")
            }
            Self::IndirectInIndirect => f.write_str("indirect table inside an indirect table"),
            Self::IndirectLength { length } => {
                write!(f, "indirect table of {length} bytes is not a whole table")
            }
            Self::AddressWraps { address, length } => {
                write!(f, "bus address {address:#x} + {length:#x} wraps")
            }
            Self::AddressUnmapped { address } => {
                write!(f, "bus address {address:#x} lies in no region")
            }
            Self::AddressRights { address } => {
                write!(f, "region at bus address {address:#x} does not give this right")
            }
            Self::AddressStraddles { address } => {
                write!(f, "range at bus address {address:#x} crosses too many regions")
            }
            Self::UsedId { id } => write!(f, "used.id {id} is not a buffer due now"),
            Self::UsedLength { length, limit } => {
                write!(f, "used.len {length} for a buffer of {limit} writable bytes")
            }
            Self::BatchBeyondIndex { id } => {
                write!(f, "in-order batch up to id {id} reaches beyond used.idx")
            }
            Self::NumBuffers { count } => {
                write!(f, "num_buffers {count} does not fit the buffers returned")
            }
            Self::ChainTooShort { found, needed } => {
                write!(f, "descriptor chain of {found} bytes where {needed} are needed")
            }
            Self::QueueSetup { queue } => write!(f, "impossible set-up of queue {queue}"),
            Self::ChannelIndex { index } => write!(f, "channel index {index} leaves the ring"),
            Self::ChannelClosed { status } => {
                write!(f, "channel closed by the peer (status {status:#06x})")
            }
            Self::ChannelLayout => f.write_str("channel layout changed or never agreed"),
            Self::LinkLost => f.write_str("the bus answers all ones"),
        }
    }
}

impl core::error::Error for PeerFault {}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each; `code` is an exhaustive match, so a new one is missed here
    /// only until `every_fault_is_in_the_document` counts them.
    fn all() -> [PeerFault; 24] {
        [
            PeerFault::AvailIndexAhead { claimed: 1, limit: 2 },
            PeerFault::UsedIndexAhead { claimed: 1, limit: 2 },
            PeerFault::DescriptorIndex { index: 1, size: 2 },
            PeerFault::HeadInFlight { head: 1 },
            PeerFault::ChainTooLong { limit: 1 },
            PeerFault::ChainTooLarge,
            PeerFault::ReadableAfterWritable,
            PeerFault::DescriptorFlags { flags: 1 },
            PeerFault::IndirectInIndirect,
            PeerFault::IndirectLength { length: 1 },
            PeerFault::AddressWraps { address: 1, length: 2 },
            PeerFault::AddressUnmapped { address: 1 },
            PeerFault::AddressRights { address: 1 },
            PeerFault::AddressStraddles { address: 1 },
            PeerFault::UsedId { id: 1 },
            PeerFault::UsedLength { length: 1, limit: 2 },
            PeerFault::BatchBeyondIndex { id: 1 },
            PeerFault::NumBuffers { count: 1 },
            PeerFault::ChainTooShort { found: 1, needed: 2 },
            PeerFault::QueueSetup { queue: 1 },
            PeerFault::ChannelIndex { index: 1 },
            PeerFault::ChannelClosed { status: 1 },
            PeerFault::ChannelLayout,
            PeerFault::LinkLost,
        ]
    }

    #[test]
    fn every_fault_is_in_the_document() {
        let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../", "docs/safety.md"));
        let table = document.split("## Policy for each fault").nth(1).unwrap();
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split('|').map(str::trim).collect())
            .filter(|row: &Vec<&str>| row.len() == 6 && row[1].parse::<u32>().is_ok())
            .collect();
        assert_eq!(rows.len(), all().len());
        for (at, (fault, row)) in all().into_iter().zip(rows).enumerate() {
            assert_eq!(usize::try_from(fault.code()).unwrap(), at + 1, "{fault:?}");
            let name = format!("{fault:?}");
            let name = name.split(' ').next().unwrap();
            let policy = format!("{:?}", fault.policy());
            assert_eq!((row[1], row[2], row[4]), (&*(at + 1).to_string(), name, &*policy));
            assert!(!fault.to_string().is_empty());
        }
    }
}
