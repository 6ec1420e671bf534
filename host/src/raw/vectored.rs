//! read(2) and write(2) straight into and out of memory that a board also sees.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use shared::raw::RamWindow;
use shared::window::Window;

/// Pieces of window memory that one write takes at most.
pub const MAX_PIECES: usize = 40;

/// Memory of this process behind a window, which the kernel may copy into and
/// out of. No reference to it is ever formed: its bytes may change at any time.
#[derive(Debug)]
pub struct KernelRange<'a> {
    start: *mut u8,
    len: usize,
    window: PhantomData<&'a ()>,
}

impl<'a> KernelRange<'a> {
    /// The range of `len` bytes at `offset`, if the window has them.
    #[must_use]
    pub fn of<K: Clone>(window: &'a RamWindow<K>, offset: u64, len: usize) -> Option<Self> {
        if !shared::window::fits(window.len(), offset, len as u64) {
            return None;
        }
        let start = window.as_ptr().wrapping_add(usize::try_from(offset).ok()?);
        Some(Self { start, len, window: PhantomData })
    }

    /// Bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Reads once, first into `head`, then into `into` and what does not fit there
/// into `spill`; returns the bytes read.
///
/// # Errors
/// The kernel's.
pub fn read_into(
    from: BorrowedFd<'_>,
    head: &mut [u8],
    into: &KernelRange<'_>,
    spill: &mut [u8],
) -> io::Result<usize> {
    let pieces = [
        libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: head.len() },
        libc::iovec { iov_base: into.start.cast(), iov_len: into.len },
        libc::iovec { iov_base: spill.as_mut_ptr().cast(), iov_len: spill.len() },
    ];
    // SAFETY:
    // - `into` lies in a live window's mapping (its lifetime), whose bytes the
    //   kernel may write by the contract of `SharedWindow::new`.
    // - `head` and `spill` are borrowed mutably for the call.
    // - Three pieces are handed over and three are there.
    result(unsafe { libc::readv(from.as_raw_fd(), pieces.as_ptr(), 3) })
}

/// Writes once: both parts of `head`, then the pieces of `rest` in order;
/// returns the bytes written.
///
/// # Errors
/// The kernel's, or EMSGSIZE for more than [`MAX_PIECES`] pieces.
pub fn write_from<'a>(
    to: BorrowedFd<'_>,
    head: [&[u8]; 2],
    rest: impl Iterator<Item = KernelRange<'a>>,
) -> io::Result<usize> {
    let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut pieces = [empty; 2 + MAX_PIECES];
    let mut count = 0;
    for (place, part) in pieces.iter_mut().zip(head) {
        // The kernel only reads through this pointer.
        *place = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
        count += 1;
    }
    for piece in rest {
        let Some(place) = pieces.get_mut(count) else {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        };
        *place = libc::iovec { iov_base: piece.start.cast(), iov_len: piece.len };
        count += 1;
    }
    let count = libc::c_int::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY:
    // - The first two pieces are `head`, borrowed for the call; the others lie
    //   in live windows' mappings ('a outlives the call). All are only read.
    // - `count` pieces were filled in above, and the array holds them.
    result(unsafe { libc::writev(to.as_raw_fd(), pieces.as_ptr(), count) })
}

fn result(returned: isize) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}
