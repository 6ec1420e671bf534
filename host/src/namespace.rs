//! A network namespace of one's own: interfaces, addresses and routes that
//! nobody else sees and that vanish with the last process in it. With a user
//! namespace around it, nobody needs to be root for that.

use std::ffi::CStr;
use std::process::{Command, Output};
use std::{env, fmt, fs, io};

use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::netlink::{Netlink, NetlinkError};
use crate::raw::isolate;

/// Why a namespace could not be entered.
#[derive(Debug)]
pub enum NamespaceError {
    /// The system allows this user no user namespaces.
    NotAllowed {
        /// The kernel's answer.
        error: io::Error,
    },
    /// The process has more than one thread.
    Threads,
    /// The process could not become root of its user namespace.
    Map {
        /// The file that could not be written.
        file: &'static str,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The loopback interface could not be brought up.
    Loopback(NetlinkError),
    /// The program could not be run there.
    Run(io::Error),
}

impl fmt::Display for NamespaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed { error } => write!(
                f,
                "no network namespace for this user: {error}. Run as root, or allow user \
                 namespaces: `sysctl user.max_user_namespaces` must be above 0, \
                 kernel.unprivileged_userns_clone (Debian) 1, and \
                 kernel.apparmor_restrict_unprivileged_userns (Ubuntu) 0; in a container, run \
                 it with the SYS_ADMIN and NET_ADMIN capabilities"
            ),
            Self::Threads => f.write_str(
                "a process with several threads cannot enter a user namespace: do it before any \
                 thread is started",
            ),
            Self::Map { file, error } => write!(
                f,
                "the user namespace has no root: cannot write {file}: {error}. An AppArmor or \
                 SELinux policy may restrict user namespaces (Ubuntu: `sysctl \
                 kernel.apparmor_restrict_unprivileged_userns`); run as root instead"
            ),
            Self::Loopback(error) => error.fmt(f),
            Self::Run(error) => write!(f, "cannot run a program in a namespace: {error}"),
        }
    }
}

impl std::error::Error for NamespaceError {}

/// Moves this process into a fresh network namespace with loopback up: plainly
/// where it may (root), else inside a user namespace of which it is root. Call
/// it before any thread is started.
///
/// # Errors
/// [`NamespaceError`] says what to do. The process may have changed namespace
/// even so: end it.
pub fn enter_namespace() -> Result<(), NamespaceError> {
    // Only the calling thread would move; the kernel itself refuses this for
    // user namespaces alone.
    if fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(NamespaceError::Threads);
    }
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        let maps = user_maps();
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).map_err(refused)?;
        for (path, line) in &maps {
            let file = path.to_str().unwrap_or("/proc/self");
            fs::write(file, line).map_err(|error| NamespaceError::Map { file, error })?;
        }
    }
    loopback_up()
}

fn loopback_up() -> Result<(), NamespaceError> {
    Netlink::open().and_then(|mut net| net.loopback_up()).map_err(NamespaceError::Loopback)
}

