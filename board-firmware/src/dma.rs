//! Moving payload between a window and private memory.
//!
//! Guarantee: what [`DmaEngine::fetch`] returns is in private memory, and what
//! was posted before [`DmaEngine::finish`] is where the peer finds it before
//! any word that is stored afterwards. So a used entry published behind
//! `finish` never announces bytes that are still on their way.
//!
//! [`CpuCopy`] serves every board; a board with an engine implements the trait
//! for it and may still copy short frames with the CPU.

use core::fmt;

use shared::window::{Barrier, Window};

/// Why a transfer did not happen, or did not end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DmaError {
    /// The engine did not finish within its own time limit.
    Timeout,
    /// The bus refused the access: unmapped, master abort, poisoned data.
    Bus,
    /// The range does not lie in the window, or the engine cannot reach it.
    Unreachable,
}

impl fmt::Display for DmaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "DMA engine did not finish in time",
            Self::Bus => "DMA transfer refused by the bus",
            Self::Unreachable => "DMA engine cannot reach the address",
        })
    }
}

impl core::error::Error for DmaError {}

/// Something that copies payload between windows and private memory.
///
/// # Implementation contract
/// - Every call is bounded in time by the implementation; it never waits on
///   the peer.
/// - `fetch` returns only when the bytes are in `into`, coherent with the CPU.
/// - `post` takes the bytes out of `from` before it returns (an engine that
///   works on later keeps a bounce buffer); they may arrive any time up to
///   `finish`.
/// - Posts to the same bytes arrive in the order in which they were made.
/// - A failed `fetch` or `post` leaves the engine usable.
///
/// On a board whose cache is not coherent
/// ([`BoardSupport::clean`](crate::support::BoardSupport::clean)):
/// - An engine reads and writes board memory past the cache, or keeps the
///   cache clean itself.
/// - One that leaves some copies to the CPU finishes each of its own posts
///   before it returns: a header and the bytes behind it share a cache line,
///   and the CPU must not have fetched that line before they arrived.
pub trait DmaEngine<W: Window> {
    /// Copies from the window at `offset` into private memory.
    ///
    /// # Errors
    /// [`DmaError`]: `into` then holds nothing that may be used.
    fn fetch(&mut self, from: &W, offset: u64, into: &mut [u8]) -> Result<(), DmaError>;

    /// Copies private memory into the window at `offset`.
    ///
    /// # Errors
    /// [`DmaError`]: the peer must not be told of these bytes.
    fn post(&mut self, from: &[u8], to: &W, offset: u64) -> Result<(), DmaError>;

    /// Waits until everything posted is ordered before the words that the
    /// calling CPU stores next, through any window.
    ///
    /// Called once a batch, before its used entries are published.
    ///
    /// # Errors
    /// [`DmaError`]: some of what was posted did not arrive.
    fn finish(&mut self) -> Result<(), DmaError>;

    /// Stops: when it returns the engine touches no window any more, whatever
    /// became of the transfers.
    ///
    /// Called in the step in which a transfer failed, so that no answer to a
    /// reset leaves the board while one goes on; before the host is told that
    /// its session is over; and before a window goes away.
    fn drain(&mut self);
}

/// Copies with the calling CPU, with the window's own widest accesses.
#[derive(Clone, Copy, Default, Debug)]
pub struct CpuCopy;

impl<W: Window> DmaEngine<W> for CpuCopy {
    fn fetch(&mut self, from: &W, offset: u64, into: &mut [u8]) -> Result<(), DmaError> {
        check(from, offset, into.len())?;
        from.read(offset, into);
        Ok(())
    }

    fn post(&mut self, from: &[u8], to: &W, offset: u64) -> Result<(), DmaError> {
        check(to, offset, from.len())?;
        to.write(offset, from);
        Ok(())
    }

    // The queue's write barrier before its index orders this CPU's own stores.
    fn finish(&mut self) -> Result<(), DmaError> {
        Ok(())
    }

    fn drain(&mut self) {}
}

fn check<W: Window>(window: &W, offset: u64, len: usize) -> Result<(), DmaError> {
    if shared::window::fits(window.len(), offset, len as u64) {
        Ok(())
    } else {
        Err(DmaError::Unreachable)
    }
}

/// What a [`FakeEngine`] does to the transfer that its countdown reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails with this error.
    Fail(DmaError),
    /// A fetch is answered with all ones, as a dead bus does.
    AllOnes,
}

/// An engine for tests: holds posted bytes back until [`DmaEngine::finish`],
/// as a real engine may, and fails on demand.
///
/// It keeps at most `HELD` transfers of at most `BYTES` bytes; what exceeds
/// that is copied at once.
#[derive(Debug)]
pub struct FakeEngine<W, const HELD: usize, const BYTES: usize> {
    held: [Option<Held<W, BYTES>>; HELD],
    countdown: Option<(u32, Fault)>,
    /// Transfers asked for so far.
    pub transfers: u32,
}

#[derive(Debug)]
struct Held<W, const BYTES: usize> {
    window: W,
    offset: u64,
    bytes: [u8; BYTES],
    len: usize,
}

impl<W, const HELD: usize, const BYTES: usize> Default for FakeEngine<W, HELD, BYTES> {
    fn default() -> Self {
        Self { held: [const { None }; HELD], countdown: None, transfers: 0 }
    }
}

impl<W, const HELD: usize, const BYTES: usize> FakeEngine<W, HELD, BYTES> {
    /// Applies `fault` to the transfer after the next `after` ones.
    pub fn fail_after(&mut self, after: u32, fault: Fault) {
        self.countdown = Some((after, fault));
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.held.iter().all(Option::is_none)
    }

    fn due(&mut self) -> Option<Fault> {
        self.transfers = self.transfers.wrapping_add(1);
        match self.countdown.take() {
            Some((0, fault)) => Some(fault),
            Some((left, fault)) => {
                self.countdown = Some((left - 1, fault));
                None
            }
            None => None,
        }
    }
}

impl<W: Window + Clone, const HELD: usize, const BYTES: usize> DmaEngine<W>
    for FakeEngine<W, HELD, BYTES>
{
    fn fetch(&mut self, from: &W, offset: u64, into: &mut [u8]) -> Result<(), DmaError> {
        match self.due() {
            Some(Fault::Fail(error)) => return Err(error),
            Some(Fault::AllOnes) => {
                into.fill(0xFF);
                return Ok(());
            }
            None => {}
        }
        CpuCopy.fetch(from, offset, into)
    }

    fn post(&mut self, from: &[u8], to: &W, offset: u64) -> Result<(), DmaError> {
        if let Some(Fault::Fail(error)) = self.due() {
            return Err(error);
        }
        check(to, offset, from.len())?;
        let free = self.held.iter_mut().find(|slot| slot.is_none());
        let (Some(slot), true) = (free, from.len() <= BYTES) else {
            return CpuCopy.post(from, to, offset);
        };
        let mut bytes = [0; BYTES];
        for (to, from) in bytes.iter_mut().zip(from) {
            *to = *from;
        }
        *slot = Some(Held { window: to.clone(), offset, bytes, len: from.len() });
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DmaError> {
        if let Some(Fault::Fail(error)) = self.due() {
            self.drain();
            return Err(error);
        }
        for held in self.held.iter_mut().filter_map(Option::take) {
            held.window.write(held.offset, held.bytes.get(..held.len).unwrap_or(&[]));
            held.window.barrier(Barrier::Write);
        }
        Ok(())
    }

    fn drain(&mut self) {
        self.held.fill_with(|| None);
    }
}
