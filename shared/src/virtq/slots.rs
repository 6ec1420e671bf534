//! Private per-descriptor records, in storage that the caller brings.

use core::marker::PhantomData;

use super::{QueueSize, SetupError};

/// At least one record a descriptor. Total: an index is taken modulo the queue
/// size, and storage that shrinks behind our back gives the spare record.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Slots<S, T> {
    storage: S,
    spare: T,
    mask: u16,
    slot: PhantomData<T>,
}

impl<S: AsRef<[T]> + AsMut<[T]>, T: Default> Slots<S, T> {
    /// All records in their default state.
    pub(super) fn new(storage: S, size: QueueSize) -> Result<Self, SetupError> {
        let mut slots = Self { storage, spare: T::default(), mask: 0, slot: PhantomData };
        slots.reset(size)?;
        Ok(slots)
    }

    /// Back to that, for a queue of `size`.
    pub(super) fn reset(&mut self, size: QueueSize) -> Result<(), SetupError> {
        let needed = usize::from(size.get());
        let slots = self.storage.as_mut();
        let found = slots.len();
        for slot in slots.get_mut(..needed).ok_or(SetupError::SlotsShort { found, needed })? {
            *slot = T::default();
        }
        self.mask = size.mask();
        Ok(())
    }

    /// The record `index`.
    #[inline(always)]
    pub(super) fn get(&self, index: u16) -> &T {
        self.storage.as_ref().get(usize::from(index & self.mask)).unwrap_or(&self.spare)
    }

    /// The record `index`, to change.
    #[inline(always)]
    pub(super) fn get_mut(&mut self, index: u16) -> &mut T {
        self.storage.as_mut().get_mut(usize::from(index & self.mask)).unwrap_or(&mut self.spare)
    }

    /// Gives the storage back.
    pub(super) fn into_storage(self) -> S {
        self.storage
    }
}
