//! Devices that come and go at the host's end, and boards that say so wrongly.

use super::rig::*;
use crate::link::host::{LinkEvent, Progress, timer};
use crate::link::refusal::{AttachStep, Reason, Refusal};
use crate::msg::body::*;
use crate::msg::kind::{Kind, Side};
use crate::wire::features::Features;
use crate::wire::status::DeviceStatus;

const CAME: LinkEvent = LinkEvent::Device { device: 5, state: 1 };
const WENT: LinkEvent = LinkEvent::Device { device: 5, state: 2 };

/// A session with device 3; device 5 exists and is away.
fn attached() -> Rig {
    let mut rig = Rig::new();
    rig.board.second = Some(device());
    rig.board.away = 1 << 5;
    rig.attach().unwrap();
    rig
}

fn second(rig: &Rig) -> &Device {
    rig.board.second.as_ref().unwrap()
}

/// Ticks for `ms` and answers the link; what it said, as it was said.
fn log_for(rig: &mut Rig, ms: u64) -> Result<Vec<Progress>, Refusal> {
    let mut log = Vec::new();
    for _ in 0..ms {
        let progress = rig.tick()?.progress;
        log.push(progress);
        rig.supply(progress)?;
    }
    log.retain(|progress| *progress != Progress::Running);
    Ok(log)
}

#[test]
fn a_device_that_comes_is_brought_up_while_the_other_runs() {
    let mut rig = attached();
    rig.announce(5, true);
    let log = log_for(&mut rig, 200).unwrap();
    let device = 5;
    let steps = [
        Progress::Event(CAME),
        Progress::NeedFeatures { device },
        Progress::NeedQueues { device },
        Progress::DeviceUp { device },
    ];
    assert_eq!(log, steps);
    assert!(second(&rig).is_live() && rig.board.device.is_live());
    assert_eq!(rig.host.facts().map(|facts| facts.device), Some(5));
    // It is one as the others.
    rig.host.reset_queue(5, 1).unwrap();
    let events = rig.serve_for(50).unwrap();
    assert_eq!(events, [LinkEvent::QueueReset { device: 5, queue: 1 }]);
    rig.announce(5, false);
    assert_eq!(rig.serve_for(50).unwrap(), [WENT]);
    assert_eq!(rig.host.facts().map(|facts| facts.device), None);
    assert_eq!(rig.host.reset_queue(5, 1).unwrap_err().reason, Reason::DeviceNotUp { device: 5 });
    rig.announce(5, true);
    assert_eq!(log_for(&mut rig, 200).unwrap(), steps);
    assert!(second(&rig).is_live());
    // One that went and came before the host was told comes up anew as well.
    rig.announce(5, false);
    rig.announce(5, true);
    let log = log_for(&mut rig, 200).unwrap();
    assert_eq!((log[0], &log[1..]), (Progress::Event(WENT), &steps[..]));
    assert!(rig.detach());
    assert!(!second(&rig).is_live());
}

/// Ready twice is ready once; numbers that no device has are nobody's.
#[test]
fn what_is_no_news_is_not_told() {
    let mut rig = attached();
    for (device, ready) in [(3, true), (9, false), (5, false)] {
        rig.link.announce(device, ready, &mut rig.board);
        if device == 3 || device == 9 {
            assert_eq!(rig.serve_for(50).unwrap(), [], "{device}");
        }
    }
    assert!(rig.board.device.is_live());
    rig.announce(5, true);
    assert_eq!(rig.serve_for(200).unwrap(), [CAME]);
    rig.link.announce(5, true, &mut rig.board);
    assert_eq!(rig.serve_for(200).unwrap(), []);
    // Also while it comes up.
    rig.announce(5, false);
    rig.serve_for(20).unwrap();
    rig.announce(5, true);
    let mut events = rig.serve_for(5).unwrap();
    rig.link.announce(5, true, &mut rig.board);
    events.extend(rig.serve_for(200).unwrap());
    assert_eq!(events, [CAME]);
    for number in [64, 65, 127, 0x8003, u16::MAX] {
        for state in [0, 1, 2, 3, u16::MAX] {
            rig.tamper = Some(Box::new(move |_, frame| {
                let Ok(mut message) = Message::decode(frame, Side::Device) else { return };
                if let Body::Event(Event::Device { device, state: told }) = &mut message.body {
                    (*device, *told) = (number, state);
                    *frame = message.encode();
                }
            }));
            rig.link.announce(7, true, &mut rig.board);
            assert_eq!(rig.serve_for(20).unwrap(), [], "{number} {state}");
        }
    }
    assert!(rig.board.device.is_live() && second(&rig).is_live());
}

