//! What a host asks for while the session runs, and boards that answer it
//! wrongly, late, twice or not at all.

use super::rig::*;
use crate::link::description::BoardDescription;
use crate::link::host::{LinkEvent, MAX_WISHES, Progress, QueuePlacement, timer};
use crate::link::refusal::{AttachStep, Reason, Refusal, RegionFault};
use crate::msg::body::*;
use crate::msg::kind::{Kind, Side};
use crate::wire::features::{self, Features};

fn attached() -> Rig {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    rig
}

/// Everything that can be wished for, with how it ends.
type Case = (Kind, fn(&mut Rig) -> Result<(), Refusal>, LinkEvent);

fn cases() -> [Case; 7] {
    [
        (Kind::GetConfig, |rig| rig.host.refresh_config(3), LinkEvent::ConfigRead { device: 3 }),
        (
            Kind::SetConfig,
            |rig| rig.host.write_config(3, 96, &[1, 2, 3, 4]),
            LinkEvent::ConfigWritten { device: 3, accepted: true },
        ),
        (
            Kind::ResetVqueue,
            |rig| rig.host.reset_queue(3, 1),
            LinkEvent::QueueReset { device: 3, queue: 1 },
        ),
        (
            Kind::RouteQueue,
            |rig| {
                let placement = rig.queues()[1];
                rig.host.set_up_queue(3, placement)
            },
            LinkEvent::QueueUp { device: 3, queue: 1 },
        ),
        (
            Kind::RemoveRegion,
            |rig| rig.host.remove_region(1),
            LinkEvent::RegionRemoved { number: 1 },
        ),
        (Kind::BoardReset, |rig| rig.host.reset_board(), LinkEvent::BoardReset { granted: true }),
        (
            Kind::SetDeviceStatus,
            |rig| rig.host.reset_device(3),
            LinkEvent::DeviceReset { device: 3 },
        ),
    ]
}

#[test]
fn each_wish_is_done_and_said_once() {
    let mut rig = attached();
    for (kind, wish, event) in cases() {
        wish(&mut rig).unwrap();
        assert_eq!(rig.run_for(100).unwrap(), [event], "{kind:?}");
    }
    assert_eq!(rig.board.removed, [3], "host region 1 is region 3: two are the board's");
    assert!(rig.board.reset_asked);
    assert!(!rig.board.device.is_live());
    assert!(rig.detach());
}

#[test]
fn a_queue_is_reset_and_runs_again_elsewhere() {
    let mut rig = attached();
    for round in 0..20_u16 {
        rig.board.device.model_mut().queue_drain = u32::from(round);
        rig.host.reset_queue(3, 0).unwrap();
        let events = rig.run_for(200).unwrap();
        assert_eq!(events, [LinkEvent::QueueReset { device: 3, queue: 0 }]);
        let left: Vec<_> = rig.board.device.model().queues.iter().map(|q| q.queue).collect();
        assert_eq!(left, [1], "the other runs on");
        let placement = QueuePlacement { vector: u32::from(round % 3) + 1, ..rig.queues()[0] };
        rig.host.set_up_queue(3, placement).unwrap();
        let events = rig.run_for(20).unwrap();
        assert_eq!(events, [LinkEvent::QueueUp { device: 3, queue: 0 }]);
        let queues = &rig.board.device.model().queues;
        assert_eq!(queues.last().map(|q| (q.queue, q.vector)), Some((0, placement.vector)));
        assert_eq!(queues.len(), 2);
    }
}

#[test]
fn what_never_drains_ends_the_session_in_time() {
    type Hang = fn(&mut Rig) -> Result<(), Refusal>;
    let hangs: [Hang; 3] = [
        |rig| {
            rig.board.device.model_mut().queue_drain = u32::MAX;
            rig.host.reset_queue(3, 0)
        },
        |rig| {
            rig.board.region_drain = u32::MAX;
            rig.host.remove_region(1)
        },
        |rig| {
            rig.board.device.model_mut().drain = u32::MAX;
            rig.host.reset_device(3)
        },
    ];
    for hang in hangs {
        let mut rig = attached();
        let from = rig.now;
        hang(&mut rig).unwrap();
        let refusal = rig.run_for(10_000).unwrap_err();
        assert_eq!(refusal.reason, Reason::Timeout { after_ms: timer::RESET });
        assert_eq!(refusal.step, AttachStep::Running);
        assert!((2_000..2_050).contains(&(rig.now - from)), "{} ms", rig.now - from);
        assert!(rig.board.removed.is_empty());
    }
}

