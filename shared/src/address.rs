//! Bus addresses: the 64-bit numbers in descriptors and region messages.
//!
//! A [`BusAddress`] is never a local address: only the region table
//! ([`crate::region::RegionTable`]) turns one into memory.

use core::fmt;

/// Bit 63: set for board memory, clear for an IOVA (docs/protocol.md, "Bus addresses").
const BOARD_BIT: u64 = 1 << 63;

/// An address as both sides write it in descriptors. The host assigns all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BusAddress(u64);

impl BusAddress {
    /// The address with these 64 bits, as found on the wire.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// The address of board memory at `offset` in the host's numbering of board regions.
    #[must_use]
    pub const fn board(offset: u64) -> Self {
        Self(BOARD_BIT | offset)
    }

    /// The 64 bits as they go onto the wire.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the address names board memory (bit 63 set) and not host memory.
    #[must_use]
    pub const fn is_board(self) -> bool {
        self.0 & BOARD_BIT != 0
    }

    /// The address `bytes` further on, or `None` if that wraps or leaves this
    /// address's kind of memory.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) if sum & BOARD_BIT == self.0 & BOARD_BIT => Some(Self(sum)),
            _ => None,
        }
    }

    /// How far this address lies behind `base`; `None` if it lies before it.
    #[must_use]
    pub const fn offset_from(self, base: Self) -> Option<u64> {
        self.0.checked_sub(base.0)
    }
}

impl fmt::Debug for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_board() { "board" } else { "iova" };
        write!(f, "{kind}:{:#x}", self.0 & !BOARD_BIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addition_stays_in_its_kind_of_memory() {
        let top_iova = BusAddress::new(BOARD_BIT - 1);
        assert_eq!(top_iova.checked_add(1), None);
        assert_eq!(BusAddress::new(u64::MAX).checked_add(1), None);
        assert_eq!(BusAddress::board(8).checked_add(8), Some(BusAddress::board(16)));
    }
}
