//! What a process has, as the kernel counts it.

use std::fs;

use nix::unistd::Pid;

use crate::process::{Program, until};

/// How much more private memory a process may have than at first, in KiB:
/// less than one session's rings and slots, ten times over.
const PRIVATE: u64 = 1 << 10;

/// How much more shared memory it may have touched, in KiB: two sessions take
/// turns between two areas, so the second one may add its own.
const SHARED: u64 = 12 << 10;

/// A process and what it had at first.
pub(crate) struct Survivor {
    pid: Pid,
    first: Belongings,
    memory: Memory,
}

/// What is counted.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Belongings {
    descriptors: usize,
    threads: usize,
    /// Mappings of shared memory files.
    mappings: usize,
}

/// Resident memory, in KiB.
#[derive(Clone, Copy, Debug)]
struct Memory {
    private: u64,
    shared: u64,
}

impl Survivor {
    pub(crate) fn new(program: &Program) -> Self {
        let pid = program.pid();
        Self { pid, first: Belongings::of(pid), memory: Memory::of(pid) }
    }

    pub(crate) fn is(&self, program: &Program) -> bool {
        self.pid == program.pid()
    }

    /// It has what it had, at once or when it has dealt with what was last.
    pub(crate) fn has_not_grown(&self, when: &str) {
        let now = Belongings::of(self.pid);
        until(&format!("{when}: {:?} as at first, not {now:?}", self.first), || {
            Belongings::of(self.pid) == self.first
        });
        let (first, now) = (self.memory, Memory::of(self.pid));
        let fits = now.private <= first.private + PRIVATE && now.shared <= first.shared + SHARED;
        assert!(fits, "{when}: {first:?} has become {now:?}");
    }
}

impl Belongings {
    fn of(pid: Pid) -> Self {
        let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        Self {
            descriptors: count("fd"),
            threads: count("task"),
            mappings: maps.lines().filter(|line| line.contains("memfd:ivshmem")).count(),
        }
    }
}

impl Memory {
    fn of(pid: Pid) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            value.trim().trim_end_matches(" kB").parse().unwrap()
        };
        Self { private: line("RssAnon:"), shared: line("RssShmem:") }
    }
}
