//! A console of the board, from the host's side (VirtIO 1.3 §5.3): bytes
//! between its two queues and a terminal.
//!
//! A plain state machine: time is passed in, and nothing waits.
//!
//! Guarantee: whatever the board does, a step moves a bounded number of
//! buffers, and so does a second. What the terminal does not take is held back,
//! here one buffer, the rest at the board: its log then drops its oldest lines.
//! Bytes are passed on as they are, as by any serial line (docs/safety.md).

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

use shared::fault::PeerFault;
use shared::link::Reason;
use shared::virtq::{AddError, Segment};
use shared::window::Window;

use crate::bus::Ring;
use crate::limit::RateLimit;
use crate::slow_queue::{SLOW_BUFFER, SLOW_ENTRIES, SlowQueue};

/// Buffers from the board in [`PERIOD`] ms at most, also empty ones: some
/// megabytes a second, and no more than a small share of a thread.
const BUFFERS: u32 = 64;

/// Milliseconds.
const PERIOD: u64 = 10;

/// Where a console's bytes come from and go to. Neither method waits.
pub trait Terminal {
    /// Bytes that were typed, into `into`: how many, 0 if there are none.
    ///
    /// # Errors
    /// The terminal's.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Shows bytes: how many it has taken, 0 if it takes none now.
    ///
    /// # Errors
    /// The terminal's.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Forgets what was typed and not read: it was meant for nobody, or for
    /// another session.
    ///
    /// # Errors
    /// The terminal's.
    fn forget_typed(&mut self) -> io::Result<()>;
}

/// Why a console is of no use any more.
#[derive(Debug)]
pub enum ConsoleError {
    /// The board broke a rule of a queue.
    Peer(PeerFault),
    /// The terminal failed.
    Terminal(io::Error),
}

impl From<PeerFault> for ConsoleError {
    fn from(fault: PeerFault) -> Self {
        Self::Peer(fault)
    }
}

impl From<io::Error> for ConsoleError {
    fn from(error: io::Error) -> Self {
        Self::Terminal(error)
    }
}

impl fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(fault) => Reason::Fault(*fault).fmt(f),
            Self::Terminal(error) => {
                write!(f, "the console's terminal failed: {error}; the next session tries it again")
            }
        }
    }
}

impl std::error::Error for ConsoleError {}

/// What a step moved, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Moved {
    /// From the board to the terminal.
    pub to_host: u64,
    /// From the terminal to the board.
    pub to_board: u64,
}

/// What the terminal has to be watched for before the next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wants {
    /// Bytes that were typed.
    pub readable: bool,
    /// Room for bytes of the board's.
    pub writable: bool,
}

/// The driver side of a console.
#[derive(Debug)]
pub struct Console<W: Window, R> {
    to_host: SlowQueue<W, R>,
    to_board: SlowQueue<W, R>,
    held: Held,
    /// Nothing was given to the board yet.
    fresh: bool,
    limit: RateLimit,
    limited_until: Option<u64>,
    total: Moved,
}

/// A buffer of the board's on its way to the terminal.
#[derive(Debug)]
struct Held {
    bytes: [u8; SLOW_BUFFER as usize],
    from: usize,
    to: usize,
}

impl Held {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or(&[])
    }
}

impl<W: Window, R: Ring> Console<W, R> {
    /// The console with these queues, which are as they were set up.
    #[must_use]
    pub const fn new(to_host: SlowQueue<W, R>, to_board: SlowQueue<W, R>) -> Self {
        Self {
            to_host,
            to_board,
            held: Held { bytes: [0; SLOW_BUFFER as usize], from: 0, to: 0 },
            fresh: true,
            limit: RateLimit::new(BUFFERS, PERIOD),
            limited_until: None,
            total: Moved { to_host: 0, to_board: 0 },
        }
    }

    /// Moves what there is, both ways.
    ///
    /// # Errors
    /// [`ConsoleError`]: the device has to be reset, or the terminal opened
    /// again.
    pub fn step(&mut self, now: u64, terminal: &mut impl Terminal) -> Result<Moved, ConsoleError> {
        if self.fresh {
            terminal.forget_typed()?;
            self.give_buffers()?;
            self.fresh = false;
        }
        let to_host = self.show(now, terminal)?;
        let to_board = self.send(terminal)?;
        self.total.to_host += to_host;
        self.total.to_board += to_board;
        Ok(Moved { to_host, to_board })
    }

