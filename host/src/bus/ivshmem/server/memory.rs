//! The memory that a server hands out.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

use crate::bus::ivshmem::error::IvshmemError;
use crate::raw::MapError;

/// Memory that nobody can make shorter, or longer.
pub(super) fn memory(len: u64, huge: bool) -> Result<Arc<OwnedFd>, IvshmemError> {
    let wrong = || IvshmemError::Memory(MapError::Length(len));
    if !len.is_power_of_two() || len < 1 << 20 {
        return Err(wrong());
    }
    let system = IvshmemError::system("make shared memory");
    let bytes = i64::try_from(len).map_err(|_| wrong())?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let memory = if huge {
        huge_pages(flags, bytes)?
    } else {
        let memory = memfd_create("ivshmem", flags).map_err(&system)?;
        ftruncate(&memory, bytes).map_err(&system)?;
        memory
    };
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(seals)).map_err(&system)?;
    Ok(Arc::new(memory))
}

/// Huge pages, all there before anybody maps them: a page that is missing when
/// it is touched ends the process that touches it.
fn huge_pages(flags: MFdFlags, bytes: i64) -> Result<OwnedFd, IvshmemError> {
    let none = |errno: Errno| IvshmemError::NoHugePages { error: errno.into() };
    let memory = memfd_create("ivshmem", flags | MFdFlags::MFD_HUGETLB).map_err(none)?;
    // The kernel gives its page size as the size of a block.
    let page = fstat(&memory).map_err(none)?.st_blksize;
    let refused = |errno: Errno| IvshmemError::HugePages {
        len: bytes.cast_unsigned(),
        // Of another width on another architecture; never negative.
        page: u64::try_from(page).unwrap_or_default(),
        error: errno.into(),
    };
    ftruncate(&memory, bytes).map_err(refused)?;
    fallocate(&memory, FallocateFlags::empty(), 0, bytes).map_err(refused)?;
    Ok(memory)
}
