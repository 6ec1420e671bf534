//! The real daemon and a board in another process, over a real interface:
//! either is killed, stopped, or starts over, again and again, and traffic
//! flows again each time.
#![cfg(feature = "emulated-board")]

#[path = "../board/process.rs"]
mod process;
mod survivor;
#[path = "../board/traffic.rs"]
mod traffic;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use serde_json::Value;
use virtio_phys_host::namespace::in_namespace;

use process::{Folder, Program, board, until, vphys};
use survivor::Survivor;
use traffic::echo;

/// What happens in a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blow {
    /// SIGKILL for the daemon, and a new one.
    DaemonKilled,
    /// The board starts over by itself.
    BoardReboots,
    /// The operator has the board reset.
    BoardReset,
    /// SIGKILL for the board's process, and a new one.
    BoardKilled,
    /// SIGSTOP for the board's process, until it counts as dead.
    BoardStopped,
}

/// Ten rounds. A daemon waits longer after each session that it lost early, so
/// none sees more than two of them.
const ROUNDS: [Blow; 10] = [
    Blow::BoardReboots,
    Blow::BoardReset,
    Blow::DaemonKilled,
    Blow::BoardKilled,
    Blow::BoardReboots,
    Blow::DaemonKilled,
    Blow::DaemonKilled,
    Blow::BoardStopped,
    Blow::BoardReset,
    Blow::DaemonKilled,
];

/// All that a round is about.
struct Stage {
    folder: Folder,
    daemon: Program,
    board: Program,
}

impl Stage {
    fn new() -> Self {
        let folder = Folder::new();
        fs::write(folder.path("daemon.toml"), configuration(&folder)).unwrap();
        // A view of this network namespace's interfaces, of this process's own.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let sys = folder.path("sys");
        fs::create_dir(&sys).unwrap();
        mount(Some("sysfs"), &sys, Some("sysfs"), MsFlags::empty(), none).unwrap();
        let board = board(&folder.path("board"), &[]);
        let daemon = start_daemon(&folder);
        Self { folder, daemon, board }
    }

