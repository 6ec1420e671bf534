//! Memory of this process that a window can cover and the kernel can copy into.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::stat::fstat;
use shared::raw::{RamWindow, StoreWidth};

/// Why a file cannot be mapped as shared memory.
#[derive(Debug)]
pub enum MapError {
    /// It is no file of memory, which knows seals: a memfd, or a file of tmpfs
    /// or of huge pages.
    NotAFile,
    /// It may become shorter while it is mapped, and a process that touches
    /// what is gone is killed.
    MayShrink,
    /// This length in bytes cannot be mapped.
    Length(u64),
    /// The kernel's reason.
    System(io::Error),
}

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

    /// Maps all of `file`, which somebody else may have mapped as well: a memfd
    /// that is sealed against shrinking.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn of_file(file: BorrowedFd<'_>) -> Result<Self, MapError> {
        let system = |errno: nix::Error| MapError::System(errno.into());
        // The seal first, the length after. And nothing before the seal: only
        // memory knows seals, and what is no memory could keep us waiting for an
        // answer, as a file of FUSE does.
        let seals = fcntl(file, FcntlArg::F_GET_SEALS).map_err(|_| MapError::NotAFile)?;
        if !SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(MapError::MayShrink);
        }
        let len = fstat(file).map_err(system)?.st_size.cast_unsigned();
        let Some(bytes) = usize::try_from(len).ok().filter(|bytes| *bytes > 0) else {
            return Err(MapError::Length(len));
        };
        let map = MmapOptions::new().len(bytes).map_raw(file.as_raw_fd());
        Ok(Self { map: Arc::new(map.map_err(MapError::System)?) })
    }

    /// A window over all of it.
    #[must_use]
    pub fn window(&self) -> RamWindow<Arc<MmapRaw>> {
        let start = NonNull::new(self.map.as_mut_ptr()).unwrap_or(NonNull::dangling());
        // A mapping never starts at address 0, so the length is the map's.
        let len = if start == NonNull::dangling() { 0 } else { self.map.len() };
        // SAFETY:
        // - `start` is page-aligned, and its `len` bytes are mapped readable and
        //   writable as long as the map lives, of which the window keeps an `Arc`.
        //   A mapped file cannot shrink below them: `of_file` asked for that seal.
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
