//! A program is run on a prepared stage, and leaves it as it was.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Pid, geteuid};
use virtio_phys_host::namespace::in_namespace;

/// No program here has reason to run for as long: then it hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Who is nobody on every system.
pub(crate) const NOBODY: u32 = 65534;

/// The folder that each stage lays over with its own files: it is there
/// wherever the demo can run, and no test's own files lie in it.
pub(crate) const FOLDER: &str = "/dev/net";

const TUN: &str = "/dev/net/tun";

/// Whether this is root, who can stage more than others.
pub(crate) fn root() -> bool {
    geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
            let mut fields = map.split_whitespace();
            fields.next() == Some("0") && fields.next() == Some("0")
        })
}

/// What the tun driver's device file is like on a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tun {
    /// As on most systems: everybody's.
    Everybodys,
    /// Only root may open it.
    Roots,
    /// It is not there.
    Missing,
}

/// Runs `body` as the test of this name in a process of its own, on a stage. It
/// is left out where an ordinary user may not do that.
pub(crate) fn staged(test: &str, tun: Tun, body: impl FnOnce(&Stage)) {
    in_namespace(test, || {
        let denied = File::options().read(true).write(true).open(TUN).err().filter(|_| !root());
        match denied {
            Some(error) if tun != Tun::Missing => eprintln!("{test} left out: {TUN}: {error}"),
            _ => body(&Stage::new(tun)),
        }
    });
}

/// The same for programs that run as nobody, which only root can stage.
pub(crate) fn as_nobody(test: &str, tun: Tun, body: impl FnOnce(&Stage)) {
    staged(test, tun, |stage| {
        if root() {
            body(&stage.as_nobody())
        } else {
            eprintln!("{test} left out: this is not root")
        }
    });
}

/// A mount namespace of this thread's own with the programs and an empty
/// working folder, all in memory. It vanishes with the test's process.
#[derive(Debug)]
pub(crate) struct Stage {
    nobody: bool,
}

impl Stage {
    fn new(tun: Tun) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount_at("none", "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        // Opened in this namespace, before they are covered.
        let device = File::open(TUN);
        let programs = [env!("CARGO_BIN_EXE_vphys"), env!("CARGO_BIN_EXE_virtio-physd")]
            .map(|path| (Path::new(path).file_name().unwrap(), File::open(path).unwrap()));
        mount_at("tmpfs", FOLDER, Some("tmpfs"), MsFlags::empty());
        fs::set_permissions(FOLDER, Permissions::from_mode(0o755)).unwrap();
        for (name, file) in &programs {
            // By what is open: the folder that it is in may be closed to nobody.
            bind(file, &Path::new(FOLDER).join(name));
        }
        fs::create_dir(work()).unwrap();
        fs::set_permissions(work(), Permissions::from_mode(0o777)).unwrap();
        match tun {
            Tun::Missing => {}
            // A device file can be made by the system's root alone.
            Tun::Everybodys | Tun::Roots if root() => {
                let kind = SFlag::S_IFCHR;
                mknod(TUN, kind, Mode::empty(), makedev(10, 200)).unwrap();
                let mode = if tun == Tun::Roots { 0o600 } else { 0o666 };
                fs::set_permissions(TUN, Permissions::from_mode(mode)).unwrap();
            }
            Tun::Everybodys | Tun::Roots => bind(&device.unwrap(), Path::new(TUN)),
        }
        Self { nobody: false }
    }

    /// The same stage for programs that run as nobody. Root alone can become it.
    pub(crate) fn as_nobody(&self) -> Self {
        assert!(root());
        Self { nobody: true }
    }

    /// A program with these words as arguments, in the stage's working folder.
    pub(crate) fn program(&self, name: &str, arguments: &str) -> Command {
        let mut command = Command::new(Path::new(FOLDER).join(name));
        command.args(arguments.split_whitespace()).current_dir(work()).env("TMPDIR", work());
        command.env_remove("RUST_LOG").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        if self.nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    pub(crate) fn demo(&self, arguments: &str) -> Command {
        self.program("vphys", &format!("demo {arguments}"))
    }
}

/// The stage's working folder.
pub(crate) fn work() -> PathBuf {
    Path::new(FOLDER).join("work")
}

fn mount_at(what: &str, at: &str, kind: Option<&str>, flags: MsFlags) {
    mount(Some(what), at, kind, flags, None::<&str>).unwrap();
}

fn bind(file: &File, at: &Path) {
    File::create(at).unwrap();
    let source = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
    mount_at(&source, at.to_str().unwrap(), None, MsFlags::MS_BIND);
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit status; `None`: a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// It refused, for the reason that these texts name.
    #[track_caller]
    pub(crate) fn refused(&self, texts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(1), "{self:#?}");
        self.said(texts)
    }

