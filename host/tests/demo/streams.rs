//! Where the output goes: nowhere, into a full file, to a terminal.

use std::fs::File;
use std::process::Stdio;

use nix::pty::openpty;

use crate::run::{Tun, lines, nothing_is_left, staged, start};

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

#[test]
fn nobody_reads_the_result() {
    staged("streams::nobody_reads_the_result", Tun::Everybodys, |stage| {
        for json in ["", "--json"] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let mut demo = stage.demo(&format!("--seconds 0.05 {json}"));
            let ran = start(demo.stdout(writer), false).end();
            ran.refused(&["cannot write to standard output: Broken pipe"]);
        }
    });
}

#[test]
fn the_result_has_no_room() {
    staged("streams::the_result_has_no_room", Tun::Everybodys, |stage| {
        let ran = start(stage.demo("--seconds 0.05").stdout(full()), false).end();
        ran.refused(&["cannot write to standard output: No space left"]);
        let ran =
            start(stage.demo("--shell").env("SHELL", "/bin/true").stdout(full()), false).end();
        ran.refused(&["cannot write to standard output: No space left"]);
    });
}

#[test]
fn nobody_reads_the_messages() {
    staged("streams::nobody_reads_the_messages", Tun::Everybodys, |stage| {
        // A panic would be 101.
        for (arguments, code) in
            [("--seconds 0.05", 0), ("--mtu 0", 1), ("--board-fault version", 1)]
        {
            let mut demo = stage.demo(arguments);
            let status = demo.stdout(Stdio::null()).stderr(full()).status().unwrap();
            assert_eq!(status.code(), Some(code), "{arguments}");
            nothing_is_left();
        }
    });
}

#[test]
fn a_terminal_sees_a_bar() {
    staged("streams::a_terminal_sees_a_bar", Tun::Everybodys, |stage| {
        let terminal = openpty(None, None).unwrap();
        let mut demo = stage.demo("--seconds 0.5");
        demo.env("TERM", "xterm").stdout(Stdio::null()).stderr(terminal.slave);
        let mut child = demo.spawn().unwrap();
        // The last copy of the terminal's other end but the program's.
        drop(demo);
        let seen = lines(File::from(terminal.master)).join("\n");
        assert!(child.wait().unwrap().success(), "{seen}");
        assert!(seen.contains("TCP to the board [") && seen.contains(" %"), "{seen:?}");
        assert!(seen.contains("all accounted for"), "{seen:?}");
    });
}
