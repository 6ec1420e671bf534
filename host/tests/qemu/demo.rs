//! `vphys demo --board`: the demo against firmware in QEMU, as a user runs it.

use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use virtio_phys_host::namespace::in_namespace;

use crate::command::Machine;
use crate::process::{Folder, Program, until, vphys};
use crate::rack::firmware;

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
        }
    });
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

/// Asked to end, it takes QEMU with it.
#[test]
fn nothing_is_left_behind() {
    in_namespace("demo::nothing_is_left_behind", || {
        let folder = Folder::new();
        let machine = Machine::QemuAarch64;
        let mut command = demo(machine);
        command.arg("--firmware").arg(firmware(machine)).env("TMPDIR", folder.path(""));
        command.args(["--interface", "vphys%d"]).stdout(Stdio::null());
        let is_empty = || std::fs::read_dir(folder.path("")).unwrap().next().is_none();
        let mut program = Program::start(&mut command);
        until("the demo's folder", || !is_empty());
        program.signal(Signal::SIGINT);
        assert_eq!(program.end().code(), Some(128 + Signal::SIGINT as i32));
        assert!(is_empty(), "its folder is gone");
        let ours = folder.path("").to_str().unwrap().to_owned();
        let left = std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
            std::fs::read(process.path().join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&ours))
        });
        assert!(!left, "QEMU lives on");
    });
}
