//! `vphys status`, `stats`, `features` and `reset`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::run::{Tun, root, run, staged};
use crate::setting::{asked, b0, empty_slot, refused, running, socket, vphys};

fn two() -> String {
    format!("{}{}", b0(""), empty_slot("left", "vphys1", ""))
}

fn json(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_daemon_whose_boards_are_not_there() {
    staged("asking::a_daemon_whose_boards_are_not_there", Tun::Everybodys, |stage| {
        let mut going = running(stage, &two());
        // The other one may be the first to fail.
        going.says("WARN  b0: ");
        let status = asked(stage, "status");
        let lines: Vec<_> = status.lines().collect();
        assert!(lines[0].starts_with("BOARD  INTERFACE  LINK "), "{status}");
        assert!(lines[1].starts_with("b0     vphys0     "), "{status}");
        assert!(lines[2].starts_with("left   vphys1     "), "{status}");
        let status = json(&asked(stage, "status --json"));
        assert_eq!(status["boards"][0]["name"], "b0");
        assert_eq!(status["boards"][1]["interface"], "vphys1");
        assert_eq!(status["boards"][0]["sessions"], 0);
        assert!(["waiting", "attaching"].contains(&status["boards"][0]["state"].as_str().unwrap()));
        let failure = status["boards"][0]["last_failure"].as_str().unwrap();
        assert!(failure.contains("no control block"), "{failure}");
        let stats = asked(stage, "stats");
        assert!(stats.contains("b0 (vphys0)") && stats.contains("left (vphys1)"), "{stats}");
        assert!(stats.contains("\n  frames ") && stats.contains("\n  completion polled "));
        let stats = json(&asked(stage, "stats --json"));
        assert_eq!(stats["boards"][1]["to_host"]["frames"], 0);
        let text = refused(stage, "features b0");
        assert_eq!(
            text,
            "vphys: the board b0 has not been attached yet: `vphys status` says why\n"
        );
        for command in ["features", "reset"] {
            let text = refused(stage, &format!("{command} right"));
            assert_eq!(text, "vphys: there is no board right: choose one of b0, left\n");
        }
        assert!(asked(stage, "reset left").starts_with("left: reset asked for; `vphys status`"));
        going.signal(Signal::SIGTERM);
        going.end().went_well();
    });
}

#[test]
fn a_watch_until_it_is_interrupted() {
    staged("asking::a_watch_until_it_is_interrupted", Tun::Everybodys, |stage| {
        let mut going = running(stage, &b0(""));
        let mut command = vphys(stage, "stats --watch --json --interval 0.1");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..3 {
            let stats = json(&lines.next().unwrap().unwrap());
            assert_eq!(stats["boards"][0]["name"], "b0");
        }
        // Nobody reads it any more: it ends by itself, and without a word.
        drop(lines);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let mut command = vphys(stage, "stats --watch --interval 0.1");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let head = lines.next().unwrap().unwrap();
        assert!(head.starts_with("BOARD    to board/s"), "{head}");
        assert!(lines.next().unwrap().unwrap().starts_with("b0 "));
        // The daemon's end is one too.
        going.signal(Signal::SIGTERM);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        going.end().went_well();
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(err.starts_with("vphys: the daemon hung up"), "{err}");
    });
}

#[test]
fn nobody_reads_the_answer() {
    staged("asking::nobody_reads_the_answer", Tun::Everybodys, |stage| {
        let mut going = running(stage, &b0(""));
        for command in ["status", "stats", "status --json", "stats --json", "reset b0"] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let output = vphys(stage, command).stdout(writer).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{command}: {output:?}");
            let full = File::options().write(true).open("/dev/full").unwrap();
            let output = vphys(stage, command).stdout(full).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{command}");
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(text.starts_with("vphys: cannot write to standard output: No space"), "{text}");
        }
        going.signal(Signal::SIGTERM);
        going.end().went_well();
    });
}

#[test]
fn no_daemon() {
    staged("asking::no_daemon", Tun::Everybodys, |stage| {
        for command in ["status", "stats --watch", "features b0", "reset b0"] {
            let ran = run(&mut vphys(stage, command));
            ran.refused(&["no daemon answers on ", "No such file", "Start virtio-physd, or name"]);
        }
        let mut command = stage.program("vphys", "status");
        let ran = run(command.env("VIRTIO_PHYSD_SOCKET", "/nowhere/x.sock"));
        ran.refused(&["no daemon answers on /nowhere/x.sock"]);
        let mut command = stage.program("vphys", "status");
        command.env_remove("VIRTIO_PHYSD_SOCKET");
        run(&mut command).refused(&["no daemon answers on /run/virtio-phys/control.sock: "]);
        for (command, text) in [
            ("status extra", "unexpected argument 'extra'"),
            ("features", "required arguments were not provided:\n  <BOARD>"),
            ("stats --interval 0", "choose a number from 0.1 to 3600"),
        ] {
            let ran = run(&mut stage.program("vphys", command));
            assert_eq!(ran.code, Some(2), "{ran:#?}");
            ran.said(&[text]);
        }
    });
}

#[test]
fn a_daemon_that_answers_something_else() {
    staged("asking::a_daemon_that_answers_something_else", Tun::Everybodys, |stage| {
        for (command, answer) in [
            ("status", r#"{"version":1,"answer":"reset-asked"}"#),
            ("stats", r#"{"version":1,"answer":"status","boards":[]}"#),
            ("features b0", r#"{"version":1,"answer":"reset-asked"}"#),
            ("reset b0", r#"{"version":1,"answer":"stats","boards":[]}"#),
        ] {
            let thread = answering(answer);
            assert_eq!(
                refused(stage, command),
                "vphys: the daemon answers another question than this one. Is it virtio-physd?\n"
            );
            thread.join().unwrap();
            std::fs::remove_file(socket()).unwrap();
        }
    });
}

/// Somebody at the control socket who gives one client this answer.
fn answering(answer: &'static str) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket()).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut frame = u32::try_from(answer.len()).unwrap().to_le_bytes().to_vec();
        frame.extend_from_slice(answer.as_bytes());
        stream.write_all(&frame).unwrap();
        let _ = stream.read(&mut [0; 512]);
    })
}

#[test]
fn a_daemon_of_another_version() {
    staged("asking::a_daemon_of_another_version", Tun::Everybodys, |stage| {
        let thread = answering(r#"{"version":2,"answer":"all-new"}"#);
        let text = refused(stage, "status");
        thread.join().unwrap();
        std::fs::remove_file(socket()).unwrap();
        assert!(text.contains("the daemon speaks version 2 of the control protocol"), "{text}");
        assert!(text.contains("use the vphys that came with the daemon"), "{text}");
    });
}

#[test]
fn somebody_else_may_not_ask() {
    staged("asking::somebody_else_may_not_ask", Tun::Everybodys, |stage| {
        if !root() {
            return eprintln!("asking::somebody_else_may_not_ask left out: this is not root");
        }
        // Nobody is in no group of root's.
        let mut going = running(stage, &b0(""));
        let text = refused(&stage.as_nobody(), "status");
        assert!(text.starts_with("vphys: no permission to use /"), "{text}");
        assert!(text.contains("a member of the socket's group (daemon.socket_group)"), "{text}");
        going.signal(Signal::SIGTERM);
        going.end().went_well();
    });
}
