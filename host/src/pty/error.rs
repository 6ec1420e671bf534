//! Why there is no terminal for a console.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is none, and what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum PtyError {
    /// The kernel did not do what the text says to a pseudo terminal.
    Terminal(&'static str, io::Error),
    /// The link cannot be made.
    Link(PathBuf, io::Error),
    /// There is something else where the link should be.
    Taken(PathBuf),
}

impl fmt::Display for PtyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Terminal(what, error) => write!(
                f,
                "cannot {what} a pseudo terminal for the console: {error}; is /dev/pts mounted?"
            ),
            Self::Link(path, error) => write!(
                f,
                "cannot make the console's link {}: {error}; its directory has to be there and \
                 writable",
                path.display()
            ),
            Self::Taken(path) => write!(
                f,
                "{} is there and no console's link; remove it, or give the console another path",
                path.display()
            ),
        }
    }
}

impl std::error::Error for PtyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Terminal(_, error) | Self::Link(_, error) => Some(error),
            Self::Taken(_) => None,
        }
    }
}
