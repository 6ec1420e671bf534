//! `vphys ivshmem-server` as its user sees it: what it says, when it ends and
//! with which status, and that whatever a peer does the others go on.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::window::Window;
use virtio_phys_host::bus::ivshmem::{IvshmemBoard, IvshmemBus, IvshmemOptions};
use virtio_phys_host::bus::{Bus, Ring};

/// Nothing that is waited for takes this long: then it hangs.
const HANGS: Duration = Duration::from_secs(30);

/// A folder of a test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vphys-server-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }

    /// A peer that does not read for ever.
    fn peer(&self) -> UnixStream {
        let peer = UnixStream::connect(self.socket()).unwrap();
        peer.set_read_timeout(Some(HANGS)).unwrap();
        peer
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vphys"));
    command.arg("ivshmem-server").args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A server, killed with its handle.
struct Program {
    child: Child,
    says: BufReader<ChildStderr>,
}

impl Program {
    /// Starts it, and reads its first line.
    fn start(socket: &Path, arguments: &[&str]) -> (Self, String) {
        let mut command = command(arguments);
        let mut child = command.arg("--socket").arg(socket).stderr(Stdio::piped()).spawn().unwrap();
        let says = BufReader::new(child.stderr.take().unwrap());
        let mut program = Self { child, says };
        let first = program.line();
        (program, first)
    }

    /// Its next line.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + HANGS;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None => assert!(Instant::now() < deadline, "the server does not end"),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number that a server greets with.
fn greeted(peer: &mut UnixStream) -> i64 {
    let mut bytes = [[0; 8]; 2];
    for part in &mut bytes {
        peer.read_exact(part).unwrap();
    }
    assert_eq!(i64::from_le_bytes(bytes[0]), 0, "the version");
    i64::from_le_bytes(bytes[1])
}

#[test]
fn it_says_when_it_listens_and_ends_when_it_is_asked() {
    let folder = Folder::new();
    let socket = folder.socket();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let (mut server, said) = Program::start(&socket, &["--size", "2M", "--vectors", "7"]);
        assert!(said.contains(socket.to_str().unwrap()), "{said}");
        assert!(said.contains("2048 KiB in small pages, 7 vectors") && said.contains("vectors=7"));
        // It listens by now.
        let mut peer = folder.peer();
        assert_eq!(greeted(&mut peer), 0);
        server.signal(signal);
        assert_eq!(server.end().code(), Some(0), "{signal}");
        assert!(!socket.exists(), "{signal}");
    }
}

#[test]
fn who_comes_and_goes_is_said_and_not_without_end() {
    let folder = Folder::new();
    let (mut server, _) = Program::start(&folder.socket(), &["--peers", "2"]);
    let mut first = folder.peer();
    assert_eq!(greeted(&mut first), 0);
    let said = server.line();
    let process = std::process::id();
    assert!(said.contains(&format!("peer 0 (process {process}) came: 1 of 2")), "{said}");
    let mut second = folder.peer();
    assert_eq!(greeted(&mut second), 1);
    assert!(server.line().contains("peer 1 "));
    let mut third = folder.peer();
    assert_eq!(third.read(&mut [0; 8]).unwrap(), 0, "there is room for two");
    let said = server.line();
    assert!(said.contains("refused: 2 peers are there already"), "{said}");
    second.write_all(b"hello").unwrap();
    let said = server.line();
    assert!(said.contains("peer 1 is let go: it sends"), "{said}");
    for _ in 0..1000 {
        // The place of the one before becomes free in the server's own time.
        let mut peer = folder.peer();
        let heard = peer.read(&mut [0; 8]);
        assert!(heard.is_ok(), "the server waits for somebody: {heard:?}");
    }
    drop(first);
    server.signal(Signal::SIGTERM);
    assert!(server.end().success());
    let mut rest = String::new();
    server.says.read_to_string(&mut rest).unwrap();
    let lines = rest.lines().count();
    assert!((2..=30).contains(&lines), "{lines} lines:\n{rest}");
    assert!(rest.contains("has gone: 1 left"), "{rest}");
}

/// A board and a host go on, whoever comes and goes beside them.
#[test]
fn a_board_and_a_host_do_not_notice_the_others() {
    let folder = Folder::new();
    let socket = folder.socket();
    let (_server, _) = Program::start(&socket, &["--size", "4M"]);
    let board = IvshmemBoard::connect(&socket, 3, HANGS).unwrap();
    let mut bus =
        IvshmemBus::connect(IvshmemOptions { patience: HANGS, ..IvshmemOptions::new(&socket) })
            .unwrap();
    let bar = bus.bar(0, StoreWidth::Bits64).unwrap();
    let bell = bus.doorbell(&board.doorbells(), 1).unwrap();
    let shared = bus.share(4096, Rights::READ_WRITE).unwrap();
    let there = board.outbound(shared.iova, 4096).unwrap();
    for round in 0..50_u32 {
        let mut stranger = folder.peer();
        // It leaves behind so many bytes of the greeting, or speaks.
        let mut some = vec![0; round as usize % 24];
        stranger.read_exact(&mut some).unwrap();
        if round % 3 == 0 {
            let _ = stranger.write_all(b"bad message");
        }
        drop(stranger);
        board.memory(4096, 8).unwrap().store(0, round);
        assert_eq!(bar.load::<u32>(4096), round);
        there.store(8, round);
        assert_eq!(shared.window.load::<u32>(8), round);
        bell.ring();
        let deadline = Instant::now() + HANGS;
        while board.take_doorbells() != 0b10 {
            assert!(Instant::now() < deadline, "a doorbell got lost");
        }
        // The server still knows both, and tells them of each other.
        assert!(board.is_connected(), "the board was let go");
        bus.doorbell(&board.doorbells(), 2).unwrap();
    }
}

fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn refusals_say_what_to_do() {
    let folder = Folder::new();
    let file = folder.0.join("file");
    fs::write(&file, "").unwrap();
    let socket = folder.socket();
    let socket = socket.to_str().unwrap();
    let missing = folder.0.join("missing/socket");
    for (arguments, status, text) in [
        (&[][..], 2, "--socket <PATH>"),
        (&["--socket", socket, "--size", "64MB"], 2, "such as 64M"),
        (&["--socket", socket, "--size", "3M"], 2, "a power of two from 1M to 1T"),
        (&["--socket", socket, "--size", "2T"], 2, "a power of two from 1M to 1T"),
        (&["--socket", socket, "--vectors", "0"], 2, "0 is not in 1..=64"),
        (&["--socket", socket, "--vectors", "65"], 2, "65 is not in 1..=64"),
        (&["--socket", socket, "--peers", "65"], 2, "65 is not in 1..=64"),
        (&["--socket", socket, "--size", "1M", "--hugepages"], 1, "less than one huge page"),
        (&["--socket", socket, "--size", "1T", "--hugepages"], 1, "sysctl vm.nr_hugepages="),
        (&["--socket", file.to_str().unwrap()], 1, "is no socket: choose another name"),
        (&["--socket", missing.to_str().unwrap()], 1, "No such file or directory"),
    ] {
        let (code, said) = refused(arguments);
        assert!(said.contains(text), "{arguments:?}: {said}");
        assert_eq!(code, Some(status), "{arguments:?}");
    }
    let (_server, _) = Program::start(Path::new(socket), &[]);
    let (code, said) = refused(&["--socket", socket]);
    assert!(code == Some(1) && said.contains("is served already"), "{code:?} {said}");
}

#[test]
fn a_dead_servers_socket_is_replaced() {
    let folder = Folder::new();
    let (mut server, _) = Program::start(&folder.socket(), &[]);
    server.signal(Signal::SIGKILL);
    server.end();
    assert!(folder.socket().exists());
    let (mut server, said) = Program::start(&folder.socket(), &[]);
    assert!(said.contains("ivshmem server at"), "{said}");
    server.signal(Signal::SIGTERM);
    assert!(server.end().success());
}

#[test]
fn the_help_says_what_qemu_must_be_told() {
    let output = command(&["--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for text in ["ivshmem-doorbell", "vectors=N", "a server of its own", "[default: 64M]"] {
        assert!(help.contains(text), "{text} in {help}");
    }
}
