//! How much memory a session's buffers may take: what the process may lock
//! (RLIMIT_MEMLOCK). The session's planner keeps below it.
//!
//! Memory that a board reaches by DMA is locked: the kernel counts it against
//! the limit when it is mapped for the board, and refuses what is above.

use std::{fmt, fs, io};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

/// How much this process may lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockLimit {
    /// Any amount.
    Unlimited,
    /// This many bytes.
    Bytes {
        /// The limit, RLIMIT_MEMLOCK.
        limit: u64,
        /// What is locked already.
        used: u64,
    },
}

/// The limit does not even let the least through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockLimitError {
    /// Bytes needed at least.
    pub needed: u64,
    /// Bytes that the limit leaves.
    pub present: u64,
    /// The limit itself.
    pub limit: u64,
}

impl fmt::Display for LockLimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, present, limit } = *self;
        let kib = limit.saturating_sub(present).saturating_add(needed).div_ceil(1024);
        write!(
            f,
            "too little lockable memory for the board's buffers: {needed} bytes are needed, the \
             limit leaves {present}. Raise it to at least {kib} KiB: `ulimit -l {kib}` before the \
             start (as root, or in /etc/security/limits.conf), or LimitMEMLOCK={kib}K in the \
             systemd unit"
        )
    }
}

impl std::error::Error for LockLimitError {}

impl LockLimit {
    /// This process's limit. CAP_IPC_LOCK lifts it, but only in the system's
    /// own user namespace: root of another one is as limited as anybody.
    ///
    /// # Errors
    /// The limit or /proc/self could not be read.
    pub fn current() -> io::Result<Self> {
        let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
        let status = fs::read_to_string("/proc/self/status")?;
        let namespace = fs::read_link("/proc/self/ns/user")?;
        let initial = namespace.as_os_str() == "user:[4026531837]";
        if limit == RLIM_INFINITY || (initial && has_ipc_lock(&status)) {
            return Ok(Self::Unlimited);
        }
        Ok(Self::Bytes { limit, used: locked(&status) })
    }

    /// Whether `needed` bytes more may be locked.
    ///
    /// # Errors
    /// [`LockLimitError`] if not.
    pub fn check(self, needed: u64) -> Result<(), LockLimitError> {
        match self {
            Self::Bytes { limit, used } if needed > limit.saturating_sub(used) => {
                Err(LockLimitError { needed, present: limit.saturating_sub(used), limit })
            }
            _ => Ok(()),
        }
    }
}

/// The field `name` of /proc/self/status.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()
}

fn has_ipc_lock(status: &str) -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let effective = field(status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    effective.is_some_and(|set| set >> CAP_IPC_LOCK & 1 == 1)
}

/// Bytes locked or pinned so far.
fn locked(status: &str) -> u64 {
    let kib = |name| field(status, name).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    kib("VmLck").saturating_mul(1024)
}

/// The system's page size, in bytes.
#[must_use]
pub fn page_size() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    // POSIX lets sysconf fail; no supported system has smaller pages.
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_namespace;
    use crate::raw::SharedMemory;

    #[test]
    fn what_is_locked_already_counts() {
        let limit = LockLimit::Bytes { limit: 8 << 20, used: 1 << 20 };
        assert_eq!(limit.check(7 << 20), Ok(()));
        let error = limit.check((7 << 20) + 1).unwrap_err();
        assert_eq!((error.present, error.limit), (7 << 20, 8 << 20));
        assert_eq!(LockLimit::Unlimited.check(u64::MAX), Ok(()));
    }

    #[test]
    fn the_error_says_what_is_wrong_and_what_to_do() {
        let error = LockLimit::Bytes { limit: 64 << 10, used: 48 << 10 }.check(1 << 20);
        assert_eq!(
            error.unwrap_err().to_string(),
            "too little lockable memory for the board's buffers: 1048576 bytes are needed, the \
             limit leaves 16384. Raise it to at least 1072 KiB: `ulimit -l 1072` before the start \
             (as root, or in /etc/security/limits.conf), or LimitMEMLOCK=1072K in the systemd unit"
        );
        // And that does.
        let raised = LockLimit::Bytes { limit: 1072 << 10, used: 48 << 10 };
        assert_eq!(raised.check(1 << 20), Ok(()));
    }

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        let status = |caps: &str| format!("Name:\tx\nVmLck:\t     132 kB\nCapEff:\t{caps}\n");
        assert!(has_ipc_lock(&status("000001ffffffffff")));
        assert!(has_ipc_lock(&status("0000000000004000")));
        assert!(!has_ipc_lock(&status("000001ffffffbfff")));
        assert!(!has_ipc_lock(&status("nonsense")) && !has_ipc_lock(""));
        assert_eq!(locked(&status("0")), 132 * 1024);
        assert_eq!(locked(""), 0);
    }

    #[test]
    fn locked_memory_is_seen() {
        // In a process of its own: others lock memory, too.
        in_namespace("pool::tests::locked_memory_is_seen", || {
            let status = || fs::read_to_string("/proc/self/status").unwrap();
            let before = locked(&status());
            let memory = SharedMemory::new(16 * usize::try_from(page_size()).unwrap()).unwrap();
            memory.lock().unwrap();
            assert_eq!(locked(&status()), before + 16 * page_size());
            drop(memory);
            assert_eq!(locked(&status()), before);
        });
    }

    #[test]
    fn this_process_has_a_limit() {
        assert!(LockLimit::current().is_ok());
        assert!(page_size().is_power_of_two());
    }
}
