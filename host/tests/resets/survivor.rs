//! What a process has, as the kernel counts it.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use nix::unistd::Pid;

use crate::process::{Program, until};

/// How much more private memory a process may have than when it was grown up,
/// in KiB: 13 a round.
const PRIVATE: u64 = 256;

/// How much more shared memory it may have touched, in KiB: two sessions take
/// turns between two areas, so the second one may add its own.
const SHARED: u64 = 12 << 10;

/// So many looks in a row, so far apart, find what stays.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(100);

/// A process that lives on, what it had at first, and its memory when it was
/// grown up.
pub(crate) struct Survivor {
    pid: Pid,
    first: Belongings,
    memory: Memory,
}

/// What is counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Belongings {
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
        Self { pid, first: Belongings::at_rest(program), memory: Memory::of(pid) }
    }

    /// It has what it had, at once or when it has dealt with what was last;
    /// memory too, unless it is still `growing`.
    pub(crate) fn has_not_grown(&mut self, when: &str, growing: bool) {
        self.first.come_again_in(when, self.pid);
        let (first, now) = (self.memory, Memory::of(self.pid));
        if growing {
            self.memory = now;
            return;
        }
        let fits = now.private <= first.private + PRIVATE && now.shared <= first.shared + SHARED;
        assert!(fits, "{when}: {first:?} has become {now:?}");
    }
}

impl Belongings {
    /// What a program has, once that stays the same: not with a connection that
    /// it has not closed yet since it was last asked something.
    pub(crate) fn at_rest(program: &Program) -> Self {
        Self::that_stays(program, |_| true)
    }

    /// What a program has that has just started, once that is all.
    pub(crate) fn settled(program: &Program) -> Self {
        Self::that_stays(program, |all| all.mappings > 0)
    }

    fn that_stays(program: &Program, complete: impl Fn(&Self) -> bool) -> Self {
        let mut all = Self::of_process(program.pid());
        let mut same = 0;
        until("a program that has what it had before", || {
            sleep(LOOK);
            let before = std::mem::replace(&mut all, Self::of_process(program.pid()));
            same = if complete(&all) && all == before { same + 1 } else { 0 };
            same == LOOKS
        });
        all
    }

    /// This program has the same, at once or soon.
    pub(crate) fn come_again(&self, whose: &str, program: &Program) {
        self.come_again_in(whose, program.pid());
    }

    fn come_again_in(&self, when: &str, pid: Pid) {
        let now = Self::of_process(pid);
        until(&format!("{when}: {self:?} as at first, not {now:?}"), || {
            Self::of_process(pid) == *self
        });
    }

    fn of_process(pid: Pid) -> Self {
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
