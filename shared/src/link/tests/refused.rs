//! Each step refused, and answers that are wrong, late or missing.

use super::rig::*;
use crate::address::BusAddress;
use crate::link::description::Versions;
use crate::link::host::{HostRegion, Progress, QueuePlacement};
use crate::link::refusal::{AttachStep, Reason, Refusal, RegionFault};
use crate::msg::body::*;
use crate::msg::kind::{Kind, Side};
use crate::region::Rights;
use crate::virtq::QueueSize;
use crate::wire::features::{self, Features};
use crate::wire::status::DeviceStatus;

/// A rig whose board answers `kind` with what `change` makes of its response.
fn answering(kind: Kind, mut change: impl FnMut(&mut Response) + 'static) -> Rig {
    let mut rig = Rig::new();
    rig.tamper = Some(Box::new(move |_, frame| {
        let Ok(mut message) = Message::decode(frame, Side::Device) else { return };
        if let Body::Response(response) = &mut message.body
            && response.kind() == kind
        {
            change(response);
            *frame = message.encode();
        }
    }));
    rig
}

fn refused(mut rig: Rig) -> Refusal {
    let refusal = rig.attach().expect_err("refused");
    assert!(!refusal.to_string().is_empty());
    // A refused attach can be signed off, and the next one works.
    assert!(rig.detach());
    rig.tamper = None;
    rig.new_host();
    rig.attach().unwrap();
    refusal
}

#[test]
fn the_versions_do_not_meet() {
    let mut other = description();
    let other_versions = Versions { min: 2, max: 9 };
    other.versions = other_versions;
    let refusal = Rig::with(other).attach().unwrap_err();
    assert_eq!(refusal.step, AttachStep::ChooseVersion);
    let (board, host) = (other_versions, Versions::OURS);
    assert_eq!(refusal.reason, Reason::Versions { board, host });
    assert!(refusal.to_string().contains("update the older side"));
    let both = Versions { min: 1, max: 3 };
    assert_eq!(both.common(Versions { min: 2, max: 9 }), Some(3));
    assert_eq!(both.common(Versions { min: 4, max: 9 }), None);
}

#[test]
fn a_channel_layout_that_is_none() {
    let mut rig = Rig::new();
    rig.bar.poke(0x1004, 2);
    let refusal = rig.attach().unwrap_err();
    assert_eq!(refusal.step, AttachStep::WriteSession);
}

#[test]
fn a_session_that_the_board_refuses() {
    for (word, result) in [(0x3004, ResultCode::Version), (0x3008, ResultCode::StaleEpoch)] {
        let mut rig = Rig::new();
        rig.board_runs = false;
        rig.tick().unwrap();
        rig.bar.poke(word, 9);
        rig.board_runs = true;
        let refusal = rig.attach().unwrap_err();
        assert_eq!(refusal.step, AttachStep::AwaitAcceptance);
        assert_eq!(refusal.reason, Reason::SessionRefused(result));
        assert_eq!(rig.link.stats().refused, 1);
        rig.new_host();
        rig.attach().unwrap();
    }
}

#[test]
fn a_board_that_does_not_accept_or_start() {
    let mut rig = Rig::new();
    rig.board_runs = false;
    let refusal = rig.attach().unwrap_err();
    assert_eq!(refusal.step, AttachStep::AwaitAcceptance);
    assert_eq!(refusal.reason, Reason::Timeout { after_ms: 2_400 });

    let mut rig = Rig::new();
    while rig.link.session().is_none() {
        rig.tick().unwrap();
    }
    // It accepted, and its queue head never leaves init; its heart beats on.
    let refusal = loop {
        rig.bar.poke(0x1040, 0x514F);
        rig.bar.poke(0xF0C, u32::try_from(rig.now).unwrap());
        rig.board_runs = false;
        if let Err(refusal) = rig.tick() {
            break refusal;
        }
    };
    assert_eq!(refusal.step, AttachStep::StartChannel);
    assert_eq!(refusal.reason, Reason::Timeout { after_ms: 2_000 });
}

#[test]
fn result_codes_of_each_bus_message() {
    let no = ResultCode::NotAllowed;
    for kind in [Kind::Attach, Kind::AddRegion, Kind::RouteQueue] {
        let rig = answering(kind, move |response| match response {
            Response::Attach { result, .. }
            | Response::AddRegion { result, .. }
            | Response::RouteQueue { result, .. } => *result = no,
            _ => {}
        });
        assert_eq!(refused(rig).reason, Reason::Result(kind, no));
    }
    let mut rig = Rig::new();
    rig.board.refuse_region = Some(ResultCode::OutOfReach);
    let refusal = rig.attach().unwrap_err();
    assert_eq!(refusal.step, AttachStep::AddRegions);
}