/// A number that the board announced without a device behind it.
#[test]
fn a_device_that_is_announced_and_not_there() {
    let mut rig = attached();
    rig.link.announce(7, true, &mut rig.board);
    let came = LinkEvent::Device { device: 7, state: 1 };
    assert_eq!(rig.serve_for(100).unwrap(), [came]);
    rig.announce(5, true);
    assert_eq!(rig.serve_for(100).unwrap(), [CAME]);
    assert!(second(&rig).is_live());
}

#[test]
fn a_device_that_is_declined_is_left_alone_until_it_goes() {
    for at_queues in [false, true] {
        let mut rig = attached();
        rig.announce(5, true);
        let need = |p: &Progress| match p {
            Progress::NeedFeatures { .. } => !at_queues,
            Progress::NeedQueues { .. } => at_queues,
            _ => false,
        };
        rig.until(200, need).unwrap();
        rig.host.decline_device().unwrap();
        assert_eq!(log_for(&mut rig, 50).unwrap(), []);
        assert!(second(&rig).state().status().is_reset());
        rig.link.announce(5, true, &mut rig.board);
        assert_eq!(log_for(&mut rig, 50).unwrap(), []);
        rig.announce(5, false);
        rig.serve_for(20).unwrap();
        rig.announce(5, true);
        rig.serve_for(100).unwrap();
        assert!(second(&rig).is_live());
    }
}

#[test]
fn a_device_that_was_reset_for_good_is_left_alone_until_it_goes() {
    let mut rig = attached();
    rig.announce(5, true);
    rig.serve_for(200).unwrap();
    rig.host.reset_device(5).unwrap();
    rig.host.refresh_config(5).unwrap();
    let events = rig.serve_for(100).unwrap();
    assert_eq!(events, [LinkEvent::DeviceReset { device: 5 }], "what else was wished is dropped");
    rig.link.announce(5, true, &mut rig.board);
    assert_eq!(rig.serve_for(50).unwrap(), []);
    assert!(!second(&rig).is_live());
    rig.announce(5, false);
    rig.serve_for(20).unwrap();
    rig.announce(5, true);
    rig.serve_for(100).unwrap();
    assert!(second(&rig).is_live());
}

/// Gone after each millisecond of the bring-up, and back.
#[test]
fn a_device_that_goes_while_it_comes_up() {
    let total = {
        let mut rig = attached();
        rig.announce(5, true);
        let from = rig.now;
        rig.until(200, |p| matches!(p, Progress::DeviceUp { .. })).unwrap();
        rig.now - from
    };
    assert!(total > 15, "{total}");
    // All in one session: no token is missing in the end.
    let mut rig = attached();
    for round in 0..20 {
        for at in 0..=total {
            rig.announce(5, true);
            let mut events = rig.serve_for(at).unwrap();
            rig.announce(5, false);
            events.extend(rig.serve_for(20).unwrap());
            let told = if at == 0 { &[WENT][..0] } else { &[CAME, WENT] };
            assert_eq!(events, told, "round {round}, after {at} ms");
            assert!(!second(&rig).is_live());
        }
    }
    rig.announce(5, true);
    assert_eq!(rig.serve_for(200).unwrap(), [CAME]);
    assert!(second(&rig).is_live() && rig.board.device.is_live());
    assert!(rig.detach());
}

