//! `vphys demo --board`: the demo against firmware in QEMU, as a user runs it.

use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use virtio_phys_host::namespace::in_namespace;

use crate::command::Machine;
use crate::process::{Folder, Program, until, vphys};
use crate::rack::{beside_others, firmware};

const MACHINES: [Machine; 3] = [Machine::QemuAarch64, Machine::QemuRiscv64, Machine::QemuPowerpc];

fn demo(machine: Machine) -> Command {
    let mut command = vphys();
    command.args(["demo", "--board", machine.name(), "--json", "--seconds", "0.2"]);
    command.stdin(Stdio::null());
    command
}

fn refused(output: &Output, texts: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(texts.iter().all(|text| error.contains(text)), "{error}");
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn the_demo_runs_on_each_processor() {
    in_namespace("demo::the_demo_runs_on_each_processor", || {
        let _turn = beside_others();
        let split = MACHINES.map(|machine| (machine, "split"));
        for (machine, layout) in split.into_iter().chain([(Machine::QemuPowerpc, "bar-only")]) {
            let output = demo(machine)
                .arg("--firmware")
                .arg(firmware(machine))
                .args(["--layout", layout])
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{} {layout}: {error}", machine.name());
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["layout"], layout);
            assert_eq!(report["ok"], true);
            assert_eq!(report["completion_polled"], 0, "{} {layout}", machine.name());
            bill_holds(&report, layout);
        }
    });
}

/// A reading may be taken between a read and its being counted: four are.
const READINGS: f64 = 4.0;

/// What the host's part of the bill is on every machine, fast or slow.
#[track_caller]
fn bill_holds(report: &Value, layout: &str) {
    let cost = |way: &str, what: &str| {
        let value = report["per_packet"][way][what].as_f64();
        value.unwrap_or_else(|| panic!("{way} {what}: {report}"))
    };
    let number = |pointer: &str| {
        let value = report.pointer(pointer).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("{pointer}: {report}"))
    };
    for way in ["to_board", "to_host"] {
        let frames = number(&format!("/frames/{way}"));
        assert!(frames > 0.0, "{way}: {report}");
        for signal in ["doorbells", "interrupts"] {
            assert!(cost(way, signal) <= 1.0, "{way} {signal}: {report}");
        }
        let stores = cost(way, "control_stores_host");
        // A sender's words (docs/testing.md, "The bill"): two, one more where the
        // last buffer at this place was pulled and this is pushed, and those of a
        // sleep with a full ring. A receiver's: one, and two a sleep.
        let most = match (way, layout) {
            ("to_board", _) => 5.0,
            (_, "split") => 1.0 + 2.0 * cost(way, "sleep_flushes_host") + 2.0 * READINGS / frames,
            // Sleeps are not counted there.
            _ => f64::INFINITY,
        };
        assert!(stores > 0.0 && stores <= most, "{way}: {report}");
        let reads = cost(way, "bus_reads_host") * frames;
        if layout == "split" {
            assert!(reads <= READINGS, "{way}: {report}");
            assert_eq!(cost(way, "bytes_read_host"), 0.0, "{way}: {report}");
        } else {
            assert!(reads >= frames, "{way}: {report}");
            assert_eq!(cost(way, "sleep_flushes_host"), 0.0, "{way}: {report}");
        }
        // Nobody counts on the board.
        for what in ["bus_reads", "sleep_flushes", "control_stores", "copies"] {
            assert!(
                report["per_packet"][way][format!("{what}_board")].is_null(),
                "{way}: {report}"
            );
        }
    }
    assert!(cost("to_board", "doorbells") > 0.0, "{report}");
    assert_eq!(cost("to_host", "bytes_pushed_host"), 0.0, "{report}");
    assert_eq!(cost("to_board", "bytes_read_host"), 0.0, "{report}");
    assert!(cost("to_board", "bytes_pushed_host") > 0.0, "{report}");
    if layout == "bar-only" {
        // Every byte of payload went across the bus by the host's hand.
        for (way, what) in [("to_board", "bytes_pushed_host"), ("to_host", "bytes_read_host")] {
            let crossed = cost(way, what) * number(&format!("/frames/{way}"));
            let payload = number(&format!("/bytes_checked/tcp_{way}"));
            // Divided and multiplied again.
            assert!(crossed + 1.0 >= payload, "{way}: {report}");
        }
    }
}

