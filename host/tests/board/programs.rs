//! The program as its user sees it.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::process::{Folder, Program, board, until, vphys};

fn refused(arguments: &[&str]) -> String {
    let output = vphys().arg("board").args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn whoever_ends_it_finds_the_socket_gone() {
    let folder = Folder::new();
    let socket = folder.path("socket");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut process = board(&socket, &[]);
        process.signal(signal);
        assert!(process.end().success(), "{signal}");
        assert!(!socket.exists(), "{signal}");
    }
}

#[test]
fn a_dead_boards_socket_is_replaced_and_a_live_ones_is_not() {
    let folder = Folder::new();
    let socket = folder.path("socket");
    let mut first = board(&socket, &[]);
    let text = refused(&["--socket", socket.to_str().unwrap()]);
    assert!(text.contains("is served already: stop the other board"), "{text}");
    first.signal(Signal::SIGKILL);
    first.end();
    assert!(socket.exists());
    let mut second = board(&socket, &[]);
    second.signal(Signal::SIGTERM);
    assert!(second.end().success());
}

#[test]
fn a_stopped_boards_socket_is_not_taken() {
    let folder = Folder::new();
    let socket = folder.path("socket");
    let first = board(&socket, &[]);
    first.signal(Signal::SIGSTOP);
    until("it stands still", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", first.pid())).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    });
    // However many ask.
    for _ in 0..20 {
        let text = refused(&["--socket", socket.to_str().unwrap()]);
        assert!(text.contains("is served already"), "{text}");
    }
    first.signal(Signal::SIGCONT);
}

#[test]
fn refusals_say_what_to_do() {
    let folder = Folder::new();
    let file = folder.path("file");
    fs::write(&file, "").unwrap();
    let socket = folder.path("socket");
    let socket = socket.to_str().unwrap();
    let missing = folder.path("missing/socket");
    for (arguments, text) in [
        (&["--socket", file.to_str().unwrap()][..], "is no socket: choose another name"),
        (&["--socket", missing.to_str().unwrap()], "No such file or directory"),
        (&["--socket", socket, "--memory", "3"], "a power of two from 1 MiB"),
        (&["--socket", socket, "--memory", "0"], "a power of two from 1 MiB"),
        (&["--socket", socket, "--memory", "18446744073709551615"], "more than there can be"),
        (&["--socket", socket, "--name", ""], "1 to 32 printable ASCII"),
        (&["--socket", socket, "--name", "\u{7}"], "1 to 32 printable ASCII"),
        (&["--socket", socket, "--address", "10.0.0.2"], "a prefix length is missing"),
        (&["--socket", socket, "--address", "10.0.0.2/33"], "0 to 32"),
        (
            &["--socket", socket, "--address", "10.0.0.2/8", "--address", "10.0.0.3/8"],
            "the second of its kind",
        ),
        (&["--socket", socket, "--number", "256"], "256"),
        (&[], "--socket <PATH>"),
    ] {
        let said = refused(arguments);
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
    assert!(fs::read_dir(folder.path("")).unwrap().count() == 1, "nothing is left behind");
}

#[test]
fn nobody_need_read_what_it_says() {
    let folder = Folder::new();
    let socket = folder.path("socket");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut process = Program::start(vphys().args(["board", "--socket"]).arg(&socket).stderr(full));
    until("its socket", || socket.exists());
    process.signal(Signal::SIGTERM);
    assert!(process.end().success());
}
