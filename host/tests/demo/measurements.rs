//! What the demo measures, under every layout, MTU and feature set.

use serde_json::Value;

use crate::run::{Stage, Tun, root, run, staged};

/// The one object of a run that went well.
#[track_caller]
fn measured(stage: &Stage, arguments: &str) -> Value {
    let ran = run(&mut stage.demo(&format!("--json --seconds 0.05 {arguments}")));
    ran.went_well();
    assert_eq!(ran.err, "", "{arguments}: nothing but the object");
    assert_eq!(ran.out.lines().count(), 1, "{arguments}: {}", ran.out);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["ok"], true, "{arguments}: {report}");
    for positive in ["/rtt_us/p50", "/gbit_per_s/to_board", "/gbit_per_s/to_host"] {
        let value = report.pointer(positive).and_then(Value::as_f64).unwrap();
        assert!(value > 0.0, "{arguments}: {positive} is {value}");
    }
    for way in ["to_board", "to_host"] {
        for key in [
            "bus_reads_host",
            "bus_reads_board",
            "dma_fetches",
            "sleep_flushes_host",
            "sleep_flushes_board",
            "control_stores_host",
            "control_stores_board",
            "bytes_pushed_host",
            "bytes_read_host",
            "doorbells",
            "interrupts",
            "copies_host",
            "copies_board",
        ] {
            let value = report["per_packet"][way][key].as_f64();
            assert!(value.is_some_and(|value| value >= 0.0), "{arguments}: {way} {key}: {value:?}");
        }
    }
    report
}

fn cost(report: &Value, way: &str, what: &str) -> f64 {
    report["per_packet"][way][what].as_f64().unwrap()
}

/// The same of both sides.
fn costs(report: &Value, way: &str, what: &str) -> f64 {
    cost(report, way, &format!("{what}_host")) + cost(report, way, &format!("{what}_board"))
}

#[test]
fn everybody_can_run_it() {
    staged("measurements::everybody_can_run_it", Tun::Everybodys, |stage| {
        measured(stage, "");
        if root() {
            measured(&stage.as_nobody(), "");
        } else {
            eprintln!("as another user: left out, this is not root");
        }
    });
}

#[test]
fn the_table_has_every_figure() {
    staged("measurements::the_table_has_every_figure", Tun::Everybodys, |stage| {
        let ran = run(&mut stage.demo("--seconds 0.1"));
        ran.went_well();
        for step in ["namespace", "attach", "ping", "echo", "TCP to the board", "TCP to the host"] {
            assert!(ran.err.lines().any(|line| line.starts_with(step)), "{step}: {ran:#?}");
        }
        let figures = |name: &str| {
            let line = ran.out.lines().find(|line| line.trim_start().starts_with(name));
            let line = line.unwrap_or_else(|| panic!("{name}: {ran:#?}"));
            // Columns: the figures end where their headings do.
            (line.len(), line.split_whitespace().rev().take(2).map(str::to_owned).collect())
        };
        let (width, _): (_, Vec<String>) = figures("TCP ");
        for name in [
            "payload, Gbit/s",
            "payload, bytes",
            "frames",
            "bus reads by the host",
            "bus reads by the board",
            "fetches by the DMA engine",
            "reads before sleeping by the host",
            "reads before sleeping by the board",
            "control stores by the host",
            "control stores by the board",
            "payload bytes pushed by the host",
            "payload bytes read by the host",
            "doorbells",
            "interrupts",
            "copies of its payload by the host",
            "copies of its payload by the board",
        ] {
            let (end, figures) = figures(name);
            assert_eq!(end, width, "{name}: {}", ran.out);
            assert!(figures.iter().all(|figure| figure.parse::<f64>().is_ok()), "{name}");
        }
        assert!(ran.out.lines().all(|line| line.len() < 80), "{}", ran.out);
    });
}

#[test]
fn each_layout_costs_what_it_must() {
    staged("measurements::each_layout_costs_what_it_must", Tun::Everybodys, |stage| {
        let split = measured(stage, "--layout split");
        let bar_only = measured(stage, "--layout bar-only");
        let all_host = measured(stage, "--layout all-host");
        for (name, report) in [("split", &split), ("bar-only", &bar_only), ("all-host", &all_host)]
        {
            assert_eq!(report["layout"], name);
        }
        for way in ["to_board", "to_host"] {
            // What the split is for: no read but those before a sleep.
            assert_eq!(costs(&split, way, "bus_reads"), 0.0, "{way}: {split}");
            assert!(costs(&bar_only, way, "bus_reads") > 0.0, "{way}: {bar_only}");
            assert!(costs(&all_host, way, "bus_reads") > 0.0, "{way}: {all_host}");
            // A look across the bus is its own flush.
            assert_eq!(costs(&bar_only, way, "sleep_flushes"), 0.0, "{way}: {bar_only}");
            assert_eq!(costs(&all_host, way, "sleep_flushes"), 0.0, "{way}: {all_host}");
            // The host reads no payload but where all of it lies in the BAR.
            assert_eq!(cost(&split, way, "bytes_read_host"), 0.0, "{way}: {split}");
            let read = cost(&bar_only, way, "bytes_read_host");
            assert_eq!(read > 0.0, way == "to_host", "{way}: {bar_only}");
        }
    });
}

