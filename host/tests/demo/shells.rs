//! `--shell`: the board answers whoever is in the namespace.

use std::env;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::run::{FOLDER, Going, Ran, Stage, Tun, processes, staged, start};

/// Set for the shell that is this test program.
const INSIDE: &str = "VPHYS_TEST_SHELL";

/// Runs the demo with a shell that does these things.
fn shell(stage: &Stage, script: &str) -> Going {
    // Beside the working folder, which is to be empty.
    let path = Path::new(FOLDER).join("shell");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    start(stage.demo("--shell").env("SHELL", path), true)
}

#[track_caller]
fn welcomes(ran: &Ran) {
    for text in ["10.77.0.2", "fd77::2", "vphys0", "curl http://10.77.0.2/", "ping 10.77.0.2"] {
        assert!(ran.out.contains(text), "{text}: {ran:#?}");
    }
}

#[test]
fn the_board_answers_a_shell() {
    if env::var_os(INSIDE).is_some() {
        return ask_the_board();
    }
    staged("shells::the_board_answers_a_shell", Tun::Everybodys, |stage| {
        let me = env::current_exe().unwrap();
        let again = format!(
            "{INSIDE}=yes exec {} shells::the_board_answers_a_shell --exact --nocapture",
            me.display()
        );
        let ran = shell(stage, &again).end();
        welcomes(ran.went_well());
        assert!(ran.out.contains("1 passed") && ran.out.contains("discard_bytes"), "{ran:#?}");
    });
}

/// In the shell: the status page, and an echo over IPv6.
fn ask_the_board() {
    let mut page = String::new();
    let mut stream = TcpStream::connect("10.77.0.2:80").unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.0 200"), "{page}");
    println!("{page}");
    let mut stream = TcpStream::connect("[fd77::2]:7").unwrap();
    let mut back = [0; 5];
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
}

#[test]
fn its_exit_status_is_the_demos() {
    staged("shells::its_exit_status_is_the_demos", Tun::Everybodys, |stage| {
        for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
            let ran = shell(stage, script).end();
            assert_eq!(ran.code, Some(status), "{script}: {ran:#?}");
            welcomes(&ran);
        }
    });
}

#[test]
fn no_such_shell() {
    staged("shells::no_such_shell", Tun::Everybodys, |stage| {
        let ran = start(stage.demo("--shell").env("SHELL", "/no/such/shell"), true).end();
        ran.refused(&["cannot start the shell /no/such/shell (set SHELL to another one)"]);
    });
}

#[test]
fn signals_while_a_shell_runs() {
    staged("shells::signals_while_a_shell_runs", Tun::Everybodys, |stage| {
        // Ctrl-C is the shell's own affair.
        let mut demo = shell(stage, "echo ready >&2; exec sleep 100");
        demo.says("ready").signal(Signal::SIGINT).signal(Signal::SIGTERM);
        let ran = demo.end();
        assert_eq!(ran.code, Some(143), "{ran:#?}");
        ran.said(&["ended by SIGTERM"]);
    });
}

/// As under `nohup`.
#[test]
fn a_shell_that_does_not_heed_its_terminals_end() {
    staged("shells::a_shell_that_does_not_heed_its_terminals_end", Tun::Everybodys, |stage| {
        let mut demo = shell(stage, "trap '' HUP; echo ready >&2; exec sleep 1000");
        demo.says("ready").signal(Signal::SIGTERM);
        let ran = demo.end();
        assert_eq!(ran.code, Some(143), "{ran:#?}");
        ran.said(&["ended by SIGTERM"]);
    });
}

#[test]
fn a_signal_while_the_shell_starts() {
    staged("shells::a_signal_while_the_shell_starts", Tun::Everybodys, |stage| {
        for _ in 0..10 {
            let ran = shell(stage, "kill -TERM $PPID; exec sleep 100").end();
            assert_eq!(ran.code, Some(143), "{ran:#?}");
            ran.said(&["ended by SIGTERM"]);
        }
    });
}

#[test]
fn a_shell_is_not_deaf_to_signals() {
    staged("shells::a_shell_is_not_deaf_to_signals", Tun::Everybodys, |stage| {
        // Unlike many a shell it leaves the signals as it finds them.
        let mut demo = stage.demo("--shell");
        let mut demo = start(demo.env("SHELL", "/bin/cat").stdin(Stdio::piped()), true);
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            let status = processes().into_iter().find_map(|process| {
                let name = fs::read_to_string(process.join("comm")).ok()?;
                (name == "cat\n").then(|| fs::read_to_string(process.join("status")).unwrap())
            });
            match status {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "no shell was started"),
            }
            std::thread::yield_now();
        };
        assert!(status.contains("SigBlk:\t0000000000000000\n"), "{status}");
        demo.hang_up();
        demo.end().went_well();
    });
}
