//! Messages to bytes and back, over private copies only.

use crate::address::BusAddress;
use crate::wire::msg::{
    DEVICE, FEATURE_WORDS_MAX, FRAME_LEN, HEADER_LEN, ID, PAYLOAD_MAX, SIZE, TOKEN, TYPE, TYPE_BUS,
    TYPE_RESPONSE,
};

use super::body::{
    Body, ConfigData, Data, DeviceInfo, DeviceMap, Event, FeatureWords, Message, QueueAddresses,
    RegionKind, RegionMessage, Request, Response, ResultCode,
};
use super::kind::{Kind, Side};

/// One channel element: a message and what lies behind it.
pub type Frame = [u8; FRAME_LEN];

/// Why a message is discarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// No message has this type and id.
    Unknown,
    /// The size is below what the id needs, or above the element.
    Size,
    /// An event with a token, or a request or response without one.
    Token,
    /// A bus message with a device number.
    Device,
    /// This side does not send this message.
    Direction,
    /// A count inside does not fit the size, or a reserved field is not zero.
    Body,
}

const ADD_REGION_STATUS_PAGE: u32 = 1;
const KIND_HOST: u32 = 0;
const KIND_BOARD: u32 = 1;

/// Words of a payload.
const WORDS: usize = PAYLOAD_MAX / 4;

/// A payload, at least as long as its kind's fixed fields.
struct Payload<'a> {
    /// The words of the whole frame: what lies behind the message's end is
    /// none of a fixed field's.
    words: [u32; WORDS],
    /// The bytes up to the message's end.
    bytes: &'a [u8],
}

impl Payload<'_> {
    /// `count` bytes of data from `at` on; `None` if they are not there.
    fn data<const N: usize>(&self, at: usize, count: u32) -> Option<Data<N>> {
        let count = usize::try_from(count).ok()?;
        Data::new(self.bytes.get(at..)?.get(..count)?)
    }

    fn feature_words(&self) -> Option<FeatureWords> {
        let [first, count, given @ ..] = self.words;
        let len = usize::try_from(count).ok()?;
        let mut words = [0; FEATURE_WORDS_MAX];
        words.get_mut(..len)?.copy_from_slice(given.get(..len)?);
        let there = 8 + 4 * len <= self.bytes.len();
        there.then_some(FeatureWords { first, count, words })
    }

    fn queue(&self) -> (u32, u32, QueueAddresses) {
        let [queue, largest, size, _, a, b, c, d, e, f, ..] = self.words;
        let [descriptors, driver, device] = [address(a, b), address(c, d), address(e, f)];
        (queue, largest, QueueAddresses { size, descriptors, driver, device })
    }

    fn config(&self) -> Option<(u32, u32, ConfigData)> {
        let [generation, offset, count, ..] = self.words;
        Some((generation, offset, self.data(12, count)?))
    }

    fn region(&self) -> Option<RegionMessage> {
        let [id, kind, rights, flags, base, base_high, len, len_high, index, reserved, ..] =
            self.words;
        zero(reserved)?;
        let kind = match (kind, flags, index) {
            (KIND_HOST, 0, 0) => RegionKind::Host { status_page: false },
            (KIND_HOST, ADD_REGION_STATUS_PAGE, 0) => RegionKind::Host { status_page: true },
            (KIND_BOARD, 0, index) => RegionKind::Board { index },
            _ => return None,
        };
        let (base, len) = (address(base, base_high), wide(len, len_high));
        Some(RegionMessage { id, kind, rights, base, len })
    }
}

/// A field that must be zero in a message of ours.
const fn zero(reserved: u32) -> Option<()> {
    if reserved == 0 { Some(()) } else { None }
}