/// Root inside is this user outside. Groups must be given up first: else a
/// user could drop a group that a file's rights exclude.
fn user_maps() -> [(&'static CStr, Vec<u8>); 3] {
    [
        (c"/proc/self/setgroups", b"deny".to_vec()),
        (c"/proc/self/uid_map", format!("0 {} 1", geteuid()).into_bytes()),
        (c"/proc/self/gid_map", format!("0 {} 1", getegid()).into_bytes()),
    ]
}

fn refused(errno: nix::Error) -> NamespaceError {
    if errno == nix::Error::EINVAL {
        return NamespaceError::Threads;
    }
    NamespaceError::NotAllowed { error: errno.into() }
}

/// Set in a process that [`in_namespace`] started: the test it runs.
const INSIDE: &str = "VPHYS_TEST_NAMESPACE";

/// For tests: runs `body` in a process of its own in a fresh namespace with
/// loopback up. The test program starts itself again for this one test, whose
/// name as `--exact` takes it is `test`; a failure there is a failure here.
///
/// Where the system allows no namespace, says so on standard error and passes.
///
/// # Panics
/// If `body` does, or as root if there is no namespace.
pub fn in_namespace(test: &str, body: impl FnOnce()) {
    if env::var(INSIDE).is_ok_and(|inside| inside == test) {
        if let Err(error) = loopback_up() {
            panic!("{error}");
        }
        return body();
    }
    match run_again(test) {
        Ok(output) => {
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            // A wrong name would run no test and succeed.
            let ran = output.status.success() && out.contains("1 passed");
            assert!(ran, "{test} in its namespace: {}\n{out}\n{err}", output.status);
        }
        Err(error @ NamespaceError::NotAllowed { .. }) if !geteuid().is_root() => {
            eprintln!("{test} skipped: {error}");
        }
        Err(error) => panic!("{error}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run_again(test: &str) -> Result<Output, NamespaceError> {
    let program = env::current_exe().map_err(NamespaceError::Run)?;
    let command = |maps| {
        let mut command = Command::new(&program);
        command.args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
        command.env(INSIDE, test);
        isolate(&mut command, maps);
        command.output()
    };
    // As `enter_namespace`: plainly, else as root of a user namespace.
    match command(None) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => command(Some(user_maps())),
        other => other,
    }
    .map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSPC | libc::EUSERS | libc::EACCES) => {
            NamespaceError::NotAllowed { error }
        }
        _ => NamespaceError::Run(error),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::process::CommandExt;

    use super::*;

    fn network() -> std::path::PathBuf {
        fs::read_link("/proc/thread-self/ns/net").unwrap()
    }

    #[test]
    fn the_body_runs_elsewhere() {
        let outside = network();
        in_namespace("namespace::tests::the_body_runs_elsewhere", || {
            // Only loopback is there, and it works.
            let listed = fs::read_to_string("/proc/net/dev").unwrap();
            assert_eq!(listed.lines().count(), 3, "{listed}");
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        });
        assert_eq!(network(), outside, "this process has not moved");
    }

    #[test]
    #[should_panic(expected = "in its namespace")]
    fn a_failure_inside_is_a_failure() {
        let name = "namespace::tests::a_failure_inside_is_a_failure";
        if env::var(INSIDE).is_ok() {
            // Not the panic that is expected: this process fails.
            std::process::exit(1);
        }
        in_namespace(name, || {});
    }

    #[test]
    #[should_panic(expected = "0 passed")]
    fn a_wrong_name_is_a_failure() {
        in_namespace("namespace::tests::no_such_test", || {});
    }

    /// libtest's own thread is one too many. tests/namespace.rs has the rest.
    #[test]
    fn not_with_several_threads() {
        let before = network();
        assert!(matches!(enter_namespace(), Err(NamespaceError::Threads)));
        assert_eq!(network(), before);
    }

    /// As nobody, where the kernel lets nobody have a user namespace.
    #[test]
    fn unprivileged() {
        let Some(isolated) = isolated_as_nobody() else { return };
        let out = text(&isolated.stdout);
        assert!(out.contains("0:65534:1") && out.contains("cap:0"), "{out}");
    }

    /// What a shell says of itself in a namespace that nobody's process made;
    /// `None` where that is not allowed, or this is not root to become nobody.
    fn isolated_as_nobody() -> Option<Output> {
        if !geteuid().is_root() {
            return None;
        }
        let nobody = [
            (c"/proc/self/setgroups", b"deny".to_vec()),
            (c"/proc/self/uid_map", b"0 65534 1".to_vec()),
            (c"/proc/self/gid_map", b"0 65534 1".to_vec()),
        ];
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            "echo $(cat /proc/self/uid_map) | tr ' ' ':'; echo cap:$(id -u); ls /sys >/dev/null",
        ]);
        command.uid(65534).gid(65534);
        isolate(&mut command, Some(nobody));
        command.output().ok()
    }

    #[test]
    fn texts_say_what_to_do() {
        let error = || io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(
            refused(nix::Error::ENOSPC).to_string(),
            "no network namespace for this user: No space left on device (os error 28). Run as \
             root, or allow user namespaces: `sysctl user.max_user_namespaces` must be above 0, \
             kernel.unprivileged_userns_clone (Debian) 1, and \
             kernel.apparmor_restrict_unprivileged_userns (Ubuntu) 0; in a container, run it with \
             the SYS_ADMIN and NET_ADMIN capabilities"
        );
        assert_eq!(
            refused(nix::Error::EINVAL).to_string(),
            "a process with several threads cannot enter a user namespace: do it before any \
             thread is started"
        );
        let map = NamespaceError::Map { file: "/proc/self/uid_map", error: error() };
        assert_eq!(
            map.to_string(),
            "the user namespace has no root: cannot write /proc/self/uid_map: No space left on \
             device (os error 28). An AppArmor or SELinux policy may restrict user namespaces \
             (Ubuntu: `sysctl kernel.apparmor_restrict_unprivileged_userns`); run as root instead"
        );
    }
}
