//! The conformance kit finds what it is to find: faults planted in a board, each
//! with the points that must fail, and a board without a fault that passes.
//!
//! The board is the board library's own program; the fault is in a wrapper around
//! its windows and interrupts, so that it shows exactly as a fault of the firmware would.

mod board;
mod faults;

use std::collections::BTreeSet;

use host::bus::sim::{SimBus, SimOptions};
use host::conform::{Answers, Finding, Options, Outcome, Report, groups, run};

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

/// A board that hangs costs two points their time, and a few more where it hangs
/// among those that look at epochs before a session; the rest is not reached, and
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
    assert!((1..points / 10).contains(&(reached - passed)), "{reached} reached, {passed} passed");
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

/// Each fault, the points that must fail for it, and what each then says: part of
/// it, so that a fault counts as found by what is seen, not by a board or a kit
/// that was late. A bar stands between what it may be at different moments.
const PLANTED: &[(Fault, &[(&str, &str)])] = &[
    (
        Fault::Checksum,
        &[("control-checksum", "the bytes give"), ("control-accepted", "checksum does not match")],
    ),
    (
        Fault::Reserved,
        &[
            ("control-reserved", "offset 0xc4 holds"),
            ("control-accepted", "field 0xc4 is not zero"),
        ],
    ),
    (
        Fault::Overlap,
        &[
            ("control-areas", "overlaps the channel layout"),
            ("control-accepted", "overlaps something else"),
        ],
    ),
    (Fault::AllOnes, &[("control-live", "at offset 4 is all ones")]),
    (
        Fault::Heartbeat,
        &[
            ("heartbeat-beats", "behind 0 beats it stays"),
            ("heartbeat-session", "behind 0 beats it stays"),
        ],
    ),
    (Fault::StatusPage, &[("regions-status-page", "its heartbeat stays")]),
    (
        Fault::BootEpoch,
        &[
            ("epochs-reset", "the boot epoch is still"),
            ("epochs-board-reset", "the boot epoch is still"),
        ],
    ),
    (Fault::Accepted, &[("epochs-leave", "the accepted session is not 0x0 ")]),
    (
        Fault::Token,
        &[
            ("requests-ping", "has token 65, asked with 1"),
            ("channel-bits", "has token 65, asked with 1"),
        ],
    ),
    (Fault::DeviceNumber, &[("requests-info", "has device number 1, asked with 0")]),
    (Fault::PingData, &[("requests-ping", "is answered with Pong { data: 1 }")]),
    (
        Fault::Region,
        &[
            ("regions-wrap", "answered with 0"),
            ("regions-overlap", "answered with 0"),
            ("regions-length-zero", "answered with 0"),
        ],
    ),
    (Fault::Removed, &[("regions-remove-used", "answered with 0")]),
    (
        Fault::Routed,
        &[
            ("requests-route-doorbell", "answered with 0"),
            ("requests-route-vector", "answered with 0"),
        ],
    ),
    (Fault::QueueSize, &[("queues-set", "size: 20,")]),
    (Fault::QueueAddress, &[("queues-set", "GET_VQUEUE shows")]),
    (
        Fault::FeaturesOk,
        &[("status-version-1", "with status 0xb"), ("status-not-offered", "with status 0xb")],
    ),
    (Fault::Offer, &[("requests-features-required", "does not offer VERSION_1")]),
    (
        Fault::Config,
        &[
            ("requests-config-outside", "are answered with [00]"),
            ("requests-config-much", "45 bytes are answered with 1"),
        ],
    ),
    (
        Fault::UsedId,
        &[
            ("data-to-board", "is no buffer in flight"),
            ("data-answer", "num_buffers [0, 0]"),
            ("console-input", "is no buffer in flight"),
        ],
    ),
    (
        Fault::UsedLength,
        &[
            ("data-to-board", "used.len"),
            ("data-answer", "used.len"),
            ("commands-done", "used.len"),
            ("console-input", "used.len"),
        ],
    ),
    (Fault::UsedEmpty, &[("data-answer", "of 0 bytes"), ("console-output", "came back empty")]),
    (
        Fault::UsedIndex,
        &[
            ("data-to-board", "used.idx is 2 ahead"),
            ("data-answer", "is no buffer in flight|a frame to the host of 0 bytes"),
        ],
    ),
    (
        Fault::NoInterrupt,
        &[
            ("notify-asked", "is not raised"),
            ("notify-flags", "is not raised"),
            ("notify-first", "is not raised"),
        ],
    ),
    (Fault::NoMessageInterrupt, &[("channel-vector", "not in")]),
    (
        Fault::Storm,
        &[("notify-quiet", "was raised, used.idx"), ("notify-not-asked", "was raised, used_event")],
    ),
    (
        Fault::NeedsReset,
        &[
            ("malformed-loop", "DEVICE_NEEDS_RESET is not set"),
            ("malformed-next", "DEVICE_NEEDS_RESET is not set"),
        ],
    ),
    (
        Fault::EventConfig,
        &[
            ("malformed-loop", "EVENT_CONFIG does not come"),
            ("malformed-next", "EVENT_CONFIG does not come"),
        ],
    ),
    (
        Fault::WrongCode,
        &[
            ("malformed-loop", "code 6 for queue 1"),
            ("malformed-next", "code 4 for queue 1"),
            ("commands-unwritable", "code 20 for queue 2"),
        ],
    ),
    (
        Fault::WrongQueue,
        &[
            ("malformed-loop", "code 5 for queue 0"),
            ("commands-unwritable", "code 19 for queue 3"),
            ("console-malformed", "code 3 for queue 0"),
        ],
    ),
    (
        Fault::Sticks,
        &[
            ("malformed-loop", "still has status DEVICE_NEEDS_RESET"),
            ("console-malformed", "still has status DEVICE_NEEDS_RESET"),
        ],
    ),
    (
        Fault::Spreads,
        &[("malformed-other-device", "to 0x4f"), ("console-beside", "has status 0x4f")],
    ),
    (Fault::Rounded, &[("messages-devices-part", "was answered")]),
    (
        Fault::Command,
        &[("commands-done", "is answered with 1"), ("commands-unknown", "is answered with 0")],
    ),
    (Fault::Multiport, &[("console-device", "2 queues")]),
];

/// The points of one row: each fails, for its reason.
fn caught(fault: Fault, points: &[(&str, &str)]) {
    for (point, said) in points {
        let report = kit(Some(fault), Some(point));
        let by_it = |seen: &str| said.split('|').any(|part| seen.contains(part));
        let found = report.findings.iter().any(|Finding { id, outcome, .. }| {
            id == point && matches!(outcome, Outcome::Fail(seen) if by_it(seen))
        });
        assert!(found, "{fault:?}: {point} does not fail by {said:?}: {:?}", report.findings);
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
    let named = PLANTED.iter().flat_map(|(_, points)| points.iter().map(|(point, _)| *point));
    let known: BTreeSet<&str> =
        groups().iter().flat_map(|group| group.points).map(|point| point.id).collect();
    let named: BTreeSet<&str> = named.collect();
    assert!(named.is_subset(&known), "no point {:?}", named.difference(&known));
    // Whatever a board need not have, nobody else looks at.
    let devices = ["commands-", "console-"];
    let needed = known.iter().filter(|id| devices.iter().any(|group| id.starts_with(group)));
    for point in needed {
        assert!(named.contains(point), "no fault for {point}");
    }
}
