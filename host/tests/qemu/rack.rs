//! A rack: boards whose firmware runs in QEMU, an ivshmem server for each, and
//! one daemon for all.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::command::{Launch, Machine, VECTORS};
use crate::process::{Folder, HANGS, Program, until, vphys};

/// A place for one board.
pub(crate) struct Slot {
    pub(crate) machine: Machine,
    /// Its third byte of addresses, and its interface's number.
    pub(crate) number: u8,
    /// Further parameters of the board.
    pub(crate) more: String,
    folder: PathBuf,
    pub(crate) server: Program,
    pub(crate) qemu: Option<Program>,
}

impl Slot {
    fn new(machine: Machine, number: u8, folder: &Folder) -> Self {
        let folder = folder.path(machine.name());
        fs::create_dir(&folder).unwrap();
        let socket = folder.join("ivshmem");
        let server = Program::start(
            vphys()
                .args(["ivshmem-server", "--size", "64M", "--vectors", &VECTORS.to_string()])
                .arg("--socket")
                .arg(&socket)
                .stderr(File::create(folder.join("server")).unwrap()),
        );
        until("an ivshmem server", || UnixStream::connect(&socket).is_ok());
        Self { machine, number, more: String::new(), folder, server, qemu: None }
    }

    /// What tells this board from others.
    fn parameters(&self) -> String {
        let number = self.number;
        format!(
            "virtio-phys name={} number={number} ipv4=10.77.{number}.2/24 ipv6=fd77:{number}::2/64 \
             {}\n",
            self.machine.name(),
            self.more
        )
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("ivshmem")
    }

    /// Powers the board up.
    pub(crate) fn start(&mut self) {
        fs::write(self.folder.join("parameters"), self.parameters()).unwrap();
        let launch = Launch {
            machine: self.machine,
            firmware: firmware(self.machine),
            socket: self.socket(),
            serial: Some(self.folder.join("serial")),
            monitor: Some(self.folder.join("monitor")),
            parameters: Some(self.folder.join("parameters")),
        };
        let said = File::create(self.folder.join("qemu")).unwrap();
        self.qemu = Some(Program::start(launch.command().stderr(said)));
    }

    /// Waits until its firmware says that it serves.
    pub(crate) fn until_booted(&self) {
        until("a boot", || self.serial().contains(": boot 0x"));
    }

