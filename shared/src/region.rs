//! The region table: the one way from a peer's address to memory.
//!
//! Guarantee: what [`RegionTable::resolve`] returns lies wholly inside a
//! window of a region that gives the right asked for. Look-up is a binary
//! search over at most [`MAX_REGIONS`] entries. docs/protocol.md, "Bus addresses".

use core::ops::{BitOr, Range};

use crate::address::BusAddress;
use crate::fault::PeerFault;
use crate::window::{Window, fits};

/// Regions a session may have at once.
pub const MAX_REGIONS: usize = 64;

/// Every region's length is a multiple of this, in bytes.
pub const REGION_GRANULE: u64 = 4096;

/// What the *device* may do with a region (`R` and `W` of design and protocol).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights(u32);

impl Rights {
    /// The device reads: descriptors, driver areas, device-readable buffers.
    pub const READ: Self = Self(1);
    /// The device writes: device areas, device-writable buffers.
    pub const WRITE: Self = Self(2);
    /// Both.
    pub const READ_WRITE: Self = Self(3);

    /// The rights with these wire bits; `None` for none or unknown ones.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            1..=3 => Some(Self(bits)),
            _ => None,
        }
    }

    /// The wire bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `other` is given.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Rights {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Why a region was not taken into the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionError {
    /// All [`MAX_REGIONS`] places are taken.
    TableFull,
    /// Length zero or not a multiple of [`REGION_GRANULE`], or the base is
    /// not, or the window is shorter.
    BadLength,
    /// The range wraps or leaves its kind of memory.
    Wraps,
    /// The range overlaps a region that is in the table, or the id is taken.
    Overlaps,
    /// No region has this id.
    Unknown,
}

/// A range of bus addresses and where it lies locally.
#[derive(Clone, Debug)]
pub struct Region<W> {
    /// The number both sides call it by, below [`MAX_REGIONS`].
    pub id: u8,
    /// First bus address, a multiple of [`REGION_GRANULE`].
    pub base: BusAddress,
    /// What the device may do with it.
    pub rights: Rights,
    /// The memory itself; its length is the region's.
    pub window: W,
}

impl<W: Window> Region<W> {
    fn range(&self) -> Range<u64> {
        // `insert` checked that this does not wrap.
        self.base.bits()..self.base.bits().saturating_add(self.window.len())
    }
}

/// A piece of a region: `len` bytes at `offset` of its window.
#[derive(Debug)]
pub struct Located<'a, W> {
    /// The region's window.
    pub window: &'a W,
    /// First byte, as an offset into `window`.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

impl<W> Clone for Located<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Located<'_, W> {}

/// A buffer's one or two pieces, in order.
#[derive(Debug)]
pub struct Spans<'a, W> {
    first: Located<'a, W>,
    second: Option<Located<'a, W>>,
}

impl<'a, W> Spans<'a, W> {
    /// The pieces, in order.
    pub fn iter(&self) -> impl Iterator<Item = Located<'a, W>> + use<'a, W> {
        [Some(self.first), self.second].into_iter().flatten()
    }
}

/// The regions of one session, in one number space.
#[derive(Debug)]
pub struct RegionTable<W> {
    // Sorted by base, packed at the front: the first `count` are `Some`.
    regions: [Option<Region<W>>; MAX_REGIONS],
    count: usize,
}