    /// What the kernel says of the interface; `None` without one.
    fn interface(&self, what: &str) -> Option<u64> {
        let file = self.folder.path("sys/class/net/vphys0").join(what);
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = vphys()
            .args(arguments)
            .arg("--socket")
            .arg(self.folder.path("control"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `vphys status` says of the board.
    fn status(&self) -> Value {
        let all: Value = serde_json::from_str(&self.ask(&["status", "--json"])).unwrap();
        all["boards"][0].clone()
    }

    fn sessions(&self) -> u64 {
        self.status()["sessions"].as_u64().unwrap()
    }

    /// Waits until the link is up, for at least so many times.
    fn up(&self, sessions: u64) {
        until("the link is up", || {
            let status = self.status();
            status["state"] == "up" && status["sessions"].as_u64().unwrap() >= sessions
        });
    }

    fn round(&mut self, blow: Blow) {
        if blow == Blow::DaemonKilled {
            self.daemon.signal(Signal::SIGKILL);
            self.daemon.end();
            assert_eq!(self.interface("ifindex"), None, "its interface goes with it");
            self.daemon = start_daemon(&self.folder);
            self.up(1);
            return;
        }
        let before = (self.interface("ifindex"), self.interface("carrier_changes").unwrap());
        let sessions = self.sessions();
        match blow {
            Blow::DaemonKilled | Blow::BoardReboots => self.board.signal(Signal::SIGUSR1),
            Blow::BoardReset => drop(self.ask(&["reset", "b0"])),
            Blow::BoardKilled => {
                self.board.signal(Signal::SIGKILL);
                self.board.end();
                self.board = board(&self.folder.path("board"), &[]);
            }
            Blow::BoardStopped => {
                self.board.signal(Signal::SIGSTOP);
                // The daemon answers all the same, and says what is wrong.
                until("the loss of a board that stands still", || self.status()["state"] != "up");
                assert_eq!(self.interface("carrier"), Some(0));
                self.board.signal(Signal::SIGCONT);
            }
        }
        self.up(sessions + 1);
        assert!(before.0.is_some());
        assert_eq!(self.interface("ifindex"), before.0, "the interface stays");
        let changes = self.interface("carrier_changes").unwrap() - before.1;
        assert!(changes >= 2, "the carrier went down and up: {changes} changes");
        assert_eq!(self.interface("carrier"), Some(1));
    }
}

fn configuration(folder: &Folder) -> String {
    format!(
        "[daemon]\nsocket = {:?}\nlog = \"warn\"\n\n[[board]]\nname = \"b0\"\nbus = \"ivshmem\"\n\
         socket = {:?}\ninterface = \"vphys0\"\naddresses = [\"10.77.0.1/24\"]\n",
        folder.path("control"),
        folder.path("board")
    )
}

fn start_daemon(folder: &Folder) -> Program {
    let program = Program::start(
        Command::new(env!("CARGO_BIN_EXE_virtio-physd"))
            .arg("--config")
            .arg(folder.path("daemon.toml"))
            .stderr(
                fs::File::options().create(true).append(true).open(folder.path("log")).unwrap(),
            ),
    );
    until("the daemon's socket", || UnixStream::connect(folder.path("control")).is_ok());
    program
}

fn has_tun() -> bool {
    let there = Path::new("/dev/net/tun").exists();
    if !there {
        eprintln!("skipped: no /dev/net/tun");
    }
    there
}

/// Ten rounds, so many times over.
fn rounds(times: usize) {
    let mut stage = Stage::new();
    stage.up(1);
    echo(10, true);
    let mut survivors: Vec<Survivor> = Vec::new();
    for number in 0..times * ROUNDS.len() {
        let blow = ROUNDS[number % ROUNDS.len()];
        stage.round(blow);
        echo(10, true);
        let alive = [("daemon", &stage.daemon), ("board", &stage.board)];
        survivors.retain(|survivor| alive.iter().any(|(_, program)| survivor.is(program)));
        for (name, program) in alive {
            match survivors.iter().find(|survivor| survivor.is(program)) {
                Some(survivor) => survivor.has_not_grown(&format!("{name}, {blow:?}")),
                None => survivors.push(Survivor::new(program)),
            }
        }
        println!("round {number}: {blow:?}");
    }
    let log = fs::read_to_string(stage.folder.path("log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    // Whoever is asked to ends in order.
    stage.daemon.signal(Signal::SIGTERM);
    assert!(stage.daemon.end().success());
    assert_eq!(stage.interface("ifindex"), None);
    stage.board.signal(Signal::SIGTERM);
    assert!(stage.board.end().success());
}

#[test]
fn traffic_flows_again_ten_times() {
    in_namespace("traffic_flows_again_ten_times", || {
        if has_tun() {
            rounds(1);
        }
    });
}

#[test]
#[ignore = "takes half a minute"]
fn traffic_flows_again_fifty_times() {
    in_namespace("traffic_flows_again_fifty_times", || {
        if has_tun() {
            rounds(5);
        }
    });
}

/// With a link that is up and nothing to carry, neither process does anything.
#[test]
fn an_idle_link_takes_no_processor_time() {
    in_namespace("an_idle_link_takes_no_processor_time", || {
        if !has_tun() {
            return;
        }
        let stage = Stage::new();
        stage.up(1);
        echo(10, true);
        // The kernel's own neighbour discovery is over after some seconds.
        until("three seconds of at most two ticks", || {
            let ticks = || (stage.daemon.ticks(), stage.board.ticks());
            let before = ticks();
            std::thread::sleep(std::time::Duration::from_secs(3));
            let after = ticks();
            let (daemon, board) = (after.0 - before.0, after.1 - before.1);
            println!("three idle seconds: daemon {daemon} ticks, board {board} ticks");
            daemon <= 2 && board <= 2
        });
    });
}
