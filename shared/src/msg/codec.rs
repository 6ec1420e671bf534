//! Messages to bytes and back, over private copies only.

use byteorder::{ByteOrder, LittleEndian as Le};

use crate::address::BusAddress;
use crate::wire::msg::{
    DEVICE, FEATURE_WORDS_MAX, FRAME_LEN, HEADER_LEN, ID, SIZE, TOKEN, TYPE, TYPE_BUS,
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

/// Reads fields in order; past the end it reads zeros and remembers.
struct Reader<'a> {
    left: &'a [u8],
    short: bool,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.left.split_first_chunk() {
            Some((taken, left)) => {
                self.left = left;
                *taken
            }
            None => {
                self.short = true;
                [0; N]
            }
        }
    }

    fn u16(&mut self) -> u16 {
        Le::read_u16(&self.array::<2>())
    }

    fn u32(&mut self) -> u32 {
        Le::read_u32(&self.array::<4>())
    }

    fn address(&mut self) -> BusAddress {
        BusAddress::new(self.u64())
    }

    fn u64(&mut self) -> u64 {
        Le::read_u64(&self.array::<8>())
    }

    /// `count` bytes of data; `None` if they are not there.
    fn data<const N: usize>(&mut self, count: u32) -> Option<Data<N>> {
        let count = usize::try_from(count).ok()?;
        let (data, left) = self.left.split_at_checked(count)?;
        self.left = left;
        Data::new(data)
    }

    fn feature_words(&mut self) -> Option<FeatureWords> {
        let (first, count) = (self.u32(), self.u32());
        let mut words = [0; FEATURE_WORDS_MAX];
        for word in words.get_mut(..usize::try_from(count).ok()?)? {
            *word = self.u32();
        }
        Some(FeatureWords { first, count, words })
    }

    /// A field that must be zero in a message of ours.
    fn reserved(&mut self) -> Option<()> {
        (self.u32() == 0).then_some(())
    }
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

    fn u16(&mut self, value: u16) -> &mut Self {
        let mut bytes = [0; 2];
        Le::write_u16(&mut bytes, value);
        self.bytes(&bytes)
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        let mut bytes = [0; 4];
        Le::write_u32(&mut bytes, value);
        self.bytes(&bytes)
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        let mut bytes = [0; 8];
        Le::write_u64(&mut bytes, value);
        self.bytes(&bytes)
    }

    fn addresses(&mut self, addresses: &QueueAddresses) -> &mut Self {
        self.u64(addresses.descriptors.bits())
            .u64(addresses.driver.bits())
            .u64(addresses.device.bits())
    }

    fn feature_words(&mut self, words: &FeatureWords) {
        self.u32(words.first).u32(words.count);
        for (_, word) in words.iter() {
            self.u32(word);
        }
    }

    fn data<const N: usize>(&mut self, data: &Data<N>) {
        let bytes = data.as_slice();
        self.u32(u32::try_from(bytes.len()).unwrap_or(0)).bytes(bytes);
    }
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
        header.bytes(&[flags, id]).u16(self.device).u16(self.token).u16(size);
        frame
    }

    /// The message in `frame`, which `sender` wrote.
    ///
    /// # Errors
    /// Why it is to be discarded.
    pub fn decode(frame: &Frame, sender: Side) -> Result<Self, Malformed> {
        let (header, payload) = frame.split_at(HEADER_LEN);
        let mut reader = Reader { left: header, short: false };
        let [flags, id] = reader.array();
        let (device, token, size) = (reader.u16(), reader.u16(), reader.u16());

        let response = flags & TYPE_RESPONSE != 0;
        let kind = Kind::from_wire(flags & TYPE_BUS != 0, id).ok_or(Malformed::Unknown)?;
        let least = kind.least_size(response).ok_or(Malformed::Unknown)?;
        let size = usize::from(size);
        if size < least {
            return Err(Malformed::Size);
        }
        let payload = payload.get(..size - HEADER_LEN).ok_or(Malformed::Size)?;
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
        let mut reader = Reader { left: payload, short: false };
        let body = decode_body(kind, response, &mut reader).ok_or(Malformed::Body)?;
        if reader.short {
            return Err(Malformed::Body);
        }
        Ok(Self { device, token, body })
    }

    /// What a board answers to a request of virtio-phys that [`Self::decode`]
    /// found to be [`Malformed::Body`]: a reserved field that is not zero, or a
    /// number that no field has, is [`ResultCode::Invalid`] (docs/protocol.md,
    /// "Result codes"). `None`: such a request has no result, and is discarded.
    #[must_use]
    pub fn refusal(frame: &Frame) -> Option<Self> {
        let (header, payload) = frame.split_at(HEADER_LEN);
        let mut reader = Reader { left: header, short: false };
        let [flags, id] = reader.array();
        let (device, token) = (reader.u16(), reader.u16());
        let kind = Kind::from_wire(flags & TYPE_BUS != 0, id)?;
        let region = Reader { left: payload, short: false }.u32();
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
        Request::GetDeviceInfo | Request::GetDeviceStatus => {}
        Request::GetDeviceFeatures { first, count } => {
            w.u32(*first).u32(*count);
        }
        Request::SetDriverFeatures(words) => w.feature_words(words),
        Request::GetConfig { offset, count } => {
            w.u32(*offset).u32(*count);
        }
        Request::SetConfig { generation, offset, data } => {
            w.u32(*generation).u32(*offset).data(data);
        }
        Request::SetDeviceStatus { status } => {
            w.u32(*status);
        }
        Request::GetVqueue { queue } | Request::ResetVqueue { queue } => {
            w.u32(*queue);
        }
        Request::SetVqueue { queue, addresses } => {
            w.u32(*queue).u32(0).u32(addresses.size).u32(0).addresses(addresses);
        }
        Request::GetShm { index } => {
            w.u32(*index);
        }
        Request::GetDevices { first, count } => {
            w.u16(*first).u16(*count);
        }
        Request::Ping { data } => {
            w.u32(*data);
        }
        Request::Attach { version, boot, session } => {
            w.u32(*version).u32(*boot).u32(*session).u32(0);
        }
        Request::AddRegion(region) => {
            let (kind, flags, index) = match region.kind {
                RegionKind::Host { status_page: true } => (KIND_HOST, ADD_REGION_STATUS_PAGE, 0),
                RegionKind::Host { status_page: false } => (KIND_HOST, 0, 0),
                RegionKind::Board { index } => (KIND_BOARD, 0, index),
            };
            w.u32(region.id).u32(kind).u32(region.rights).u32(flags);
            w.u64(region.base.bits()).u64(region.len).u32(index).u32(0);
        }
        Request::RemoveRegion { id } => {
            w.u32(*id).u32(0);
        }
        Request::RouteQueue { device, queue, doorbell, vector } => {
            w.u32(*device).u32(*queue).u32(*doorbell).u32(*vector);
        }
        Request::BoardReset { boot } => {
            w.u32(*boot).u32(0);
        }
    }
}