    /// SIGKILL for its QEMU, whose firmware has not crashed before.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.qemu.take().unwrap().end();
        self.has_not_crashed();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.qemu.as_ref().unwrap().signal(signal);
    }

    /// No boot has crashed since it was powered up.
    pub(crate) fn has_not_crashed(&self) {
        let serial = self.serial();
        let name = self.machine.name();
        assert_eq!(crashed(&serial), None, "{name}:\n{serial}");
    }

    /// Presses the machine's reset button.
    pub(crate) fn press_reset(&self) {
        let monitor = UnixStream::connect(self.folder.join("monitor")).unwrap();
        monitor.set_read_timeout(Some(HANGS)).unwrap();
        let mut lines = BufReader::new(&monitor).lines();
        let mut next = || -> Value {
            serde_json::from_str(&lines.next().expect("QEMU's monitor closed").unwrap()).unwrap()
        };
        assert!(next()["QMP"].is_object());
        for command in ["qmp_capabilities", "system_reset"] {
            writeln!(&monitor, "{{\"execute\":\"{command}\"}}").unwrap();
            // Events may come before the answer.
            while next()["return"].is_null() {}
        }
    }

    /// Bytes of its stack that any boot has used since it was powered up, and
    /// that it has: what it says as it boots, and each time that it was deeper.
    fn stack(&self) -> (u64, u64) {
        let serial = self.serial();
        // The last line may be half-written.
        let whole = serial.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let depths = whole.lines().filter_map(|line| {
            let (used, rest) = line.split_once("stack: ")?.1.split_once(" of ")?;
            Some((used.parse().ok()?, rest.split(' ').next()?.parse().ok()?))
        });
        depths.max().unwrap_or_else(|| panic!("{}:\n{serial}", self.machine.name()))
    }

    /// What it has printed since it was powered up.
    pub(crate) fn serial(&self) -> String {
        let bytes = fs::read(self.folder.join("serial")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What a serial line says first when the processor goes astray, on any of the
/// machines.
pub(crate) fn crashed(serial: &str) -> Option<&str> {
    let says = |line: &str| {
        let words = ["panicked at ", "exception: esr ", "trap: mcause "];
        let interrupt = line.split_once("interrupt ").and_then(|(_, rest)| rest.split_once(':'));
        words.iter().any(|word| line.contains(word))
            || interrupt.is_some_and(|(_, cause)| cause.starts_with(" esr "))
    };
    serial.lines().find(|line| says(line))
}

/// What `./check firmware` built.
pub(crate) fn firmware(machine: Machine) -> PathBuf {
    let folder = std::env::var("VPHYS_FIRMWARE").expect("VPHYS_FIRMWARE: run ./check qemu");
    let file = PathBuf::from(folder).join(machine.name()).with_extension("elf");
    assert!(file.is_file(), "no firmware at {}: run ./check firmware", file.display());
    file
}

/// Waits until no test has the machine for itself. Until it is dropped, none will.
pub(crate) fn beside_others() -> Flock<File> {
    turn(FlockArg::LockShared)
}

/// A lock of a file, since each test is a process.
fn turn(how: FlockArg) -> Flock<File> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("qemu-turns");
    let file = File::options().create(true).append(true).open(path).unwrap();
    Flock::lock(file, how).map_err(|(_, errno)| errno).unwrap()
}

/// Boards in their places, and the daemon.
pub(crate) struct Rack {
    folder: Folder,
    pub(crate) slots: Vec<Slot>,
    pub(crate) daemon: Option<Program>,
    /// Behind what runs: it goes last.
    _turn: Flock<File>,
}

impl Rack {
    /// One slot for each, with these keys more; nothing but the servers runs.
    pub(crate) fn new(machines: &[Machine], keys: &str) -> Self {
        Self::with(beside_others(), machines, keys)
    }

    /// The same with no other test's boards beside it: for what must not lose a
    /// session, which two seconds without a processor are enough for.
    pub(crate) fn alone(machines: &[Machine], keys: &str) -> Self {
        Self::with(turn(FlockArg::LockExclusive), machines, keys)
    }

    fn with(turn: Flock<File>, machines: &[Machine], keys: &str) -> Self {
        let folder = Folder::new();
        let mut text = format!("[daemon]\nsocket = {:?}\nlog = \"warn\"\n", folder.path("control"));
        let mut slots = Vec::new();
        for (number, machine) in (0..).zip(machines) {
            let slot = Slot::new(*machine, number, &folder);
            text += &format!(
                "\n[[board]]\nname = {:?}\nbus = \"ivshmem\"\nsocket = {:?}\n\
                 interface = \"vphys{number}\"\n{}\n",
                machine.name(),
                slot.socket(),
                keys.replace('N', &number.to_string())
            );
            slots.push(slot);
        }
        fs::write(folder.path("daemon.toml"), text).unwrap();
        Self { folder, slots, daemon: None, _turn: turn }
    }

    /// One of these machines, powered up, with a daemon and addresses, and its link up.
    pub(crate) fn up(machine: Machine) -> Self {
        Self::up_with(machine, ADDRESSES)
    }

    /// The same with these keys.
    pub(crate) fn up_with(machine: Machine, keys: &str) -> Self {
        Self::new(&[machine], keys).powered_up()
    }

    /// With its first board powered up, a daemon, and its link up.
    pub(crate) fn powered_up(mut self) -> Self {
        self.slots[0].start();
        self.start_daemon();
        self.link_is_up(0, 1);
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
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

    /// What `vphys status` says of a board.
    pub(crate) fn status(&self, slot: usize) -> Value {
        let all: Value = serde_json::from_str(&self.ask(&["status", "--json"])).unwrap();
        all["boards"][slot].clone()
    }

    pub(crate) fn sessions(&self, slot: usize) -> u64 {
        self.status(slot)["sessions"].as_u64().unwrap()
    }

    /// Waits until a board's link is up, for at least so many times. The operator,
    /// who knows that the board is there again, does not wait out a long back-off.
    pub(crate) fn link_is_up(&self, slot: usize, sessions: u64) {
        let name = self.slots[slot].machine.name();
        until(&format!("{name}, session {sessions}"), || {
            let status = self.status(slot);
            if status["retry_in_ms"].as_u64().is_some_and(|ms| ms > 1_000) {
                self.ask(&["reset", name]);
            }
            status["state"] == "up" && status["sessions"].as_u64().unwrap() >= sessions
        });
    }

    /// All end in order; nobody has panicked, nor has any firmware, and of each
    /// stack a quarter is left: the daemon's log.
    pub(crate) fn end(mut self) -> String {
        if let Some(daemon) = &mut self.daemon {
            daemon.signal(Signal::SIGTERM);
            assert!(daemon.end().success());
        }
        for slot in &mut self.slots {
            if slot.qemu.is_some() {
                slot.kill();
            }
            slot.has_not_crashed();
            let (used, all) = slot.stack();
            println!("{}: {used} of {all} bytes of stack", slot.machine.name());
            assert!(used <= all / 4 * 3, "{used} of {all} bytes of stack have been used");
            slot.server.signal(Signal::SIGTERM);
            assert!(slot.server.end().success());
        }
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        assert!(!log.contains("panicked"), "{log}");
        log
    }
}

/// A board's host addresses; N is its number.
pub(crate) const ADDRESSES: &str = "addresses = [\"10.77.N.1/24\", \"fd77:N::1/64\"]";
