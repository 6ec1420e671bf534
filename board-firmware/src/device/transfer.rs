//! Payload between private memory and the buffers that descriptors name.

use shared::address::BusAddress;
use shared::fault::PeerFault;
use shared::region::{RegionTable, Rights};
use shared::virtq::{Chain, Segment};

use crate::dma::{DmaEngine, DmaError};
use crate::support::BoardSupport;

/// Why payload did not move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stuck {
    /// An address that the host gave is none of its regions'.
    Peer(PeerFault),
    /// The engine failed.
    Dma(DmaError),
}

impl From<PeerFault> for Stuck {
    fn from(fault: PeerFault) -> Self {
        Self::Peer(fault)
    }
}

impl From<DmaError> for Stuck {
    fn from(error: DmaError) -> Self {
        Self::Dma(error)
    }
}

/// What it takes to reach a buffer.
pub(crate) struct Mover<'a, S: BoardSupport, E> {
    pub(crate) support: &'a mut S,
    pub(crate) dma: &'a mut E,
    pub(crate) regions: &'a RegionTable<S::Window>,
    /// Copies made, out of buffers and into them.
    pub(crate) fetches: u64,
    pub(crate) posts: u64,
    /// Something was posted since the engine last finished.
    unfinished: bool,
    /// A transfer failed, so the engine may still be at it.
    failed: bool,
}

impl<'a, S: BoardSupport, E: DmaEngine<S::Window>> Mover<'a, S, E> {
    /// A mover that has moved nothing yet.
    pub(crate) const fn new(
        support: &'a mut S,
        dma: &'a mut E,
        regions: &'a RegionTable<S::Window>,
    ) -> Self {
        Self { support, dma, regions, fetches: 0, posts: 0, unfinished: false, failed: false }
    }

    /// Gathers bytes of a chain's device-readable part, from `skip` on, into
    /// `into`.
    pub(crate) fn gather(
        &mut self,
        chain: &Chain,
        mut skip: u32,
        mut into: &mut [u8],
    ) -> Result<(), Stuck> {
        for segment in chain.segments().iter().filter(|segment| !segment.writable) {
            if skip > 0 && skip >= segment.len {
                skip -= segment.len;
                continue;
            }
            let len = ((segment.len - skip) as usize).min(into.len());
            let Some((part, rest)) = into.split_at_mut_checked(len) else { return Ok(()) };
            self.fetch(segment, skip, part)?;
            skip = 0;
            into = rest;
            if into.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn fetch(&mut self, segment: &Segment, skip: u32, mut into: &mut [u8]) -> Result<(), Stuck> {
        // A zero-length descriptor names no memory, and is legal.
        let Ok(len @ 1..) = u32::try_from(into.len()) else { return Ok(()) };
        let (address, regions) = (inside(segment, skip)?, self.regions);
        for span in regions.resolve_buffer(address, len, Rights::READ)?.iter() {
            let Some((part, rest)) = into.split_at_mut_checked(span.len as usize) else { break };
            self.support.invalidate(span.window, span.offset, span.len);
            self.fetches += 1;
            let fetched = self.dma.fetch(span.window, span.offset, part);
            self.failed |= fetched.is_err();
            fetched?;
            into = rest;
        }
        Ok(())
    }

    /// Scatters `from` over a chain's device-writable part, `skip` bytes in.
    pub(crate) fn scatter(
        &mut self,
        chain: &Chain,
        mut skip: u32,
        mut from: &[u8],
    ) -> Result<(), Stuck> {
        for segment in chain.segments().iter().filter(|segment| segment.writable) {
            if from.is_empty() {
                break;
            }
            if skip >= segment.len {
                skip -= segment.len;
                continue;
            }
            let len = ((segment.len - skip) as usize).min(from.len());
            let Some((part, rest)) = from.split_at_checked(len) else { break };
            self.post(segment, skip, part)?;
            skip = 0;
            from = rest;
        }
        Ok(())
    }

    /// Waits until all that was posted is ordered before the next words.
    pub(crate) fn finish(&mut self) -> Result<(), DmaError> {
        if self.unfinished {
            let finished = self.dma.finish();
            self.failed |= finished.is_err();
            finished?;
            self.unfinished = false;
        }
        Ok(())
    }

    /// Ends what is under way: frames that were lost or have to wait have
    /// left bytes in buffers that nobody was told of, and a transfer that
    /// failed may go on.
    pub(crate) fn leave_nothing_under_way(&mut self) {
        let _ = self.finish();
        if core::mem::take(&mut self.failed) {
            self.dma.drain();
            self.unfinished = false;
        }
    }

    fn post(&mut self, segment: &Segment, skip: u32, mut from: &[u8]) -> Result<(), Stuck> {
        let Ok(len @ 1..) = u32::try_from(from.len()) else { return Ok(()) };
        let (address, regions) = (inside(segment, skip)?, self.regions);
        for span in regions.resolve_buffer(address, len, Rights::WRITE)?.iter() {
            let Some((part, rest)) = from.split_at_checked(span.len as usize) else { break };
            self.posts += 1;
            self.unfinished = true;
            // Cache lines are written back whole: those that this begins and
            // ends in must not hold an old copy of their other bytes.
            self.support.invalidate(span.window, span.offset, 1);
            self.support.invalidate(span.window, span.offset + u64::from(span.len) - 1, 1);
            let posted = self.dma.post(part, span.window, span.offset);
            // Also of what failed nothing stays dirty.
            self.support.clean(span.window, span.offset, span.len);
            self.failed |= posted.is_err();
            posted?;
            from = rest;
        }
        Ok(())
    }
}

/// The address `skip` bytes into a segment.
fn inside(segment: &Segment, skip: u32) -> Result<BusAddress, PeerFault> {
    let wraps =
        PeerFault::AddressWraps { address: segment.address.bits(), length: u64::from(segment.len) };
    segment.address.checked_add(u64::from(skip)).ok_or(wraps)
}