    /// From the board to the terminal.
    fn show(&mut self, now: u64, terminal: &mut impl Terminal) -> Result<u64, ConsoleError> {
        let mut shown = 0;
        self.limited_until = None;
        for _ in 0..SLOW_ENTRIES {
            if !self.held.bytes().is_empty() {
                let taken = terminal.write(self.held.bytes())?;
                self.held.from += taken;
                shown += taken as u64;
                if !self.held.bytes().is_empty() {
                    break;
                }
            }
            if self.limit.is_reached(now) {
                self.limited_until = Some(now.saturating_add(PERIOD));
                break;
            }
            let Some(done) = self.to_host.queue.take()? else { break };
            let _ = self.limit.admit(now);
            let area = &self.to_host.writable;
            // The queue has checked that it is no longer than the buffer.
            let len = (done.len as usize).min(self.held.bytes.len());
            if let Some(into) = self.held.bytes.get_mut(..len) {
                area.window().read(area.offset(done.head), into);
            }
            (self.held.from, self.held.to) = (0, len);
            self.give_buffers()?;
        }
        Ok(shown)
    }

    /// Gives the board every buffer that it can have.
    fn give_buffers(&mut self) -> Result<(), PeerFault> {
        let SlowQueue { queue, writable, doorbell, .. } = &mut self.to_host;
        while let Some(head) = queue.next_head() {
            let address = writable.address(head);
            add(queue.add(&[Segment { address, len: SLOW_BUFFER, writable: true }]))?;
        }
        if queue.publish() {
            doorbell.ring();
        }
        Ok(())
    }

    /// From the terminal to the board.
    fn send(&mut self, terminal: &mut impl Terminal) -> Result<u64, ConsoleError> {
        let SlowQueue { queue, readable, doorbell, .. } = &mut self.to_board;
        for _ in 0..SLOW_ENTRIES {
            if queue.take()?.is_none() {
                break;
            }
        }
        let mut sent = 0;
        for _ in 0..SLOW_ENTRIES {
            let Some(head) = queue.next_head() else { break };
            let mut bytes = [0; SLOW_BUFFER as usize];
            let typed = terminal.read(&mut bytes)?.min(bytes.len());
            if typed == 0 {
                break;
            }
            // Whole words: also a BAR takes them.
            let padded = bytes.get(..typed.next_multiple_of(4)).unwrap_or(&bytes);
            readable.window().write(readable.offset(head), padded);
            let len = u32::try_from(typed).unwrap_or(SLOW_BUFFER);
            let address = readable.address(head);
            add(queue.add(&[Segment { address, len, writable: false }]))?;
            sent += typed as u64;
        }
        if queue.publish() {
            doorbell.ring();
        }
        Ok(sent)
    }

    /// Asks for an interrupt and looks once more (R4). `true`: nothing is
    /// there, the caller may sleep until an interrupt, what it
    /// [`wants`](Self::wants) of the terminal, or [`wake_at`](Self::wake_at).
    ///
    /// # Errors
    /// As for [`step`](Self::step).
    pub fn arm(&mut self) -> Result<bool, ConsoleError> {
        let mut quiet = !self.fresh;
        if self.held.bytes().is_empty() && self.limited_until.is_none() {
            quiet &= self.to_host.queue.arm()?;
        }
        if self.to_board.queue.free() == 0 {
            quiet &= self.to_board.queue.arm()?;
        }
        Ok(quiet)
    }

    /// What to watch the terminal for.
    #[must_use]
    pub fn wants(&self) -> Wants {
        Wants { readable: self.to_board.queue.free() > 0, writable: !self.held.bytes().is_empty() }
    }

    /// When to call [`step`](Self::step) at the latest, in ms, if the board
    /// has sent more than it may in its time.
    #[must_use]
    pub const fn wake_at(&self) -> Option<u64> {
        self.limited_until
    }

    /// What it has moved so far.
    #[must_use]
    pub const fn total(&self) -> Moved {
        self.total
    }
}

/// What a queue says to a buffer for which it had a descriptor.
fn add(added: Result<u16, AddError>) -> Result<(), PeerFault> {
    match added {
        Ok(_) => Ok(()),
        Err(AddError::Broken(fault)) => Err(fault),
        Err(_) => {
            debug_assert!(false, "a descriptor was free");
            Err(PeerFault::QueueSetup { queue: 0 })
        }
    }
}