impl<W: Window> Default for RegionTable<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Window> RegionTable<W> {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self { regions: [const { None }; MAX_REGIONS], count: 0 }
    }

    /// How many regions there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Takes a region into the table.
    ///
    /// # Errors
    /// [`RegionError`] says which rule it breaks; the table is unchanged.
    pub fn insert(&mut self, region: Region<W>) -> Result<(), RegionError> {
        let len = region.window.len();
        if len == 0
            || !len.is_multiple_of(REGION_GRANULE)
            || !region.base.bits().is_multiple_of(REGION_GRANULE)
        {
            return Err(RegionError::BadLength);
        }
        // The last byte, not the end: a region may reach to the very top.
        if region.base.checked_add(len - 1).is_none()
            || region.base.bits().checked_add(len).is_none()
        {
            return Err(RegionError::Wraps);
        }
        if usize::from(region.id) >= MAX_REGIONS || self.count >= MAX_REGIONS {
            return Err(RegionError::TableFull);
        }
        let new = region.range();
        let clash = self.iter().any(|old| {
            old.id == region.id || (old.range().start < new.end && new.start < old.range().end)
        });
        if clash {
            return Err(RegionError::Overlaps);
        }
        let place = self.iter().take_while(|old| old.base < region.base).count();
        if let Some(tail) = self.regions.get_mut(place..=self.count) {
            tail.rotate_right(1);
        }
        if let Some(slot) = self.regions.get_mut(place) {
            *slot = Some(region);
            self.count += 1;
        }
        Ok(())
    }

    /// Takes the region `id` out of the table. The caller has made sure that
    /// no queue uses it any more (docs/protocol.md, "Removing a region").
    ///
    /// # Errors
    /// [`RegionError::Unknown`] if there is none.
    pub fn remove(&mut self, id: u8) -> Result<Region<W>, RegionError> {
        let place = self.iter().position(|old| old.id == id).ok_or(RegionError::Unknown)?;
        let region =
            self.regions.get_mut(place).and_then(Option::take).ok_or(RegionError::Unknown)?;
        if let Some(tail) = self.regions.get_mut(place..self.count) {
            tail.rotate_left(1);
        }
        self.count -= 1;
        Ok(region)
    }

    /// Forgets every region.
    pub fn clear(&mut self) {
        self.regions.fill_with(|| None);
        self.count = 0;
    }

    /// The regions, by rising base.
    pub fn iter(&self) -> impl Iterator<Item = &Region<W>> {
        self.regions.iter().flatten()
    }

    /// The piece that starts at `address`: at most `len` bytes, less where the
    /// region ends.
    fn piece(
        &self,
        address: BusAddress,
        len: u32,
        need: Rights,
    ) -> Result<Located<'_, W>, PeerFault> {
        let unmapped = PeerFault::AddressUnmapped { address: address.bits() };
        let used = self.regions.get(..self.count).unwrap_or(&[]);
        let above = used.partition_point(|slot| slot.as_ref().is_some_and(|r| r.base <= address));
        let region = above
            .checked_sub(1)
            .and_then(|below| used.get(below))
            .and_then(Option::as_ref)
            .ok_or(unmapped)?;
        let offset = address.offset_from(region.base).ok_or(unmapped)?;
        let left =
            region.window.len().checked_sub(offset).filter(|left| *left > 0).ok_or(unmapped)?;
        if !region.rights.contains(need) {
            return Err(PeerFault::AddressRights { address: address.bits() });
        }
        let len = u32::try_from(left).map_or(len, |left| len.min(left));
        Ok(Located { window: &region.window, offset, len })
    }

    /// Where `len` bytes at `address` lie, all in one region: ring parts and
    /// indirect tables.
    ///
    /// # Errors
    /// A [`PeerFault`] with the address if they do not, or if the region does
    /// not give `need`.
    pub fn resolve(
        &self,
        address: BusAddress,
        len: u32,
        need: Rights,
    ) -> Result<Located<'_, W>, PeerFault> {
        check_wrap(address, len)?;
        let located = self.piece(address, len, need)?;
        if located.len < len {
            return Err(PeerFault::AddressStraddles { address: address.bits() });
        }
        debug_assert!(fits(located.window.len(), located.offset, u64::from(len)));
        Ok(located)
    }

    /// Where a buffer lies: one region, or two that are adjacent in bus
    /// addresses and both give `need`.
    ///
    /// # Errors
    /// A [`PeerFault`] with the address that has no region, no right, or one
    /// boundary too many.
    pub fn resolve_buffer(
        &self,
        address: BusAddress,
        len: u32,
        need: Rights,
    ) -> Result<Spans<'_, W>, PeerFault> {
        check_wrap(address, len)?;
        let first = self.piece(address, len, need)?;
        let left = len - first.len;
        if left == 0 {
            return Ok(Spans { first, second: None });
        }
        let wraps = PeerFault::AddressWraps { address: address.bits(), length: u64::from(len) };
        let boundary = address.checked_add(u64::from(first.len)).ok_or(wraps)?;
        let second = self.piece(boundary, left, need)?;
        if second.len < left {
            return Err(PeerFault::AddressStraddles { address: address.bits() });
        }
        Ok(Spans { first, second: Some(second) })
    }
}

fn check_wrap(address: BusAddress, len: u32) -> Result<(), PeerFault> {
    let last = u64::from(len).saturating_sub(1);
    match address.checked_add(last) {
        Some(_) => Ok(()),
        None => Err(PeerFault::AddressWraps { address: address.bits(), length: u64::from(len) }),
    }
}

#[cfg(test)]
mod tests;