#[test]
fn a_region_is_asked_for_again_while_the_board_is_busy() {
    let mut rig = attached();
    rig.board.region_drain = 20;
    rig.host.remove_region(1).unwrap();
    assert_eq!(rig.run_for(50).unwrap(), []);
    assert_eq!(rig.run_for(200).unwrap(), [LinkEvent::RegionRemoved { number: 1 }]);
    for number in [0, 1, 2, 63, 64, 255] {
        let Reason::Region { why, .. } = rig.host.remove_region(number).unwrap_err().reason else {
            panic!()
        };
        assert_eq!(why, RegionFault::NotToRemove);
    }
}

/// VirtIO 1.3 §4.1.4.3.1 leaves generations to the transport; here a write
/// counts only against the config that was read.
#[test]
fn a_config_write_against_an_old_generation_is_not_taken() {
    let written = |accepted| [LinkEvent::ConfigWritten { device: 3, accepted }];
    let mut rig = attached();
    rig.host.write_config(3, 0, &[1]).unwrap();
    assert_eq!(rig.run_for(20).unwrap(), written(true));
    rig.host.write_config(3, 99, &[2]).unwrap();
    assert_eq!(rig.run_for(20).unwrap(), written(true));
    rig.board.device.config_changed();
    rig.host.write_config(3, 0, &[3]).unwrap();
    let events = rig.run_for(20).unwrap();
    assert!(events.contains(&written(false)[0]), "{events:?}");
    rig.host.write_config(3, 0, &[4]).unwrap();
    assert_eq!(rig.run_for(20).unwrap(), written(false), "it has not read it yet");
    rig.host.refresh_config(3).unwrap();
    rig.host.write_config(3, 0, &[5]).unwrap();
    rig.run_for(20).unwrap();
    rig.host.write_config(3, 0, &[5; 44]).unwrap();
    assert_eq!(rig.run_for(20).unwrap(), written(true));
    rig.board.device.model_mut().rejects_config = true;
    rig.host.write_config(3, 0, &[6]).unwrap();
    assert_eq!(rig.run_for(20).unwrap(), written(false));
    let config = &rig.board.device.model().config;
    assert_eq!((config[0], config[43], config[44], config[99]), (5, 5, 7, 2));
    for (offset, len) in [(0, 0), (0, 45), (4_096, 1), (4_090, 7), (u32::MAX, 1)] {
        let refusal = rig.host.write_config(3, offset, &vec![0; len]).unwrap_err();
        assert_eq!(refusal.reason, Reason::ConfigWrite { device: 3 });
    }
    // Behind the device's config space, within the protocol's: the device says no.
    rig.host.write_config(3, 97, &[0; 4]).unwrap();
    assert_eq!(rig.run_for(20).unwrap(), written(false));
}

#[test]
fn a_board_that_does_not_reboot_runs_on() {
    let mut rig = attached();
    rig.board.grants_reset = false;
    rig.host.reset_board().unwrap();
    assert_eq!(rig.run_for(20).unwrap(), [LinkEvent::BoardReset { granted: false }]);
    rig.run_for(1_000).unwrap();
}

