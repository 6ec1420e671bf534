//! Frames from the host: virtio-net's transmitq.

use shared::fault::PeerFault;
use shared::virtq::{Chain, UsedEntry};
use shared::wire::net::{GSO_NONE, HEADER_LEN, MAX_FRAME, NetHeader};

use super::backend::Negotiated;
use super::checksum::{ETHERNET_HEADER, header_holds};
use super::options::BEYOND_MTU;
use crate::device::Stop;
use crate::device::queue::Queue;
use crate::device::transfer::{Mover, Stuck};
use crate::dma::DmaEngine;
use crate::support::BoardSupport;
use crate::trace::NetCounters;

/// What the next entry of the ring held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// Nothing: the ring is empty.
    Nothing,
    /// A frame that was dropped and counted.
    Dropped,
    /// A frame: `bytes` of header and frame in the buffer.
    Frame {
        /// Its header, checked.
        header: NetHeader,
        /// Bytes, with the header.
        bytes: usize,
    },
}

/// Takes the next frame into `into` and completes its buffer: the host has it
/// back with the next publish, whatever becomes of the copy.
pub(super) fn take<S: BoardSupport, E: DmaEngine<S::Window>>(
    queue: &mut Queue<'_, S::Window>,
    chain: &mut Chain,
    mover: &mut Mover<'_, S, E>,
    negotiated: &Negotiated,
    into: &mut [u8],
    counters: &mut NetCounters,
) -> Result<Taken, Stop> {
    let Some(head) = queue.pop(chain, mover)? else { return Ok(Taken::Nothing) };
    let taken = read(chain, mover, negotiated, into, counters)?;
    // Nothing here is device-writable unless the driver says so against
    // VirtIO 1.3 §5.1.6.2.1; then "filled wholly" would be a lie.
    let entry = if chain.writable_len() == 0 { UsedEntry::MaySkip } else { UsedEntry::Own };
    queue.complete(head, 0, entry)?;
    queue.packet();
    Ok(taken)
}

fn read<S: BoardSupport, E: DmaEngine<S::Window>>(
    chain: &Chain,
    mover: &mut Mover<'_, S, E>,
    negotiated: &Negotiated,
    into: &mut [u8],
    counters: &mut NetCounters,
) -> Result<Taken, PeerFault> {
    let bytes = chain.readable_len() as usize;
    if bytes < HEADER_LEN + ETHERNET_HEADER {
        counters.dropped_short += 1;
        return Ok(Taken::Dropped);
    }
    let room = into.len().min(HEADER_LEN + MAX_FRAME);
    let Some(packet) = into.get_mut(..bytes).filter(|_| bytes <= room) else {
        counters.dropped_long += 1;
        return Ok(Taken::Dropped);
    };
    match mover.gather(chain, 0, packet) {
        Ok(()) => {}
        Err(Stuck::Peer(fault)) => return Err(fault),
        Err(Stuck::Dma(_)) => {
            counters.dropped_dma += 1;
            return Ok(Taken::Dropped);
        }
    }
    let frame_len = bytes - HEADER_LEN;
    let header = NetHeader::decode(packet).unwrap_or_default();
    if !header_holds(&header, frame_len, negotiated) {
        counters.dropped_header += 1;
        return Ok(Taken::Dropped);
    }
    if header.gso_type == GSO_NONE && frame_len > usize::from(negotiated.mtu) + BEYOND_MTU {
        counters.dropped_long += 1;
        return Ok(Taken::Dropped);
    }
    counters.to_board_frames += 1;
    counters.to_board_bytes += frame_len as u64;
    Ok(Taken::Frame { header, bytes })
}
