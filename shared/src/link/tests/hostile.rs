//! Hosts that scribble, flood and cheat: the board ends their session and lives.

use proptest::prelude::*;

use super::rig::*;
use crate::link::board::{BUDGET, SessionEvent};
use crate::msg::body::*;
use crate::msg::channel::{Channel, OUR_LAYOUT};
use crate::msg::codec::Frame;
use crate::msg::kind::Side;
use crate::window::Window;
use crate::window::testing::TestWindow;

/// The host's end of the channel, played by the test, in a session that runs.
pub(super) fn played() -> (Rig, Channel<TestWindow>) {
    let mut rig = Rig::new();
    let mut channel = play(&mut rig, 1);
    for _ in 0..5 {
        rig.now += 1;
        rig.poll_board();
        channel.poll().unwrap();
    }
    assert!(channel.is_running());
    (rig, channel)
}

/// Writes a session epoch as a host does that chose `version`.
pub(super) fn play(rig: &mut Rig, version: u32) -> Channel<TestWindow> {
    rig.bar.poke(0x3004, version);
    rig.bar.poke(0x3008, 77);
    rig.bar.poke(0x3000, 4242);
    let window = rig.bar.part(0x1000, 0x2000).unwrap();
    let mut channel = Channel::new(window, &OUR_LAYOUT, Side::Driver);
    channel.begin();
    channel
}

pub(super) fn ask(
    rig: &mut Rig,
    channel: &mut Channel<TestWindow>,
    message: &Message,
) -> Option<Response> {
    assert!(channel.send(&message.encode()).unwrap());
    rig.now += 1;
    rig.poll_board();
    let mut frame: Frame = [0; 64];
    if !channel.receive(&mut frame).unwrap() {
        return None;
    }
    match Message::decode(&frame, Side::Device).unwrap() {
        Message { body: Body::Response(response), .. } => Some(response),
        other => panic!("{other:?}"),
    }
}

pub(super) fn bus(request: Request) -> Message {
    Message { device: 0, token: 1, body: Body::Request(request) }
}

pub(super) fn attach(rig: &mut Rig, channel: &mut Channel<TestWindow>) {
    let answer = ask(rig, channel, &bus(Request::Attach { version: 1, boot: 77, session: 4242 }));
    let ok = Response::Attach { result: ResultCode::Ok, version: 1, boot: 77, session: 4242 };
    assert_eq!(answer, Some(ok));
}

#[test]
fn nothing_but_ping_and_devices_before_attach() {
    let (mut rig, mut channel) = played();
    assert!(ask(&mut rig, &mut channel, &bus(Request::Ping { data: 1 })).is_some());
    let devices = Request::GetDevices { first: 0, count: 64 };
    assert!(ask(&mut rig, &mut channel, &bus(devices)).is_some());
    let early = [
        bus(Request::RemoveRegion { id: 1 }),
        bus(Request::BoardReset { boot: 77 }),
        Message { device: 3, token: 1, body: Body::Request(Request::GetDeviceInfo) },
    ];
    for message in early {
        assert_eq!(ask(&mut rig, &mut channel, &message), None);
    }
    for (version, boot, session, result) in [
        (2, 77, 4242, ResultCode::Version),
        (1, 78, 4242, ResultCode::StaleEpoch),
        (1, 77, 4243, ResultCode::StaleEpoch),
    ] {
        let request = Request::Attach { version, boot, session };
        let answer = ask(&mut rig, &mut channel, &bus(request));
        assert!(matches!(answer, Some(Response::Attach { result: found, .. }) if found == result));
    }
    assert!(!rig.board.reset_asked);
    attach(&mut rig, &mut channel);
    let answer = ask(&mut rig, &mut channel, &bus(Request::BoardReset { boot: 76 }));
    assert_eq!(answer, Some(Response::BoardReset { result: ResultCode::StaleEpoch }));
    let answer = ask(&mut rig, &mut channel, &bus(Request::BoardReset { boot: 77 }));
    assert_eq!(answer, Some(Response::BoardReset { result: ResultCode::Ok }));
    assert!(rig.board.reset_asked);
}