#[test]
fn wishes_that_cannot_be() {
    let mut rig = Rig::new();
    let early = rig.host.reset_queue(3, 0).unwrap_err();
    assert_eq!(early.reason, Reason::OutOfTurn);
    rig.until(1_000, |p| matches!(p, Progress::NeedQueues { .. })).unwrap();
    assert_eq!(rig.host.reset_board().unwrap_err().reason, Reason::OutOfTurn);
    rig.attach().unwrap();
    for device in [2, 5, 64, u16::MAX] {
        let not_up = Reason::DeviceNotUp { device };
        assert_eq!(rig.host.reset_queue(device, 0).unwrap_err().reason, not_up);
        assert_eq!(rig.host.reset_device(device).unwrap_err().reason, not_up);
        assert_eq!(rig.host.refresh_config(device).unwrap_err().reason, not_up);
        assert_eq!(rig.host.write_config(device, 0, &[1]).unwrap_err().reason, not_up);
        let placement = rig.queues()[0];
        assert_eq!(rig.host.set_up_queue(device, placement).unwrap_err().reason, not_up);
    }
    let BoardDescription { vectors, doorbell, .. } = description();
    let good = rig.queues()[0];
    for (vector, doorbell) in [(0, 1), (vectors, 1), (1, 0), (1, doorbell.count)] {
        let placement = QueuePlacement { vector, doorbell, ..good };
        let refusal = rig.host.set_up_queue(3, placement).unwrap_err();
        assert_eq!(refusal.reason, Reason::Placement { queue: 0 });
    }
    rig.host.refresh_config(3).unwrap();
    for wish in 1..=MAX_WISHES {
        let result = rig.host.write_config(3, 0, &[1]).map_err(|refusal| refusal.reason);
        assert_eq!(result, if wish < MAX_WISHES { Ok(()) } else { Err(Reason::Busy) });
    }
    // What waits to be read need not be read twice.
    rig.host.refresh_config(3).unwrap();
    let mut events = rig.run_for(100).unwrap();
    assert_eq!(events.remove(0), LinkEvent::ConfigRead { device: 3 });
    assert_eq!(events.len(), MAX_WISHES - 1);
    assert!(events.iter().all(|event| matches!(event, LinkEvent::ConfigWritten { .. })));
    rig.host.reset_queue(3, 0).unwrap();
    assert!(rig.detach());
    assert_eq!(rig.host.reset_board().unwrap_err().reason, Reason::OutOfTurn);
}

#[test]
fn without_ring_reset_no_queue_is_reset() {
    let mut rig = Rig::new();
    loop {
        match rig.tick().unwrap().progress {
            Progress::NeedFeatures { .. } => {
                let without = offered().without(Features::new(features::RING_RESET));
                rig.host.supply_features(without).unwrap();
            }
            Progress::Running => break,
            other => rig.supply(other).unwrap(),
        }
    }
    let refusal = rig.host.reset_queue(3, 0).unwrap_err();
    assert_eq!(refusal.reason, Reason::NoRingReset { device: 3 });
    assert!(refusal.to_string().contains("RING_RESET"));
}

/// Row 15 for each wait of a running session: the answer never comes, or comes
/// for another device, with another token, or late.
#[test]
fn the_answer_to_a_wish_never_comes() {
    let spoil: [fn(&mut [u8; 64]); 3] =
        [|frame| frame[1] = 0x7F, |frame| frame[2] ^= 4, |frame| frame[4] ^= 0xFF];
    for (at, (kind, wish, event)) in cases().into_iter().enumerate() {
        for (what, spoil) in spoil.into_iter().enumerate() {
            let mut rig = attached();
            // A queue that is set up again was reset before.
            if kind == Kind::RouteQueue {
                rig.host.reset_queue(3, 1).unwrap();
                rig.run_for(20).unwrap();
            }
            rig.tamper = Some(Box::new(move |_, frame| {
                let response = Message::decode(frame, Side::Device);
                if response.is_ok_and(|message| matches!(message.body, Body::Response(_))) {
                    spoil(frame);
                }
            }));
            let from = rig.now;
            wish(&mut rig).unwrap();
            let refusal = rig.run_for(1_500).expect_err("no answer");
            assert!(matches!(refusal.reason, Reason::NoAnswer(_)), "{kind:?}: {refusal}");
            assert_eq!(refusal.step, AttachStep::Running);
            assert!((1_000..1_050).contains(&(rig.now - from)), "case {at}.{what} {event:?}");
            rig.tamper = None;
            rig.host.detach(rig.now);
            let done = rig.until(10_000, |p| matches!(p, Progress::Detached { .. })).unwrap();
            assert_eq!(done, Progress::Detached { clean: true });
            rig.new_host();
            rig.attach().unwrap();
        }
    }
}