#[test]
fn answers_that_do_not_fit_the_question() {
    let echoes = |kind, change: fn(&mut Response)| (kind, answering(kind, change));
    let cases = [
        echoes(Kind::Attach, |r| {
            if let Response::Attach { session, .. } = r {
                *session += 1
            }
        }),
        echoes(Kind::Attach, |r| {
            if let Response::Attach { boot, .. } = r {
                *boot += 1
            }
        }),
        echoes(Kind::Attach, |r| {
            if let Response::Attach { version, .. } = r {
                *version += 1
            }
        }),
        echoes(Kind::AddRegion, |r| {
            if let Response::AddRegion { id, .. } = r {
                *id += 1
            }
        }),
        echoes(Kind::GetDevices, |r| {
            if let Response::Devices(map) = r {
                map.first = 8
            }
        }),
        echoes(Kind::GetDeviceFeatures, |r| {
            if let Response::DeviceFeatures(words) = r {
                words.first = 1
            }
        }),
        echoes(Kind::GetConfig, |r| {
            if let Response::Config { offset, .. } = r {
                *offset += 1
            }
        }),
        echoes(Kind::GetConfig, |r| {
            if let Response::Config { data, .. } = r {
                *data = ConfigData::empty()
            }
        }),
        echoes(Kind::GetVqueue, |r| {
            if let Response::Vqueue { queue, .. } = r {
                *queue += 1
            }
        }),
        echoes(Kind::RouteQueue, |r| {
            if let Response::RouteQueue { queue, .. } = r {
                *queue += 1
            }
        }),
    ];
    for (kind, rig) in cases {
        assert_eq!(refused(rig).reason, Reason::BadAnswer(kind));
    }
}

/// Rows 4 and 16: counts of 0, the most, one more, all ones.
#[test]
fn limits_of_a_device() {
    let info = |change: fn(&mut DeviceInfo)| {
        answering(Kind::GetDeviceInfo, move |r| {
            if let Response::DeviceInfo(info) = r {
                change(info);
            }
        })
    };
    let beyond: [fn(&mut DeviceInfo); 8] = [
        |info| info.feature_bits = 160,
        |info| info.feature_bits = 33,
        |info| info.feature_bits = u32::MAX,
        |info| info.config_size = 4097,
        |info| info.config_size = u32::MAX,
        |info| info.queues = 65,
        |info| info.queues = u32::MAX,
        |info| info.queues = 0x1_0000,
    ];
    for change in beyond {
        let refusal = refused(info(change));
        assert_eq!(refusal.step, AttachStep::DeviceInfo);
        assert_eq!(refusal.reason, Reason::DeviceLimits { device: 3 });
    }
    for bits in [0, 32] {
        let rig = answering(Kind::GetDeviceInfo, move |r| {
            if let Response::DeviceInfo(info) = r {
                info.feature_bits = bits;
            }
        });
        let refusal = refused(rig);
        assert!(matches!(refusal.reason, Reason::FeaturesMissing { .. }), "{refusal}");
    }
    // Four words are within the limits; what no feature has is not accepted.
    let mut rig = info(|info| info.feature_bits = 128);
    rig.attach().unwrap();
    assert_eq!(rig.board.device.state().accepted(), offered());
    // Queues that the device does not have after all.
    assert_eq!(refused(info(|info| info.queues = 64)).step, AttachStep::QueueSizes);
}

#[test]
fn devices_that_are_not_there() {
    let devices = |change: fn(&mut DeviceMap)| {
        answering(Kind::GetDevices, move |r| {
            if let Response::Devices(map) = r {
                change(map);
            }
        })
    };
    let none = devices(|map| map.bits = Data::new(&[0; 8]).unwrap());
    assert_eq!(refused(none).reason, Reason::NoDevice);
    let more = devices(|map| map.next = 64);
    assert_eq!(refused(more).reason, Reason::DeviceLimits { device: 64 });
    // All 64 bits set: those without a device are passed over.
    let mut rig = devices(|map| map.bits = Data::new(&[0xFF; 8]).unwrap());
    rig.attach().unwrap();
    assert!(rig.board.device.is_live());
}