#[test]
fn numbers_without_a_device_say_so_and_no_more() {
    let (mut rig, mut channel) = played();
    attach(&mut rig, &mut channel);
    for device in [0, 2, 4, 64, 67, u16::MAX] {
        let to = |request| Message { device, token: 1, body: Body::Request(request) };
        let answer = ask(&mut rig, &mut channel, &to(Request::GetDeviceInfo));
        assert_eq!(answer, Some(Response::DeviceInfo(DeviceInfo::default())));
        assert_eq!(ask(&mut rig, &mut channel, &to(Request::GetDeviceStatus)), None);
    }
    for (first, count, next, bytes) in
        [(0, 64, 0, 8), (0, 32, 32, 4), (32, 400, 0, 50), (0, 0, 0, 0), (65528, 400, 0, 50)]
    {
        let answer = ask(&mut rig, &mut channel, &bus(Request::GetDevices { first, count }));
        let Some(Response::Devices(map)) = answer else { panic!("{answer:?}") };
        assert_eq!((map.first, map.count, map.next), (first, count, next));
        assert_eq!(map.bits.as_slice().len(), bytes);
        assert_eq!(map.bits.as_slice().first().copied().unwrap_or(0) == 8, first == 0 && count > 0);
    }
    let answer = ask(&mut rig, &mut channel, &bus(Request::GetDevices { first: 8, count: 408 }));
    assert!(matches!(answer, Some(Response::Devices(map)) if map.count == 400), "{answer:?}");
    for (first, count) in [(4, 8), (0, 4), (u16::MAX, u16::MAX)] {
        let odd = bus(Request::GetDevices { first, count });
        assert_eq!(ask(&mut rig, &mut channel, &odd), None);
    }
}

/// Row 23, the table's side: what a host may add, and what not.
#[test]
fn regions_that_break_a_rule() {
    let (mut rig, mut channel) = played();
    attach(&mut rig, &mut channel);
    let host = |id, base, len| RegionMessage {
        id,
        kind: RegionKind::Host { status_page: false },
        rights: 3,
        base: crate::address::BusAddress::new(base),
        len,
    };
    let board = |id, index, base, len| RegionMessage {
        kind: RegionKind::Board { index },
        rights: 1,
        ..host(id, base, len)
    };
    let top = 1 << 63;
    let status = RegionKind::Host { status_page: true };
    let cases = [
        (host(0, IOVA, 0x1000), ResultCode::Ok),
        (host(0, IOVA + 0x1000, 0x1000), ResultCode::Invalid),
        (host(1, IOVA, 0x1000), ResultCode::Invalid),
        (host(64, IOVA + 0x1000, 0x1000), ResultCode::Invalid),
        (host(u32::MAX, IOVA + 0x1000, 0x1000), ResultCode::Invalid),
        (host(1, IOVA + 0x1000, 0), ResultCode::Invalid),
        (host(1, IOVA + 0x1000, 0x800), ResultCode::Invalid),
        (host(1, IOVA + 0x1800, 0x1000), ResultCode::Invalid),
        (host(1, top, 0x1000), ResultCode::Invalid),
        (host(1, top - 0x1000, 0x2000), ResultCode::Invalid),
        (host(1, !0xFFF, 0x1000), ResultCode::Invalid),
        (host(1, 1 << 40, 0x1000), ResultCode::OutOfReach),
        (host(1, IOVA + 0x1000, 1 << 36), ResultCode::NoRoom),
        (RegionMessage { rights: 0, ..host(1, IOVA + 0x1000, 0x1000) }, ResultCode::Invalid),
        (RegionMessage { rights: 4, ..host(1, IOVA + 0x1000, 0x1000) }, ResultCode::Invalid),
        (
            RegionMessage { rights: 1, kind: status, ..host(1, IOVA + 0x1000, 0x1000) },
            ResultCode::Invalid,
        ),
        (RegionMessage { kind: status, ..host(1, IOVA + 0x1000, 0x1000) }, ResultCode::Ok),
        (RegionMessage { kind: status, ..host(2, IOVA + 0x2000, 0x1000) }, ResultCode::Invalid),
        (board(3, 0, top, 0x8000), ResultCode::Ok),
        (board(4, 2, top + 0x8000, 0x8000), ResultCode::Unknown),
        (board(4, 1, top + 0x8000, 0x8000), ResultCode::Invalid),
        (board(4, 0, top + 0x4000, 0x8000), ResultCode::Invalid),
        (board(4, 0, 0, 0x8000), ResultCode::Invalid),
        (board(4, 0, !0x7FFF, 0x8000), ResultCode::Invalid),
        (RegionMessage { rights: 3, ..board(4, 0, top + 0x8000, 0x8000) }, ResultCode::Invalid),
    ];
    for (region, wanted) in cases {
        let answer = ask(&mut rig, &mut channel, &bus(Request::AddRegion(region)));
        let told = Some(Response::AddRegion { id: region.id, result: wanted });
        assert_eq!(answer, told, "{region:?}");
    }
    assert_eq!(rig.link.regions().count(), 3);
    for (id, wanted) in [(9, ResultCode::Unknown), (0, ResultCode::Ok), (0, ResultCode::Unknown)] {
        let answer = ask(&mut rig, &mut channel, &bus(Request::RemoveRegion { id }));
        assert_eq!(answer, Some(Response::RemoveRegion { id, result: wanted }));
    }
    assert_eq!(rig.board.removed, [0]);
}