    #[track_caller]
    pub(crate) fn said(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert_eq!(self.err.matches(text).count(), 1, "{text:?} once in {self:#?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn went_well(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }
}

/// A program that runs.
pub(crate) struct Going {
    child: Child,
    lines: Receiver<String>,
    err: String,
    out: Option<thread::JoinHandle<String>>,
}

/// Starts a program; its standard output is read unless `command` has another.
pub(crate) fn start(command: &mut Command, read_out: bool) -> Going {
    if read_out {
        command.stdout(Stdio::piped());
    }
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let out = child.stdout.take().map(|mut stdout| {
        thread::spawn(move || {
            let mut out = String::new();
            stdout.read_to_string(&mut out).unwrap();
            out
        })
    });
    let (tell, lines) = channel();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    thread::spawn(move || {
        // A step's name comes without a line's end: split behind it as well.
        let mut piece = Vec::new();
        let mut byte = [0];
        while stderr.read(&mut byte).is_ok_and(|read| read > 0) {
            piece.push(byte[0]);
            if byte[0] == b'\n' || (byte[0] == b' ' && stderr.buffer().is_empty()) {
                let text = String::from_utf8_lossy(&piece).into_owned();
                piece.clear();
                if tell.send(text).is_err() {
                    return;
                }
            }
        }
        let _ = tell.send(String::from_utf8_lossy(&piece).into_owned());
    });
    Going { child, lines, err: String::new(), out }
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    start(command, true).end()
}

impl Going {
    /// Waits until it has written `text` to standard error.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) -> &mut Self {
        while !self.err.contains(text) {
            match self.lines.recv_timeout(HANGS) {
                Ok(line) => self.err.push_str(&line),
                Err(_) => self.hangs(text),
            }
        }
        self
    }

    /// Ends its standard input.
    pub(crate) fn hang_up(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> &mut Self {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        self
    }

    /// Waits for its end, and looks whether anything is left of it.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ran {
        loop {
            match self.lines.recv_timeout(HANGS) {
                Ok(line) => self.err.push_str(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.hangs("its end"),
            }
        }
        let code = self.child.wait().unwrap().code();
        let out = self.out.take().map_or_else(String::new, |out| out.join().unwrap());
        let ran = Ran { code, out, err: std::mem::take(&mut self.err) };
        assert!(!ran.err.contains("panicked"), "{ran:#?}");
        assert!(!ran.err.contains('\x1b') && !ran.out.contains('\x1b'), "no terminal: {ran:#?}");
        nothing_is_left();
        ran
    }

    #[track_caller]
    fn hangs(&mut self, awaited: &str) -> ! {
        let _ = self.child.kill();
        panic!("no {awaited:?} came. Until then: {}", self.err);
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        // A test that fails leaves nothing behind for the next.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// No interface, no file, no process.
#[track_caller]
pub(crate) fn nothing_is_left() {
    let interfaces = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let names: Vec<&str> = interfaces.lines().skip(2).map(|line| line.trim_start()).collect();
    let ours = |line: &&str| !line.starts_with("lo:") && !line.starts_with(KEPT);
    assert!(!names.iter().any(ours), "an interface is left: {interfaces}");
    let files: Vec<_> = fs::read_dir(work()).unwrap().collect();
    assert!(files.is_empty(), "a file is left: {files:?}");
    let left = processes();
    assert!(left.is_empty(), "a process is left: {left:?}");
}

/// The processes that this test's programs have become or started.
pub(crate) fn processes() -> Vec<PathBuf> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let other = |name: &str| name.parse().is_ok_and(|number: u32| number != std::process::id());
    all.filter(|entry| other(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .filter(|process| is_of_this_test(process))
        .collect()
}

/// A test's own interface has a name that starts like this.
pub(crate) const KEPT: &str = "kept";

/// Whether the process has this test's mark, which every program it starts inherits.
fn is_of_this_test(process: &Path) -> bool {
    const MARK: &str = "VPHYS_TEST_NAMESPACE";
    let mine = format!("{MARK}={}", std::env::var(MARK).unwrap());
    // Those of others cannot be read, and a dead one has none.
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|line| line == mine.as_bytes())
}

/// Lines of a file, for those who read a pipe.
pub(crate) fn lines(from: impl Read) -> Vec<String> {
    BufReader::new(from).lines().map_while(Result::ok).collect()
}
