//! Messages of a session: asking, and what comes back.

use std::collections::VecDeque;

use shared::address::BusAddress;
use shared::msg::channel::Channel;
use shared::msg::{
    Body, Event, Frame, Kind, Message, RegionKind, RegionMessage, Request, Response, ResultCode,
    Side,
};
use shared::window::Window;
use shared::wire::control::live;
use shared::wire::msg::{
    DEVICE, FRAME_LEN, HEADER_LEN, ID, SIZE, TOKEN, TYPE, TYPE_BUS, TYPE_RESPONSE,
};

use super::card::Shared;
use super::kit::Kit;
use super::point::{Checked, Stop, must, seen, skip};

/// Events and other messages that are taken in one wait; a board that sends
/// more floods.
const MOST_MESSAGES: u32 = 4096;

/// Bytes of host memory that the kit lends.
pub(super) const FAR_LEN: u64 = 128 << 10;
/// Bytes of it that are region 0: status page, used rings, buffers to the host.
pub(super) const FAR_WRITABLE: u64 = 64 << 10;
/// Bytes of it that are region 1: buffers to the board.
pub(super) const FAR_READABLE: u64 = 32 << 10;
/// Bytes of board memory that the kit needs for descriptors and buffers.
const NEAR_LEN: u64 = 64 << 10;
/// Where the kit puts board memory: above bit 63, not at 0.
pub(super) const BOARD_BASE: u64 = 1 << 63 | 1 << 40;
/// Region numbers.
pub(super) const WRITABLE: u32 = 0;
pub(super) const READABLE: u32 = 1;
pub(super) const BOARD: u32 = 2;

/// Memory and where the board reaches it.
#[derive(Clone)]
pub(super) struct Area {
    pub(super) base: BusAddress,
    pub(super) window: Shared,
}

impl Area {
    /// The bus address of byte `offset`.
    pub(super) const fn at(&self, offset: u64) -> u64 {
        self.base.bits().wrapping_add(offset)
    }
}

/// What a session's regions are.
#[derive(Clone)]
pub(super) struct Lent {
    /// Host memory; of a board that does not reach any, board memory.
    pub(super) far: Area,
    /// Board memory.
    pub(super) near: Area,
    /// Whether `far` is host memory.
    pub(super) split: bool,
}

/// A session that the board has accepted.
pub(super) struct Session {
    pub(super) epoch: u32,
    pub(super) channel: Channel<Shared>,
    token: u16,
    /// Events that nobody has looked at.
    pub(super) events: VecDeque<Message>,
    pub(super) lent: Option<Lent>,
}

/// A message's header, read as it stands.
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) id: u8,
    pub(super) device: u16,
    pub(super) token: u16,
    pub(super) size: u16,
}

impl Header {
    pub(super) fn of(frame: &Frame) -> Self {
        let half = |at: usize| u16::from_le_bytes([frame[at], frame[at + 1]]);
        let (device, token, size) = (half(DEVICE), half(TOKEN), half(SIZE));
        Self { kind: frame[TYPE], id: frame[ID], device, token, size }
    }

    const fn is_response(&self) -> bool {
        self.kind & TYPE_RESPONSE != 0
    }

    /// Whether the type's bit 1 and the id are those of an event.
    fn is_event(&self) -> bool {
        !self.is_response()
            && Kind::from_wire(self.kind & TYPE_BUS != 0, self.id).is_some_and(Kind::is_event)
    }
}

/// A frame written byte by byte; what does not fit is left out.
pub(super) fn raw(kind: u8, id: u8, device: u16, token: u16, size: u16, payload: &[u8]) -> Frame {
    let mut frame = [0; FRAME_LEN];
    frame[TYPE] = kind;
    frame[ID] = id;
    frame[DEVICE..DEVICE + 2].copy_from_slice(&device.to_le_bytes());
    frame[TOKEN..TOKEN + 2].copy_from_slice(&token.to_le_bytes());
    frame[SIZE..SIZE + 2].copy_from_slice(&size.to_le_bytes());
    for (to, from) in frame[HEADER_LEN..].iter_mut().zip(payload) {
        *to = *from;
    }
    frame
}

/// Words as a payload.
pub(super) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Session {
    pub(super) const fn new(epoch: u32, channel: Channel<Shared>) -> Self {
        Self { epoch, channel, token: 0, events: VecDeque::new(), lent: None }
    }

    /// A token that is not in flight.
    pub(super) const fn fresh_token(&mut self) -> u16 {
        self.token = match self.token.wrapping_add(1) {
            0 => 1,
            token => token,
        };
        self.token
    }
}

