//! Real terminals of the kernel's.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

/// A directory of the test's own, gone with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("console-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn link(&self) -> PathBuf {
        self.0.join("b0.console")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A user at the terminal that a path leads to.
fn user(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Waits until it can be read, a bounded time.
fn wait(fd: impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::from(5000_u16)).unwrap();
    assert_eq!(ready, 1, "nothing to read for 5 s");
}

/// Reads so many bytes that were typed.
fn typed(pty: &mut Pty, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        wait(&*pty);
        let mut bytes = [0; 7];
        let got = pty.read(&mut bytes).unwrap();
        all.extend(&bytes[..got]);
    }
    all
}

fn bytes() -> Vec<u8> {
    (0..=255).collect()
}

#[test]
fn every_byte_goes_through_unchanged() {
    let place = Place::new();
    let mut pty = Pty::open(&place.link()).unwrap();
    let mut user = user(&place.link());
    assert_eq!(pty.write(&bytes()).unwrap(), 256);
    let mut shown = [0; 256];
    user.read_exact(&mut shown).unwrap();
    assert_eq!(shown.to_vec(), bytes());
    user.write_all(&bytes()).unwrap();
    assert_eq!(typed(&mut pty, 256), bytes());
    // No echo of what was shown, no line to wait for.
    assert_eq!(pty.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_user_may_come_late_leave_and_come_back() {
    let place = Place::new();
    let mut pty = Pty::open(&place.link()).unwrap();
    assert_eq!(pty.write(b"early").unwrap(), 5);
    for _ in 0..3 {
        let mut user = user(&place.link());
        let mut shown = [0; 5];
        user.read_exact(&mut shown).unwrap();
        assert_eq!(&shown, b"early");
        user.write_all(b"x").unwrap();
        assert_eq!(typed(&mut pty, 1), b"x");
        drop(user);
        assert_eq!(pty.read(&mut [0; 8]).unwrap(), 0, "hung up");
        assert_eq!(pty.write(b"early").unwrap(), 5);
    }
}

#[test]
fn what_nobody_reads_waits_and_none_is_lost() {
    let place = Place::new();
    let mut pty = Pty::open(&place.link()).unwrap();
    let text: Vec<u8> = (0..400_000_u32).map(|at| at.to_le_bytes()[0] ^ 0x5A).collect();
    let mut taken = 0;
    // The kernel's buffers are far smaller than this.
    while taken < text.len() {
        match pty.write(&text[taken..text.len().min(taken + 256)]).unwrap() {
            0 => break,
            some => taken += some,
        }
    }
    assert!(taken > 0 && taken < text.len(), "{taken} bytes");
    let mut user = user(&place.link());
    let mut shown = vec![0; taken];
    user.read_exact(&mut shown).unwrap();
    assert!(shown == text[..taken]);
}

#[test]
fn what_was_typed_for_nobody_is_forgotten() {
    let place = Place::new();
    let mut pty = Pty::open(&place.link()).unwrap();
    let mut user = user(&place.link());
    user.write_all(b"reboot\r").unwrap();
    wait(&pty);
    pty.forget_typed().unwrap();
    user.write_all(b"help\r").unwrap();
    assert_eq!(typed(&mut pty, 5), b"help\r");
}

#[test]
fn the_terminal_is_its_owners_and_its_groups() {
    let place = Place::new();
    let pty = Pty::open(&place.link()).unwrap();
    let mode = fs::metadata(pty.link()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn the_link_comes_and_goes_with_the_terminal() {
    let place = Place::new();
    // What a daemon that was killed has left.
    symlink("/dev/pts/4000000", place.link()).unwrap();
    let pty = Pty::open(&place.link()).unwrap();
    assert_eq!(fs::read_link(place.link()).unwrap(), pty.name());
    let second = Pty::open(&place.link()).unwrap();
    drop(pty);
    assert_eq!(fs::read_link(place.link()).unwrap(), second.name(), "it took another's link");
    drop(second);
    assert!(fs::symlink_metadata(place.link()).is_err());
}

#[test]
fn what_is_no_consoles_link_is_not_touched() {
    let place = Place::new();
    fs::write(place.link(), "precious").unwrap();
    let error = Pty::open(&place.link()).unwrap_err();
    assert!(matches!(error, PtyError::Taken(_)));
    assert!(error.to_string().contains("give the console another path"), "{error}");
    assert_eq!(fs::read_to_string(place.link()).unwrap(), "precious");

    fs::remove_file(place.link()).unwrap();
    symlink("/etc/hostname", place.link()).unwrap();
    assert!(matches!(Pty::open(&place.link()), Err(PtyError::Taken(_))));
    assert_eq!(fs::read_link(place.link()).unwrap(), Path::new("/etc/hostname"));

    let error = Pty::open(&place.0.join("no/such")).unwrap_err();
    assert!(matches!(error, PtyError::Link(..)));
    assert!(error.to_string().contains("directory"), "{error}");
}

#[test]
fn each_error_says_what_to_do() {
    let error = io::Error::from_raw_os_error;
    for (error, text) in [
        (
            PtyError::Terminal("open", error(2)),
            "cannot open a pseudo terminal for the console: No such file or directory (os error \
             2); is /dev/pts mounted?",
        ),
        (
            PtyError::Link("/run/b0.console".into(), error(13)),
            "cannot make the console's link /run/b0.console: Permission denied (os error 13); its \
             directory has to be there and writable",
        ),
        (
            PtyError::Taken("/run/b0.console".into()),
            "/run/b0.console is there and no console's link; remove it, or give the console \
             another path",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