#[test]
fn status_that_does_not_follow() {
    for (wrong, step) in [
        (1_u32, AttachStep::ResetDevice),
        (3, AttachStep::ResetDevice),
        (11, AttachStep::FeaturesOk),
        (15, AttachStep::DriverOk),
    ] {
        let rig = answering(Kind::SetDeviceStatus, move |r| {
            if let Response::SetDeviceStatus { status } = r
                && *status == wrong
            {
                *status |= DeviceStatus::DEVICE_NEEDS_RESET.bits();
            }
        });
        let refusal = refused(rig);
        assert_eq!(refusal.step, step);
        assert!(matches!(refusal.reason, Reason::Status { device: 3, .. }));
    }
    let rig = answering(Kind::SetDeviceStatus, |r| {
        if let Response::SetDeviceStatus { status } = r {
            *status &= !DeviceStatus::FEATURES_OK.bits();
        }
    });
    assert_eq!(refused(rig).reason, Reason::FeaturesRefused { device: 3 });
    let mut rig = Rig::new();
    rig.board.device.model_mut().refuse_activation = true;
    assert_eq!(rig.attach().unwrap_err().step, AttachStep::DriverOk);
}

#[test]
fn a_reset_that_does_not_end() {
    let mut rig = Rig::new();
    rig.board.device.model_mut().drain = u32::MAX;
    let refusal = rig.attach().unwrap_err();
    // The device was clean, so its reset is asked for and never done.
    assert_eq!(refusal.step, AttachStep::ResetDevice);
}

#[test]
fn a_config_space_that_keeps_changing() {
    let mut count = 0;
    let rig = answering(Kind::GetConfig, move |r| {
        if let Response::Config { generation, .. } = r {
            count += 1;
            *generation = count;
        }
    });
    assert_eq!(refused(rig).reason, Reason::ConfigUnstable { device: 3 });
}

/// Row 21: the board keeps something else in any of the five fields.
#[test]
fn a_queue_that_is_not_as_set() {
    let changes: [fn(&mut QueueAddresses); 4] = [
        |kept| kept.size = 32,
        |kept| kept.descriptors = BusAddress::board(0x10),
        |kept| kept.driver = BusAddress::board(0x10),
        |kept| kept.device = BusAddress::new(0x10),
    ];
    for change in changes {
        let rig = answering(Kind::GetVqueue, move |r| {
            if let Response::Vqueue { addresses, .. } = r
                && addresses.size != 0
            {
                change(addresses);
            }
        });
        let refusal = refused(rig);
        assert_eq!(refusal.step, AttachStep::VerifyQueue);
        assert_eq!(refusal.reason, Reason::QueueDiffers { queue: 0 });
    }
    // A queue that shows something before it was set.
    let rig = answering(Kind::GetVqueue, |r| {
        if let Response::Vqueue { addresses, .. } = r {
            addresses.size = 4;
        }
    });
    assert_eq!(refused(rig).step, AttachStep::QueueSizes);
}

/// Row 15: the k-th answer never comes, for all k; then it comes late.
#[test]
fn the_kth_answer_is_dropped() {
    let total = {
        let mut rig = Rig::new();
        rig.attach().unwrap();
        rig.frames
    };
    assert!(total > 20, "{total}");
    for k in 0..total {
        let mut rig = Rig::new();
        rig.tamper = Some(Box::new(move |n, frame| {
            if n == k {
                frame[1] = 0x7F;
            }
        }));
        let refusal = rig.attach().expect_err("an answer is missing");
        assert!(matches!(refusal.reason, Reason::NoAnswer(_)), "answer {k}: {refusal}");
        assert!(rig.now < 1_200, "answer {k}: {} ms", rig.now);
        assert!(rig.detach());
        rig.tamper = None;
        rig.new_host();
        rig.attach().unwrap();
    }
}

#[test]
fn every_answer_twice_or_with_a_wrong_token() {
    let mut rig = Rig::new();
    rig.tamper = Some(Box::new(|n, frame| {
        if n == 12 {
            frame[4] ^= 0xFF;
        }
    }));
    assert!(matches!(rig.attach().unwrap_err().reason, Reason::NoAnswer(_)));
    assert_eq!(rig.host.late_answers(), 1);
}

fn need(rig: &mut Rig, which: fn(&Progress) -> bool) {
    rig.until(1_000, which).unwrap();
}

