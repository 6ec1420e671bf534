//! The header of frames on their way to a board.

use shared::window::Window;
use shared::wire::net::{FLAG_NEEDS_CSUM, GSO_NONE, HEADER_LEN, NetHeader};

use super::check::{CHECKED_BYTES, Facts, checked_part, frame_limit};
use super::fault::{FaultCounts, FrameFault};
use super::offload::Offloads;
use super::parse::ETHERNET;

/// Bytes of the virtio-net header, as a frame length is counted.
const HEADER: u32 = 12;

/// Bytes of the virtio-net and Ethernet headers.
const FIRST: usize = HEADER_LEN + ETHERNET;

/// Fits the kernel's header of a frame to what the board was promised.
///
/// The kernel is trusted, but it may hand out frames that it queued under
/// another session's offloads, and it leaves `num_buffers` unwritten.
#[derive(Clone, Debug)]
pub struct OutboundHeader {
    offloads: Offloads,
    mtu: u16,
    counts: FaultCounts,
}

impl OutboundHeader {
    /// For a board that takes `offloads` and frames of `mtu` bytes of payload.
    #[must_use]
    pub fn new(offloads: Offloads, mtu: u16) -> Self {
        Self { offloads: offloads.closed(), mtu, counts: FaultCounts::default() }
    }

    /// Checks the frame of `len` bytes, header included, at `offset` of
    /// `window`, and writes the header anew there.
    ///
    /// # Errors
    /// Why the board cannot take the frame; it has been counted.
    pub fn check<W: Window>(
        &mut self,
        window: &W,
        offset: u64,
        len: u32,
    ) -> Result<(), FrameFault> {
        let mut head = [0; HEADER_LEN + CHECKED_BYTES];
        let there = usize::try_from(len).unwrap_or(usize::MAX).min(head.len());
        let head = head.get_mut(..there).unwrap_or(&mut []);
        // A plain frame's own bytes decide nothing but its type: leave them alone.
        let (first, more) = head.split_at_mut(FIRST.min(there));
        window.read(offset, first);
        let plain = NetHeader::decode(first)
            .is_some_and(|h| h.flags & FLAG_NEEDS_CSUM == 0 && h.gso_type == GSO_NONE);
        if !plain {
            window.read(offset + FIRST as u64, more);
        }
        let header = self.rebuild(head, len)?;
        window.write(offset, &header.encode());
        Ok(())
    }

    /// As [`OutboundHeader::check`], for a frame in private memory.
    ///
    /// # Errors
    /// As there.
    pub fn check_private(&mut self, frame: &mut [u8]) -> Result<(), FrameFault> {
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let head = frame.get(..HEADER_LEN + CHECKED_BYTES).unwrap_or(frame);
        let header = self.rebuild(head, len)?;
        if let Some(place) = frame.first_chunk_mut() {
            *place = header.encode();
        }
        Ok(())
    }

    /// Frames dropped so far, by cause.
    #[must_use]
    pub const fn counts(&self) -> &FaultCounts {
        &self.counts
    }

    fn rebuild(&mut self, head: &[u8], len: u32) -> Result<NetHeader, FrameFault> {
        self.checked(head, len).inspect_err(|fault| self.counts.count(*fault))
    }

    fn checked(&self, head: &[u8], len: u32) -> Result<NetHeader, FrameFault> {
        let header = NetHeader::decode(head).ok_or(FrameFault::TooShort)?;
        let frame_len = len.saturating_sub(HEADER);
        let frame = checked_part(head, frame_len)?;
        // A tag's type is in the Ethernet header; what follows it is not asked.
        let tagged = matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
        let limit = frame_limit(self.mtu, usize::from(tagged));
        let least_segment = 1;
        let facts = Facts { offloads: self.offloads, frame, frame_len, limit, least_segment };
        if header.gso_type != GSO_NONE {
            return facts.segmented(header).map(|(rebuilt, _)| rebuilt);
        }
        if frame_len > limit {
            return Err(FrameFault::TooLong);
        }
        if header.flags & FLAG_NEEDS_CSUM == 0 {
            return Ok(NetHeader::default());
        }
        if !self.offloads.checksum {
            return Err(FrameFault::ChecksumNotNegotiated);
        }
        // The kernel completes tunnels and rare protocols as well: the range is
        // what the board relies on.
        let end = u32::from(header.csum_start) + u32::from(header.csum_offset) + 2;
        if usize::from(header.csum_start) < ETHERNET || end > frame_len {
            return Err(FrameFault::ChecksumRange);
        }
        Ok(NetHeader {
            flags: FLAG_NEEDS_CSUM,
            csum_start: header.csum_start,
            csum_offset: header.csum_offset,
            ..NetHeader::default()
        })
    }
}
