//! The board's answers to bus messages, and the events it sends.

use crate::fault::PeerFault;
use crate::msg::body::{
    Body, Data, DeviceInfo, DeviceMap, Event, Message, RegionKind, RegionMessage, Request,
    Response, ResultCode,
};
use crate::msg::codec::{Frame, Malformed};
use crate::msg::device::DeviceEndpoint;
use crate::msg::kind::Side;
use crate::region::{REGION_GRANULE, Region, RegionError, Rights};
use crate::window::Window;
use crate::wire::msg::{DEVICE_NUMBERS_MAX, FRAME_LEN};

use super::{BUDGET, BoardLink, BoardModel, LinkNext, MAX_DEVICES, Phase};

/// EVENT_DEVICE: the device is ready.
pub(in crate::link) const DEVICE_READY: u16 = 1;
/// EVENT_DEVICE: the device is gone.
pub(in crate::link) const DEVICE_REMOVED: u16 = 2;

impl<W: Window + Clone> BoardLink<W> {
    /// Goes on with the channel, answers messages, sends events. `true`: look
    /// again soon.
    pub(super) fn serve(
        &mut self,
        model: &mut impl BoardModel<W>,
        next: &mut LinkNext,
    ) -> Result<bool, PeerFault> {
        self.channel.poll()?;
        if !self.channel.is_running() {
            return Ok(true);
        }
        let mut frame: Frame = [0; FRAME_LEN];
        let mut budget = BUDGET;
        // Room for the answer first: a host that takes none gets no further.
        while budget > 0 && self.channel.has_room()? && self.channel.receive(&mut frame)? {
            budget -= 1;
            self.stats.messages += 1;
            let answer = match Message::decode(&frame, Side::Driver) {
                Ok(message) => self.answer(&message, model, next),
                Err(Malformed::Body) => self.refusal(&frame),
                Err(_) => None,
            };
            match answer {
                Some(answer) => {
                    next.raise_vector0 |= self.channel.send(&answer.encode())?;
                }
                None => self.stats.discarded += 1,
            }
        }
        let blocked = !self.channel.has_room()?;
        let more = self.send_events(model, next)?;
        Ok(budget == 0 || blocked || more)
    }

    /// The answer to one message; `None`: there is none.
    fn answer(
        &mut self,
        message: &Message,
        model: &mut impl BoardModel<W>,
        next: &mut LinkNext,
    ) -> Option<Message> {
        let attached = matches!(self.phase, Phase::Session { attached: true, .. });
        let request = match &message.body {
            Body::Request(request) => request,
            Body::Event(Event::Avail { .. }) if attached => {
                next.look_at_queues = true;
                return None;
            }
            Body::Event(_) | Body::Response(_) => return None,
        };
        let response = match *request {
            Request::Ping { data } => Response::Pong { data },
            Request::GetDevices { first, count } => devices(first, count, model)?,
            Request::Attach { version, boot, session } => self.attach(version, boot, session),
            _ if !attached => return None,
            Request::AddRegion(region) => {
                let result = self.add_region(&region, model).err().unwrap_or(ResultCode::Ok);
                Response::AddRegion { id: region.id, result }
            }
            Request::RemoveRegion { id } => {
                Response::RemoveRegion { id, result: self.remove_region(id, model) }
            }
            Request::RouteQueue { device, .. } if self.is_going(device) => return None,
            Request::RouteQueue { device, queue, doorbell, vector } => {
                let known = 1..self.description.doorbell.count;
                let result = if !known.contains(&doorbell)
                    || !(1..self.description.vectors).contains(&vector)
                {
                    ResultCode::Invalid
                } else {
                    match u16::try_from(device).ok().and_then(|number| there(model, number)) {
                        Some(device) => device.route(queue, doorbell, vector),
                        None => ResultCode::Unknown,
                    }
                };
                Response::RouteQueue { device, queue, result }
            }
            Request::BoardReset { boot } => Response::BoardReset {
                result: if boot != self.boot {
                    ResultCode::StaleEpoch
                } else if model.board_reset() {
                    ResultCode::Ok
                } else {
                    ResultCode::NotAllowed
                },
            },
            _ if self.is_going(message.device.into()) => return None,
            _ => match there(model, message.device) {
                Some(device) => device.handle(request, &self.regions)?,
                // All that a number without a device answers.
                None if *request == Request::GetDeviceInfo => {
                    Response::DeviceInfo(DeviceInfo::default())
                }
                None => return None,
            },
        };
        let body = Body::Response(response);
        Some(Message { device: message.device, token: message.token, body })
    }