/// A reserved field that is not zero, or a kind that there is not, is answered
/// with 3 and changes nothing (docs/protocol.md, "Result codes").
#[test]
fn reserved_fields_are_answered_with_invalid() {
    let (mut rig, mut channel) = played();
    let mut try_with = |rig: &mut Rig, request: Request, at: usize| {
        let mut frame = bus(request).encode();
        frame[at] = 9;
        assert!(channel.send(&frame).unwrap());
        rig.now += 1;
        rig.poll_board();
        let mut answer: Frame = [0; 64];
        let came = channel.receive(&mut answer).unwrap();
        came.then(|| Message::decode(&answer, Side::Device).unwrap())
    };
    let invalid = |response| Some(Message { device: 0, token: 1, body: Body::Response(response) });
    let result = ResultCode::Invalid;
    // Before ATTACH nothing else of ours is answered, malformed or not.
    let add = Request::AddRegion(RegionMessage {
        id: 5,
        kind: RegionKind::Board { index: 0 },
        rights: 1,
        base: crate::address::BusAddress::board(0),
        len: 0x8000,
    });
    assert_eq!(try_with(&mut rig, add, 44), None);
    let hello = Request::Attach { version: 1, boot: 77, session: 4242 };
    let refused = Response::Attach { result, version: 0, boot: 77, session: 4242 };
    assert_eq!(try_with(&mut rig, hello, 20), invalid(refused));
    assert_eq!(try_with(&mut rig, add, 44), None);
    let ok = Response::Attach { result: ResultCode::Ok, version: 1, boot: 77, session: 4242 };
    assert_eq!(try_with(&mut rig, hello, 40), invalid(ok), "behind the payload");

    let added = Response::AddRegion { id: 5, result };
    for at in [12, 20, 44] {
        assert_eq!(try_with(&mut rig, add, at), invalid(added), "byte {at}");
    }
    let removed = Response::RemoveRegion { id: 5, result };
    assert_eq!(try_with(&mut rig, Request::RemoveRegion { id: 5 }, 12), invalid(removed));
    let boot = Request::BoardReset { boot: 77 };
    assert_eq!(try_with(&mut rig, boot, 12), invalid(Response::BoardReset { result }));
    assert_eq!(rig.link.regions().count(), 0);
    // A request without a result is discarded, as is what the board does not answer at all.
    let features = Request::SetDriverFeatures(FeatureWords { first: 0, count: 0, words: [0; 12] });
    assert_eq!(try_with(&mut rig, features, 12), None);
}

/// Row 25: a region with a live queue in it stays.
#[test]
fn a_region_in_use_is_busy() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    let window = rig.bar.part(0x1000, 0x2000).unwrap();
    // Take the host's end over where it stands.
    let word = rig.bar.peek(0x2004);
    let tail = word & 0xFFFF;
    let frame = bus(Request::RemoveRegion { id: 0 }).encode();
    window.write(0x1100 + u64::from(tail) * 64, &frame);
    rig.bar.poke(0x2004, ((tail + 1) % 60) | (word & 0xFFFF_0000));
    let board_tail = rig.bar.peek(0x1044) & 0xFFFF;
    rig.now += 1;
    rig.poll_board();
    let mut answer = [0; 64];
    window.read(0x100 + u64::from(board_tail) * 64, &mut answer);
    let busy = Response::RemoveRegion { id: 0, result: ResultCode::Busy };
    let message = Message::decode(&answer, Side::Device).unwrap();
    assert_eq!(message.body, Body::Response(busy));
    assert!(rig.board.removed.is_empty());
}

/// Row 22: 10^5 messages; each poll keeps to its budget, nothing grows.
#[test]
fn a_flood_keeps_to_the_budget() {
    let (mut rig, mut channel) = played();
    attach(&mut rig, &mut channel);
    let ping = bus(Request::Ping { data: 3 }).encode();
    let mut frame: Frame = [0; 64];
    let (mut sent, mut answered) = (0_u64, 0_u64);
    while answered < 100_000 {
        while channel.send(&ping).unwrap() {
            sent += 1;
        }
        rig.now += 1;
        rig.bar.poke(0x3010, u32::try_from(rig.now).unwrap());
        let before = rig.link.stats().messages;
        rig.poll_board();
        assert!(rig.link.stats().messages - before <= u64::from(BUDGET));
        // A host that takes no answers gets no further.
        if rig.now % 3 == 0 {
            while channel.receive(&mut frame).unwrap() {
                answered += 1;
            }
        }
    }
    assert!(sent >= answered);
    assert_eq!(rig.link.stats().channel_faults, 0);
}

