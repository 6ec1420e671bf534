//! The conformance kit: plays the host against a board and checks the protocol
//! point by point.
//!
//! It stands on the codecs and layouts of `shared`, and on none of the state
//! machines that a real host uses: those would forgive, or give up. What must be
//! wrong is written byte by byte.
//!
//! Guarantee: whatever the board does, [`run`] ends. The board is taken for
//! hostile: each wait has a deadline that grows with the heartbeat interval that
//! the board states, what it sends is bounded, and a board that takes no session
//! any more fails the points that are left at once.
//!
//! `card` is the bus, `kit` finding the board and waiting for it,
//! `session` messages, `device` and `queue` what a driver does, `net` a
//! network device that runs; `points` are the tables. docs/conformance.md lists
//! the points.
//!
//! Not for: speed, and what only an instrument on the bus can see (the order of
//! stores, R1 to R8); the simulated bus and its bill are for that.

mod card;
mod device;
mod frames;
mod kit;
mod net;
mod point;
mod points;
mod queue;
mod session;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

pub use point::{Finding, Outcome, Point, Report};
pub use points::{Group, groups};

use crate::bus::Bus;
use kit::Kit;
use point::Stop;

/// What the kit is told beforehand.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only groups or points whose name begins with this.
    pub only: Option<String>,
    /// What lies behind the network device.
    pub answers: Answers,
}

/// What answers frames behind the board's network device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Answers {
    /// Found out: an echo, else [`COMMON_ADDRESS`]. Nothing of it: points that
    /// need an answer are skipped.
    #[default]
    FindOut,
    /// Each frame comes back.
    Echo,
    /// ARP and ping are answered at this address.
    Address(Ipv4Addr),
}

/// The address that emulated boards have unless they are told otherwise.
pub const COMMON_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Runs the points that `options` name against the board on `bus`, and tells
/// `said` of each as it is done.
pub fn run<B: Bus>(bus: &mut B, options: &Options, mut said: impl FnMut(&Finding)) -> Report {
    let chosen =
        |point: &&Point| options.only.as_deref().is_none_or(|only| point.id.starts_with(only));
    let mut kit = Kit::new(bus, options.answers);
    let mut report = Report::default();
    for point in groups().iter().flat_map(|group| group.points).filter(chosen) {
        let outcome = match kit.check(point) {
            Ok(()) => Outcome::Pass,
            Err(Stop::Seen(what)) => Outcome::Fail(what),
            Err(Stop::Skip(why)) => Outcome::Skipped(why),
        };
        let finding = Finding { id: point.id, section: point.section, rule: point.rule, outcome };
        said(&finding);
        report.findings.push(finding);
    }
    report.board = kit.name();
    report
}
