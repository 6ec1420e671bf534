//! smoltcp's device: one frame in, the sink out.

use shared::wire::net::NetHeader;
use smoltcp::phy::{Device, DeviceCapabilities, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;

use super::checks;
use crate::device::net::backend::{FrameSink, Negotiated, Packet};
use crate::trace::NetCounters;

/// At most one received frame, and where frames go.
pub(super) struct Phy<'a, S> {
    capabilities: &'a DeviceCapabilities,
    negotiated: Negotiated,
    frame: Option<&'a [u8]>,
    sink: Option<&'a mut S>,
}

impl<'a, S: FrameSink> Phy<'a, S> {
    /// A device that has received `frame`, if that is not empty.
    pub(super) fn new(
        capabilities: &'a DeviceCapabilities,
        negotiated: Negotiated,
        frame: &'a [u8],
        sink: &'a mut S,
    ) -> Self {
        let frame = Some(frame).filter(|frame| !frame.is_empty());
        Self { capabilities, negotiated, frame, sink: Some(sink) }
    }
}

impl<'a> Phy<'a, Silence> {
    /// A device that only has capabilities.
    pub(super) fn silent(capabilities: &'a DeviceCapabilities) -> Self {
        Self { capabilities, negotiated: Negotiated::NONE, frame: None, sink: None }
    }
}

/// The sink of a device that never sends.
pub(super) enum Silence {}

impl FrameSink for Silence {
    fn ready(&mut self) -> bool {
        false
    }

    fn send(&mut self, _: &NetHeader, _: &mut Packet<'_>) {}

    fn counters(&mut self) -> &mut NetCounters {
        match *self {}
    }

    fn build<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (Option<(NetHeader, usize)>, R)) -> R {
        let _ = fill;
        match *self {}
    }

    fn build_whole<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (Option<usize>, R)) -> R {
        let _ = fill;
        match *self {}
    }
}

impl<S: FrameSink> Device for Phy<'_, S> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Sending<'t, S>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let frame = self.frame.take()?;
        let negotiated = self.negotiated;
        let sink = self.sink.as_deref_mut()?;
        Some((Received(frame), Sending { sink, negotiated, segment: None }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Self::TxToken<'_>> {
        let sink = self.sink.as_deref_mut()?;
        let negotiated = self.negotiated;
        sink.ready().then_some(Sending { sink, negotiated, segment: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.capabilities.clone()
    }
}

/// The received frame.
pub(super) struct Received<'t>(&'t [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// The right to send one frame.
pub(super) struct Sending<'t, S> {
    sink: &'t mut S,
    negotiated: Negotiated,
    segment: Option<u16>,
}

impl<S: FrameSink> TxToken for Sending<'_, S> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Self { sink, negotiated, segment } = self;
        sink.build(|buffer| {
            // `capabilities` keeps every packet of smoltcp's inside the buffer.
            debug_assert!(len <= buffer.len());
            let frame = buffer.get_mut(..len).unwrap_or(&mut []);
            let result = f(frame);
            let header = checks::offload(frame, segment, &negotiated);
            (Some((header, frame.len())), result)
        })
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment = meta.segmentation_offload_size.map(core::num::NonZeroU16::get);
    }
}
