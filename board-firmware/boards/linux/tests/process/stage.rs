//! The board's process, where it runs, and the daemon's end of its link.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use host::bus::ivshmem::{IvshmemBus, IvshmemOptions};
use host::daemon::{
    Board, BoardOptions, BoardStatus, InterfaceMode, InterfaceOptions, LinkState, Stations,
    WorkerOptions,
};
use host::session::{Layout, SessionConfig};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Nothing that is waited for takes this long: then it hangs.
pub(crate) const HANGS: Duration = Duration::from_secs(60);

/// The host's addresses.
pub(crate) const HOST4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The board's, on the same networks (24 and 64 bits).
pub(crate) const BOARD4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub(crate) const BOARD6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
pub(crate) const ADDRESSES: [&str; 4] = ["--address", "10.77.0.2/24", "--address", "fd77::2/64"];

/// Waits until `done` says so.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANGS;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {HANGS:?}");
        // Looks often enough, and leaves the processor to what is waited for.
        thread::sleep(Duration::from_millis(2));
    }
}

/// A folder of a test's own, gone with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("vphys-linux-board-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("socket")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program.
pub(crate) fn program(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtio-phys-board-linux"));
    command.arg("--socket").arg(socket).args(arguments);
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A process, killed with its handle.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let mut status = None;
        until("the board's end", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Its processor time so far, in clock ticks.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1;
        fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
    }

    /// Runs `body` in this process's network namespace.
    pub(crate) fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        thread::scope(|scope| {
            let body = move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                body()
            };
            scope.spawn(body).join().unwrap()
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A board that serves its socket itself, in a network namespace of its own.
pub(crate) fn board(folder: &Folder, arguments: &[&str]) -> Process {
    let socket = folder.socket();
    let mut command = program(&socket, &["--serve"]);
    command.args(arguments);
    let process = thread::scope(|scope| {
        let start = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Process(command.spawn().unwrap())
        };
        scope.spawn(start).join().unwrap()
    });
    until("a board's socket", || UnixStream::connect(&socket).is_ok());
    process
}

/// The daemon's end of the link.
pub(crate) fn attach(folder: &Folder, mode: InterfaceMode, layout: Layout) -> Board {
    attach_as(folder, mode, layout, None)
}

/// The same, with this MAC address.
pub(crate) fn attach_as(
    folder: &Folder,
    mode: InterfaceMode,
    layout: Layout,
    mac: Option<[u8; 6]>,
) -> Board {
    let bus = IvshmemBus::new(IvshmemOptions::new(folder.socket()));
    let addresses = vec![(IpAddr::V4(HOST4), 24), (IpAddr::V6(HOST6), 64)];
    let options = BoardOptions {
        name: "b0".to_owned(),
        interface: InterfaceOptions { mode, mac, addresses, ..InterfaceOptions::new("vphys0") },
        session: SessionConfig { layout, mac, ..SessionConfig::default() },
        worker: WorkerOptions::default(),
        console: None,
        stations: Stations::default(),
    };
    Board::start(bus, options).unwrap()
}

/// Waits until the link is up for the time of this number.
pub(crate) fn up(link: &Board, sessions: u64) -> BoardStatus {
    until(&format!("session {sessions}"), || {
        let status = link.status();
        status.state == LinkState::Up && status.sessions >= sessions
    });
    link.status()
}

pub(crate) fn has_tun() -> bool {
    let there = Path::new("/dev/net/tun").exists();
    if !there {
        let _ = writeln!(std::io::stderr(), "skipped: no /dev/net/tun");
    }
    there
}