/// The board does not answer for a device that is gone; nor is that awaited.
#[test]
fn a_device_that_goes_while_something_is_asked_of_it() {
    let mut rig = attached();
    rig.announce(5, true);
    rig.serve_for(200).unwrap();
    for wait in 0..8 {
        for _ in 0..3 {
            rig.host.refresh_config(5).unwrap();
        }
        rig.host.refresh_config(3).unwrap();
        let mut events = rig.serve_for(wait).unwrap();
        rig.announce(5, false);
        // Nothing is answered after it went.
        rig.answer_with(5, |_| panic!("answered for a device that is gone"));
        rig.tamper = None;
        events.extend(rig.serve_for(100).unwrap());
        let read = LinkEvent::ConfigRead { device: 3 };
        assert_eq!(events.last(), Some(&read), "{wait}");
        assert!(events.contains(&WENT));
        rig.announce(5, true);
        rig.serve_for(200).unwrap();
        assert!(second(&rig).is_live());
    }
}

/// The answer to what was asked of a device that went comes after all.
#[test]
fn a_late_answer_of_a_device_that_went() {
    let mut rig = attached();
    rig.announce(5, true);
    rig.serve_for(200).unwrap();
    rig.repeat_answers(5);
    rig.host.refresh_config(5).unwrap();
    rig.serve_for(3).unwrap();
    rig.announce(5, false);
    rig.serve_for(50).unwrap();
    rig.announce(5, true);
    for _ in 0..30 {
        rig.board.device.config_changed();
        rig.serve_for(3).unwrap();
    }
    rig.tamper = None;
    assert_eq!(rig.serve_for(300).unwrap(), []);
    assert!(second(&rig).is_live() && rig.board.device.is_live());
    assert!(rig.host.late_answers() >= 10, "{}", rig.host.late_answers());
}

/// What is wrong with a device that came costs that device only.
#[test]
fn a_device_that_came_and_is_no_good() {
    type Spoil = fn(&mut Response);
    let info = |change: Spoil| change;
    let cases: Vec<(Spoil, Reason)> = vec![
        (
            info(|r| {
                if let Response::DeviceInfo(info) = r {
                    info.queues = 65
                }
            }),
            Reason::DeviceLimits { device: 5 },
        ),
        (
            |r| {
                if let Response::DeviceFeatures(words) = r {
                    *words = FeatureWords::of(Features::NONE, 0, 2)
                }
            },
            Reason::FeaturesMissing { device: 5, missing: crate::wire::features::REQUIRED },
        ),
        (
            |r| {
                if let Response::SetDeviceStatus { status } = r {
                    *status &= !8
                }
            },
            Reason::FeaturesRefused { device: 5 },
        ),
        (
            |r| {
                if let Response::Vqueue { addresses, .. } = r {
                    addresses.size = 7
                }
            },
            Reason::QueueDiffers { queue: 0 },
        ),
        (
            |r| {
                if let Response::RouteQueue { result, .. } = r {
                    *result = ResultCode::NotAllowed
                }
            },
            Reason::Result(Kind::RouteQueue, ResultCode::NotAllowed),
        ),
        (
            |r| {
                if let Response::SetDeviceStatus { status } = r
                    && *status == 15
                {
                    *status = 79
                }
            },
            Reason::Status {
                device: 5,
                wanted: DeviceStatus::new(15),
                found: DeviceStatus::new(79),
            },
        ),
    ];
    for (spoil, reason) in cases {
        let mut rig = attached();
        rig.answer_with(5, spoil);
        rig.announce(5, true);
        let events = rig.serve_for(200).unwrap();
        assert_eq!(events, [CAME, LinkEvent::DeviceRefused { device: 5, reason }]);
        assert!(second(&rig).state().status().is_reset(), "{reason}");
        // It is left alone, and the other runs on.
        rig.link.announce(5, true, &mut rig.board);
        assert_eq!(rig.serve_for(50).unwrap(), []);
        rig.host.refresh_config(3).unwrap();
        assert_eq!(rig.serve_for(50).unwrap(), [LinkEvent::ConfigRead { device: 3 }]);
        // Mended, it comes back.
        rig.tamper = None;
        rig.announce(5, false);
        rig.serve_for(50).unwrap();
        rig.announce(5, true);
        assert_eq!(rig.serve_for(200).unwrap(), [CAME]);
        assert!(second(&rig).is_live());
        assert!(rig.detach());
    }
    let mut rig = attached();
    let mut generation = 0;
    rig.answer_with(5, move |r| {
        if let Response::Config { generation: told, .. } = r {
            generation += 1;
            *told = generation;
        }
    });
    rig.announce(5, true);
    let reason = Reason::ConfigUnstable { device: 5 };
    let events = rig.serve_for(200).unwrap();
    assert_eq!(events, [CAME, LinkEvent::DeviceRefused { device: 5, reason }]);
}

