//! What went wrong between an ivshmem client and its server.

use std::path::PathBuf;
use std::{fmt, io};

use crate::raw::MapError;

/// Where in the server's greeting a client stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The protocol's version.
    Version,
    /// The client's own number.
    Identity,
    /// The shared memory.
    Memory,
    /// The vectors of the others and our own: to the end.
    Peers,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "the protocol version",
            Self::Identity => "our own number",
            Self::Memory => "the shared memory",
            Self::Peers => "the interrupt vectors",
        })
    }
}

/// What the server said that it must not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nonsense {
    /// A version of the protocol that nobody here speaks.
    Version,
    /// A number that is none of a peer.
    Number,
    /// No descriptor where one belongs.
    NoDescriptor,
    /// A descriptor where none belongs, or several.
    Descriptors,
    /// A vector's descriptor that is no eventfd.
    NotAnEvent,
    /// More peers than a client keeps.
    Peers,
}

/// Why there is no connection to an ivshmem server, or none any more.
#[derive(Debug)]
pub enum IvshmemError {
    /// Nobody serves the socket, or we may not talk to it.
    Connect {
        /// The socket.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The server did not say what it has to in time.
    Silent {
        /// What was awaited.
        step: Step,
        /// For this long, in milliseconds.
        waited: u64,
    },
    /// The server has closed the connection.
    Closed {
        /// What would have come next.
        step: Step,
    },
    /// The server breaks the protocol.
    Nonsense {
        /// What should have come.
        step: Step,
        /// What is wrong with it.
        what: Nonsense,
        /// The number that it said.
        number: i64,
    },
    /// The memory that the server offers cannot be used.
    Memory(MapError),
    /// The kernel has no huge pages.
    NoHugePages {
        /// Its reason.
        error: io::Error,
    },
    /// The kernel does not give that much in huge pages.
    HugePages {
        /// Bytes that were asked for.
        len: u64,
        /// Bytes of one page.
        page: u64,
        /// Its reason.
        error: io::Error,
    },
    /// Somebody else serves this socket already.
    Served {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket has the socket's name.
    NotASocket {
        /// The name.
        path: PathBuf,
    },
    /// The operating system refused.
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        error: io::Error,
    },
}

impl IvshmemError {
    /// For `map_err`: an error met while trying to do `what`.
    pub(super) fn system<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::System { what, error: error.into() }
    }
}

