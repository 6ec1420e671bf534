//! Static memory with one owner.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A static value that is handed out once.
#[derive(Debug)]
pub struct Owned<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through `take` alone, which hands it to one
// caller; a value that may move to another thread may be that caller's.
unsafe impl<T: Send> Sync for Owned<T> {}

impl<T> Owned<T> {
    /// This value, not taken yet.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// The value, the first time; then `None`.
    #[must_use]
    #[expect(clippy::mut_from_ref, reason = "only the first caller gets it")]
    pub fn take(&'static self) -> Option<&'static mut T> {
        let first = !self.taken.swap(true, Ordering::AcqRel);
        // SAFETY: static, so it lives long enough; only one caller is the
        // first, so no other reference to it exists or will.
        first.then(|| unsafe { &mut *self.value.get() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_gets_it() {
        static VALUE: Owned<u32> = Owned::new(7);
        let first = VALUE.take().unwrap();
        *first += 1;
        assert!(VALUE.take().is_none());
        assert_eq!(*first, 8);
    }
}
