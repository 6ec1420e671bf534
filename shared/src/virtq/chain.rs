//! A popped buffer: its segments, on a private copy.

use super::Segment;
use super::layout::{QueueSize, descriptor_address, descriptor_tail, tail_fields};
use crate::address::BusAddress;
use crate::fault::PeerFault;
use crate::window::Window;
use crate::wire::virtq::{DESC_NEXT, DESC_WRITE};

/// Segments that a chain has at most: what any one of our devices needs, and
/// the bound of the walk where the queue is longer.
pub const MAX_CHAIN: usize = 32;

/// The segments of one buffer, device-readable ones first.
#[derive(Clone, Debug)]
pub struct Chain {
    segments: [Segment; MAX_CHAIN],
    len: usize,
    readable: u32,
    writable: u32,
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Chain {
    /// An empty chain, to pop into.
    #[must_use]
    pub const fn new() -> Self {
        const NONE: Segment = Segment { address: BusAddress::new(0), len: 0, writable: false };
        Self { segments: [NONE; MAX_CHAIN], len: 0, readable: 0, writable: 0 }
    }

    /// The segments in order.
    #[inline(always)]
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        self.segments.get(..self.len).unwrap_or(&[])
    }

    /// Device-readable bytes.
    #[inline(always)]
    #[must_use]
    pub const fn readable_len(&self) -> u32 {
        self.readable
    }

    /// Device-writable bytes.
    #[inline(always)]
    #[must_use]
    pub const fn writable_len(&self) -> u32 {
        self.writable
    }

    /// Empties the chain.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.len = 0;
        self.readable = 0;
        self.writable = 0;
    }

    /// Reads the chain that begins at `head`, which is below `size`. Each
    /// descriptor's two halves are read once. On a fault the chain is empty.
    #[inline(always)]
    pub(super) fn walk<D: Window>(
        &mut self,
        descriptors: &D,
        size: QueueSize,
        head: u16,
    ) -> Result<(), PeerFault> {
        self.clear();
        let limit = MAX_CHAIN.min(usize::from(size.get()));
        let mut index = head;
        let (mut readable, mut writable) = (0_u32, 0_u32);
        let mut behind_writable = false;
        // At most `limit` rounds whatever the table says: a loop ends here too.
        for (count, slot) in (1..).zip(self.segments.iter_mut().take(limit)) {
            let address: u64 = descriptors.load(descriptor_address(index));
            let (len, flags, next) = tail_fields(descriptors.load(descriptor_tail(index)));
            if flags & !(DESC_NEXT | DESC_WRITE) != 0 {
                return Err(PeerFault::DescriptorFlags { flags });
            }
            let is_writable = flags & DESC_WRITE != 0;
            if is_writable {
                behind_writable = true;
                writable = writable.checked_add(len).ok_or(PeerFault::ChainTooLarge)?;
            } else if behind_writable {
                return Err(PeerFault::ReadableAfterWritable);
            } else {
                readable = readable.checked_add(len).ok_or(PeerFault::ChainTooLarge)?;
            }
            let address = BusAddress::new(address);
            *slot = Segment { address, len, writable: is_writable };
            if flags & DESC_NEXT == 0 {
                readable.checked_add(writable).ok_or(PeerFault::ChainTooLarge)?;
                (self.len, self.readable, self.writable) = (count, readable, writable);
                return Ok(());
            }
            if next >= size.get() {
                return Err(PeerFault::DescriptorIndex { index: next, size: size.get() });
            }
            index = next;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_CHAIN")]
        Err(PeerFault::ChainTooLong { limit: limit as u16 })
    }
}
