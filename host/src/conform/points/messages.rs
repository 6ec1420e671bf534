//! What a receiver discards without an answer, and what it ignores.

use shared::msg::{Body, Kind, Message, Request, Response};
use shared::wire::msg::{FRAME_LEN, HEADER_LEN, SIZE, TYPE_BUS, TYPE_RESPONSE};

use crate::conform::kit::Kit;
use crate::conform::point::{Checked, Point, must, seen};
use crate::conform::session::{raw, words};

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "messages-unknown-transport",
        section: "5",
        rule: "a transport message with an unknown id is discarded",
        check: |kit| unknown(kit, 0, &[0x00, 0x01, 0x0D, 0x3F, 0x43, 0x80, 0xFF]),
    },
    Point {
        id: "messages-unknown-bus",
        section: "5",
        rule: "a bus message with an unknown id is discarded",
        check: |kit| unknown(kit, TYPE_BUS, &[0x00, 0x01, 0x04, 0x41, 0x85, 0x8F, 0xFF]),
    },
    Point {
        id: "messages-truncated-header",
        section: "5",
        rule: "a size below the header's is discarded",
        check: |kit| sized(kit, &[0, 1, 7]),
    },
    Point {
        id: "messages-truncated",
        section: "5",
        rule: "a size below what the id's payload needs is discarded, for every request",
        check: truncated,
    },
    Point {
        id: "messages-oversized",
        section: "5",
        rule: "a size above the element is discarded",
        check: |kit| sized(kit, &[65, 0x7FFF, 0xFFFF]),
    },
    Point {
        id: "messages-event-token",
        section: "5",
        rule: "an event with a token is discarded",
        check: event_token,
    },
    Point {
        id: "messages-request-token",
        section: "5",
        rule: "a request without a token is discarded",
        check: request_token,
    },
    Point {
        id: "messages-response",
        section: "5",
        rule: "a response that nobody waits for is discarded",
        check: response,
    },
    Point {
        id: "messages-wrong-side",
        section: "5",
        rule: "a message that only the board sends is discarded",
        check: wrong_side,
    },
    Point {
        id: "messages-inner-count",
        section: "5",
        rule: "inner counts fit the size: else the message is discarded",
        check: inner_count,
    },
    Point {
        id: "messages-devices-part",
        section: "5.2",
        rule: "GET_DEVICES whose first or count is no multiple of 8 is discarded",
        check: devices_part,
    },
    Point {
        id: "messages-longer",
        section: "5",
        rule: "a longer payload than needed is accepted, the excess ignored",
        check: longer,
    },
    Point {
        id: "messages-absent-device",
        section: "5.1",
        rule: "a device that is not there answers zeros to GET_DEVICE_INFO and nothing to the rest",
        check: absent,
    },
    Point {
        id: "messages-huge-device",
        section: "5.1",
        rule: "device numbers above 63 are those of devices that are not there",
        check: |kit| {
            kit.attach()?;
            none_there(kit, 64)?;
            none_there(kit, 0xFFFF)
        },
    },
    Point {
        id: "messages-random",
        section: "5",
        rule: "whatever bytes come, the board answers the next request",
        check: random,
    },
    Point {
        id: "messages-flood",
        section: "9",
        rule: "a flood of messages that are discarded does not keep the next one from its answer",
        check: flood,
    },
];

fn unknown(kit: &mut Kit<'_>, kind: u8, ids: &[u8]) -> Checked {
    kit.attach()?;
    for id in ids {
        let token = kit.session()?.fresh_token();
        let frame = raw(kind, *id, 0, token, 64, &[0; 56]);
        kit.ignored(&frame, &format!("message {id:#04x} of type {kind}"))?;
    }
    Ok(())
}

/// A ping whose header states these sizes.
fn sized(kit: &mut Kit<'_>, sizes: &[u16]) -> Checked {
    kit.attach()?;
    for size in sizes {
        let token = kit.session()?.fresh_token();
        let frame = raw(TYPE_BUS, 0x03, 0, token, *size, &words(&[1]));
        kit.ignored(&frame, &format!("a PING of size {size}"))?;
    }
    Ok(())
}

fn truncated(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let requests = Kind::ALL.into_iter().filter(|kind| !kind.is_event());
    for kind in requests.filter(|kind| kind.request_len() > 0) {
        let (bus, id) = kind.wire();
        let size = u16::try_from(HEADER_LEN + kind.request_len() - 1).unwrap_or(8);
        let token = kit.session()?.fresh_token();
        let frame = raw(if bus { TYPE_BUS } else { 0 }, id, 0, token, size, &[0; 56]);
        kit.ignored(&frame, &format!("{kind:?} of size {size}"))?;
    }
    Ok(())
}

fn event_token(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let token = kit.session()?.fresh_token();
    kit.ignored(&raw(0, 0x41, 0, token, 16, &words(&[0, 0])), "EVENT_AVAIL with a token")
}

fn request_token(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    kit.ignored(&raw(TYPE_BUS, 0x03, 0, 0, 12, &words(&[1])), "a PING without a token")?;
    kit.ignored(&raw(0, 0x02, 0, 0, 8, &[]), "GET_DEVICE_INFO without a token")
}

fn response(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let token = kit.session()?.fresh_token();
    let kind = TYPE_BUS | TYPE_RESPONSE;
    kit.ignored(&raw(kind, 0x03, 0, token, 12, &words(&[1])), "an answer to no PING")?;
    let status = raw(TYPE_RESPONSE, 0x07, 0, token, 12, &words(&[15]));
    kit.ignored(&status, "an answer to no GET_DEVICE_STATUS")
}