/// One that goes while it is reset because it was refused.
#[test]
fn a_refused_device_that_goes_before_it_is_reset() {
    let mut rig = attached();
    rig.answer_with(5, |r| {
        if let Response::SetDeviceStatus { status } = r
            && *status == 0
        {
            *status = 1;
        }
        if let Response::DeviceStatus { status } = r {
            *status = 1;
        }
        if let Response::DeviceInfo(info) = r {
            info.queues = 65;
        }
    });
    rig.announce(5, true);
    assert_eq!(rig.serve_for(100).unwrap(), [CAME]);
    rig.announce(5, false);
    assert_eq!(rig.serve_for(3_000).unwrap(), [WENT]);
    rig.tamper = None;
    rig.announce(5, true);
    rig.serve_for(200).unwrap();
    assert!(second(&rig).is_live());
}

/// Row 15: an answer that never comes is the channel's trouble, whichever it is.
#[test]
fn the_kth_answer_of_a_device_that_came_is_dropped() {
    let (before, total) = {
        let mut rig = attached();
        let before = rig.frames;
        rig.announce(5, true);
        rig.serve_for(200).unwrap();
        (before, rig.frames)
    };
    assert!(total - before > 12);
    // The first of them is the event.
    for k in before + 1..total {
        let mut rig = attached();
        rig.tamper = Some(Box::new(move |n, frame| {
            if n == k {
                frame[1] = 0x7F;
            }
        }));
        rig.announce(5, true);
        let refusal = rig.serve_for(2_000).expect_err("an answer is missing");
        assert!(matches!(refusal.reason, Reason::NoAnswer(_)), "answer {k}: {refusal}");
        assert_eq!(refusal.step, AttachStep::Running);
        rig.tamper = None;
        rig.new_host();
        rig.attach().unwrap();
    }
}

/// A flood of comings and goings: each costs its messages, nothing grows, and
/// what the caller wishes is done in between.
#[test]
fn a_device_that_flaps_without_end() {
    let mut rig = attached();
    let mut read = 0_u32;
    for round in 0..20_000_u32 {
        rig.announce(5, round % 2 == 0);
        if round % 100 == 0 {
            rig.host.refresh_config(3).unwrap();
        }
        rig.now += 1;
        rig.poll_board();
        // As a caller that has other things to do as well.
        for _ in 0..16 {
            let step = rig.host.step(rig.now, true).unwrap();
            rig.doorbell |= step.ring > 0;
            rig.supply(step.progress).unwrap();
            match step.progress {
                Progress::Running => break,
                Progress::Event(LinkEvent::ConfigRead { device: 3 }) => read += 1,
                _ => {}
            }
        }
    }
    assert!(read >= 195, "{read}");
    rig.announce(5, true);
    rig.serve_for(200).unwrap();
    assert!(second(&rig).is_live() && rig.board.device.is_live());
    assert!(rig.detach());
}

