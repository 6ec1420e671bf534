//! What a process takes of the machine.

use std::fs;
use std::time::Duration;

use crate::process::Program;

/// What a process has taken so far, all threads together.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Taken {
    /// Processor time, to the nanosecond.
    pub(crate) time: Duration,
    /// How often a thread went to sleep, for which it has to have been awake.
    pub(crate) sleeps: u64,
}

impl Taken {
    pub(crate) fn by(program: &Program) -> Self {
        let mut all = Self::default();
        for task in fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap() {
            let task = task.unwrap().path();
            let schedstat = fs::read_to_string(task.join("schedstat")).unwrap();
            let nanos = schedstat.split(' ').next().unwrap().parse().unwrap();
            let status = fs::read_to_string(task.join("status")).unwrap();
            let sleeps =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            all.time += Duration::from_nanos(nanos);
            all.sleeps += sleeps.unwrap().trim().parse::<u64>().unwrap();
        }
        all
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { time: self.time - before.time, sleeps: self.sleeps - before.sleeps }
    }
}
