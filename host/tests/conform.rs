//! `vphys conform`: the kit as users run it, against the emulated board on both
//! buses.
#![cfg(feature = "emulated-board")]

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The programs end by themselves; this is for those that do not.
const HANGS: Duration = Duration::from_secs(120);

fn vphys(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vphys"));
    command.arg("conform").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A board process with a socket of its own, gone with its handle.
struct Board {
    child: Child,
    folder: PathBuf,
}

impl Board {
    fn start(name: &str, options: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("conform-{}-{name}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vphys"));
        command.args(["board", "--socket"]).arg(folder.join("board")).args(options);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let board = Self { child, folder };
        let deadline = Instant::now() + HANGS;
        while !board.folder.join("board").exists() {
            assert!(Instant::now() < deadline, "no socket");
            std::thread::yield_now();
        }
        board
    }

    fn socket(&self) -> String {
        self.folder.join("board").to_str().unwrap().to_owned()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Runs all points as JSON: what was skipped. Nothing fails.
fn passes(arguments: &[&str]) -> Vec<String> {
    let ran = vphys(&[arguments, &["--json"]].concat());
    let (out, err) = (text(&ran.stdout), text(&ran.stderr));
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}\n{err}"));
    let mut skipped = Vec::new();
    for finding in report["findings"].as_array().unwrap() {
        assert!(finding["outcome"].get("fail").is_none(), "{finding}");
        if finding["outcome"].get("skipped").is_some() {
            skipped.push(finding["id"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(ran.status.code(), Some(0), "{err}");
    assert_eq!(report["board"], format!("emulated board, firmware {}", env!("CARGO_PKG_VERSION")));
    skipped
}

#[test]
fn its_own_board_passes_all_of_it() {
    assert_eq!(passes(&["--bus", "sim"]), [""; 0]);
}

#[test]
fn a_board_process_passes_all_of_it() {
    let board = Board::start("split", &["--memory", "1"]);
    let answers = ["--answers", "10.77.0.2"];
    let socket = board.socket();
    let arguments = [&["--bus", "ivshmem", "--socket", &socket][..], &answers].concat();
    assert_eq!(passes(&arguments), [""; 0]);
}

#[test]
fn a_board_that_reaches_no_host_memory_skips_what_needs_it() {
    let board = Board::start("bar-only", &["--bar-only", "--behind", "echo"]);
    let skipped = passes(&["--bus", "ivshmem", "--socket", &board.socket()]);
    let expected = [
        "regions-number-taken",
        "regions-overlap",
        "regions-status-rights",
        "regions-windows",
        "regions-status-page",
        "queues-rights",
        "queues-two-regions",
        "data-pull",
        "data-two-regions",
        "malformed-rights",
    ];
    assert_eq!(skipped, expected);
}

#[test]
fn what_is_printed_names_points_and_sections() {
    let ran = vphys(&["--bus", "sim", "--only", "requests-"]);
    let out = text(&ran.stdout);
    assert_eq!(ran.status.code(), Some(0), "{out}");
    for part in
        ["pass  requests-ping  (5.2)", "GROUP     PASSED  FAILED  SKIPPED", "19 passed, 0 failed"]
    {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
    let ran = vphys(&["--list"]);
    let out = text(&ran.stdout);
    assert_eq!(ran.status.code(), Some(0));
    for part in ["regions: regions\n", "  queues-size-odd  (5.1)\n", "console-beside"] {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
}

/// A board that does not do what was said of it: exit status 1.
#[test]
fn a_point_that_fails_is_said_with_what_was_seen_and_its_rule() {
    let board = Board::start("answers", &["--behind", "echo"]);
    let socket = board.socket();
    let ran = vphys(&[
        "--bus",
        "ivshmem",
        "--socket",
        &socket,
        "--only",
        "data-answer",
        "--answers",
        "10.9.9.9",
    ]);
    let out = text(&ran.stdout);
    assert_eq!(ran.status.code(), Some(1), "{out}");
    for part in [
        "FAIL  data-answer  (rings: Rings)",
        "seen: ARP for 10.9.9.9 is not answered",
        "rule: a frame to the host fills a buffer",
        "0 passed, 1 failed, 0 skipped",
        "failed: data-answer (rings: Rings)",
    ] {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
}

#[test]
fn options_that_cannot_be() {
    for (arguments, part) in [
        (&[][..], "--bus <BUS>"),
        (&["--bus", "vfio"], "invalid value 'vfio'"),
        (&["--bus", "ivshmem"], "--socket <PATH>"),
        (&["--bus", "sim", "--only", "nothing"], "no point's name begins with it"),
        (&["--bus", "sim", "--answers", "nobody"], "neither `echo` nor an IPv4 address"),
    ] {
        let ran = vphys(arguments);
        let err = text(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {err}");
        assert!(err.contains(part), "{arguments:?}: {err}");
    }
    let ran = vphys(&["--bus", "ivshmem", "--socket", "/nowhere/at/all"]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(text(&ran.stderr).contains("/nowhere/at/all"), "{}", text(&ran.stderr));
}
