//! The board's side of devices that come and go while a session runs.

use super::hostile::{ask, attach, bus, played};
use super::rig::*;
use crate::msg::body::*;
use crate::msg::channel::Channel;
use crate::msg::codec::Frame;
use crate::msg::kind::Side;
use crate::window::testing::TestWindow;

/// A session in which devices 3 and 5 are there, played by the test.
fn two_devices() -> (Rig, Channel<TestWindow>) {
    let (mut rig, mut channel) = played();
    rig.board.second = Some(device());
    attach(&mut rig, &mut channel);
    (rig, channel)
}

fn to(device: u16, request: Request) -> Message {
    Message { device, token: 1, body: Body::Request(request) }
}

/// What the board has said, after a poll.
fn said(rig: &mut Rig, channel: &mut Channel<TestWindow>) -> Vec<Message> {
    rig.now += 1;
    rig.poll_board();
    let mut frame: Frame = [0; 64];
    let mut all = Vec::new();
    while channel.receive(&mut frame).unwrap() {
        all.push(Message::decode(&frame, Side::Device).unwrap());
    }
    all
}

fn event(device: u16, state: u16) -> Message {
    Message { device: 0, token: 0, body: Body::Event(Event::Device { device, state }) }
}

fn listed(rig: &mut Rig, channel: &mut Channel<TestWindow>) -> Vec<u8> {
    match ask(rig, channel, &bus(Request::GetDevices { first: 0, count: 64 })) {
        Some(Response::Devices(map)) => map.bits.as_slice().to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_that_is_away_is_as_good_as_none() {
    let (mut rig, mut channel) = two_devices();
    assert_eq!(listed(&mut rig, &mut channel), [0b10_1000, 0, 0, 0, 0, 0, 0, 0]);
    rig.announce(5, false);
    assert_eq!(said(&mut rig, &mut channel), [event(5, 2)]);
    assert_eq!(listed(&mut rig, &mut channel), [0b1000, 0, 0, 0, 0, 0, 0, 0]);
    let info = ask(&mut rig, &mut channel, &to(5, Request::GetDeviceInfo));
    assert_eq!(info, Some(Response::DeviceInfo(DeviceInfo::default())));
    assert_eq!(ask(&mut rig, &mut channel, &to(5, Request::GetDeviceStatus)), None);
    let route = Request::RouteQueue { device: 5, queue: 0, doorbell: 1, vector: 1 };
    let result = ResultCode::Unknown;
    let answer = ask(&mut rig, &mut channel, &bus(route));
    assert_eq!(answer, Some(Response::RouteQueue { device: 5, queue: 0, result }));
    // Nor does it speak.
    rig.board.second.as_mut().unwrap().config_changed();
    assert_eq!(said(&mut rig, &mut channel), []);
    rig.announce(5, true);
    assert_eq!(said(&mut rig, &mut channel), [event(5, 1)]);
    assert_eq!(listed(&mut rig, &mut channel)[0], 0b10_1000);
    let status = ask(&mut rig, &mut channel, &to(5, Request::GetDeviceStatus));
    assert_eq!(status, Some(Response::DeviceStatus { status: 0 }));
}

/// Before that its DMA may still write to the host.
#[test]
fn the_host_hears_that_a_device_went_when_it_is_drained() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    rig.board.device.model_mut().drain = 20;
    let resets = rig.board.device.model().resets;
    rig.announce(3, false);
    assert!(rig.board.device.model().resets > resets, "the reset begins at once");
    let tail = rig.bar.peek(0x1044) & 0xFFFF;
    for _ in 0..10 {
        rig.now += 1;
        rig.poll_board();
    }
    assert_eq!(rig.bar.peek(0x1044) & 0xFFFF, tail, "told before it was drained");
    for _ in 0..20 {
        rig.now += 1;
        rig.poll_board();
    }
    assert_eq!(rig.bar.peek(0x1044) & 0xFFFF, (tail + 1) % 60);
    assert!(rig.board.device.model().queues.is_empty() && !rig.board.device.is_live());
}

/// What waits to be told does not grow, and the last word is the newest.
#[test]
fn a_device_that_flaps_while_the_host_takes_nothing() {
    let (mut rig, mut channel) = two_devices();
    let ping = bus(Request::Ping { data: 1 }).encode();
    for _ in 0..3 {
        while channel.send(&ping).unwrap() {}
        rig.now += 1;
        rig.bar.poke(0x3010, u32::try_from(rig.now).unwrap());
        rig.poll_board();
    }
    for round in 0..1_000 {
        rig.announce(5, round % 2 == 1);
        rig.announce(64, true);
        rig.announce(u16::MAX, false);
        rig.poll_board();
    }
    let mut all = Vec::new();
    for _ in 0..5 {
        all.extend(said(&mut rig, &mut channel));
    }
    all.retain(|message| matches!(message.body, Body::Event(_)));
    assert_eq!(all, [event(5, 2), event(5, 1)]);
}

#[test]
fn what_was_to_be_told_to_one_host_is_not_told_to_the_next() {
    let mut rig = Rig::new();
    rig.board.second = Some(device());
    rig.attach().unwrap();
    rig.board_runs = false;
    rig.announce(5, false);
    rig.new_host();
    rig.board_runs = true;
    rig.attach().unwrap();
    assert_eq!(rig.run_for(20).unwrap(), []);
    assert!(!rig.board.second.as_ref().unwrap().is_live());
    assert!(rig.board.device.is_live());
}

/// A session ends only when the devices that are away are drained as well.
#[test]
fn a_device_that_is_away_is_drained_before_the_session_is_over() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    rig.board.device.model_mut().drain = 200;
    rig.announce(3, false);
    rig.bar.poke(0x3000, 5);
    for _ in 0..100 {
        rig.now += 1;
        rig.poll_board();
    }
    assert_eq!(rig.bar.peek(0xF08), 1000, "still the old session's");
    for _ in 0..150 {
        rig.now += 1;
        rig.poll_board();
    }
    assert_ne!(rig.bar.peek(0xF08), 1000);
}

/// Between the removal and the word of it: an answer would be one of a device
/// that was reset behind the host's back.
#[test]
fn a_device_that_went_answers_nothing() {
    for back in [false, true] {
        let (mut rig, mut channel) = two_devices();
        rig.announce(5, false);
        if back {
            rig.announce(5, true);
        }
        let route = Request::RouteQueue { device: 5, queue: 0, doorbell: 1, vector: 1 };
        for message in [
            to(5, Request::SetDeviceStatus { status: 1 }),
            to(5, Request::GetDeviceInfo),
            bus(route),
        ] {
            assert!(channel.send(&message.encode()).unwrap());
        }
        let told = said(&mut rig, &mut channel);
        let events = [event(5, 2), event(5, 1)];
        assert_eq!(told, events[..if back { 2 } else { 1 }]);
        let status = rig.board.second.as_ref().unwrap().state().status();
        assert!(status.is_reset(), "{status}");
        let info = ask(&mut rig, &mut channel, &to(5, Request::GetDeviceInfo));
        let Some(Response::DeviceInfo(info)) = info else { panic!("{info:?}") };
        assert_eq!(info.device_id, u32::from(back));
    }
}
