//! How much memory a session's buffers may take: what is wanted, cut down to
//! what the process may lock (RLIMIT_MEMLOCK).
//!
//! Memory that a board reaches by DMA is locked: the kernel counts it against
//! the limit when it is mapped for the board, and refuses what is above.

use std::{fmt, fs, io};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

/// Buffers of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// Bytes of each.
    pub size: u64,
    /// How many are wanted: a power of two, as a queue's size is.
    pub wanted: u32,
    /// How few will do, likewise.
    pub least: u32,
}

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

    fn left(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::Bytes { limit, used } => Some(limit.saturating_sub(used)),
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

/// How many buffers of each kind to make: as many as wanted, or where the
/// limit is lower, the kind that takes most halved until all fit. `fixed` is
/// what else is locked (rings, the status page), in bytes. Each kind is a
/// mapping of its own, in whole pages.
///
/// # Errors
/// [`LockLimitError`] if even the least of each does not fit.
pub fn plan<const N: usize>(
    kinds: [Buffers; N],
    fixed: u64,
    page: u64,
    limit: LockLimit,
) -> Result<[u32; N], LockLimitError> {
    let mut counts = kinds.map(|kind| kind.wanted.max(kind.least));
    let bytes = |kind: Buffers, count: u32| pages(kind.size.saturating_mul(u64::from(count)), page);
    let total = |counts: [u32; N]| {
        kinds
            .iter()
            .zip(counts)
            .fold(pages(fixed, page), |sum, (kind, count)| sum.saturating_add(bytes(*kind, count)))
    };
    let Some(left) = limit.left() else { return Ok(counts) };
    // Each turn halves a count: at most 32 turns a kind.
    while total(counts) > left {
        let largest = (0..N)
            .filter(|i| counts[*i] / 2 >= kinds[*i].least.max(1))
            .max_by_key(|i| bytes(kinds[*i], counts[*i]));
        let Some(largest) = largest else {
            let LockLimit::Bytes { limit, .. } = limit else { return Ok(counts) };
            let needed = total(kinds.map(|kind| kind.least));
            return Err(LockLimitError { needed, present: left, limit });
        };
        counts[largest] /= 2;
    }
    Ok(counts)
}

fn pages(bytes: u64, page: u64) -> u64 {
    bytes.checked_next_multiple_of(page.max(1)).unwrap_or(u64::MAX)
}
