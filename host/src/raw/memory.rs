//! Memory of this process that a window can cover and the kernel can copy into.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{MmapMut, MmapRaw};
use shared::raw::{RamWindow, StoreWidth};

/// Zeroed, page-aligned memory, unmapped when its last handle or window goes.
/// Pages that were never touched cost nothing.
#[derive(Clone, Debug)]
pub struct SharedMemory {
    map: Arc<MmapRaw>,
}

impl SharedMemory {
    /// Maps `len` bytes.
    ///
    /// # Errors
    /// The kernel's: no memory, or a length of 0.
    pub fn new(len: usize) -> io::Result<Self> {
        Ok(Self { map: Arc::new(MmapMut::map_anon(len)?.into()) })
    }

    /// A window over all of it, for threads of this process.
    #[must_use]
    pub fn window(&self) -> RamWindow<Arc<MmapRaw>> {
        let start = NonNull::new(self.map.as_mut_ptr()).unwrap_or(NonNull::dangling());
        // A mapping never starts at address 0, so the length is the map's.
        let len = if start == NonNull::dangling() { 0 } else { self.map.len() };
        // SAFETY:
        // - `start` is page-aligned, and its `len` bytes are mapped readable and
        //   writable as long as the map lives, of which the window keeps an `Arc`.
        // - The map is private to this type, which hands out windows only and
        //   forms no reference; `MmapRaw` itself hands out none in safe code.
        unsafe { RamWindow::new(start, len, StoreWidth::Bits64, Arc::clone(&self.map)) }
    }

    /// Locks all of it into memory, against the limit of
    /// [`LockLimit`](crate::pool::LockLimit).
    ///
    /// # Errors
    /// The kernel's: ENOMEM or EPERM where the limit is too low.
    pub fn lock(&self) -> io::Result<()> {
        self.map.lock()
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }
}