fn encode_response(response: &Response, w: &mut Writer<'_>) {
    match response {
        Response::DriverFeatures | Response::SetVqueue | Response::ResetVqueue => {}
        Response::DeviceInfo(info) => {
            w.u32(info.device_id).u32(info.vendor_id).u32(info.feature_bits);
            w.u32(info.config_size).u32(info.queues).u16(info.admin_start).u16(info.admin_count);
        }
        Response::DeviceFeatures(words) => w.feature_words(words),
        Response::Config { generation, offset, data }
        | Response::SetConfig { generation, offset, data } => {
            w.u32(*generation).u32(*offset).data(data);
        }
        Response::DeviceStatus { status } | Response::SetDeviceStatus { status } => {
            w.u32(*status);
        }
        Response::Vqueue { queue, largest, addresses } => {
            w.u32(*queue).u32(*largest).u32(addresses.size).u32(0).addresses(addresses);
        }
        Response::Shm { index, len, address } => {
            w.u32(*index).u32(*len).u32(*address);
        }
        Response::Devices(map) => {
            w.u16(map.first).u16(map.count).u16(map.next).bytes(map.bits.as_slice());
        }
        Response::Pong { data } => {
            w.u32(*data);
        }
        Response::Attach { result, version, boot, session } => {
            w.u32(result.code()).u32(*version).u32(*boot).u32(*session);
        }
        Response::AddRegion { id, result } | Response::RemoveRegion { id, result } => {
            w.u32(*id).u32(result.code());
        }
        Response::RouteQueue { device, queue, result } => {
            w.u32(*device).u32(*queue).u32(result.code()).u32(0);
        }
        Response::BoardReset { result } => {
            w.u32(result.code()).u32(0);
        }
    }
}

