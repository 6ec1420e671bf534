//! Frames to the host: virtio-net's receiveq.

use shared::fault::PeerFault;
use shared::virtq::{Chain, UsedEntry};
use shared::wire::net::{HEADER_LEN, NetHeader};

use super::backend::Packet;
use crate::device::Stop;
use crate::device::queue::Queue;
use crate::device::transfer::{Mover, Stuck};
use crate::dma::DmaEngine;
use crate::support::BoardSupport;

/// Buffers that one frame may span; a frame that needs more does not fit. The
/// longest frame in buffers of 1526 bytes takes 43 (VirtIO 1.3 §5.1.6.3.1).
pub(super) const MAX_BUFFERS: usize = 64;

#[expect(clippy::cast_possible_truncation, reason = "a dozen bytes")]
const HEADER_BYTES: u32 = HEADER_LEN as u32;

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Posted {
    /// It lies in the host's buffers.
    Sent,
    /// The host has to add buffers first: this many in all, as far as can be told.
    NeedsBuffers(u16),
    /// It cannot be sent, now or later.
    NeverFits,
    /// The engine failed; the frame is lost, the buffers are not.
    Lost,
}

/// Two chains, because the first buffer's header is written last.
#[derive(Debug, Default)]
pub(super) struct Chains {
    first: Chain,
    next: Chain,
}

/// Puts a frame into the next buffers and completes them. On anything but
/// [`Posted::Sent`] no buffer is taken.
pub(super) fn post<S: BoardSupport, E: DmaEngine<S::Window>>(
    queue: &mut Queue<'_, S::Window>,
    chains: &mut Chains,
    mover: &mut Mover<'_, S, E>,
    mergeable: bool,
    header: &NetHeader,
    packet: &mut Packet<'_>,
) -> Result<Posted, Stop> {
    let mut buffers = Buffers { heads: [(0, 0); MAX_BUFFERS], count: 0 };
    let posted = fill(queue, chains, mover, mergeable, header, packet, &mut buffers);
    let posted = match posted {
        Ok(posted) => posted,
        // Nothing of the frame was announced. What the engine still holds for
        // these buffers goes where the next frame will go, and before it.
        Err(Stuck::Dma(_)) => Posted::Lost,
        Err(Stuck::Peer(fault)) => return Err(Stop::Peer(fault)),
    };
    if posted != Posted::Sent {
        queue.ring.unpop(buffers.count);
        return Ok(posted);
    }
    let all = buffers.heads.iter().take(usize::from(buffers.count));
    for (place, (head, written)) in (1..).zip(all) {
        // All but the last were filled wholly.
        let last = place == buffers.count;
        let entry = if last { UsedEntry::Own } else { UsedEntry::MaySkip };
        queue.complete(*head, *written, entry)?;
    }
    queue.packet();
    Ok(Posted::Sent)
}

/// The buffers of a frame: heads and bytes written.
struct Buffers {
    heads: [(u16, u32); MAX_BUFFERS],
    count: u16,
}

fn fill<S: BoardSupport, E: DmaEngine<S::Window>>(
    queue: &mut Queue<'_, S::Window>,
    chains: &mut Chains,
    mover: &mut Mover<'_, S, E>,
    mergeable: bool,
    header: &NetHeader,
    packet: &mut Packet<'_>,
    buffers: &mut Buffers,
) -> Result<Posted, Stuck> {
    let header = NetHeader { num_buffers: 1, ..*header };
    packet.set_header(&header);
    let bytes = packet.bytes();
    let mut rest = bytes;
    for slot in &mut buffers.heads {
        let first = buffers.count == 0;
        let chain = if first { &mut chains.first } else { &mut chains.next };
        let Some(head) = queue.pop(chain, mover)? else {
            return Ok(shortage(buffers.count, queue.ring.size(), bytes.len(), rest.len()));
        };
        buffers.count += 1;
        let capacity = chain.writable_len();
        let needed = if first { HEADER_BYTES } else { 1 };
        if capacity < needed {
            return Err(PeerFault::ChainTooShort { found: capacity, needed }.into());
        }
        let len = rest.len().min(capacity as usize);
        if len < rest.len() && !mergeable {
            return Ok(Posted::NeverFits);
        }
        let Some((part, behind)) = rest.split_at_checked(len) else { break };
        // The header goes with the frame in one copy if it is all there is,
        // and last if it still has to count the buffers.
        let whole = first && behind.is_empty();
        let (skip, payload) = match part.split_at_checked(HEADER_LEN) {
            Some((_, payload)) if first && !whole => (HEADER_BYTES, payload),
            _ => (0, part),
        };
        mover.scatter(chain, skip, payload)?;
        *slot = (head, u32::try_from(len).unwrap_or(capacity));
        rest = behind;
        if !rest.is_empty() {
            continue;
        }
        if !whole {
            let header = NetHeader { num_buffers: buffers.count, ..header };
            mover.scatter(&chains.first, 0, &header.encode())?;
        }
        return Ok(Posted::Sent);
    }
    Ok(Posted::NeverFits)
}

/// What to say when `count` buffers took all but `left` of `total` bytes.
fn shortage(count: u16, size: u16, total: usize, left: usize) -> Posted {
    if count >= size {
        return Posted::NeverFits;
    }
    let taken = total.saturating_sub(left);
    // As many as it takes if the rest are like those seen so far.
    let all = if taken == 0 { 0 } else { total.saturating_mul(usize::from(count)).div_ceil(taken) };
    let more = u16::try_from(all).unwrap_or(u16::MAX).clamp(count.saturating_add(1), size);
    Posted::NeedsBuffers(more)
}
