use proptest::prelude::*;

use super::samples;
use crate::msg::body::*;
use crate::msg::codec::Malformed;
use crate::msg::kind::{Kind, Side};

/// (bus, id, driver asks, device asks, least request, least response), for every kind.
const fn pinned(kind: Kind) -> (bool, u8, bool, bool, usize, Option<usize>) {
    match kind {
        Kind::GetDeviceInfo => (false, 0x02, true, false, 8, Some(32)),
        Kind::GetDeviceFeatures => (false, 0x03, true, false, 16, Some(16)),
        Kind::SetDriverFeatures => (false, 0x04, true, false, 16, Some(8)),
        Kind::GetConfig => (false, 0x05, true, false, 16, Some(20)),
        Kind::SetConfig => (false, 0x06, true, false, 20, Some(20)),
        Kind::GetDeviceStatus => (false, 0x07, true, false, 8, Some(12)),
        Kind::SetDeviceStatus => (false, 0x08, true, false, 12, Some(12)),
        Kind::GetVqueue => (false, 0x09, true, false, 12, Some(48)),
        Kind::SetVqueue => (false, 0x0A, true, false, 48, Some(8)),
        Kind::ResetVqueue => (false, 0x0B, true, false, 12, Some(8)),
        Kind::GetShm => (false, 0x0C, true, false, 12, Some(20)),
        Kind::EventConfig => (false, 0x40, false, true, 24, None),
        Kind::EventAvail => (false, 0x41, true, false, 16, None),
        Kind::EventUsed => (false, 0x42, false, true, 12, None),
        Kind::GetDevices => (true, 0x02, true, false, 12, Some(14)),
        Kind::Ping => (true, 0x03, true, true, 12, Some(12)),
        Kind::EventDevice => (true, 0x40, false, true, 12, None),
        Kind::Attach => (true, 0x80, true, false, 24, Some(24)),
        Kind::AddRegion => (true, 0x81, true, false, 48, Some(16)),
        Kind::RemoveRegion => (true, 0x82, true, false, 16, Some(16)),
        Kind::RouteQueue => (true, 0x83, true, false, 24, Some(24)),
        Kind::BoardReset => (true, 0x84, true, false, 16, Some(16)),
        Kind::EventFault => (true, 0xC0, false, true, 28, None),
    }
}

#[test]
fn every_number_of_every_kind() {
    for kind in Kind::ALL {
        let actual = (
            kind.wire().0,
            kind.wire().1,
            kind.sent_by(Side::Driver),
            kind.sent_by(Side::Device),
            kind.least_size(false).unwrap(),
            kind.least_size(true),
        );
        assert_eq!(actual, pinned(kind), "{kind:?}");
        assert_eq!(kind.is_event(), actual.5.is_none(), "{kind:?}");
    }
    for (at, code) in ResultCode::ALL.into_iter().enumerate() {
        assert_eq!(usize::try_from(code.code()).unwrap(), at);
        assert_eq!(ResultCode::from_code(code.code()), code);
    }
    assert_eq!(ResultCode::from_code(99), ResultCode::Other(99));
}

#[test]
fn every_message_survives_the_round_trip_and_no_other_sender() {
    for (kind, _, sender, message) in samples::all() {
        let frame = message.encode();
        assert_eq!(Message::decode(&frame, sender), Ok(message), "{kind:?}");
        let other = Message::decode(&frame, sender.peer());
        if kind != Kind::Ping {
            assert_eq!(other, Err(Malformed::Direction), "{kind:?}");
        }
    }
}