impl fmt::Display for IvshmemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { path, error } => write!(
                f,
                "no ivshmem server answers at {}: {error}; start the board (or its server) first, \
                 or name its socket",
                path.display()
            ),
            Self::Silent { step, waited } => write!(
                f,
                "the ivshmem server did not send {step} within {waited} ms: is its process \
                 stopped? Let it run on, or start it again"
            ),
            Self::Closed { step } => write!(
                f,
                "the ivshmem server closed the connection before {step}: it ended (start it \
                 again), or it has as many clients as it takes (end one)"
            ),
            Self::Nonsense { step, what, number } => {
                let what = match what {
                    Nonsense::Version => "a version that is not 0",
                    Nonsense::Number => "not the number that belongs here",
                    Nonsense::NoDescriptor => "without the file descriptor that belongs to it",
                    Nonsense::Descriptors => "with file descriptors that do not belong to it",
                    Nonsense::NotAnEvent => "with a file descriptor that is no eventfd",
                    Nonsense::Peers => "one more peer than is kept",
                };
                write!(
                    f,
                    "this is no ivshmem server as QEMU 2.5 and later know it: for {step} it sent \
                     {number}, {what}. Name the socket of one"
                )
            }
            Self::Memory(error) => match error {
                MapError::NotAFile => f.write_str(
                    "the ivshmem server's memory is no file that can be sealed: the server must \
                     give a memfd with F_SEAL_SHRINK",
                ),
                MapError::MayShrink => f.write_str(
                    "the ivshmem server's memory may shrink, which would kill this process: the \
                     server must seal it (a memfd with F_SEAL_SHRINK)",
                ),
                MapError::Length(len) => write!(
                    f,
                    "the ivshmem server's memory has {len} bytes: a power of two from 1 MiB to \
                     1 TiB is needed"
                ),
                MapError::System(error) => {
                    write!(
                        f,
                        "cannot map the ivshmem server's memory: {error}; the server must give it \
                         for writing too, without F_SEAL_WRITE"
                    )
                }
            },
            Self::NoHugePages { error } => {
                write!(f, "this kernel gives no huge pages: {error}; do without them")
            }
            Self::HugePages { len, page, error: _ } if len < page => write!(
                f,
                "{len} bytes are less than one huge page, of {page} bytes: ask for as much, or \
                 do without huge pages"
            ),
            Self::HugePages { len, page, error } => write!(
                f,
                "the kernel gives no {len} bytes in huge pages: {error}; have it set {count} of \
                 {size} KiB aside (sysctl vm.nr_hugepages={count}, more if others use some), or \
                 do without huge pages",
                count = len.div_ceil((*page).max(1)),
                size = page / 1024,
            ),
            Self::Served { path } => write!(
                f,
                "{} is served already: stop the other board, or choose another socket",
                path.display()
            ),
            Self::NotASocket { path } => write!(
                f,
                "{} is there and is no socket: choose another name or remove it",
                path.display()
            ),
            Self::System { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for IvshmemError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_what_to_do() {
        let system = || io::Error::from_raw_os_error(1);
        let nonsense = |step, what, number| IvshmemError::Nonsense { step, what, number };
        for (error, text) in [
            (
                IvshmemError::Connect { path: "/run/b0.sock".into(), error: system() },
                "no ivshmem server answers at /run/b0.sock: Operation not permitted (os error 1); \
                 start the board (or its server) first, or name its socket",
            ),
            (
                IvshmemError::Silent { step: Step::Version, waited: 500 },
                "the ivshmem server did not send the protocol version within 500 ms: is its \
                 process stopped? Let it run on, or start it again",
            ),
            (
                IvshmemError::Closed { step: Step::Identity },
                "the ivshmem server closed the connection before our own number: it ended (start \
                 it again), or it has as many clients as it takes (end one)",
            ),
            (
                nonsense(Step::Version, Nonsense::Version, 1),
                "this is no ivshmem server as QEMU 2.5 and later know it: for the protocol \
                 version it sent 1, a version that is not 0. Name the socket of one",
            ),
            (
                nonsense(Step::Identity, Nonsense::Number, -1),
                "this is no ivshmem server as QEMU 2.5 and later know it: for our own number it \
                 sent -1, not the number that belongs here. Name the socket of one",
            ),
            (
                nonsense(Step::Memory, Nonsense::NoDescriptor, -1),
                "this is no ivshmem server as QEMU 2.5 and later know it: for the shared memory \
                 it sent -1, without the file descriptor that belongs to it. Name the socket of \
                 one",
            ),
            (
                nonsense(Step::Peers, Nonsense::Descriptors, 3),
                "this is no ivshmem server as QEMU 2.5 and later know it: for the interrupt \
                 vectors it sent 3, with file descriptors that do not belong to it. Name the \
                 socket of one",
            ),
            (
                nonsense(Step::Peers, Nonsense::NotAnEvent, 3),
                "this is no ivshmem server as QEMU 2.5 and later know it: for the interrupt \
                 vectors it sent 3, with a file descriptor that is no eventfd. Name the socket \
                 of one",
            ),
            (
                nonsense(Step::Peers, Nonsense::Peers, 164),
                "this is no ivshmem server as QEMU 2.5 and later know it: for the interrupt \
                 vectors it sent 164, one more peer than is kept. Name the socket of one",
            ),
            (
                IvshmemError::Memory(MapError::NotAFile),
                "the ivshmem server's memory is no file that can be sealed: the server must give \
                 a memfd with F_SEAL_SHRINK",
            ),
            (
                IvshmemError::Memory(MapError::MayShrink),
                "the ivshmem server's memory may shrink, which would kill this process: the \
                 server must seal it (a memfd with F_SEAL_SHRINK)",
            ),
            (
                IvshmemError::Memory(MapError::Length(4096)),
                "the ivshmem server's memory has 4096 bytes: a power of two from 1 MiB to 1 TiB \
                 is needed",
            ),
            (
                IvshmemError::Memory(MapError::System(system())),
                "cannot map the ivshmem server's memory: Operation not permitted (os error 1); \
                 the server must give it for writing too, without F_SEAL_WRITE",
            ),
            (
                IvshmemError::NoHugePages { error: system() },
                "this kernel gives no huge pages: Operation not permitted (os error 1); do \
                 without them",
            ),
            (
                IvshmemError::HugePages { len: 1 << 20, page: 2 << 20, error: system() },
                "1048576 bytes are less than one huge page, of 2097152 bytes: ask for as much, \
                 or do without huge pages",
            ),
            (
                IvshmemError::HugePages { len: 64 << 20, page: 2 << 20, error: system() },
                "the kernel gives no 67108864 bytes in huge pages: Operation not permitted (os \
                 error 1); have it set 32 of 2048 KiB aside (sysctl vm.nr_hugepages=32, more if \
                 others use some), or do without huge pages",
            ),
            (
                IvshmemError::Served { path: "/run/b0.sock".into() },
                "/run/b0.sock is served already: stop the other board, or choose another socket",
            ),
            (
                IvshmemError::NotASocket { path: "/run/b0.sock".into() },
                "/run/b0.sock is there and is no socket: choose another name or remove it",
            ),
            (
                IvshmemError::System { what: "make a socket", error: system() },
                "cannot make a socket: Operation not permitted (os error 1)",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
