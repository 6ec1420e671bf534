//! Memory for indirect tables (VirtIO 1.3 §2.7.5.3).

use super::{DriverQueue, DriverSlot};
use crate::address::BusAddress;
use crate::virtq::{QueueSize, SetupError};
use crate::window::Window;
use crate::wire::virtq::{DESCRIPTOR_ALIGN, DESCRIPTOR_SIZE};

/// Memory for a queue's indirect tables, one for each head, side by side. They
/// lie where the descriptor table lies: the driver writes, the device reads.
#[derive(Clone, Debug)]
pub struct IndirectTables<D> {
    /// The memory, [`IndirectTables::bytes`] long; its first byte is aligned to 8.
    pub window: D,
    /// Where the device sees its first byte: a multiple of 16.
    pub base: BusAddress,
    /// Descriptors of each table: the segments that a buffer may have in it.
    pub entries: u16,
}

impl<D> IndirectTables<D> {
    /// Bytes of the tables of a queue of `size`, with `entries` descriptors each.
    #[must_use]
    pub const fn bytes(size: QueueSize, entries: u16) -> u64 {
        size.get() as u64 * Self::stride(entries)
    }

    const fn stride(entries: u16) -> u64 {
        DESCRIPTOR_SIZE * entries as u64
    }

    /// Offset and bus address of the table of `head`.
    pub(super) fn table(&self, head: u16) -> (u64, BusAddress) {
        let offset = u64::from(head) * Self::stride(self.entries);
        // Does not wrap: `check` has looked at the last byte.
        (offset, BusAddress::new(self.base.bits().wrapping_add(offset)))
    }
}

impl<D: Window> IndirectTables<D> {
    /// Whether they do for a queue of `size`.
    pub(super) fn check(&self, size: QueueSize) -> Result<(), SetupError> {
        let needed = Self::bytes(size, self.entries);
        let found = self.window.len();
        if found < needed {
            return Err(SetupError::PartShort { found, needed });
        }
        if !self.base.bits().is_multiple_of(DESCRIPTOR_ALIGN)
            || self.base.checked_add(needed.saturating_sub(1)).is_none()
        {
            return Err(SetupError::TableAddress);
        }
        Ok(())
    }
}

impl<D, A, U, S> DriverQueue<D, A, U, S>
where
    D: Window,
    A: Window,
    U: Window,
    S: AsRef<[DriverSlot]> + AsMut<[DriverSlot]>,
{
    /// The same queue with memory for indirect tables, which it uses for
    /// buffers of several segments if that was negotiated.
    ///
    /// # Errors
    /// [`SetupError`] if the tables do not fit their window or number space.
    pub fn with_tables(mut self, tables: IndirectTables<D>) -> Result<Self, SetupError> {
        tables.check(self.handshake.options().size)?;
        self.tables = Some(tables);
        Ok(self)
    }

    /// Whether a buffer of `segments` goes into a table.
    pub(super) fn fits_table(&self, segments: u16) -> bool {
        self.handshake.options().indirect
            && self.tables.as_ref().is_some_and(|tables| segments <= tables.entries)
    }
}