#[test]
fn all_65536_types_and_ids() {
    let mut known = 0;
    for flags in 0..=u8::MAX {
        for id in 0..=u8::MAX {
            for size in [0_u16, 7, 8, 12, 64, 65, u16::MAX] {
                for token in [0_u16, 5] {
                    let mut frame = [0; 64];
                    (frame[0], frame[1]) = (flags, id);
                    frame[4..6].copy_from_slice(&token.to_le_bytes());
                    frame[6..8].copy_from_slice(&size.to_le_bytes());
                    let kind = Kind::from_wire(flags & 2 != 0, id);
                    for side in [Side::Driver, Side::Device] {
                        match Message::decode(&frame, side) {
                            // The reserved bits of the type do not matter.
                            Ok(message) => {
                                known += 1;
                                assert_eq!(message.encode()[0], flags & 3);
                                assert_eq!(message.encode()[1], id);
                                assert!((8..=64).contains(&size));
                                assert_eq!(token == 0, kind.unwrap().is_event());
                            }
                            Err(Malformed::Unknown) => {
                                let event_answer = kind.is_some_and(Kind::is_event);
                                assert!(kind.is_none() || event_answer && flags & 1 != 0);
                            }
                            Err(_) => assert!(kind.is_some()),
                        }
                    }
                }
            }
        }
    }
    assert!(known > 1000, "{known}");
}

#[test]
fn sizes_from_0_to_all_ones() {
    for (kind, response, sender, message) in samples::all() {
        let frame = message.encode();
        let exact = u16::from_le_bytes([frame[6], frame[7]]);
        let least = kind.least_size(response).unwrap();
        assert!(usize::from(exact) >= least, "{kind:?}");
        for size in 0..=u16::MAX {
            let mut changed = frame;
            changed[6..8].copy_from_slice(&size.to_le_bytes());
            let result = Message::decode(&changed, sender);
            match usize::from(size) {
                size if size < least || size > 64 => {
                    assert_eq!(result, Err(Malformed::Size), "{kind:?} {size}");
                }
                size if size < usize::from(exact) => {
                    assert_eq!(result, Err(Malformed::Body), "{kind:?} {size}");
                }
                // What lies behind the payload is ignored.
                _ => assert_eq!(result, Ok(message), "{kind:?} {size}"),
            }
        }
    }
}

#[test]
fn token_device_number_and_reserved_fields() {
    for (kind, _, sender, message) in samples::all() {
        let mut frame = message.encode();
        let token = if kind.is_event() { 1_u16 } else { 0 };
        frame[4..6].copy_from_slice(&token.to_le_bytes());
        assert_eq!(Message::decode(&frame, sender), Err(Malformed::Token), "{kind:?}");
        let mut frame = message.encode();
        frame[2] = 3;
        if kind.wire().0 {
            assert_eq!(Message::decode(&frame, sender), Err(Malformed::Device), "{kind:?}");
        }
    }
    // The last word of these requests is reserved.
    for kind in [Kind::Attach, Kind::AddRegion, Kind::RemoveRegion, Kind::BoardReset] {
        let body = Body::Request(samples::request(kind).unwrap());
        let mut frame = Message { device: 0, token: 1, body }.encode();
        frame[kind.least_size(false).unwrap() - 4] = 1;
        assert_eq!(Message::decode(&frame, Side::Driver), Err(Malformed::Body), "{kind:?}");
    }
}

proptest! {
    #[test]
    fn decoding_is_total_and_agrees_with_encoding(bytes in any::<[u8; 32]>(), size in 0_u16..80) {
        let mut frame = [0; 64];
        frame[..32].copy_from_slice(&bytes);
        frame[0] &= 3;
        frame[6..8].copy_from_slice(&size.to_le_bytes());
        for id in Kind::ALL.map(|kind| kind.wire().1) {
            frame[1] = id;
            for side in [Side::Driver, Side::Device] {
                if let Ok(message) = Message::decode(&frame, side) {
                    prop_assert_eq!(Message::decode(&message.encode(), side), Ok(message));
                }
            }
        }
    }

    #[test]
    fn random_frames(half in any::<[u8; 32]>(), other in any::<[u8; 32]>()) {
        let mut frame = [0; 64];
        frame[..32].copy_from_slice(&half);
        frame[32..].copy_from_slice(&other);
        let _ = Message::decode(&frame, Side::Driver);
        let _ = Message::decode(&frame, Side::Device);
    }
}
