//! The way to the host, as a backend sees it.

use shared::wire::net::{GSO_ECN, GSO_NONE, HEADER_LEN, NetHeader, feature};
use shared::wire::net_control::Mac;

use super::backend::{FrameSink, Negotiated, Packet};
use super::filter::Filter;
use super::options::BEYOND_MTU;
use super::to_host::{Chains, Posted, post};
use crate::device::queue::Queue;
use crate::device::transfer::Mover;
use crate::device::{Clock, Stop};
use crate::dma::DmaEngine;
use crate::support::BoardSupport;
use crate::trace::NetCounters;

/// Bytes after which a batch is published though more may come: the host gets
/// to work while the board goes on.
const PUBLISH_BYTES: usize = 128 * 1024;

/// The one frame that waits for buffers of the host.
#[derive(Debug)]
pub(super) struct Waiting<'b> {
    bytes: &'b mut [u8],
    frame: Option<Frame>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    header: NetHeader,
    /// Bytes with the header.
    len: usize,
    /// Buffers that have to be there before it is tried again.
    needs: u16,
}

impl<'b> Waiting<'b> {
    /// Nothing waits. `bytes` is longer than a header.
    pub(super) const fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, frame: None }
    }

    /// Whether a frame waits.
    pub(super) const fn is_some(&self) -> bool {
        self.frame.is_some()
    }

    /// Forgets the frame.
    pub(super) const fn clear(&mut self) {
        self.frame = None;
    }

    /// Forgets a frame that the driver does not take any more; whether there was one.
    pub(super) fn drop_unfit(&mut self, negotiated: &Negotiated) -> bool {
        let unfit = |frame: &mut Frame| !negotiated.may_go_to_driver(&frame.header);
        self.frame.take_if(unfit).is_some()
    }

    /// Bytes that it has.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The longest frame that it holds.
    pub(super) const fn room(&self) -> usize {
        self.bytes.len().saturating_sub(HEADER_LEN)
    }

    fn keep(&mut self, header: &NetHeader, packet: &Packet<'_>, needs: u16) -> bool {
        let from = packet.bytes();
        let Some(place) = self.bytes.get_mut(..from.len()) else { return false };
        place.copy_from_slice(from);
        self.frame = Some(Frame { header: *header, len: from.len(), needs });
        true
    }
}

/// The way to the host for the time of one run.
pub(super) struct Sink<'a, 'b, S: BoardSupport, E> {
    pub(super) mover: Mover<'a, S, E>,
    pub(super) clock: Clock,
    /// Which frames the driver wants, and its own address.
    pub(super) filter: &'a Filter,
    pub(super) own: Mac,
    /// The receiveq while it runs.
    pub(super) queue: Option<&'a mut Queue<'b, S::Window>>,
    pub(super) chains: &'a mut Chains,
    pub(super) waiting: &'a mut Waiting<'b>,
    pub(super) negotiated: Negotiated,
    pub(super) mergeable: bool,
    pub(super) counters: &'a mut NetCounters,
    /// Why the queue stopped in this run.
    pub(super) stop: Option<Stop>,
    /// A frame did not fit, and the next would meet the same buffers: none goes
    /// any more in this run.
    pub(super) choked: bool,
    /// Frames sent, and bytes since the last publish.
    pub(super) sent: u32,
    pub(super) unpublished: usize,
}

impl<S: BoardSupport, E: DmaEngine<S::Window>> Sink<'_, '_, S, E> {
    /// Posts a packet. `Some`: it has to wait for so many buffers.
    fn post(&mut self, header: &NetHeader, packet: &mut Packet<'_>) -> Option<u16> {
        let Some(queue) = self.queue.as_mut().filter(|_| !self.choked) else {
            // Nobody takes frames any more; they are dropped, not kept.
            self.counters.dropped_unfit += 1;
            return None;
        };
        let (mover, len) = (&mut self.mover, packet.frame().len());
        match post(queue, self.chains, mover, self.mergeable, header, packet) {
            Ok(Posted::Sent) => {
                self.sent += 1;
                self.counters.to_host_frames += 1;
                self.counters.to_host_bytes += len as u64;
                self.unpublished += len;
                if self.unpublished >= PUBLISH_BYTES {
                    self.publish();
                }
            }
            Ok(Posted::NeedsBuffers(needs)) => return Some(needs),
            Ok(Posted::NeverFits) => {
                self.counters.dropped_unfit += 1;
                self.choked = true;
            }
            Ok(Posted::Lost) => self.counters.dropped_dma += 1,
            Err(stop) => self.stop(stop),
        }
        None
    }