#[test]
fn what_lacks_is_named() {
    in_namespace("demo::what_lacks_is_named", || {
        let folder = Folder::new();
        let machine = Machine::QemuPowerpc;
        let none = demo(machine).arg("--firmware").arg(folder.path("none")).output().unwrap();
        refused(&none, &["there is no firmware at", "./check firmware", "--firmware"]);
        let no_qemu = demo(machine)
            .arg("--firmware")
            .arg(firmware(machine))
            .env("PATH", folder.path(""))
            .output()
            .unwrap();
        refused(&no_qemu, &["qemu-system-ppc is not installed", "apt-get install qemu-system-ppc"]);
        // QEMU itself says what is wrong with the file.
        std::fs::write(folder.path("text"), "no firmware").unwrap();
        let wrong = demo(machine).arg("--firmware").arg(folder.path("text")).output().unwrap();
        refused(&wrong, &["QEMU ended by itself"]);
    });
}

/// QEMU as the demo has started it, if it has come so far.
fn qemu_of(demo: &Program) -> Option<Pid> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        let (pid, rest) = stat.split_once(" (qemu-system")?;
        let parent = rest.rsplit_once(") ")?.1.split(' ').nth(1)?;
        let pid = Pid::from_raw(pid.parse().ok()?);
        (parent == demo.pid().to_string()).then_some(pid)
    })
}

/// QEMU, which does not outlive a test that fails: it has the test's standard error.
struct Qemu(Pid);

impl Qemu {
    /// A process that has ended has no command line, even if nobody waited for it.
    fn lives(&self) -> bool {
        std::fs::read(format!("/proc/{}/cmdline", self.0)).is_ok_and(|line| !line.is_empty())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        if self.lives() {
            let _ = kill(self.0, Signal::SIGKILL);
        }
    }
}

/// The demo, when it has started QEMU; its files would be in `folder`.
fn started(machine: Machine, folder: &Folder) -> (Program, Qemu) {
    let mut command = demo(machine);
    command.arg("--firmware").arg(firmware(machine)).env("TMPDIR", folder.path(""));
    let program = Program::start(command.stdout(Stdio::null()));
    let mut qemu = None;
    until("QEMU", || {
        qemu = qemu_of(&program);
        qemu.is_some()
    });
    (program, Qemu(qemu.unwrap()))
}

/// Whether the demo has had a frame of the board's.
fn has_frames(demo: &Program) -> bool {
    let interfaces = std::fs::read_to_string(format!("/proc/{}/net/dev", demo.pid())).unwrap();
    interfaces.lines().filter_map(|line| line.trim_start().strip_prefix("vphys0:")).any(|counts| {
        let received = counts.split_whitespace().next();
        received.is_some_and(|bytes| bytes != "0")
    })
}

/// Asked to end, or killed, it takes QEMU with it.
#[test]
fn nothing_is_left_behind() {
    in_namespace("demo::nothing_is_left_behind", || {
        let _turn = beside_others();
        let folder = Folder::new();
        let is_empty = || std::fs::read_dir(folder.path("")).unwrap().next().is_none();
        for signal in [Signal::SIGINT, Signal::SIGKILL] {
            let (mut program, qemu) = started(Machine::QemuAarch64, &folder);
            // From then on QEMU can do without its server.
            until("a frame", || has_frames(&program));
            assert!(qemu.lives());
            program.signal(signal);
            let status = program.end();
            match signal {
                Signal::SIGKILL => until("QEMU's end", || !qemu.lives()),
                _ => assert_eq!(status.code(), Some(128 + signal as i32)),
            }
            assert!(!qemu.lives(), "QEMU lives on after {signal}");
            assert!(is_empty(), "a file is left after {signal}");
        }
    });
}

/// Ctrl-C goes to QEMU too, which has to be there until the demo let go of it.
#[test]
fn qemu_does_not_end_by_itself() {
    in_namespace("demo::qemu_does_not_end_by_itself", || {
        let folder = Folder::new();
        let (mut program, qemu) = started(Machine::QemuAarch64, &folder);
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            kill(qemu.0, signal).unwrap();
        }
        assert!(program.end().success(), "the demo goes on");
        assert!(!qemu.lives());
    });
}
