//! What is wrong with a configuration file: where, which key, what to do.

use std::path::PathBuf;
use std::{fmt, io};

/// Longest configuration file, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// Problems that are listed one by one; behind them only their number.
const LISTED: usize = 20;

/// One thing that is wrong with a configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The key, such as `board.mtu`; empty where the file is no TOML there.
    pub key: String,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// It is a folder, a device or a pipe.
    NoFile {
        /// What it is.
        path: PathBuf,
    },
    /// It is longer than [`MAX_FILE`].
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is not UTF-8.
    NoText {
        /// The file.
        path: PathBuf,
        /// The line that is not, counted from 1.
        line: usize,
    },
    /// Its content is wrong.
    Wrong {
        /// The file.
        path: PathBuf,
        /// At least one, in the order of the file.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// Whether it is about the right to read the file.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Unreadable { error, .. }
            if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl fmt::Display for ConfigError {
    /// One line a problem, each with the file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => {
                write!(f, "cannot read the configuration {}: {error}", path.display())?;
                match error.kind() {
                    io::ErrorKind::NotFound => f.write_str(
                        ". Name the file with --config; docs/daemon.md has one to begin with",
                    ),
                    io::ErrorKind::PermissionDenied => {
                        f.write_str(". Run as root, or as a user who may read it")
                    }
                    _ => Ok(()),
                }
            }
            Self::NoFile { path } => write!(
                f,
                "the configuration {} is no regular file: it is read again on SIGHUP, so it \
                 cannot be a folder, a pipe or a device",
                path.display()
            ),
            Self::TooLong { path } => write!(
                f,
                "the configuration {} is longer than {MAX_FILE} bytes: is it the right file?",
                path.display()
            ),
            Self::NoText { path, line } => write!(
                f,
                "{}:{line}: not UTF-8: is it the right file? Else save it as UTF-8",
                path.display()
            ),
            Self::Wrong { path, problems } => {
                let mut separator = "";
                for problem in problems.iter().take(LISTED) {
                    write!(f, "{separator}{}:{problem}", path.display())?;
                    separator = "\n";
                }
                let more = problems.len().saturating_sub(LISTED);
                if more > 0 {
                    write!(f, "\n{}: and {more} more like these", path.display())?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}