    /// Publishes what was sent so far.
    pub(super) fn publish(&mut self) {
        self.unpublished = 0;
        let Some(queue) = &mut self.queue else { return };
        match queue.publish_paced(&mut self.mover, self.clock) {
            Ok(raised) => self.counters.interrupts += raised,
            Err(stop) => self.stop(stop),
        }
    }

    fn stop(&mut self, stop: Stop) {
        if let Some(queue) = self.queue.take()
            && queue.stop(stop)
        {
            self.stop = Some(stop);
        }
        self.waiting.clear();
    }

    /// Sends the frame that waits, if there are buffers for it now.
    fn retry(&mut self) {
        let Some(frame) = self.waiting.frame else { return };
        if let Some(queue) = &mut self.queue {
            match queue.ring.available() {
                // Trying in vain would move the payload each time.
                Ok(there) if there < frame.needs.min(queue.ring.size()) => return,
                Ok(_) => {}
                Err(fault) => return self.stop(fault.into()),
            }
        }
        // Taken out for the time of the call, because the sink lends itself.
        let bytes = core::mem::take(&mut self.waiting.bytes);
        self.waiting.frame = None;
        if let Some(mut packet) = bytes.get_mut(..frame.len).and_then(Packet::new)
            && let Some(needs) = self.post(&frame.header, &mut packet)
        {
            self.waiting.frame = Some(Frame { needs, ..frame });
        }
        self.waiting.bytes = bytes;
    }

    /// Whether the driver accepted what the header asks for, and wants the
    /// frame; counts if not.
    fn accepted(&mut self, header: &NetHeader, frame: &[u8]) -> bool {
        let longest = usize::from(self.negotiated.mtu) + BEYOND_MTU;
        let bounded = self.negotiated.has(feature::MTU) && header.gso_type & !GSO_ECN == GSO_NONE;
        if !self.negotiated.may_go_to_driver(header) || (bounded && frame.len() > longest) {
            self.counters.dropped_unfit += 1;
            return false;
        }
        let wanted = self.filter.passes(frame, &self.own);
        if !wanted {
            self.counters.filtered += 1;
        }
        wanted
    }
}

/// The frame of `len` bytes behind the room for a header; none if it is longer
/// than the buffer.
fn frame_in(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(HEADER_LEN..).and_then(|frame| frame.get(..len)).unwrap_or(&[])
}

impl<S: BoardSupport, E: DmaEngine<S::Window>> FrameSink for Sink<'_, '_, S, E> {
    fn ready(&mut self) -> bool {
        self.retry();
        !self.waiting.is_some() && !self.choked
    }

    fn send(&mut self, header: &NetHeader, packet: &mut Packet<'_>) {
        if !self.accepted(header, packet.frame()) {
            return;
        }
        if self.waiting.is_some() {
            self.counters.dropped_unfit += 1;
            return;
        }
        if let Some(needs) = self.post(header, packet)
            && !self.waiting.keep(header, packet, needs)
        {
            self.counters.dropped_unfit += 1;
        }
    }

    fn counters(&mut self) -> &mut NetCounters {
        self.counters
    }

    fn build<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (Option<(NetHeader, usize)>, R)) -> R {
        self.build_in(|bytes| fill(bytes.get_mut(HEADER_LEN..).unwrap_or(&mut [])))
    }

    fn build_whole<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (Option<usize>, R)) -> R {
        self.build_in(|bytes| {
            let (len, result) = fill(bytes);
            let header = NetHeader::decode(bytes).unwrap_or_default();
            // Shorter than a header: as much beyond the buffer as can be.
            let frame = |len: usize| len.checked_sub(HEADER_LEN).unwrap_or(usize::MAX);
            (len.map(|len| (header, frame(len))), result)
        })
    }
}

impl<S: BoardSupport, E: DmaEngine<S::Window>> Sink<'_, '_, S, E> {
    /// Builds a frame behind the room for its header; `fill` has both.
    fn build_in<R>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> (Option<(NetHeader, usize)>, R),
    ) -> R {
        if self.waiting.frame.take().is_some() {
            self.counters.dropped_unfit += 1;
        }
        let bytes = core::mem::take(&mut self.waiting.bytes);
        let (frame, result) = fill(bytes);
        if let Some((header, frame_len)) = frame
            && self.accepted(&header, frame_in(bytes, frame_len))
        {
            let len = frame_len.saturating_add(HEADER_LEN);
            match bytes.get_mut(..len).and_then(Packet::new) {
                Some(mut packet) => {
                    if let Some(needs) = self.post(&header, &mut packet) {
                        self.waiting.frame = Some(Frame { header, len, needs });
                    }
                }
                None => self.counters.dropped_unfit += 1,
            }
        }
        self.waiting.bytes = bytes;
        result
    }
}
