//! A block of device registers.

use core::ptr::NonNull;

use volatile::VolatilePtr;

/// A block of device registers at a fixed address.
///
/// Each access is one access of its own width, in the processor's byte order.
/// One outside the block reads all ones, and writes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    base: usize,
    len: usize,
}

impl Registers {
    /// The block of `len` bytes at `base`.
    ///
    /// # Safety
    /// Until the next reset these are registers of a device, mapped uncached at
    /// `base`, a multiple of 8; no Rust object lies there; and no access through
    /// this block makes the device touch memory that Rust objects are in, but
    /// for what the caller keeps right itself.
    #[must_use]
    pub const unsafe fn new(base: usize, len: usize) -> Self {
        Self { base, len }
    }

    /// The `len` bytes at `offset`, a multiple of 8, as a block of their own.
    #[must_use]
    pub fn part(&self, offset: usize, len: usize) -> Option<Self> {
        let inside = offset.checked_add(len)? <= self.len && offset.is_multiple_of(8);
        Some(Self { base: self.base.checked_add(offset).filter(|_| inside)?, len })
    }

    /// The register at `offset`, if it is inside and aligned to its width.
    fn at<T: Copy>(&self, offset: usize) -> Option<VolatilePtr<'_, T>> {
        let width = size_of::<T>();
        let inside = offset.checked_add(width)? <= self.len && offset.is_multiple_of(width);
        let address = self.base.checked_add(offset).filter(|_| inside)?;
        let pointer = NonNull::new(core::ptr::with_exposed_provenance_mut::<T>(address))?;
        // SAFETY: inside the block that `new` was promised, aligned to its width.
        Some(unsafe { VolatilePtr::new(pointer) })
    }

    /// Reads 32 bits.
    #[must_use]
    pub fn read32(&self, offset: usize) -> u32 {
        self.at::<u32>(offset).map_or(u32::MAX, VolatilePtr::read)
    }

    /// Writes 32 bits.
    pub fn write32(&self, offset: usize, value: u32) {
        if let Some(register) = self.at::<u32>(offset) {
            register.write(value);
        }
    }

    /// Reads 8 bits.
    #[must_use]
    pub fn read8(&self, offset: usize) -> u8 {
        self.at::<u8>(offset).map_or(u8::MAX, VolatilePtr::read)
    }

    /// Writes 8 bits.
    pub fn write8(&self, offset: usize, value: u8) {
        if let Some(register) = self.at::<u8>(offset) {
            register.write(value);
        }
    }
}

#[cfg(test)]
impl Registers {
    /// So many bytes of memory that is never freed, all ones.
    pub(crate) fn leaked(len: usize) -> Self {
        let words = Box::leak(vec![u64::MAX; len / 8].into_boxed_slice());
        let base = words.as_mut_ptr().expose_provenance();
        // SAFETY: plain memory, aligned to 8, that lives for ever, and to which
        // the only reference ends here.
        unsafe { Self::new(base, len / 8 * 8) }
    }
}
