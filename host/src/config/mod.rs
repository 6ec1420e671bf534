//! The daemon's configuration: one TOML file, read whole, checked once.
//!
//! Guarantee: whatever the file holds, [`Configuration::load`] gives either a
//! configuration in which every value is within its range, no two boards share
//! a name, an interface or a slot, and nothing was overlooked (an unknown key
//! is refused); or all that is wrong with it, each with line, column, key and
//! what to do. What needs the system to answer (whether an interface exists,
//! whether there is a board) is not asked here.
//!
//! The keys are explained in docs/daemon.md.

mod board;
mod changes;
mod error;
mod reader;
mod similar;
#[cfg(test)]
mod tests;
mod values;

use std::fs::OpenOptions;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use log::LevelFilter;
use nix::libc;
use toml::de::DeTable;

pub use changes::{Kept, Update};
pub use error::{ConfigError, MAX_FILE, Problem};

use crate::session::SessionConfig;
use crate::tap::InterfaceMode;
use reader::{Notes, Section};

/// Most boards of one daemon.
pub const MAX_BOARDS: usize = 64;

/// Where the control socket is if nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/virtio-phys/control.sock";

/// All that an operator decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configuration {
    /// `[daemon]`.
    pub daemon: DaemonSettings,
    /// Each `[[board]]`, in the order of the file.
    pub boards: Vec<BoardSettings>,
}

/// `[daemon]`: what belongs to no board.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaemonSettings {
    /// The control socket.
    pub socket: PathBuf,
    /// The group that may use the control socket beside its owner.
    pub socket_group: Option<String>,
    /// What is logged.
    pub log: LevelFilter,
}

impl Default for DaemonSettings {
    fn default() -> Self {
        Self { socket: PathBuf::from(DEFAULT_SOCKET), socket_group: None, log: LevelFilter::Info }
    }
}

/// `[[board]]`: one board and its interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoardSettings {
    /// What people call it: letters, digits, `.`, `_` and `-`, 1 to 32.
    pub name: String,
    /// Where it is.
    pub bus: BusSettings,
    /// The interface's name, or a pattern such as `vphys%d`.
    pub interface: String,
    /// What the interface carries.
    pub mode: InterfaceMode,
    /// Whether the interface stays when the daemon ends.
    pub persistent: bool,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Rings, buffers, features, MTU, MAC, coalescing.
    pub session: SessionConfig,
    /// Looks that find nothing before the data thread sleeps.
    pub looks: u32,
    /// Where the board's console is linked to, if it is.
    pub console: Option<PathBuf>,
}

/// Where a board is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BusSettings {
    /// Memory that processes share by QEMU's ivshmem protocol.
    Ivshmem {
        /// The server's socket.
        socket: PathBuf,
    },
    /// An empty slot of a simulated bus: the daemon looks for a board there
    /// and finds none.
    Sim,
}

impl Configuration {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`]: all that is wrong with it, and what to do.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
        // A pipe without a writer would keep the daemon waiting.
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file =
            OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(ConfigError::NoFile { path: path.to_owned() });
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::parse(path, &bytes)
    }

    /// Checks what was read from `path`.
    ///
    /// # Errors
    /// As [`Configuration::load`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() as u64 > MAX_FILE {
            return Err(ConfigError::TooLong { path: path.to_owned() });
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            ConfigError::NoText { path: path.to_owned(), line }
        })?;
        let notes = Notes::new(text);
        let configuration = match DeTable::parse(text) {
            Ok(table) => file(Section::new(&notes, "", 0, table.get_ref()), &notes),
            Err(error) => {
                let at = error.span().map_or(text.len(), |span| span.start);
                let hint = "docs/daemon.md has an example";
                notes.add(at, "", format_args!("not TOML: {}: {hint}", error.message()));
                None
            }
        };
        let problems = notes.into_problems();
        match configuration {
            Some(configuration) if problems.is_empty() => Ok(configuration),
            _ => Err(ConfigError::Wrong { path: path.to_owned(), problems }),
        }
    }
}

/// The whole file; `None` only where a problem was noted.
fn file(mut whole: Section<'_, '_>, notes: &Notes<'_>) -> Option<Configuration> {
    let daemon = match whole.get("daemon") {
        Some(field) => field.section().and_then(daemon),
        None => Some(DaemonSettings::default()),
    };
    let boards = match whole.get("board") {
        Some(field) if field.is_table() => {
            field.wrong("a list of boards is needed: write [[board]] with two brackets");
            None
        }
        Some(field) => field.list(MAX_BOARDS).map(|boards| board::all(&boards)),
        None => {
            notes.add(0, "board", "missing: write a [[board]] for each board");
            None
        }
    };
    whole.finish();
    let boards: Option<Vec<_>> = boards?.into_iter().collect();
    Some(Configuration { daemon: daemon?, boards: boards? })
}

fn daemon(mut section: Section<'_, '_>) -> Option<DaemonSettings> {
    let default = DaemonSettings::default();
    let socket = match section.get("socket") {
        Some(field) => field.parsed(values::socket_path),
        None => Some(default.socket),
    };
    let socket_group = match section.get("socket_group") {
        Some(field) => field.parsed(values::group).map(Some),
        None => Some(None),
    };
    let log = match section.get("log") {
        Some(field) => field.choice(&LEVELS),
        None => Some(default.log),
    };
    section.finish();
    Some(DaemonSettings { socket: socket?, socket_group: socket_group?, log: log? })
}

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];