fn encode_event(event: &Event, w: &mut Writer<'_>) {
    match event {
        Event::Config { status, generation, offset, data } => {
            w.u32(*status).u32(*generation).u32(*offset).data(data);
        }
        Event::Avail { queue, next } => {
            w.u32(*queue).u32(*next);
        }
        Event::Used { queue } => {
            w.u32(*queue);
        }
        Event::Device { device, state } => {
            w.u16(*device).u16(*state);
        }
        Event::Fault { code, device, queue, detail, count } => {
            w.u32(*code).u32(*device).u32(*queue).u32(*detail).u32(*count);
        }
    }
}

fn decode_body(kind: Kind, response: bool, r: &mut Reader<'_>) -> Option<Body> {
    match (kind.is_event(), response) {
        (true, _) => decode_event(kind, r).map(Body::Event),
        (false, false) => decode_request(kind, r).map(Body::Request),
        (false, true) => decode_response(kind, r).map(Body::Response),
    }
}

fn decode_queue(r: &mut Reader<'_>) -> (u32, u32, QueueAddresses) {
    let (queue, largest, size, _) = (r.u32(), r.u32(), r.u32(), r.u32());
    let (descriptors, driver, device) = (r.address(), r.address(), r.address());
    (queue, largest, QueueAddresses { size, descriptors, driver, device })
}

fn decode_config(r: &mut Reader<'_>) -> Option<(u32, u32, ConfigData)> {
    let (generation, offset, count) = (r.u32(), r.u32(), r.u32());
    Some((generation, offset, r.data(count)?))
}

fn decode_region(r: &mut Reader<'_>) -> Option<RegionMessage> {
    let (id, kind, rights, flags) = (r.u32(), r.u32(), r.u32(), r.u32());
    let (base, len, index) = (r.address(), r.u64(), r.u32());
    r.reserved()?;
    let kind = match (kind, flags, index) {
        (KIND_HOST, 0, 0) => RegionKind::Host { status_page: false },
        (KIND_HOST, ADD_REGION_STATUS_PAGE, 0) => RegionKind::Host { status_page: true },
        (KIND_BOARD, 0, index) => RegionKind::Board { index },
        _ => return None,
    };
    Some(RegionMessage { id, kind, rights, base, len })
}

fn decode_request(kind: Kind, r: &mut Reader<'_>) -> Option<Request> {
    Some(match kind {
        Kind::GetDeviceInfo => Request::GetDeviceInfo,
        Kind::GetDeviceFeatures => Request::GetDeviceFeatures { first: r.u32(), count: r.u32() },
        Kind::SetDriverFeatures => Request::SetDriverFeatures(r.feature_words()?),
        Kind::GetConfig => Request::GetConfig { offset: r.u32(), count: r.u32() },
        Kind::SetConfig => {
            let (generation, offset, data) = decode_config(r)?;
            Request::SetConfig { generation, offset, data }
        }
        Kind::GetDeviceStatus => Request::GetDeviceStatus,
        Kind::SetDeviceStatus => Request::SetDeviceStatus { status: r.u32() },
        Kind::GetVqueue => Request::GetVqueue { queue: r.u32() },
        Kind::SetVqueue => {
            let (queue, _, addresses) = decode_queue(r);
            Request::SetVqueue { queue, addresses }
        }
        Kind::ResetVqueue => Request::ResetVqueue { queue: r.u32() },
        Kind::GetShm => Request::GetShm { index: r.u32() },
        Kind::GetDevices => Request::GetDevices { first: r.u16(), count: r.u16() },
        Kind::Ping => Request::Ping { data: r.u32() },
        Kind::Attach => {
            let (version, boot, session) = (r.u32(), r.u32(), r.u32());
            r.reserved()?;
            Request::Attach { version, boot, session }
        }
        Kind::AddRegion => Request::AddRegion(decode_region(r)?),
        Kind::RemoveRegion => {
            let id = r.u32();
            r.reserved()?;
            Request::RemoveRegion { id }
        }
        Kind::RouteQueue => {
            let (device, queue, doorbell, vector) = (r.u32(), r.u32(), r.u32(), r.u32());
            Request::RouteQueue { device, queue, doorbell, vector }
        }
        Kind::BoardReset => {
            let boot = r.u32();
            r.reserved()?;
            Request::BoardReset { boot }
        }
        Kind::EventConfig
        | Kind::EventAvail
        | Kind::EventUsed
        | Kind::EventDevice
        | Kind::EventFault => return None,
    })
}

