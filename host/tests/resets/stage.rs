//! A daemon and its board, each a process of its own, and what can be asked of them.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::{Folder, Program, board, until, vphys};

/// Both programs, and where they meet.
pub(crate) struct Stage {
    folder: Folder,
    /// Tells the interfaces and networks of several stages apart.
    number: u8,
    pub(crate) daemon: Option<Program>,
    pub(crate) board: Option<Program>,
}

impl Stage {
    /// The configuration of one board with these keys more; nothing runs.
    pub(crate) fn new(number: u8, keys: &str) -> Self {
        let folder = Folder::new();
        let text = format!(
            "[daemon]\nsocket = {:?}\nlog = \"warn\"\n\n[[board]]\nname = \"b0\"\n\
             bus = \"ivshmem\"\nsocket = {:?}\ninterface = \"vphys{number}\"\n\
             addresses = [\"10.77.{number}.1/24\"]\n{}\n",
            folder.path("control"),
            folder.path("board"),
            keys.replace("FOLDER", folder.path("").to_str().unwrap()),
        );
        fs::write(folder.path("daemon.toml"), text).unwrap();
        Self { folder, number, daemon: None, board: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    pub(crate) fn start_board(&mut self) {
        let address = format!("10.77.{}.2/24", self.number);
        self.board = Some(board(&self.path("board"), &["--address", &address]));
    }

    pub(crate) fn start_daemon(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        self.daemon = Some(Program::start(
            Command::new(env!("CARGO_BIN_EXE_virtio-physd"))
                .arg("--config")
                .arg(self.path("daemon.toml"))
                .stderr(log),
        ));
        let socket = self.path("control");
        until("the daemon's socket", || UnixStream::connect(&socket).is_ok());
    }

    pub(crate) fn signal_board(&self, signal: Signal) {
        self.board.as_ref().unwrap().signal(signal);
    }

    /// SIGKILL for the board's process.
    pub(crate) fn kill_board(&mut self) {
        let mut board = self.board.take().unwrap();
        board.signal(Signal::SIGKILL);
        board.end();
    }

    /// SIGKILL for the daemon.
    pub(crate) fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::SIGKILL);
        daemon.end();
    }

    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = vphys()
            .args(arguments)
            .arg("--socket")
            .arg(self.path("control"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `vphys status` says of the board.
    pub(crate) fn status(&self) -> Value {
        let all: Value = serde_json::from_str(&self.ask(&["status", "--json"])).unwrap();
        all["boards"][0].clone()
    }

    pub(crate) fn sessions(&self) -> u64 {
        self.status()["sessions"].as_u64().unwrap()
    }

    /// Waits until the link is up, for at least so many times. A daemon waits
    /// longer after each session that it lost early: the operator, who knows
    /// that the board is there again, asks for a reset instead of waiting.
    pub(crate) fn up(&self, sessions: u64) {
        until(&format!("session {sessions}"), || {
            let status = self.status();
            if status["retry_in_ms"].as_u64().is_some_and(|ms| ms > 1_000) {
                self.ask(&["reset", "b0"]);
            }
            status["state"] == "up" && status["sessions"].as_u64().unwrap() >= sessions
        });
    }

    /// Whoever is asked to end does so in order, and nobody has panicked: the
    /// daemons' log.
    pub(crate) fn end(mut self) -> String {
        for program in [&mut self.daemon, &mut self.board].into_iter().flatten() {
            program.signal(Signal::SIGTERM);
            assert!(program.end().success());
        }
        let log = fs::read_to_string(self.path("log")).unwrap();
        assert!(!log.contains("panicked"), "{log}");
        log
    }
}