/// Nothing leaves the board behind the end of a session, nor the interrupt for
/// an answer that went into a channel which then broke.
#[test]
fn a_channel_that_breaks_behind_an_answer_announces_nothing() {
    let (mut rig, mut channel) = played();
    attach(&mut rig, &mut channel);
    assert!(channel.send(&bus(Request::Ping { data: 3 }).encode()).unwrap());
    let mut looks = 0;
    rig.bar.hook(move |_, offset, bytes| {
        // Its indices, as the board finds them at its second look.
        if offset == 0x2004 {
            looks += 1;
            if let Some(tail) = bytes.get_mut(0x2004).filter(|_| looks == 1) {
                *tail = 0xFE;
            }
        }
    });
    let before = rig.link.stats().messages;
    rig.now += 1;
    let next = rig.poll_board();
    rig.bar.unhook();
    assert_eq!(rig.link.stats().messages - before, 1, "the ping was to be answered");
    assert_eq!(rig.link.stats().channel_faults, 1);
    assert_eq!((rig.link.session(), next.raise_vector0), (None, false));
    // The engine was quiet before the host was told that it may take its memory.
    assert_eq!(rig.board.quiesced, [4242]);
    assert!(matches!(rig.board.sessions.last(), Some(SessionEvent::Ended { .. })));
}

/// The same from a host that writes and takes as fast as the board reads.
#[test]
fn an_endless_flood_ends_after_the_budget() {
    let (mut rig, mut channel) = played();
    attach(&mut rig, &mut channel);
    let ping = bus(Request::Ping { data: 3 }).encode();
    let elements = rig.bar.part(0x2100, 60 * 64).unwrap();
    for element in 0..60 {
        elements.write(element * 64, &ping);
    }
    assert!(channel.send(&ping).unwrap());
    rig.bar.hook(|_, offset, bytes| {
        if offset >= 0x2100 {
            let tail = u16::from_le_bytes([bytes[0x2004], bytes[0x2005]]);
            bytes[0x2004..0x2006].copy_from_slice(&((tail + 1) % 60).to_le_bytes());
            bytes.copy_within(0x1044..0x1046, 0x2006);
        }
    });
    for _ in 0..10 {
        let before = rig.link.stats().messages;
        rig.now += 1;
        let next = rig.poll_board();
        assert_eq!(rig.link.stats().messages - before, u64::from(BUDGET));
        assert_eq!(next.come_back_at, rig.now + 1);
    }
    assert_eq!(rig.link.stats().channel_faults, 0);
}

#[test]
fn indices_that_leave_the_ring_end_the_session() {
    for word in [60_u32, 0xFFFF, 60 << 16, u32::MAX, 5 << 16] {
        let mut rig = Rig::new();
        rig.attach().unwrap();
        rig.bar.poke(0x2004, word);
        // The board may only look at the head when it sends.
        rig.board.device.config_changed();
        for _ in 0..70 {
            rig.now += 1;
            rig.board.device.config_changed();
            rig.poll_board();
        }
        assert_eq!(rig.link.session(), None, "{word:#x}");
        assert_eq!(rig.link.stats().channel_faults, 1);
        let ended = SessionEvent::Ended { session: rig.session };
        assert_eq!(rig.board.sessions.last(), Some(&ended));
        rig.new_host();
        rig.attach().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Row 7: a host that writes rubbish over the whole control part, its own
    /// pages and the board's, at any time; then a good host attaches.
    #[test]
    fn scribbling_ends_no_more_than_the_session(
        writes in prop::collection::vec((0_u64..0x1000, any::<u32>(), 0_u64..20), 1..300),
    ) {
        let mut rig = Rig::new();
        rig.attach().unwrap();
        for (word, value, wait) in writes {
            rig.bar.poke(word * 4, value);
            for _ in 0..wait {
                rig.now += 1;
                rig.poll_board();
            }
        }
        // The board posts its words again at the next beat; its static part
        // and layout are a reset's to restore, as the host sees from the checksum.
        rig.reboot(78);
        rig.new_host();
        rig.attach().unwrap();
        prop_assert!(rig.board.device.is_live());
    }
}