#[test]
fn regions_that_the_board_cannot_take() {
    let region = |base: u64, len: u64| HostRegion {
        base: BusAddress::new(base),
        len,
        rights: Rights::READ_WRITE,
    };
    let cases: Vec<(Vec<HostRegion>, RegionFault)> = vec![
        (vec![region(IOVA, 0)], RegionFault::Unaligned),
        (vec![region(IOVA, 0x1001)], RegionFault::Unaligned),
        (vec![region(IOVA + 8, 0x1000)], RegionFault::Unaligned),
        (vec![region((1 << 63) - 0x1000, 0x2000)], RegionFault::Wraps),
        (vec![region(1 << 63, 0x1000)], RegionFault::Wraps),
        (vec![region(IOVA, 0x2000), region(IOVA + 0x1000, 0x1000)], RegionFault::Overlaps),
        (vec![region(1 << 40, 0x1000)], RegionFault::OutOfReach { address_bits: 40 }),
        (vec![region((1 << 40) - 0x1000, 0x2000)], RegionFault::OutOfReach { address_bits: 40 }),
        (vec![region(IOVA, 0x30_0000)], RegionFault::TooFewWindows { windows: 2 }),
        (vec![region(IOVA, 0x1000); 63], RegionFault::TooMany),
        (
            vec![HostRegion { rights: Rights::READ, ..region(IOVA, 0x1000) }],
            RegionFault::StatusPage,
        ),
        (vec![], RegionFault::StatusPage),
    ];
    for (regions, why) in cases {
        let mut rig = Rig::new();
        need(&mut rig, |p| *p == Progress::NeedRegions);
        let page = rig.host_memory.clone();
        let refusal = rig.host.supply_regions(&regions, Some(page)).unwrap_err();
        let Reason::Region { why: found, .. } = refusal.reason else { panic!("{refusal}") };
        assert_eq!((found, refusal.step), (why, AttachStep::AddRegions));
        // It can still be corrected.
        rig.attach().unwrap();
    }
    let mut other = description();
    other.outbound = None;
    let mut rig = Rig::with(other);
    need(&mut rig, |p| *p == Progress::NeedRegions);
    let page = Some(rig.host_memory.clone());
    let refusal = rig.host.supply_regions(&Rig::regions(), page).unwrap_err();
    assert_eq!(refusal.reason, Reason::Region { index: 0, why: RegionFault::BarOnly });
}

#[test]
fn feature_choices_that_cannot_be() {
    let mut rig = Rig::new();
    need(&mut rig, |p| matches!(p, Progress::NeedFeatures { .. }));
    let wrong = [
        (offered() | Features::new(2), Features::new(2)),
        (Features::NONE, features::REQUIRED),
        (
            offered().without(Features::new(features::ORDER_PLATFORM)),
            Features::new(features::ORDER_PLATFORM),
        ),
    ];
    for (choice, bits) in wrong {
        let refusal = rig.host.supply_features(choice).unwrap_err();
        assert_eq!(refusal.reason, Reason::FeatureChoice { device: 3, wrong: bits });
    }
    assert_eq!(rig.host.supply_queues(&[]).unwrap_err().reason, Reason::OutOfTurn);
    assert_eq!(rig.host.refresh_config(3).unwrap_err().reason, Reason::OutOfTurn);
    rig.attach().unwrap();
}

#[test]
fn placements_that_cannot_be() {
    let mut rig = Rig::new();
    need(&mut rig, |p| matches!(p, Progress::NeedQueues { .. }));
    let good = rig.queues()[0];
    let wrong = [
        vec![QueuePlacement { queue: 3, ..good }],
        vec![QueuePlacement { size: QueueSize::try_from(512).unwrap(), ..good }],
        vec![QueuePlacement { doorbell: 0, ..good }],
        vec![QueuePlacement { doorbell: 4, ..good }],
        vec![QueuePlacement { vector: 0, ..good }],
        vec![QueuePlacement { vector: 4, ..good }],
        vec![good, good],
        vec![QueuePlacement { queue: 1, ..good }, good],
    ];
    for queues in wrong {
        let refusal = rig.host.supply_queues(&queues).unwrap_err();
        assert!(matches!(refusal.reason, Reason::Placement { .. }));
    }
    // What only the board can tell: a part in no region, or without the right.
    let outside = QueuePlacement { descriptors: BusAddress::board(0x10_0000), ..good };
    rig.host.supply_queues(&[outside]).unwrap();
    let refusal = rig.attach().unwrap_err();
    assert_eq!(refusal.reason, Reason::QueueDiffers { queue: 0 });
}
