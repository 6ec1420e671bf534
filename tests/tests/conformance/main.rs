//! The conformance kit finds what it is to find: faults planted in a board, each
//! with the points that must fail, and a board without a fault that passes.
//!
//! The board is the board library's own program; the fault is in a wrapper around
//! its windows and interrupts, so that it shows exactly as a fault of the firmware would.

mod board;
mod faults;

use std::collections::BTreeSet;

use host::bus::sim::{SimBus, SimOptions};
use host::conform::{Answers, Options, Outcome, Report, groups, run};

use board::Planted;
use faults::Fault;

/// Runs the points that begin with `only` against a board with this fault.
fn kit(fault: Option<Fault>, only: Option<&str>) -> Report {
    let bus = SimBus::new(SimOptions::counted()).unwrap();
    let _board = Planted::start(&bus, fault);
    let options = Options { only: only.map(str::to_owned), answers: Answers::Echo };
    run(&mut bus.host(), &options, |_| ())
}

#[test]
fn a_board_without_fault_passes() {
    let report = kit(None, None);
    let points: usize = groups().iter().map(|group| group.points.len()).sum();
    for finding in &report.findings {
        assert_eq!(finding.outcome, Outcome::Pass, "{} ({})", finding.id, finding.section);
    }
    assert_eq!(report.findings.len(), points);
}

/// A board that hangs costs two points their time; the rest is not reached, and
/// says so.
#[test]
fn a_board_that_hangs_ends_the_run() {
    let report = kit(Some(Fault::Hangs), None);
    let points: usize = groups().iter().map(|group| group.points.len()).sum();
    assert_eq!(report.findings.len(), points);
    let [passed, _, skipped] = report.counts();
    assert_eq!(skipped, 0);
    let reached = |outcome: &Outcome| !matches!(outcome, Outcome::Fail(seen) if seen.starts_with("not reached"));
    let reached = report.findings.iter().filter(|finding| reached(&finding.outcome)).count();
    assert!((1..=3).contains(&(reached - passed)), "{reached} reached, {passed} passed");
    assert!(passed < 60, "{passed} passed");
}

/// A board that was pulled out before the kit came.
#[test]
fn a_board_that_is_gone_ends_the_run() {
    let bus = SimBus::new(SimOptions::counted()).unwrap();
    bus.unplug_board();
    let report = run(&mut bus.host(), &Options::default(), |_| ());
    let [passed, _, skipped] = report.counts();
    assert_eq!((passed, skipped), (0, 0));
}

/// Each fault, and the points that must fail for it.
const PLANTED: &[(Fault, &[&str])] = &[
    (Fault::Checksum, &["control-checksum", "control-accepted"]),
    (Fault::Reserved, &["control-reserved", "control-accepted"]),
    (Fault::Overlap, &["control-areas", "control-accepted"]),
    (Fault::AllOnes, &["control-live"]),
    (Fault::Heartbeat, &["heartbeat-beats", "heartbeat-session"]),
    (Fault::StatusPage, &["regions-status-page"]),
    (Fault::BootEpoch, &["epochs-reset", "epochs-board-reset"]),
    (Fault::Accepted, &["epochs-leave"]),
    (Fault::Token, &["requests-ping", "channel-bits"]),
    (Fault::DeviceNumber, &["requests-info"]),
    (Fault::PingData, &["requests-ping"]),
    (Fault::Region, &["regions-wrap", "regions-overlap", "regions-length-zero"]),
    (Fault::Removed, &["regions-remove-used"]),
    (Fault::Routed, &["requests-route-doorbell", "requests-route-vector"]),
    (Fault::QueueSize, &["queues-set"]),
    (Fault::QueueAddress, &["queues-set"]),
    (Fault::FeaturesOk, &["status-version-1", "status-not-offered"]),
    (Fault::Offer, &["requests-features-required"]),
    (Fault::Config, &["requests-config-outside", "requests-config-much"]),
    (Fault::UsedId, &["data-to-board", "data-answer", "console-input"]),
    (Fault::UsedLength, &["data-to-board", "data-answer", "commands-done", "console-input"]),
    (Fault::UsedEmpty, &["data-answer", "console-output"]),
    (Fault::UsedIndex, &["data-to-board", "data-answer"]),
    (Fault::NoInterrupt, &["notify-asked", "notify-flags", "notify-first"]),
    (Fault::NoMessageInterrupt, &["channel-vector"]),
    (Fault::Storm, &["notify-quiet", "notify-not-asked"]),
    (Fault::NeedsReset, &["malformed-loop", "malformed-next"]),
    (Fault::EventConfig, &["malformed-loop", "malformed-next"]),
    (Fault::WrongCode, &["malformed-loop", "malformed-next", "commands-unwritable"]),
    (Fault::WrongQueue, &["malformed-loop", "commands-unwritable", "console-malformed"]),
    (Fault::Sticks, &["malformed-loop", "console-malformed"]),
    (Fault::Spreads, &["malformed-other-device", "console-beside"]),
    (Fault::Rounded, &["messages-devices-part"]),
    (Fault::Command, &["commands-done", "commands-unknown"]),
    (Fault::Multiport, &["console-device"]),
];

/// The points of one row, and what each said.
fn caught(fault: Fault, points: &[&'static str]) {
    for point in points {
        let report = kit(Some(fault), Some(point));
        let failed: BTreeSet<&str> = report.failed().collect();
        assert!(failed.contains(point), "{fault:?} passes {point}: {:?}", report.findings);
        // It is found by what is seen, not by a board that cannot be reached.
        for finding in report.findings {
            println!("{fault:?}: {} {:?}", finding.id, finding.outcome);
        }
    }
}

#[test]
fn each_planted_fault_is_found_by_its_points() {
    // One board a thread: most of each run is waiting for what does not come.
    std::thread::scope(|scope| {
        let rows: Vec<_> = PLANTED
            .iter()
            .map(|(fault, points)| (fault, scope.spawn(|| caught(*fault, points))))
            .collect();
        for (fault, row) in rows {
            assert!(row.join().is_ok(), "{fault:?}");
        }
    });
    let named = PLANTED.iter().flat_map(|(_, points)| points.iter());
    let known: BTreeSet<&str> =
        groups().iter().flat_map(|group| group.points).map(|point| point.id).collect();
    let named: BTreeSet<&str> = named.copied().collect();
    assert!(named.is_subset(&known), "no point {:?}", named.difference(&known));
    // Whatever a board need not have, nobody else looks at.
    let devices = ["commands-", "console-"];
    let needed = known.iter().filter(|id| devices.iter().any(|group| id.starts_with(group)));
    for point in needed {
        assert!(named.contains(point), "no fault for {point}");
    }
}