/// Each answer once more, right behind it or while the next is awaited: it
/// finds nobody.
#[test]
fn answers_that_come_twice() {
    for wait in 0..12 {
        let mut rig = attached();
        rig.repeat_answers(3);
        for (kind, wish, event) in cases().into_iter().take(4) {
            let late = rig.host.late_answers();
            wish(&mut rig).unwrap();
            let mut events = rig.run_for(wait).unwrap();
            rig.board.device.config_changed();
            events.extend(rig.run_for(100).unwrap());
            rig.board.device.config_changed();
            events.extend(rig.run_for(100).unwrap());
            events.retain(|event| !matches!(event, LinkEvent::Config { .. }));
            // A change of the config in between is a write that does not count.
            let rejected = LinkEvent::ConfigWritten { device: 3, accepted: false };
            let changed = kind == Kind::SetConfig && events == [rejected];
            assert!(changed || events == [event], "{kind:?} after {wait}: {events:?}");
            assert!(rig.host.late_answers() > late, "{kind:?} after {wait}");
            rig.host.refresh_config(3).unwrap();
            rig.run_for(50).unwrap();
        }
        assert!(rig.detach());
    }
}

#[test]
fn answers_that_do_not_fit_the_wish() {
    type Lie = fn(&mut Response);
    let lies: [(usize, Lie); 8] = [
        (1, |r| {
            if let Response::SetConfig { offset, .. } = r {
                *offset += 1
            }
        }),
        (1, |r| {
            if let Response::SetConfig { data, .. } = r {
                *data = ConfigData::new(&[1, 2, 3]).unwrap()
            }
        }),
        (1, |r| {
            if let Response::SetConfig { data, .. } = r {
                *data = ConfigData::new(&[1, 2, 3, 9]).unwrap()
            }
        }),
        (2, |r| {
            if let Response::Vqueue { queue, .. } = r {
                *queue += 1
            }
        }),
        (3, |r| {
            if let Response::RouteQueue { queue, .. } = r {
                *queue += 1
            }
        }),
        (4, |r| {
            if let Response::RemoveRegion { id, .. } = r {
                *id += 1
            }
        }),
        (0, |r| {
            if let Response::DeviceInfo(info) = r {
                info.device_id = 0
            }
        }),
        (0, |r| {
            if let Response::Config { offset, .. } = r {
                *offset += 1
            }
        }),
    ];
    for (at, (case, lie)) in lies.into_iter().enumerate() {
        let mut rig = attached();
        let (kind, wish, _) = cases()[case];
        if kind == Kind::RouteQueue {
            rig.host.reset_queue(3, 1).unwrap();
            rig.run_for(20).unwrap();
        }
        rig.tamper = Some(Box::new(move |_, frame| {
            let Ok(mut message) = Message::decode(frame, Side::Device) else { return };
            if let Body::Response(response) = &mut message.body {
                lie(response);
                *frame = message.encode();
            }
        }));
        wish(&mut rig).unwrap();
        let refusal = rig.run_for(1_500).expect_err("a lie");
        assert!(matches!(refusal.reason, Reason::BadAnswer(_)), "lie {at}: {refusal}");
        assert_eq!(refusal.step, AttachStep::Running);
    }
    let mut rig = attached();
    rig.answer_with(0, |r| {
        if let Response::RemoveRegion { result, .. } = r {
            *result = ResultCode::Unknown
        }
    });
    rig.host.remove_region(1).unwrap();
    let why = Reason::Result(Kind::RemoveRegion, ResultCode::Unknown);
    assert_eq!(rig.run_for(100).unwrap_err().reason, why);
}

/// A queue that the device does not take back costs the device, not the session.
#[test]
fn a_queue_that_does_not_come_up_again_costs_its_device() {
    let mut rig = attached();
    rig.board.second = Some(device());
    rig.announce(5, true);
    rig.serve_for(100).unwrap();
    rig.host.reset_queue(3, 0).unwrap();
    rig.run_for(20).unwrap();
    let outside = crate::address::BusAddress::board(0x10_0000);
    let placement = QueuePlacement { descriptors: outside, ..rig.queues()[0] };
    rig.host.set_up_queue(3, placement).unwrap();
    rig.host.refresh_config(3).unwrap();
    rig.host.refresh_config(5).unwrap();
    let reason = Reason::QueueDiffers { queue: 0 };
    let refused = LinkEvent::DeviceRefused { device: 3, reason };
    let events = rig.run_for(100).unwrap();
    assert_eq!(events, [refused, LinkEvent::ConfigRead { device: 5 }]);
    assert!(!rig.board.device.is_live());
    assert!(rig.board.second.as_ref().unwrap().is_live());
}
