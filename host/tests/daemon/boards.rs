//! A board process that the daemon attaches to, loses and finds again, and what
//! `vphys` says meanwhile.

use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::run::{FOLDER, Going, NOBODY, Stage, Tun, as_nobody, staged, start, work};
use crate::setting::{asked, configure, daemon, empty_slot, refused, running};

/// Nothing that is waited for takes this long: then it hangs.
const HANGS: Duration = Duration::from_secs(60);

/// A board, which is killed with its handle.
pub(crate) struct BoardProcess(Child);

impl BoardProcess {
    pub(crate) fn start(stage: &Stage, socket: &Path) -> Self {
        let arguments = format!("board --socket {} --name demo", socket.display());
        let mut command = stage.program("vphys", &arguments);
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for BoardProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The board's socket, which a killed one leaves behind.
pub(crate) fn socket() -> PathBuf {
    Path::new(FOLDER).join("b0.sock")
}

fn board_at(socket: &Path, keys: &str) -> String {
    format!(
        "[[board]]\nname = \"b0\"\nbus = \"ivshmem\"\nsocket = \"{}\"\ninterface = \"vphys0\"\n\
         {keys}\n",
        socket.display()
    )
}

pub(crate) fn b0(keys: &str) -> String {
    board_at(&socket(), keys)
}

/// What `vphys status --json` says of the one board.
fn status(stage: &Stage) -> Value {
    let status: Value = serde_json::from_str(&asked(stage, "status --json")).unwrap();
    status["boards"][0].clone()
}

/// Waits until the status is as it should be.
#[track_caller]
pub(crate) fn until(stage: &Stage, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + HANGS;
    loop {
        let status = status(stage);
        if holds(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{what} does not come: {status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the link is up, for at least so many times: on a busy machine a
/// board may have missed a heartbeat as well.
#[track_caller]
pub(crate) fn up(stage: &Stage, sessions: u64) -> Value {
    until(stage, &format!("session {sessions}"), |status| {
        status["state"] == "up" && status["sessions"].as_u64() >= Some(sessions)
    })
}

/// The link is up in the session that `up` found, and in no later one.
#[track_caller]
pub(crate) fn is_still_up(stage: &Stage, then: &Value) {
    let now = status(stage);
    let link = |status: &Value| (status["state"].clone(), status["sessions"].clone());
    assert_eq!(link(&now), link(then), "{now}");
}

#[test]
fn a_board_that_comes_and_goes() {
    staged("boards::a_board_that_comes_and_goes", Tun::Everybodys, |stage| {
        let mut going = running(stage, &b0("features = { without = [\"EVENT_IDX\"] }"));
        let waiting = until(stage, "a failure", |status| status["failures"] != 0);
        assert!(waiting["last_failure"].as_str().unwrap().contains("start the board"));
        let board = BoardProcess::start(stage, &socket());
        let first = up(stage, 1);
        assert_eq!(first["board"]["name"], "demo");
        assert!(asked(stage, "status").contains("  demo "));
        let features = asked(stage, "features b0");
        let row = |name: &str| -> Vec<&str> {
            let row = features.lines().find(|line| line.starts_with(name)).unwrap();
            row.split_whitespace().skip(1).collect()
        };
        assert_eq!(row("VERSION_1 "), ["yes", "-", "yes"], "{features}");
        assert_eq!(row("EVENT_IDX "), ["yes", "yes", "-"], "{features}");
        let features: Value = serde_json::from_str(&asked(stage, "features b0 --json")).unwrap();
        assert_eq!(features["masked"], serde_json::json!(["EVENT_IDX"]));
        asked(stage, "reset b0");
        up(stage, 2);
        drop(board);
        let gone = until(stage, "the loss", |status| status["state"] != "up");
        assert!(gone["last_failure"].is_string(), "{gone}");
        let board = BoardProcess::start(stage, &socket());
        up(stage, 3);
        going.signal(Signal::SIGTERM).says("b0: let go of");
        drop(board);
        going.end().went_well();
    });
}

#[test]
fn addresses_change_while_the_link_is_up() {
    staged("boards::addresses_change_while_the_link_is_up", Tun::Everybodys, |stage| {
        let with = |addresses: &str| b0(&format!("addresses = [{addresses}]"));
        let has = |address: &str| UdpSocket::bind((address, 0)).is_ok();
        let mut going = running(stage, &with("\"10.77.0.1/24\", \"10.78.0.1/24\""));
        let board = BoardProcess::start(stage, &socket());
        let link = up(stage, 1);
        let wait = |what: &str, holds: &dyn Fn() -> bool| {
            let deadline = Instant::now() + HANGS;
            while !holds() {
                assert!(Instant::now() < deadline, "{what} does not come");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        wait("the first addresses", &|| has("10.77.0.1") && has("10.78.0.1"));
        configure(&with("\"10.77.0.1/24\", \"10.79.0.1/24\""));
        going.signal(Signal::SIGHUP).says("0 added, 0 removed, 1 changed");
        wait("the new address", &|| has("10.79.0.1") && !has("10.78.0.1"));
        assert!(has("10.77.0.1"));
        // The link never noticed.
        is_still_up(stage, &link);
        going.signal(Signal::SIGTERM).says("b0: let go of");
        drop(board);
        going.end().went_well();
    });
}

#[test]
fn a_dead_board_holds_nobody_up() {
    staged("boards::a_dead_board_holds_nobody_up", Tun::Everybodys, |stage| {
        let mut going = running(stage, &b0(""));
        let board = BoardProcess::start(stage, &socket());
        up(stage, 1);
        board.signal(Signal::SIGSTOP);
        let dead = until(stage, "the loss", |status| status["state"] != "up");
        assert!(dead["last_failure"].as_str().unwrap().contains("heartbeat stands still"));
        for command in ["status", "stats", "features b0", "reset b0"] {
            asked(stage, command);
        }
        let text = asked(stage, "status");
        assert!(text.contains("b0: ") && text.contains("heartbeat"), "{text}");
        // It comes back when the board does.
        board.signal(Signal::SIGCONT);
        up(stage, 2);
        // One that hangs at the end is left: a second signal waits for nobody.
        board.signal(Signal::SIGSTOP);
        going.signal(Signal::SIGTERM).says("ending, asked by SIGTERM").signal(Signal::SIGINT);
        going.says(
            "ended hard by a second signal, SIGINT: b0 has not let go yet and will find out alone",
        );
        drop(board);
        let ran = going.end();
        assert_eq!(ran.code, Some(1), "{ran:#?}");
    });
}

/// Takes the board `b0` out of the configuration while it stands still, so that
/// it takes seconds to let go, and waits until it is about to.
fn taken_out_while_it_stands_still(stage: &Stage, going: &mut Going) -> BoardProcess {
    let board = BoardProcess::start(stage, &socket());
    up(stage, 1);
    configure(&empty_slot("b1", "vphys1", ""));
    board.signal(Signal::SIGSTOP);
    going.signal(Signal::SIGHUP);
    let stopping = |status: &Value| status["name"] == "b0" && status["state"] == "stopping";
    until(stage, "the board's stop", stopping);
    board
}

#[test]
fn a_board_is_seen_to_stop_and_the_end_does_not_wait_for_a_reload() {
    let name = "boards::a_board_is_seen_to_stop_and_the_end_does_not_wait_for_a_reload";
    staged(name, Tun::Everybodys, |stage| {
        let mut going = running(stage, &b0(""));
        let board = taken_out_while_it_stands_still(stage, &mut going);
        assert_eq!(
            refused(stage, "reset b0"),
            "vphys: the board b0 is being let go of: it is not attached again\n"
        );
        going.signal(Signal::SIGTERM).says("ending, asked by SIGTERM");
        // Also now that all of them stop.
        assert_eq!(status(stage)["state"], "stopping");
        drop(board);
        let ran = going.end();
        ran.went_well();
        assert!(!ran.err.contains("ended hard"), "{ran:#?}");
        assert!(!ran.err.contains("looking for the board of vphys1"), "{ran:#?}");
    });
}

#[test]
fn a_signal_to_read_again_while_it_reads_is_not_lost() {
    let name = "boards::a_signal_to_read_again_while_it_reads_is_not_lost";
    staged(name, Tun::Everybodys, |stage| {
        let mut going = running(stage, &b0(""));
        let board = taken_out_while_it_stands_still(stage, &mut going);
        configure(&empty_slot("b2", "vphys2", ""));
        going.signal(Signal::SIGHUP);
        drop(board);
        going.says("b1: looking for the board of vphys1");
        going.says("b2: looking for the board of vphys2").says("1 added, 1 removed, 0 changed");
        going.signal(Signal::SIGTERM);
        going.end().went_well();
    });
}

#[test]
fn too_little_lockable_memory() {
    as_nobody("boards::too_little_lockable_memory", Tun::Everybodys, |stage| {
        let socket = work().join("b0.sock");
        let board = BoardProcess::start(stage, &socket);
        if Command::new("unshare").arg("--version").output().is_err() {
            drop(board);
            std::fs::remove_file(&socket).unwrap();
            return eprintln!("boards::too_little_lockable_memory left out: no `unshare`");
        }
        // Root of a namespace of its own, and nobody outside: it may make
        // interfaces there, and lock no more than others.
        let daemon = daemon(stage, &board_at(&socket, ""));
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net"]).arg(daemon.get_program());
        command.args(daemon.get_args()).current_dir(work()).stdin(Stdio::null());
        command.uid(NOBODY).gid(NOBODY).env_remove("RUST_LOG");
        let (_, most) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
        setrlimit(Resource::RLIMIT_MEMLOCK, 16 << 10, most).unwrap();
        let mut going = start(&mut command, true);
        going.says("too little lockable memory").says("`ulimit -l ").signal(Signal::SIGTERM);
        going.says("b0: let go of");
        drop(board);
        std::fs::remove_file(&socket).unwrap();
        going.end().went_well();
    });
}