/// A field of 64 bits from its two words.
const fn wide(low: u32, high: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

const fn address(low: u32, high: u32) -> BusAddress {
    BusAddress::new(wide(low, high))
}

/// The two fields of 16 bits in a word.
const fn halves(word: u32) -> (u16, u16) {
    let [a, b, c, d] = word.to_le_bytes();
    (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
}

/// The words of a frame's payload.
fn words(frame: &Frame) -> [u32; WORDS] {
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(frame.as_chunks().0.iter().skip(HEADER_LEN / 4)) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

/// Type, id, device number, token and size.
const fn header(frame: &Frame) -> (u8, u8, u16, u16, u16) {
    let [flags, id, a, b, c, d, e, f, ..] = *frame;
    let half = u16::from_le_bytes;
    (flags, id, half([a, b]), half([c, d]), half([e, f]))
}

/// Writes fields in order; what does not fit is dropped and remembered.
struct Writer<'a> {
    frame: &'a mut Frame,
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, from: &[u8]) -> &mut Self {
        if let Some(to) = self.frame.get_mut(self.at..self.at + from.len()) {
            to.copy_from_slice(from);
            self.at += from.len();
        }
        self
    }

    fn words(&mut self, words: &[u32]) -> &mut Self {
        for word in words {
            self.bytes(&word.to_le_bytes());
        }
        self
    }

    fn queue(&mut self, queue: u32, largest: u32, addresses: &QueueAddresses) -> &mut Self {
        let QueueAddresses { size, descriptors, driver, device } = addresses;
        let [(a, b), (c, d), (e, f)] = [descriptors, driver, device].map(|at| split(at.bits()));
        self.words(&[queue, largest, *size, 0, a, b, c, d, e, f])
    }

    fn feature_words(&mut self, words: &FeatureWords) -> &mut Self {
        let given = usize::try_from(words.count).unwrap_or(usize::MAX).min(FEATURE_WORDS_MAX);
        let given = words.words.get(..given).unwrap_or(&[]);
        self.words(&[words.first, words.count]).words(given)
    }

    fn data<const N: usize>(&mut self, data: &Data<N>) -> &mut Self {
        let bytes = data.as_slice();
        self.words(&[u32::try_from(bytes.len()).unwrap_or(0)]).bytes(bytes)
    }
}

/// A field of 64 bits as two words.
#[expect(clippy::cast_possible_truncation, reason = "the other half is the other word")]
const fn split(wide: u64) -> (u32, u32) {
    (wide as u32, (wide >> 32) as u32)
}

/// Two fields of 16 bits as a word.
fn pair(low: u16, high: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}

impl Message {
    /// The message as bytes; unused ones are zero.
    #[must_use]
    pub fn encode(&self) -> Frame {
        let mut frame = [0; FRAME_LEN];
        let mut writer = Writer { frame: &mut frame, at: HEADER_LEN };
        let (kind, response) = match &self.body {
            Body::Request(request) => {
                encode_request(request, &mut writer);
                (request.kind(), false)
            }
            Body::Response(response) => {
                encode_response(response, &mut writer);
                (response.kind(), true)
            }
            Body::Event(event) => {
                encode_event(event, &mut writer);
                (event.kind(), false)
            }
        };
        let size = u16::try_from(writer.at).unwrap_or(0);
        let (bus, id) = kind.wire();
        let flags = if response { TYPE_RESPONSE } else { 0 } | if bus { TYPE_BUS } else { 0 };
        let mut header = Writer { frame: &mut frame, at: TYPE };
        header.words(&[pair(u16::from_le_bytes([flags, id]), self.device), pair(self.token, size)]);
        frame
    }

    /// The message in `frame`, which `sender` wrote.
    ///
    /// # Errors
    /// Why it is to be discarded.
    pub fn decode(frame: &Frame, sender: Side) -> Result<Self, Malformed> {
        let (flags, id, device, token, size) = header(frame);
        let response = flags & TYPE_RESPONSE != 0;
        let kind = Kind::from_wire(flags & TYPE_BUS != 0, id).ok_or(Malformed::Unknown)?;
        let least = kind.least_size(response).ok_or(Malformed::Unknown)?;
        let size = usize::from(size);
        if size < least {
            return Err(Malformed::Size);
        }
        let bytes = frame.get(HEADER_LEN..size).ok_or(Malformed::Size)?;
        if (token == 0) != kind.is_event() {
            return Err(Malformed::Token);
        }
        if kind.wire().0 && device != 0 {
            return Err(Malformed::Device);
        }
        let asker = if response { sender.peer() } else { sender };
        if !kind.sent_by(asker) {
            return Err(Malformed::Direction);
        }
        let payload = Payload { words: words(frame), bytes };
        let body = decode_body(kind, response, &payload).ok_or(Malformed::Body)?;
        Ok(Self { device, token, body })
    }

    /// What a board answers to a request of virtio-phys that [`Self::decode`]
    /// found to be [`Malformed::Body`]: a reserved field that is not zero, or a
    /// number that no field has, is [`ResultCode::Invalid`] (docs/protocol.md,
    /// "Result codes"). `None`: such a request has no result, and is discarded.
    #[must_use]
    pub fn refusal(frame: &Frame) -> Option<Self> {
        let (flags, id, device, token, _) = header(frame);
        let kind = Kind::from_wire(flags & TYPE_BUS != 0, id)?;
        let [region, ..] = words(frame);
        let result = ResultCode::Invalid;
        let response = match kind {
            _ if flags & TYPE_RESPONSE != 0 => return None,
            Kind::Attach => Response::Attach { result, version: 0, boot: 0, session: 0 },
            Kind::AddRegion => Response::AddRegion { id: region, result },
            Kind::RemoveRegion => Response::RemoveRegion { id: region, result },
            Kind::BoardReset => Response::BoardReset { result },
            _ => return None,
        };
        Some(Self { device, token, body: Body::Response(response) })
    }
}

fn encode_request(request: &Request, w: &mut Writer<'_>) {
    match request {
        Request::GetDeviceInfo | Request::GetDeviceStatus => w,
        Request::GetDeviceFeatures { first, count } => w.words(&[*first, *count]),
        Request::SetDriverFeatures(words) => w.feature_words(words),
        Request::GetConfig { offset, count } => w.words(&[*offset, *count]),
        Request::SetConfig { generation, offset, data } => {
            w.words(&[*generation, *offset]).data(data)
        }
        Request::SetDeviceStatus { status } => w.words(&[*status]),
        Request::GetVqueue { queue } | Request::ResetVqueue { queue } => w.words(&[*queue]),
        Request::SetVqueue { queue, addresses } => w.queue(*queue, 0, addresses),
        Request::GetShm { index } => w.words(&[*index]),
        Request::GetDevices { first, count } => w.words(&[pair(*first, *count)]),
        Request::Ping { data } => w.words(&[*data]),
        Request::Attach { version, boot, session } => w.words(&[*version, *boot, *session, 0]),
        Request::AddRegion(region) => {
            let (kind, flags, index) = match region.kind {
                RegionKind::Host { status_page: true } => (KIND_HOST, ADD_REGION_STATUS_PAGE, 0),
                RegionKind::Host { status_page: false } => (KIND_HOST, 0, 0),
                RegionKind::Board { index } => (KIND_BOARD, 0, index),
            };
            let ((base, base_high), (len, len_high)) =
                (split(region.base.bits()), split(region.len));
            let (id, rights) = (region.id, region.rights);
            w.words(&[id, kind, rights, flags, base, base_high, len, len_high, index, 0])
        }
        Request::RemoveRegion { id } => w.words(&[*id, 0]),
        Request::RouteQueue { device, queue, doorbell, vector } => {
            w.words(&[*device, *queue, *doorbell, *vector])
        }
        Request::BoardReset { boot } => w.words(&[*boot, 0]),
    };
}

fn encode_response(response: &Response, w: &mut Writer<'_>) {
    match response {
        Response::DriverFeatures | Response::SetVqueue | Response::ResetVqueue => w,
        Response::DeviceInfo(info) => w.words(&[
            info.device_id,
            info.vendor_id,
            info.feature_bits,
            info.config_size,
            info.queues,
            pair(info.admin_start, info.admin_count),
        ]),
        Response::DeviceFeatures(words) => w.feature_words(words),
        Response::Config { generation, offset, data }
        | Response::SetConfig { generation, offset, data } => {
            w.words(&[*generation, *offset]).data(data)
        }
        Response::DeviceStatus { status } | Response::SetDeviceStatus { status } => {
            w.words(&[*status])
        }
        Response::Vqueue { queue, largest, addresses } => w.queue(*queue, *largest, addresses),
        Response::Shm { index, len, address } => w.words(&[*index, *len, *address]),
        Response::Devices(map) => w
            .words(&[pair(map.first, map.count)])
            .bytes(&map.next.to_le_bytes())
            .bytes(map.bits.as_slice()),
        Response::Pong { data } => w.words(&[*data]),
        Response::Attach { result, version, boot, session } => {
            w.words(&[result.code(), *version, *boot, *session])
        }
        Response::AddRegion { id, result } | Response::RemoveRegion { id, result } => {
            w.words(&[*id, result.code()])
        }
        Response::RouteQueue { device, queue, result } => {
            w.words(&[*device, *queue, result.code(), 0])
        }
        Response::BoardReset { result } => w.words(&[result.code(), 0]),
    };
}

fn encode_event(event: &Event, w: &mut Writer<'_>) {
    match event {
        Event::Config { status, generation, offset, data } => {
            w.words(&[*status, *generation, *offset]).data(data)
        }
        Event::Avail { queue, next } => w.words(&[*queue, *next]),
        Event::Used { queue } => w.words(&[*queue]),
        Event::Device { device, state } => w.words(&[pair(*device, *state)]),
        Event::Fault { code, device, queue, detail, count } => {
            w.words(&[*code, *device, *queue, *detail, *count])
        }
    };
}

fn decode_body(kind: Kind, response: bool, payload: &Payload<'_>) -> Option<Body> {
    match (kind.is_event(), response) {
        (true, _) => decode_event(kind, payload).map(Body::Event),
        (false, false) => decode_request(kind, payload).map(Body::Request),
        (false, true) => decode_response(kind, payload).map(Body::Response),
    }
}

fn decode_request(kind: Kind, payload: &Payload<'_>) -> Option<Request> {
    let [a, b, c, d, ..] = payload.words;
    Some(match kind {
        Kind::GetDeviceInfo => Request::GetDeviceInfo,
        Kind::GetDeviceFeatures => Request::GetDeviceFeatures { first: a, count: b },
        Kind::SetDriverFeatures => Request::SetDriverFeatures(payload.feature_words()?),
        Kind::GetConfig => Request::GetConfig { offset: a, count: b },
        Kind::SetConfig => {
            let (generation, offset, data) = payload.config()?;
            Request::SetConfig { generation, offset, data }
        }
        Kind::GetDeviceStatus => Request::GetDeviceStatus,
        Kind::SetDeviceStatus => Request::SetDeviceStatus { status: a },
        Kind::GetVqueue => Request::GetVqueue { queue: a },
        Kind::SetVqueue => {
            let (queue, _, addresses) = payload.queue();
            Request::SetVqueue { queue, addresses }
        }
        Kind::ResetVqueue => Request::ResetVqueue { queue: a },
        Kind::GetShm => Request::GetShm { index: a },
        Kind::GetDevices => {
            let (first, count) = halves(a);
            Request::GetDevices { first, count }
        }
        Kind::Ping => Request::Ping { data: a },
        Kind::Attach => {
            zero(d)?;
            Request::Attach { version: a, boot: b, session: c }
        }
        Kind::AddRegion => Request::AddRegion(payload.region()?),
        Kind::RemoveRegion => {
            zero(b)?;
            Request::RemoveRegion { id: a }
        }
        Kind::RouteQueue => Request::RouteQueue { device: a, queue: b, doorbell: c, vector: d },
        Kind::BoardReset => {
            zero(b)?;
            Request::BoardReset { boot: a }
        }
        Kind::EventConfig
        | Kind::EventAvail
        | Kind::EventUsed
        | Kind::EventDevice
        | Kind::EventFault => return None,
    })
}

fn decode_response(kind: Kind, payload: &Payload<'_>) -> Option<Response> {
    let [a, b, c, d, e, f, ..] = payload.words;
    Some(match kind {
        Kind::GetDeviceInfo => {
            let (admin_start, admin_count) = halves(f);
            Response::DeviceInfo(DeviceInfo {
                device_id: a,
                vendor_id: b,
                feature_bits: c,
                config_size: d,
                queues: e,
                admin_start,
                admin_count,
            })
        }
        Kind::GetDeviceFeatures => Response::DeviceFeatures(payload.feature_words()?),
        Kind::SetDriverFeatures => Response::DriverFeatures,
        Kind::GetConfig => {
            let (generation, offset, data) = payload.config()?;
            Response::Config { generation, offset, data }
        }
        Kind::SetConfig => {
            let (generation, offset, data) = payload.config()?;
            Response::SetConfig { generation, offset, data }
        }
        Kind::GetDeviceStatus => Response::DeviceStatus { status: a },
        Kind::SetDeviceStatus => Response::SetDeviceStatus { status: a },
        Kind::GetVqueue => {
            let (queue, largest, addresses) = payload.queue();
            Response::Vqueue { queue, largest, addresses }
        }
        Kind::SetVqueue => Response::SetVqueue,
        Kind::ResetVqueue => Response::ResetVqueue,
        Kind::GetShm => Response::Shm { index: a, len: b, address: c },
        Kind::GetDevices => {
            let ((first, count), (next, _)) = (halves(a), halves(b));
            let bits = payload.data(6, u32::from(count).div_ceil(8))?;
            Response::Devices(DeviceMap { first, count, next, bits })
        }
        Kind::Ping => Response::Pong { data: a },
        Kind::Attach => {
            Response::Attach { result: ResultCode::from_code(a), version: b, boot: c, session: d }
        }
        Kind::AddRegion => Response::AddRegion { id: a, result: ResultCode::from_code(b) },
        Kind::RemoveRegion => Response::RemoveRegion { id: a, result: ResultCode::from_code(b) },
        Kind::RouteQueue => {
            zero(d)?;
            Response::RouteQueue { device: a, queue: b, result: ResultCode::from_code(c) }
        }
        Kind::BoardReset => {
            zero(b)?;
            Response::BoardReset { result: ResultCode::from_code(a) }
        }
        Kind::EventConfig
        | Kind::EventAvail
        | Kind::EventUsed
        | Kind::EventDevice
        | Kind::EventFault => return None,
    })
}

fn decode_event(kind: Kind, payload: &Payload<'_>) -> Option<Event> {
    let [a, b, c, d, e, ..] = payload.words;
    Some(match kind {
        Kind::EventConfig => {
            let data = payload.data(16, d)?;
            Event::Config { status: a, generation: b, offset: c, data }
        }
        Kind::EventAvail => Event::Avail { queue: a, next: b },
        Kind::EventUsed => Event::Used { queue: a },
        Kind::EventDevice => {
            let (device, state) = halves(a);
            Event::Device { device, state }
        }
        Kind::EventFault => Event::Fault { code: a, device: b, queue: c, detail: d, count: e },
        _ => return None,
    })
}

// The header's fields follow each other without gaps, as the code above takes for granted.
const _: () = assert!(TYPE == 0 && ID == 1 && DEVICE == 2 && TOKEN == 4 && SIZE == 6);