fn decode_response(kind: Kind, r: &mut Reader<'_>) -> Option<Response> {
    Some(match kind {
        Kind::GetDeviceInfo => Response::DeviceInfo(DeviceInfo {
            device_id: r.u32(),
            vendor_id: r.u32(),
            feature_bits: r.u32(),
            config_size: r.u32(),
            queues: r.u32(),
            admin_start: r.u16(),
            admin_count: r.u16(),
        }),
        Kind::GetDeviceFeatures => Response::DeviceFeatures(r.feature_words()?),
        Kind::SetDriverFeatures => Response::DriverFeatures,
        Kind::GetConfig => {
            let (generation, offset, data) = decode_config(r)?;
            Response::Config { generation, offset, data }
        }
        Kind::SetConfig => {
            let (generation, offset, data) = decode_config(r)?;
            Response::SetConfig { generation, offset, data }
        }
        Kind::GetDeviceStatus => Response::DeviceStatus { status: r.u32() },
        Kind::SetDeviceStatus => Response::SetDeviceStatus { status: r.u32() },
        Kind::GetVqueue => {
            let (queue, largest, addresses) = decode_queue(r);
            Response::Vqueue { queue, largest, addresses }
        }
        Kind::SetVqueue => Response::SetVqueue,
        Kind::ResetVqueue => Response::ResetVqueue,
        Kind::GetShm => Response::Shm { index: r.u32(), len: r.u32(), address: r.u32() },
        Kind::GetDevices => {
            let (first, count, next) = (r.u16(), r.u16(), r.u16());
            let bytes = u32::from(count).div_ceil(8);
            Response::Devices(DeviceMap { first, count, next, bits: r.data(bytes)? })
        }
        Kind::Ping => Response::Pong { data: r.u32() },
        Kind::Attach => Response::Attach {
            result: ResultCode::from_code(r.u32()),
            version: r.u32(),
            boot: r.u32(),
            session: r.u32(),
        },
        Kind::AddRegion => {
            Response::AddRegion { id: r.u32(), result: ResultCode::from_code(r.u32()) }
        }
        Kind::RemoveRegion => {
            Response::RemoveRegion { id: r.u32(), result: ResultCode::from_code(r.u32()) }
        }
        Kind::RouteQueue => {
            let (device, queue, code) = (r.u32(), r.u32(), r.u32());
            r.reserved()?;
            Response::RouteQueue { device, queue, result: ResultCode::from_code(code) }
        }
        Kind::BoardReset => {
            let code = r.u32();
            r.reserved()?;
            Response::BoardReset { result: ResultCode::from_code(code) }
        }
        Kind::EventConfig
        | Kind::EventAvail
        | Kind::EventUsed
        | Kind::EventDevice
        | Kind::EventFault => return None,
    })
}

fn decode_event(kind: Kind, r: &mut Reader<'_>) -> Option<Event> {
    Some(match kind {
        Kind::EventConfig => {
            let (status, generation, offset, count) = (r.u32(), r.u32(), r.u32(), r.u32());
            Event::Config { status, generation, offset, data: r.data(count)? }
        }
        Kind::EventAvail => Event::Avail { queue: r.u32(), next: r.u32() },
        Kind::EventUsed => Event::Used { queue: r.u32() },
        Kind::EventDevice => Event::Device { device: r.u16(), state: r.u16() },
        Kind::EventFault => Event::Fault {
            code: r.u32(),
            device: r.u32(),
            queue: r.u32(),
            detail: r.u32(),
            count: r.u32(),
        },
        _ => return None,
    })
}

// The header's fields follow each other without gaps, as the code above takes for granted.
const _: () = assert!(TYPE == 0 && ID == 1 && DEVICE == 2 && TOKEN == 4 && SIZE == 6);