    /// The answer to a request whose body is malformed.
    fn refusal(&self, frame: &Frame) -> Option<Message> {
        let mut answer = Message::refusal(frame)?;
        match &mut answer.body {
            Body::Response(Response::Attach { boot, session, .. }) => {
                (*boot, *session) = (self.boot, self.accepted);
            }
            _ if !matches!(self.phase, Phase::Session { attached: true, .. }) => return None,
            _ => {}
        }
        Some(answer)
    }

    fn attach(&mut self, version: u32, boot: u32, session: u32) -> Response {
        let result = match &mut self.phase {
            Phase::Session { session: ours, version: chosen, attached } => {
                if boot != self.boot || session != ours.get() {
                    ResultCode::StaleEpoch
                } else if version != u32::from(*chosen) {
                    ResultCode::Version
                } else {
                    *attached = true;
                    ResultCode::Ok
                }
            }
            Phase::Silent | Phase::Ready | Phase::Draining { .. } => ResultCode::StaleEpoch,
        };
        Response::Attach { result, version, boot: self.boot, session: self.accepted }
    }

    fn add_region(
        &mut self,
        region: &RegionMessage,
        model: &mut impl BoardModel<W>,
    ) -> Result<(), ResultCode> {
        let must = |good: bool| if good { Ok(()) } else { Err(ResultCode::Invalid) };
        let rights = Rights::from_bits(region.rights).ok_or(ResultCode::Invalid)?;
        let id = u8::try_from(region.id).map_err(|_| ResultCode::Invalid)?;
        must(usize::from(id) < crate::region::MAX_REGIONS)?;
        must(region.len != 0 && region.len.is_multiple_of(REGION_GRANULE))?;
        must(region.base.bits().is_multiple_of(REGION_GRANULE))?;
        let last = region.base.checked_add(region.len - 1).ok_or(ResultCode::Invalid)?;
        must(region.base.bits().checked_add(region.len).is_some())?;
        for old in self.regions.iter() {
            let old_last = old.base.checked_add(old.window.len().saturating_sub(1));
            let apart = old_last.is_none_or(|old_last| old_last < region.base || last < old.base);
            must(old.id != id && apart)?;
        }
        let mut windows = 0;
        match region.kind {
            RegionKind::Host { status_page } => {
                must(!region.base.is_board())?;
                must(!status_page || rights.contains(Rights::WRITE) && self.status.is_none())?;
                let outbound = self.description.outbound.ok_or(ResultCode::OutOfReach)?;
                windows = outbound
                    .windows_for(region.base.bits(), region.len)
                    .ok_or(ResultCode::OutOfReach)?;
                if self.windows_used.saturating_add(windows) > u64::from(outbound.windows) {
                    return Err(ResultCode::NoRoom);
                }
            }
            RegionKind::Board { index } => {
                must(region.base.is_board())?;
                let offered = usize::try_from(index)
                    .ok()
                    .and_then(|index| self.description.regions.get(index))
                    .ok_or(ResultCode::Unknown)?;
                must(offered.len == region.len && offered.rights == rights)?;
            }
        }
        if self.regions.count() >= crate::region::MAX_REGIONS {
            return Err(ResultCode::NoRoom);
        }
        let window = model.add_region(region)?;
        let page = match region.kind {
            RegionKind::Host { status_page: true } => window.part(0, REGION_GRANULE),
            RegionKind::Host { status_page: false } | RegionKind::Board { .. } => None,
        };
        let fits = window.len() == region.len;
        let inserted = match self.regions.insert(Region { id, base: region.base, rights, window }) {
            _ if !fits => Err(ResultCode::NotAllowed),
            Ok(()) => Ok(()),
            Err(RegionError::TableFull) => Err(ResultCode::NoRoom),
            Err(
                RegionError::BadLength
                | RegionError::Wraps
                | RegionError::Overlaps
                | RegionError::Unknown,
            ) => Err(ResultCode::Invalid),
        };
        if inserted.is_err() {
            // Nothing uses it yet, so the model has nothing to drain.
            model.remove_region(id);
            let _ = self.regions.remove(id);
            return inserted;
        }
        self.windows_used = self.windows_used.saturating_add(windows);
        if let Some(page) = page {
            self.status = Some((id, page));
            self.post();
        }
        Ok(())
    }

    fn remove_region(&mut self, id: u32, model: &mut impl BoardModel<W>) -> ResultCode {
        let found = u8::try_from(id).ok().and_then(|id| self.regions.iter().find(|r| r.id == id));
        let Some(region) = found else { return ResultCode::Unknown };
        let (id, base, len) = (region.id, region.base, region.window.len());
        let touched = (0..MAX_DEVICES).any(|number| {
            model
                .device(number)
                .is_some_and(|device| !device.drained() || device.touches(base, len))
        });
        if touched || !model.remove_region(id) {
            return ResultCode::Busy;
        }
        if self.regions.remove(id).is_err() {
            return ResultCode::Unknown;
        }
        if self.status.as_ref().is_some_and(|(region, _)| *region == id) {
            self.status = None;
        }
        if let (false, Some(outbound)) = (base.is_board(), self.description.outbound) {
            let windows = outbound.windows_for(base.bits(), len).unwrap_or(0);
            self.windows_used = self.windows_used.saturating_sub(windows);
        }
        ResultCode::Ok
    }