#[test]
fn an_interface_without_ethernet() {
    staged("measurements::an_interface_without_ethernet", Tun::Everybodys, |stage| {
        for arguments in [
            "",
            "--layout bar-only",
            "--layout all-host",
            "--mtu 65521",
            // No offloads, then no MAC address from the board.
            "--features 1300000000",
            "--features 0xffffffffffffffdf",
        ] {
            let report = measured(stage, &format!("--mode tun {arguments}"));
            assert_eq!(report["mode"], "tun");
        }
        assert_eq!(measured(stage, "--mode tap")["mode"], "tap");
    });
}

/// The object of a run with two boards that went well.
#[track_caller]
fn two_boards(stage: &Stage, arguments: &str) -> Value {
    let ran = run(&mut stage.demo(&format!("--boards 2 --json --seconds 0.3 {arguments}")));
    ran.went_well();
    assert_eq!(ran.err, "", "{arguments}: nothing but the object");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["ok"], true, "{arguments}: {report}");
    let frames = report["frames_checked"].as_u64().unwrap();
    let bytes = report["bytes_checked"].as_u64().unwrap();
    assert!(frames > 64 && bytes > 60 * frames, "{arguments}: {report}");
    let boards = report["boards"].as_array().unwrap();
    assert_eq!(boards.len(), 2);
    for (board, name, interface) in
        [(&boards[0], "board A", "vphys0"), (&boards[1], "board B", "vphys1")]
    {
        assert_eq!((&board["board"], &board["interface"]), (&name.into(), &interface.into()));
        for way in ["to_board", "to_host"] {
            // The kernel has a few of its own.
            let moved = board["frames"][way].as_u64().unwrap();
            assert!((frames..frames + 100).contains(&moved), "{name} {way}: {report}");
            let stores = &board["per_packet"][way]["control_stores_host"];
            assert!(stores.as_f64().is_some_and(|stores| stores >= 0.0), "{name} {way}: {report}");
        }
        assert_eq!(board["completion_polled"], 0, "{report}");
    }
    report
}

#[test]
fn one_board_to_the_other_and_back() {
    staged("measurements::one_board_to_the_other_and_back", Tun::Everybodys, |stage| {
        for layout in ["split", "bar-only", "all-host"] {
            let report = two_boards(stage, &format!("--layout {layout}"));
            assert_eq!(report["layout"], layout);
            for board in report["boards"].as_array().unwrap() {
                for way in ["to_board", "to_host"] {
                    let reads = costs(board, way, "bus_reads");
                    assert_eq!(reads == 0.0, layout == "split", "{layout} {way}: {board}");
                }
            }
        }
        two_boards(stage, "--mtu 9000");
        two_boards(stage, "--mtu 65521 --features 1300000000");
        let ran = run(&mut stage.demo("--boards 2 --seconds 0.1"));
        ran.went_well().said(&["bridge0: a frame went there and back", "all as they were sent"]);
        for text in ["board A behind vphys0 ", "board B behind vphys1 "] {
            assert!(ran.out.contains(text), "{ran:#?}");
        }
        assert!(ran.out.lines().all(|line| line.len() < 80), "{}", ran.out);
    });
}

#[test]
fn every_mtu_carries_everything() {
    staged("measurements::every_mtu_carries_everything", Tun::Everybodys, |stage| {
        for arguments in [
            "--mtu 1280",
            "--mtu 9000",
            "--mtu 65521",
            "--mtu 9000 --features 1300000000",
            "--mtu 9000 --layout bar-only",
        ] {
            measured(stage, arguments);
        }
    });
}

/// Bits that a session can do without, by their names in the standard (VirtIO 1.3 §5.1.3, §6).
const OPTIONAL: [(u32, &str); 10] = [
    (0, "CSUM"),
    (1, "GUEST_CSUM"),
    (7, "GUEST_TSO4"),
    (11, "HOST_TSO4"),
    (12, "HOST_TSO6"),
    (15, "MRG_RXBUF"),
    (29, "EVENT_IDX"),
    (35, "IN_ORDER"),
    (3, "MTU"),
    (5, "MAC"),
];

#[test]
fn it_runs_without_any_one_feature() {
    staged("measurements::it_runs_without_any_one_feature", Tun::Everybodys, |stage| {
        for (bit, name) in OPTIONAL {
            let mask = !(1_u64 << bit);
            let report = measured(stage, &format!("--features {mask:#x}"));
            let features = report["features"].as_str().unwrap();
            assert!(!features.split(' ').any(|feature| feature == name), "{name} in {features}");
        }
    });
}

#[test]
fn it_runs_with_no_optional_feature() {
    staged("measurements::it_runs_with_no_optional_feature", Tun::Everybodys, |stage| {
        for layout in ["split", "bar-only"] {
            let report = measured(stage, &format!("--features 1300000000 --layout {layout}"));
            assert_eq!(report["features"], "VERSION_1 ACCESS_PLATFORM ORDER_PLATFORM");
        }
    });
}