fn wrong_side(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    for (name, frame) in [
        ("EVENT_CONFIG from the host", raw(0, 0x40, 0, 0, 24, &words(&[0x4F, 0, 0, 0]))),
        ("EVENT_USED from the host", raw(0, 0x42, 0, 0, 12, &words(&[0]))),
        ("EVENT_DEVICE from the host", raw(TYPE_BUS, 0x40, 0, 0, 12, &words(&[0x0002_0000]))),
        ("EVENT_FAULT from the host", raw(TYPE_BUS, 0xC0, 0, 0, 28, &words(&[1, 0, 0, 0, 1]))),
    ] {
        kit.ignored(&frame, name)?;
    }
    let device = kit.any_device()?;
    let status = kit.status(device)?;
    must(status == 0, || format!("device {} has status {status:#x}", device.number))
}

fn inner_count(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    for (name, id, payload) in [
        ("SET_DRIVER_FEATURES of 3 words, with 2", 0x04, words(&[0, 3, 0, 0])),
        ("SET_DRIVER_FEATURES of 2^32 - 1 words", 0x04, words(&[0, u32::MAX, 0, 0])),
        ("SET_CONFIG of 8 bytes, with 4", 0x06, words(&[0, 0, 8, 0])),
        ("SET_CONFIG of 2^32 - 1 bytes", 0x06, words(&[0, 0, u32::MAX, 0])),
    ] {
        let token = kit.session()?.fresh_token();
        let size = u16::try_from(HEADER_LEN + payload.len()).unwrap_or(0);
        kit.ignored(&raw(0, id, 0, token, size, &payload), name)?;
    }
    Ok(())
}

fn devices_part(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    for (first, count) in [(4, 8), (0, 4), (8, 63), (1, 1), (0xFFFF, 0xFFFF)] {
        let token = kit.session()?.fresh_token();
        let body = Body::Request(Request::GetDevices { first, count });
        let frame = Message { device: 0, token, body }.encode();
        kit.ignored(&frame, &format!("GET_DEVICES of {count} from {first}"))?;
    }
    Ok(())
}

fn longer(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let device = kit.any_device()?;
    let token = kit.session()?.fresh_token();
    let frame = raw(0, 0x07, device.number, token, 64, &[0xEE; 56]);
    match kit.ask_frame(&frame)? {
        Response::DeviceStatus { status: 0 } => {}
        other => return seen(format!("GET_DEVICE_STATUS of size 64 is answered with {other:?}")),
    }
    let token = kit.session()?.fresh_token();
    let mut payload = words(&[0x1234_5678]);
    payload.resize(40, 0xEE);
    match kit.ask_frame(&raw(TYPE_BUS, 0x03, 0, token, 48, &payload))? {
        Response::Pong { data: 0x1234_5678 } => Ok(()),
        other => seen(format!("a PING of size 48 is answered with {other:?}")),
    }
}

/// That number `number` answers as no device does.
fn none_there(kit: &mut Kit<'_>, number: u16) -> Checked {
    let info = kit.info(number)?;
    must(info == shared::msg::DeviceInfo::default(), || {
        format!("GET_DEVICE_INFO of number {number} is answered with {info:?}")
    })?;
    for request in [
        Request::GetDeviceStatus,
        Request::SetDeviceStatus { status: 1 },
        Request::GetVqueue { queue: 0 },
        Request::GetConfig { offset: 0, count: 4 },
        Request::GetDeviceFeatures { first: 0, count: 1 },
    ] {
        let token = kit.session()?.fresh_token();
        let frame = Message { device: number, token, body: Body::Request(request) }.encode();
        kit.ignored(&frame, &format!("{:?} of number {number}", request.kind()))?;
    }
    Ok(())
}

fn absent(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let there = kit.numbers()?;
    match (0..64).find(|number| !there.contains(number)) {
        Some(number) => none_there(kit, number),
        None => Ok(()),
    }
}

/// Numbers without a pattern, the same each time.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn random(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let mut random = Random(0x5EED);
    for round in 0..256 {
        let mut frame = [0; FRAME_LEN];
        for bytes in frame.chunks_mut(8) {
            bytes.copy_from_slice(&random.next().to_le_bytes()[..bytes.len()]);
        }
        if round % 2 == 0 {
            // Past the size check, into the ids.
            frame[SIZE..SIZE + 2].copy_from_slice(&64_u16.to_le_bytes());
            frame[1] &= 0x0F;
        }
        // A reset that is asked for by chance is no part of this.
        if frame[1] == 0x84 {
            frame[1] = 0x85;
        }
        kit.send(&frame)?;
        // Some are good requests, and are answered.
        for _ in 0..4 {
            if kit.take_frame()?.is_none() {
                break;
            }
        }
    }
    settle(kit)
}

/// A ping, and all that comes before its answer.
fn settle(kit: &mut Kit<'_>) -> Checked {
    let token = kit.session()?.fresh_token();
    let body = Body::Request(Request::Ping { data: 0xF1A7 });
    let ping = Message { device: 0, token, body }.encode();
    kit.send(&ping)?;
    let limit = kit.patience();
    let answered = kit.until(limit, |kit| {
        let Some(frame) = kit.take_frame()? else { return Ok(None) };
        Ok((frame[1] == 0x03 && frame[4..6] == token.to_le_bytes()).then_some(()))
    })?;
    must(answered.is_some(), || format!("a ping is not answered; {}", kit.standing()))
}

fn flood(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let frame = raw(TYPE_BUS, 0x7E, 0, 1, 64, &[0; 56]);
    for _ in 0..1000 {
        kit.send(&frame)?;
    }
    kit.fence("a thousand unknown messages")
}
