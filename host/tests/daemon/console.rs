//! A board's console at its terminal, through the daemon.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::Signal;

use crate::boards::{BoardProcess, b0, socket, up};
use crate::run::{FOLDER, Tun, staged};
use crate::setting::{asked, running};

/// Nothing that is waited for takes this long: then it hangs.
const HANGS: Duration = Duration::from_secs(60);

/// Somebody at the terminal, and what is on their screen.
struct User {
    terminal: File,
    screen: String,
}

impl User {
    fn at(link: &Path) -> Self {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let terminal = OpenOptions::new().read(true).write(true).custom_flags(flags).open(link);
        Self { terminal: terminal.unwrap(), screen: String::new() }
    }

    fn types(&mut self, line: &str) {
        self.terminal.write_all(line.as_bytes()).unwrap();
    }

    #[track_caller]
    fn sees(&mut self, text: &str) {
        let deadline = Instant::now() + HANGS;
        while !self.screen.contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is not on the screen: {}", self.screen);
            let mut bytes = [0; 256];
            match self.terminal.read(&mut bytes) {
                Ok(len) => self.screen.push_str(&String::from_utf8_lossy(&bytes[..len])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn link() -> PathBuf {
    Path::new(FOLDER).join("b0.console")
}

#[test]
fn the_boards_shell_answers_and_comes_back() {
    staged("console::the_boards_shell_answers_and_comes_back", Tun::Everybodys, |stage| {
        let keys = format!("console = \"{}\"", link().display());
        let mut going = running(stage, &b0(&keys));
        let board = BoardProcess::start(stage, &socket());
        up(stage, 1);
        let mut user = User::at(&link());
        user.types("help\r");
        user.sees("reboot");
        user.screen.clear();
        user.types("status\r");
        user.sees("status");
        // The terminal is the same in the next session.
        asked(stage, "reset b0");
        up(stage, 2);
        user.screen.clear();
        user.types("help\r");
        user.sees("reboot");
        // A reboot from the board's own shell ends the session, too.
        user.types("reboot\r");
        up(stage, 3);
        going.signal(Signal::SIGTERM).says("b0: let go of");
        drop(board);
        going.end().went_well();
        assert!(!link().exists() && std::fs::read_link(link()).is_err());
    });
}
