//! What a point is, and what became of it.

use serde::Serialize;

use super::kit::Kit;

/// One thing that a board must do: a rule of a section, and how it is checked.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Its name; those of a group begin with the group's.
    pub id: &'static str,
    /// Where the rule stands: a section of docs/protocol.md by its number, or a
    /// heading of docs/protocol-rings.md (`rings: ...`) or docs/safety.md (`safety: ...`).
    pub section: &'static str,
    /// The rule, in one line.
    pub rule: &'static str,
    pub(super) check: fn(&mut Kit<'_>) -> Checked,
}

/// What a check ended with.
pub(super) type Checked = Result<(), Stop>;

/// Why a check went no further.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// The rule is broken: what was seen.
    Seen(String),
    /// There is nothing to check: why.
    Skip(String),
}

/// The rule is broken.
pub(super) fn seen<T>(what: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Seen(what.into()))
}

/// There is nothing to check.
pub(super) fn skip<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Skip(why.into()))
}

/// Holds a rule: `false` ends the check with what was seen.
pub(super) fn must(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Stop::Seen(what())) }
}

/// What became of a point.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The board keeps the rule.
    Pass,
    /// It does not: what was seen.
    Fail(String),
    /// The rule does not apply to this board: why.
    Skipped(String),
}

/// A point and what became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The point's name.
    pub id: &'static str,
    /// Where its rule stands.
    pub section: &'static str,
    /// The rule.
    pub rule: &'static str,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of all points that were run, in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Report {
    /// The board's name and firmware version, if it said them.
    pub board: Option<String>,
    /// The points.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many passed, failed, and were skipped.
    #[must_use]
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for finding in &self.findings {
            counts[match finding.outcome {
                Outcome::Pass => 0,
                Outcome::Fail(_) => 1,
                Outcome::Skipped(_) => 2,
            }] += 1;
        }
        counts
    }

    /// The names of the points that failed.
    pub fn failed(&self) -> impl Iterator<Item = &'static str> + '_ {
        let failed = |finding: &&Finding| matches!(finding.outcome, Outcome::Fail(_));
        self.findings.iter().filter(failed).map(|finding| finding.id)
    }
}