    /// Sends what waits to be told; `true`: something had no room.
    fn send_events(
        &mut self,
        model: &mut impl BoardModel<W>,
        next: &mut LinkNext,
    ) -> Result<bool, PeerFault> {
        if !matches!(self.phase, Phase::Session { attached: true, .. }) {
            return Ok(false);
        }
        for device in 0..MAX_DEVICES {
            if !self.channel.has_room()? {
                return Ok(true);
            }
            let event = there(model, device).and_then(|endpoint| endpoint.take_event());
            if let Some(event) = event {
                let (status, generation) = (event.status.bits(), event.generation);
                let body = Event::Config { status, generation, offset: 0, data: Data::empty() };
                self.send_event(device, body, next)?;
            }
            if self.tell_device(device, model, next)? {
                return Ok(true);
            }
        }
        if let Some(report) = self.pending.fault {
            let event = Event::Fault {
                code: report.fault.code(),
                device: report.device.into(),
                queue: report.queue.into(),
                detail: 0,
                count: self.pending.faults,
            };
            if self.send_event(0, event, next)? {
                self.pending.fault = None;
            }
        }
        let waits = self.pending.ready | self.pending.removed != 0 || self.pending.fault.is_some();
        Ok(waits)
    }

    /// Tells that a device went, once it is drained, and that it came back.
    /// `true`: there was no room.
    fn tell_device(
        &mut self,
        number: u16,
        model: &mut impl BoardModel<W>,
        next: &mut LinkNext,
    ) -> Result<bool, PeerFault> {
        let bit = 1_u64.checked_shl(number.into()).unwrap_or(0);
        if self.pending.removed & bit != 0 {
            if !model.device(number).is_none_or(|device| device.drained()) {
                return Ok(false);
            }
            let event = Event::Device { device: number, state: DEVICE_REMOVED };
            if !self.send_event(0, event, next)? {
                return Ok(true);
            }
            self.pending.removed &= !bit;
        }
        if self.pending.ready & bit != 0 {
            let event = Event::Device { device: number, state: DEVICE_READY };
            if !self.send_event(0, event, next)? {
                return Ok(true);
            }
            self.pending.ready &= !bit;
        }
        Ok(false)
    }

    fn send_event(
        &mut self,
        device: u16,
        event: Event,
        next: &mut LinkNext,
    ) -> Result<bool, PeerFault> {
        let sent =
            self.channel.send(&Message { device, token: 0, body: Body::Event(event) }.encode())?;
        next.raise_vector0 |= sent;
        Ok(sent)
    }

    /// Whether the device is about to be told as gone: nothing that the host
    /// asks of it in the meantime has an answer.
    fn is_going(&self, device: u32) -> bool {
        self.pending.removed.checked_shr(device).unwrap_or(0) & 1 == 1
    }
}

/// The device with this number, if it is there for the host.
fn there<W: Window, M: BoardModel<W>>(
    model: &mut M,
    number: u16,
) -> Option<&mut dyn DeviceEndpoint<W>> {
    if number < MAX_DEVICES && model.present(number) { model.device(number) } else { None }
}

/// The answer to GET_DEVICES; `None` for numbers that are no multiples of 8
/// (docs/protocol.md, section 5.2).
fn devices<W: Window>(first: u16, count: u16, model: &mut impl BoardModel<W>) -> Option<Response> {
    if !first.is_multiple_of(8) || !count.is_multiple_of(8) {
        return None;
    }
    let count = count.min(u16::try_from(DEVICE_NUMBERS_MAX).unwrap_or(0));
    let mut bits = [0_u8; DEVICE_NUMBERS_MAX / 8];
    for (byte, base) in bits.iter_mut().zip((u32::from(first)..).step_by(8)) {
        for bit in 0..8 {
            let number = u16::try_from(base + bit).ok().filter(|number| *number < MAX_DEVICES);
            let listed = number.is_some_and(|number| there(model, number).is_some());
            *byte |= u8::from(listed) << bit;
        }
    }
    let end = first.saturating_add(count);
    let next = if count == 0 || end >= MAX_DEVICES { 0 } else { end };
    let bits = Data::new(bits.get(..usize::from(count / 8))?)?;
    Some(Response::Devices(DeviceMap { first, count, next, bits }))
}