/// It is brought up ever more seldom, without end, and at once again after a
/// good minute; the other runs on.
#[test]
fn a_device_that_comes_back_again_and_again_waits() {
    let mut rig = attached();
    let mut ups = Vec::new();
    for round in 0..120_000_u32 {
        if round % 10 == 0 {
            rig.announce_again(5, round % 20 == 0);
        }
        let progress = rig.tick().unwrap().progress;
        if matches!(progress, Progress::NeedFeatures { .. }) {
            ups.push(rig.now);
        }
        rig.supply(progress).unwrap();
        assert!(rig.board.device.is_live());
    }
    // Each time that it is gone puts off its return.
    assert!((1..4).contains(&ups.len()), "{ups:?}");
    let (mut waits, mut events) = (Vec::new(), Vec::new());
    rig.host.forget_returns();
    for _ in 0..12 {
        rig.announce_again(5, false);
        rig.serve_for(20).unwrap();
        let from = rig.now;
        rig.announce_again(5, true);
        while !second(&rig).is_live() {
            events.extend(rig.serve_for(1).unwrap());
        }
        waits.push((rig.now - from) / 50 * 50);
    }
    assert_eq!(waits[..6], [0, 100, 200, 400, 800, 1_600], "{waits:?}");
    assert!(waits[10..].iter().all(|wait| (29_000..30_100).contains(wait)), "{waits:?}");
    assert_eq!(events, [CAME; 12]);
    rig.serve_for(60_000).unwrap();
    rig.announce_again(5, false);
    rig.announce_again(5, true);
    rig.serve_for(200).unwrap();
    assert!(second(&rig).is_live());
}

/// Devices that come or go while the attach is under way.
#[test]
fn changes_during_the_attach() {
    let total = {
        let mut rig = Rig::new();
        rig.board.second = Some(device());
        rig.attach().unwrap();
        rig.now
    };
    for (at, comes) in (0..=total).flat_map(|at| [(at, true), (at, false)]) {
        let mut rig = Rig::new();
        rig.board.second = Some(device());
        rig.board.away = if comes { 1 << 5 } else { 0 };
        for _ in 0..at {
            let step = rig.tick().unwrap();
            rig.supply(step.progress).unwrap();
        }
        rig.announce(5, comes);
        rig.serve_for(300).unwrap();
        assert_eq!((second(&rig).is_live(), rig.board.device.is_live()), (comes, true), "{at}");
        rig.host.refresh_config(3).unwrap();
        assert_eq!(rig.serve_for(50).unwrap(), [LinkEvent::ConfigRead { device: 3 }]);
    }
}

/// A device that goes while the detach resets it.
#[test]
fn a_device_that_goes_during_the_detach() {
    for at in 0..20 {
        let mut rig = attached();
        rig.announce(5, true);
        rig.serve_for(200).unwrap();
        rig.host.detach(rig.now);
        for _ in 0..at {
            rig.tick().unwrap();
        }
        rig.announce(5, false);
        let from = rig.now;
        let done = rig.until(500, |p| matches!(p, Progress::Detached { .. })).unwrap();
        assert_eq!(done, Progress::Detached { clean: true }, "after {at} ms");
        assert!(rig.now - from < 100, "after {at} ms: {}", rig.now - from);
    }
}

/// A board that answers everything, each time just before its time is over.
#[test]
fn a_board_that_drags_its_feet() {
    let drag = |rig: &mut Rig| -> Refusal {
        for ms in 0_u64..200_000 {
            rig.board_runs = ms % 900 == 0;
            match rig.tick() {
                Ok(step) => rig.supply(step.progress).unwrap(),
                Err(refusal) => return refusal,
            }
        }
        panic!("still at it")
    };
    let slow = || {
        let mut description = description();
        (description.heartbeat.interval_ms, description.heartbeat.misses) = (1_000, 4);
        let mut rig = Rig::with(description);
        rig.board.device.model_mut().config = vec![7; 4096];
        rig
    };
    let refusal = drag(&mut slow());
    assert_eq!(refusal.reason, Reason::Timeout { after_ms: timer::ATTACH + 4_000 });
    assert_eq!(refusal.step, AttachStep::Config);

    // A device that came has less time, and costs no more than itself.
    let mut rig = slow();
    rig.board.second = Some(device());
    rig.board.away = 1 << 5;
    rig.attach().unwrap();
    rig.announce(5, true);
    let mut said = Vec::new();
    for ms in 0_u64..30_000 {
        rig.board_runs = ms % 900 == 0;
        let step = rig.tick().unwrap();
        if let Progress::Event(event) = step.progress {
            said.push(event);
        }
        rig.supply(step.progress).unwrap();
    }
    let reason = Reason::Timeout { after_ms: timer::DEVICE };
    assert_eq!(said, [CAME, LinkEvent::DeviceRefused { device: 5, reason }]);
    assert!(rig.board.device.is_live());
}
