//! A popped buffer: its segments, on a private copy.

use super::Segment;
use super::layout::{QueueSize, descriptor_address, descriptor_tail, tail_fields};
use crate::address::BusAddress;
use crate::fault::PeerFault;
use crate::region::Located;
use crate::window::Window;
use crate::wire::virtq::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE, DESCRIPTOR_SIZE, DESCRIPTOR_TAIL};

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
    /// descriptor's two halves are read once. `tables` finds the indirect table
    /// that may end it, and is told of what is read there; `None`: there must be none. On a fault the chain is empty.
    #[inline(always)]
    pub(super) fn walk<'t, D: Window, T: Window + 't>(
        &mut self,
        descriptors: &D,
        size: QueueSize,
        head: u16,
        tables: Option<(
            impl FnOnce(BusAddress, u32) -> Result<Located<'t, T>, PeerFault>,
            impl FnMut(&T, u64),
        )>,
    ) -> Result<(), PeerFault> {
        self.clear();
        let limit = MAX_CHAIN.min(usize::from(size.get()));
        let mut index = head;
        let mut sums = Sums::default();
        // At most `limit` rounds whatever the table says: a loop ends here too.
        for (count, slot) in (1..).zip(self.segments.iter_mut().take(limit)) {
            let address = BusAddress::new(descriptors.load(descriptor_address(index)));
            let (len, flags, next) = tail_fields(descriptors.load(descriptor_tail(index)));
            if flags & !(DESC_NEXT | DESC_WRITE) != 0 {
                let tables = tables.filter(|_| names_table(flags));
                let (find, see) = tables.ok_or(PeerFault::DescriptorFlags { flags })?;
                check_table_len(len, size)?;
                let table = (find(address, len)?, len);
                return self.walk_table(table, see, count - 1, limit, sums);
            }
            *slot = sums.add(address, len, flags)?;
            if flags & DESC_NEXT == 0 {
                return self.finish(count, sums);
            }
            if next >= size.get() {
                return Err(PeerFault::DescriptorIndex { index: next, size: size.get() });
            }
            index = next;
        }
        Err(too_long(limit))
    }

    /// Goes on in the indirect table of `len` bytes, behind `direct` segments.
    fn walk_table<T: Window>(
        &mut self,
        (table, len): (Located<'_, T>, u32),
        mut see: impl FnMut(&T, u64),
        direct: usize,
        limit: usize,
        mut sums: Sums,
    ) -> Result<(), PeerFault> {
        // Checked: no more than a queue has.
        let entries = u16::try_from(u64::from(len) / DESCRIPTOR_SIZE).unwrap_or(u16::MAX);
        let mut index = 0;
        for (count, slot) in (1..).zip(self.segments.iter_mut().take(limit)).skip(direct) {
            let at = table.offset.saturating_add(descriptor_address(index));
            see(table.window, at);
            let (address, tail) = table_entry(table.window, at);
            let (len, flags, next) = tail_fields(tail);
            if flags & DESC_INDIRECT != 0 {
                return Err(PeerFault::IndirectInIndirect);
            }
            if flags & !(DESC_NEXT | DESC_WRITE) != 0 {
                return Err(PeerFault::DescriptorFlags { flags });
            }
            *slot = sums.add(BusAddress::new(address), len, flags)?;
            if flags & DESC_NEXT == 0 {
                return self.finish(count, sums);
            }
            if next >= entries {
                return Err(PeerFault::DescriptorIndex { index: next, size: entries });
            }
            index = next;
        }
        Err(too_long(limit))
    }

    /// Takes the first `count` segments for a chain.
    #[inline(always)]
    fn finish(&mut self, count: usize, sums: Sums) -> Result<(), PeerFault> {
        sums.readable.checked_add(sums.writable).ok_or(PeerFault::ChainTooLarge)?;
        (self.len, self.readable, self.writable) = (count, sums.readable, sums.writable);
        Ok(())
    }
}

/// What a chain adds up to so far.
#[derive(Clone, Copy, Default)]
struct Sums {
    readable: u32,
    writable: u32,
    behind_writable: bool,
}

impl Sums {
    /// Takes one descriptor in.
    #[inline(always)]
    fn add(&mut self, address: BusAddress, len: u32, flags: u16) -> Result<Segment, PeerFault> {
        let writable = flags & DESC_WRITE != 0;
        if writable {
            self.behind_writable = true;
            self.writable = self.writable.checked_add(len).ok_or(PeerFault::ChainTooLarge)?;
        } else if self.behind_writable {
            return Err(PeerFault::ReadableAfterWritable);
        } else {
            self.readable = self.readable.checked_add(len).ok_or(PeerFault::ChainTooLarge)?;
        }
        Ok(Segment { address, len, writable })
    }
}

/// Whether these flags say nothing but that an indirect table follows. WRITE
/// beside it has no meaning, NEXT must not be there (VirtIO 1.3 §2.7.5.3).
const fn names_table(flags: u16) -> bool {
    flags & DESC_INDIRECT != 0 && flags & !(DESC_INDIRECT | DESC_WRITE) == 0
}

/// A whole table, and no longer than a chain may be.
fn check_table_len(len: u32, size: QueueSize) -> Result<(), PeerFault> {
    let bytes = u64::from(len);
    if bytes == 0
        || !bytes.is_multiple_of(DESCRIPTOR_SIZE)
        || bytes > DESCRIPTOR_SIZE * u64::from(size.get())
    {
        return Err(PeerFault::IndirectLength { length: len });
    }
    Ok(())
}

/// The two halves of a table's descriptor, each read once.
fn table_entry<T: Window>(window: &T, at: u64) -> (u64, u64) {
    let tail_at = at.saturating_add(DESCRIPTOR_TAIL);
    if at.is_multiple_of(8) {
        return (window.load(at), window.load(tail_at));
    }
    // VirtIO asks for no alignment of a table; ours are aligned.
    let half = |at| {
        let mut bytes = [0; 8];
        window.read(at, &mut bytes);
        u64::from_le_bytes(bytes)
    };
    (half(at), half(tail_at))
}

#[expect(clippy::cast_possible_truncation, reason = "at most MAX_CHAIN")]
const fn too_long(limit: usize) -> PeerFault {
    PeerFault::ChainTooLong { limit: limit as u16 }
}