impl Kit<'_> {
    /// Sends one frame as it is, with a doorbell.
    pub(super) fn send(&mut self, frame: &Frame) -> Checked {
        let limit = self.patience();
        let sent = self.until(limit, |kit| match kit.session()?.channel.send(frame) {
            Ok(true) => Ok(Some(())),
            Ok(false) => Ok(None),
            Err(fault) => seen(format!("the channel broke: {fault}")),
        })?;
        must(sent.is_some(), || format!("the board took no message for {} ms", limit.as_millis()))?;
        self.ring(0);
        Ok(())
    }

    /// The next frame that is no event; `None`: there is none now. Events are kept.
    pub(super) fn take_frame(&mut self) -> Result<Option<Frame>, Stop> {
        for _ in 0..MOST_MESSAGES {
            let mut frame = [0; FRAME_LEN];
            let session = self.session()?;
            let taken = session.channel.poll().and_then(|()| session.channel.receive(&mut frame));
            match taken {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(fault) => {
                    return seen(format!("the channel broke: {fault}; {}", self.standing()));
                }
            }
            let header = Header::of(&frame);
            if header.is_event() {
                match Message::decode(&frame, Side::Device) {
                    Ok(event) => session.events.push_back(event),
                    Err(error) => {
                        return seen(format!("the board sent a malformed event: {error:?}"));
                    }
                }
            } else if !header.is_response() && header.kind & TYPE_BUS != 0 && header.id == 3 {
                // Either side may ask whether the other is there.
                self.answer_ping(&frame)?;
            } else {
                return Ok(Some(frame));
            }
        }
        seen(format!("the board sent {MOST_MESSAGES} messages that nobody asked for"))
    }

    fn answer_ping(&mut self, frame: &Frame) -> Checked {
        let mut answer = *frame;
        answer[TYPE] |= TYPE_RESPONSE;
        self.send(&answer)
    }

    /// Waits for the answer to a request that has just been sent. Nothing else may come first.
    pub(super) fn answer_to(&mut self, asked: &Frame) -> Result<Frame, Stop> {
        let limit = self.patience();
        let Some(frame) = self.until(limit, Self::take_frame)? else {
            let (id, ms) = (asked[ID], limit.as_millis());
            return seen(format!("no answer to message {id:#04x} in {ms} ms; {}", self.standing()));
        };
        let (asked, header) = (Header::of(asked), Header::of(&frame));
        let name = format!("the answer to message {:#04x}", asked.id);
        must(header.is_response(), || format!("{name} is no response: type {}", header.kind))?;
        must(header.token == asked.token, || {
            format!("{name} has token {}, asked with {}", header.token, asked.token)
        })?;
        must(header.kind & TYPE_BUS == asked.kind & TYPE_BUS && header.id == asked.id, || {
            format!("{name} has type {} and id {:#04x}", header.kind, header.id)
        })?;
        must(header.device == asked.device, || {
            format!("{name} has device number {}, asked with {}", header.device, asked.device)
        })?;
        let size = usize::from(header.size);
        must((HEADER_LEN..=FRAME_LEN).contains(&size), || format!("{name} has size {size}"))?;
        Ok(frame)
    }

    /// Asks as `frame` stands.
    pub(super) fn ask_frame(&mut self, frame: &Frame) -> Result<Response, Stop> {
        self.send(frame)?;
        let answer = self.answer_to(frame)?;
        match Message::decode(&answer, Side::Device) {
            Ok(Message { body: Body::Response(response), .. }) => Ok(response),
            Ok(_) => seen("the answer is no response"),
            Err(error) => {
                seen(format!("the answer to message {:#04x} is malformed: {error:?}", frame[ID]))
            }
        }
    }

    /// Asks device `device`; bus messages have 0.
    pub(super) fn ask(&mut self, device: u16, request: Request) -> Result<Response, Stop> {
        let token = self.session()?.fresh_token();
        let frame = Message { device, token, body: Body::Request(request) }.encode();
        self.ask_frame(&frame)
    }

    /// A ping behind all that was sent: what comes before its answer is an
    /// answer that must not be.
    pub(super) fn fence(&mut self, behind: &str) -> Checked {
        let token = self.session()?.fresh_token();
        let body = Body::Request(Request::Ping { data: 0x5EED });
        let ping = Message { device: 0, token, body }.encode();
        self.send(&ping)?;
        let limit = self.patience();
        let Some(frame) = self.until(limit, Self::take_frame)? else {
            return seen(format!(
                "behind {behind}, a ping is not answered in {} ms; {}",
                limit.as_millis(),
                self.standing()
            ));
        };
        let header = Header::of(&frame);
        must(header.is_response() && header.token == token && header.id == ping[ID], || {
            format!(
                "{behind} was answered: type {}, id {:#04x}, device {}, token {}",
                header.kind, header.id, header.device, header.token
            )
        })
    }

    /// Sends what the board has to discard without an answer.
    pub(super) fn ignored(&mut self, frame: &Frame, name: &str) -> Checked {
        self.send(frame)?;
        self.fence(name)
    }

    /// ATTACH, with these fields.
    pub(super) fn attach_with(
        &mut self,
        version: u32,
        boot: u32,
        session: u32,
    ) -> Result<(ResultCode, [u32; 3]), Stop> {
        match self.ask(0, Request::Attach { version, boot, session })? {
            Response::Attach { result, version, boot, session } => {
                Ok((result, [version, boot, session]))
            }
            other => seen(format!("ATTACH was answered with {other:?}")),
        }
    }

    /// A session that is attached, without regions.
    pub(super) fn attach(&mut self) -> Checked {
        let session = self.begin()?;
        let boot = self.live(live::BOOT_EPOCH)?;
        let version = u32::from(self.board()?.description.versions.max);
        let (result, said) = self.attach_with(version, boot, session)?;
        must(result == ResultCode::Ok && said == [version, boot, session], || {
            format!("ATTACH was answered with result {} and {said:#x?}", result.code())
        })
    }

    /// ADD_REGION.
    pub(super) fn add(&mut self, region: RegionMessage) -> Result<ResultCode, Stop> {
        match self.ask(0, Request::AddRegion(region))? {
            Response::AddRegion { id, result } if id == region.id => Ok(result),
            other => seen(format!("ADD_REGION was answered with {other:?}")),
        }
    }

    /// REMOVE_REGION, once.
    pub(super) fn remove(&mut self, id: u32) -> Result<ResultCode, Stop> {
        match self.ask(0, Request::RemoveRegion { id })? {
            Response::RemoveRegion { id: said, result } if said == id => Ok(result),
            other => seen(format!("REMOVE_REGION was answered with {other:?}")),
        }
    }

    /// The board region that the kit uses: the longest that the device reads.
    pub(super) fn board_region(&mut self) -> Result<(u32, RegionMessage, Shared), Stop> {
        let board = self.board()?;
        let needed =
            if board.description.outbound.is_some() { NEAR_LEN } else { NEAR_LEN + FAR_LEN };
        let reads = shared::region::Rights::READ;
        let found = (0..)
            .zip(board.description.regions.iter())
            .filter(|(_, region)| region.rights.contains(reads) && region.len >= needed)
            .max_by_key(|(_, region)| region.len);
        let Some((index, region)) = found else {
            return skip(format!("no board region that the device reads has {needed} bytes"));
        };
        let widest = board.description.widest_store;
        let message = RegionMessage {
            id: BOARD,
            kind: RegionKind::Board { index },
            rights: region.rights.bits(),
            base: BusAddress::new(BOARD_BASE),
            len: region.len,
        };
        let window = match self.card.memory(region.bar, widest) {
            Ok(bar) => bar.part(region.offset, region.len),
            Err(error) => return seen(format!("BAR {}: {error}", region.bar)),
        };
        match window {
            Some(window) => Ok((index, message, window)),
            None => seen("a board region leaves its BAR"),
        }
    }

    /// Host memory for a session, if the board reaches any.
    pub(super) fn lend(&mut self) -> Result<Option<Area>, Stop> {
        if self.board()?.description.outbound.is_none() {
            return Ok(None);
        }
        match self.card.lend(FAR_LEN) {
            Ok((base, window)) => Ok(Some(Area { base, window })),
            Err(error) => seen(format!("the bus shares no memory: {error}")),
        }
    }

    /// A session with the kit's three regions.
    pub(super) fn share(&mut self) -> Result<Lent, Stop> {
        self.attach()?;
        let (_, message, window) = self.board_region()?;
        let near = Area { base: message.base, window };
        let far = self.lend()?;
        let mut regions = vec![message];
        let split = far.is_some();
        let far = match far {
            Some(far) => {
                let host = |id, rights, offset, len, status_page| RegionMessage {
                    id,
                    kind: RegionKind::Host { status_page },
                    rights,
                    base: BusAddress::new(far.at(offset)),
                    len,
                };
                regions.push(host(WRITABLE, 3, 0, FAR_WRITABLE, true));
                regions.push(host(READABLE, 1, FAR_WRITABLE, FAR_READABLE, false));
                far
            }
            None => {
                let window = near.window.part(NEAR_LEN, FAR_LEN);
                let base = BusAddress::new(near.at(NEAR_LEN));
                let window = window.map_or_else(|| seen("board memory is too short"), Ok)?;
                Area { base, window }
            }
        };
        for region in regions {
            let result = self.add(region)?;
            must(result == ResultCode::Ok, || {
                format!("ADD_REGION of a good region was answered with {}", result.code())
            })?;
        }
        let lent = Lent { far, near, split };
        self.session()?.lent = Some(lent.clone());
        Ok(lent)
    }

    /// The first event that `wanted` picks, among those that came and come.
    pub(super) fn event<T>(
        &mut self,
        mut wanted: impl FnMut(u16, &Event) -> Option<T>,
    ) -> Result<Option<T>, Stop> {
        let limit = self.patience();
        self.until(limit, |kit| {
            if let Some(frame) = kit.take_frame()? {
                let header = Header::of(&frame);
                return seen(format!(
                    "a message that nobody waits for: type {}, id {:#04x}, token {}",
                    header.kind, header.id, header.token
                ));
            }
            let events = &mut kit.session()?.events;
            let picked = events.iter().enumerate().find_map(|(at, message)| match &message.body {
                Body::Event(event) => Some((at, wanted(message.device, event)?)),
                _ => None,
            });
            Ok(picked.map(|(at, found)| {
                events.remove(at);
                found
            }))
        })
    }
}
