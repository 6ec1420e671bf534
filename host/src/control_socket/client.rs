//! Asking a daemon, with a bound on every wait.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::frame::{FRAME_TIME, Gathering, frame};
use super::message::{Answer, MessageError, Reason, Refusal, Request, VERSION, decode, encode};

/// Longest wait for the daemon to take or to answer a request.
const ANSWER_TIME: Duration = Duration::from_millis(FRAME_TIME);

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody serves the socket.
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// This user may not connect.
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// The daemon does not answer in time.
    Silent,
    /// The daemon hung up, or the connection broke.
    Broken(io::Error),
    /// The daemon speaks another version.
    Version(u32),
    /// The answer cannot be read.
    Malformed(String),
    /// The daemon refuses.
    Refused(Refusal),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDaemon { path, error } => write!(
                f,
                "no daemon answers on {}: {error}. Start virtio-physd, or name its socket with \
                 --socket (its daemon.socket)",
                path.display()
            ),
            Self::NotPermitted { path } => write!(
                f,
                "no permission to use {}: run as root, or as a member of the socket's group \
                 (daemon.socket_group)",
                path.display()
            ),
            Self::Silent => write!(
                f,
                "the daemon has not answered for {} s: see its log",
                ANSWER_TIME.as_secs()
            ),
            Self::Broken(error) => {
                write!(f, "the daemon hung up: {error}. It may have ended: see its log")
            }
            Self::Version(theirs) => write!(
                f,
                "the daemon speaks version {theirs} of the control protocol, this program version \
                 {VERSION}: use the vphys that came with the daemon"
            ),
            Self::Malformed(error) => {
                write!(f, "the daemon's answer cannot be read: {error}. Is it virtio-physd?")
            }
            Self::Refused(refusal) => f.write_str(&refusal.text),
        }
    }
}

impl std::error::Error for ClientError {}

/// Connects; a daemon too busy to take anybody is [`ErrorKind::WouldBlock`].
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // It bounds the wait for a place among those that wait to be accepted.
    setsockopt(&socket, SendTimeout, &TimeVal::milliseconds(FRAME_TIME.cast_signed()))?;
    connect_to(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// A request that was made, and its answers.
#[derive(Debug)]
pub struct Asking {
    stream: UnixStream,
    /// Longest wait for the next answer.
    patience: Duration,
}

impl Asking {
    /// Asks the daemon that listens at `path`.
    ///
    /// # Errors
    /// [`ClientError`] says what to do.
    pub fn begin(path: &Path, request: &Request) -> Result<Self, ClientError> {
        let mut stream = connect(path).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => ClientError::NotPermitted { path: path.to_owned() },
            ErrorKind::WouldBlock => ClientError::Silent,
            _ => ClientError::NoDaemon { path: path.to_owned(), error },
        })?;
        let bytes = frame(&encode(request))
            .map_err(|error| ClientError::Broken(io::Error::new(ErrorKind::InvalidInput, error)))?;
        // One that has no room for us says so before it reads anything.
        match stream.write_all(&bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ClientError::Silent),
            Err(error) => return Err(ClientError::Broken(error)),
        }
        let patience = ANSWER_TIME + request.interval().unwrap_or_default();
        Ok(Self { stream, patience })
    }

    /// The next answer. Only a watch has more than one.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is one too.
    pub fn answer(&mut self) -> Result<Answer, ClientError> {
        let deadline = Instant::now() + self.patience;
        let mut gathering = Gathering::default();
        let mut buffer = [0; 4096];
        loop {
            let lacking = gathering.lacking().map_err(|e| ClientError::Malformed(e.to_string()))?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::Silent);
            }
            self.stream.set_read_timeout(Some(left)).map_err(ClientError::Broken)?;
            let most = lacking.min(buffer.len());
            let room = buffer.get_mut(..most).unwrap_or_default();
            match self.stream.read(room) {
                Ok(0) => return Err(ClientError::Broken(ErrorKind::UnexpectedEof.into())),
                Ok(read) => {
                    let arrived = room.get(..read).unwrap_or_default();
                    match gathering.add(arrived) {
                        Ok(true) => break,
                        Ok(false) => {}
                        Err(error) => return Err(ClientError::Malformed(error.to_string())),
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The time is looked at above.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(ClientError::Broken(error)),
            }
        }
        match decode(gathering.content()) {
            Ok(Answer::Refused(refusal)) => Err(ClientError::Refused(refusal)),
            Ok(answer) => Ok(answer),
            Err(MessageError::Version(theirs)) => Err(ClientError::Version(theirs)),
            Err(MessageError::Malformed(error)) => Err(ClientError::Malformed(error)),
        }
    }
}

/// Asks, and waits for the one answer.
///
/// # Errors
/// [`ClientError`] says what to do.
pub fn ask(path: &Path, request: &Request) -> Result<Answer, ClientError> {
    Asking::begin(path, request)?.answer()
}

impl ClientError {
    /// Whether the daemon refused for this reason.
    #[must_use]
    pub fn is_refusal(&self, reason: Reason) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.reason == reason)
    }
}
