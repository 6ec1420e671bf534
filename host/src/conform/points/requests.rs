//! Each request that is right, or wrong in a field: what is answered.

use shared::msg::{ConfigData, Request, Response, ResultCode};
use shared::wire::features::{
    ADMIN_VQ, NOTIF_CONFIG_DATA, NOTIFICATION_DATA, REQUIRED, RING_PACKED, SR_IOV, SUSPEND,
};
use shared::wire::msg::CONFIG_DATA_MAX;

use crate::conform::device::{Device, NUMBERS, addresses};
use crate::conform::kit::Kit;
use crate::conform::point::{Checked, Point, Stop, must, seen, skip};
use crate::conform::session::{raw, words};

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "requests-ping",
        section: "5.2",
        rule: "PING is answered with its data",
        check: ping,
    },
    Point {
        id: "requests-devices",
        section: "5.2",
        rule: "GET_DEVICES of 0 to 63 answers first, count, a bitmap of count bits, and next 0",
        check: devices,
    },
    Point {
        id: "requests-devices-part",
        section: "5.2",
        rule: "GET_DEVICES of a part answers the same devices; behind 63 there are none",
        check: devices_part,
    },
    Point {
        id: "requests-info",
        section: "5.1",
        rule: "GET_DEVICE_INFO keeps the limits: features up to 128 bits in a multiple of 32, config \
               up to 4096 bytes, up to 64 queues, no admin queues",
        check: info,
    },
    Point {
        id: "requests-features-required",
        section: "5.3",
        rule: "VERSION_1, ACCESS_PLATFORM and ORDER_PLATFORM are offered",
        check: features_required,
    },
    Point {
        id: "requests-features-never",
        section: "5.3",
        rule: "RING_PACKED, NOTIFICATION_DATA, NOTIF_CONFIG_DATA, SR_IOV, ADMIN_VQ and SUSPEND are \
               not offered",
        check: features_never,
    },
    Point {
        id: "requests-features-words",
        section: "5.1",
        rule: "GET_DEVICE_FEATURES answers the words that were asked for; those behind the last \
               feature are zero",
        check: features_words,
    },
    Point {
        id: "requests-config",
        section: "5.1",
        rule: "GET_CONFIG answers generation, offset, count and the bytes; pieces are the whole",
        check: config,
    },
    Point {
        id: "requests-config-outside",
        section: "5.1",
        rule: "a config read that leaves the config space is answered with count 0",
        check: config_outside,
    },
    Point {
        id: "requests-config-much",
        section: "5.1",
        rule: "a config read of more than fits a message is answered with count 0",
        check: config_much,
    },
    Point {
        id: "requests-config-stale",
        section: "5.1",
        rule: "SET_CONFIG with another generation than the current one is answered with count 0 \
               and changes nothing",
        check: config_stale,
    },
    Point {
        id: "requests-config-write-outside",
        section: "5.1",
        rule: "a config write that leaves the config space is answered with count 0",
        check: config_write_outside,
    },
    Point {
        id: "requests-shm",
        section: "5.1",
        rule: "GET_SHM of a device without shared memory is answered with length 0",
        check: shm,
    },
    Point {
        id: "requests-queue-absent",
        section: "5.1",
        rule: "GET_VQUEUE of a queue that is not there answers largest size 0; SET_VQUEUE and \
               RESET_VQUEUE of it change nothing",
        check: queue_absent,
    },
    Point {
        id: "requests-queue-first",
        section: "5.1",
        rule: "every queue has a largest size that is a power of two from 2 to 32768; none is set \
               up at first",
        check: queue_first,
    },
    Point {
        id: "requests-route-doorbell",
        section: "7",
        rule: "ROUTE_QUEUE with doorbell 0, or one that the control block does not state, is \
               answered with 3",
        check: |kit| route_wrong(kit, true),
    },
    Point {
        id: "requests-route-vector",
        section: "7",
        rule: "ROUTE_QUEUE with vector 0, or one that the control block does not state, is \
               answered with 3",
        check: |kit| route_wrong(kit, false),
    },
    Point {
        id: "requests-route-unknown",
        section: "7",
        rule: "ROUTE_QUEUE of a device or queue that is not there is answered with 6",
        check: route_unknown,
    },
    Point {
        id: "requests-reserved",
        section: "7.1",
        rule: "a reserved field that is not zero is answered with 3",
        check: reserved,
    },
];

fn ping(kit: &mut Kit<'_>) -> Checked {
    kit.begin()?;
    for data in [0, 1, 0x8000_0001, u32::MAX] {
        match kit.ask(0, Request::Ping { data })? {
            Response::Pong { data: back } if back == data => {}
            other => return seen(format!("{data:#x} is answered with {other:x?}")),
        }
    }
    Ok(())
}

fn devices(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let map = kit.map(0, NUMBERS)?;
    must((map.first, map.count, map.next) == (0, NUMBERS, 0), || format!("the answer is {map:?}"))?;
    must(map.bits.as_slice().len() == 8, || format!("the bitmap is {:?}", map.bits))?;
    must(!kit.numbers()?.is_empty(), || "there is no device".to_owned())
}

fn devices_part(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let all = kit.map(0, NUMBERS)?;
    for (place, first) in (0..NUMBERS).step_by(8).enumerate() {
        let part = kit.map(first, 8)?;
        let same = part.bits.as_slice() == &all.bits.as_slice()[place..=place];
        let next = if first + 8 < NUMBERS { [0, first + 8] } else { [0, 0] };
        must((part.first, part.count) == (first, 8) && same && next.contains(&part.next), || {
            format!("8 from {first} are {part:?}, all are {all:?}")
        })?;
    }
    let behind = kit.map(NUMBERS, NUMBERS)?;
    must(behind.bits.as_slice().iter().all(|byte| *byte == 0) && behind.next == 0, || {
        format!("64 from 64 are {behind:?}")
    })
}

/// Does something with each device.
fn each(kit: &mut Kit<'_>, mut check: impl FnMut(&mut Kit<'_>, Device) -> Checked) -> Checked {
    kit.attach()?;
    let numbers = kit.numbers()?;
    if numbers.is_empty() {
        return skip("the board has no device");
    }
    for number in numbers {
        let info = kit.info(number)?;
        check(kit, Device { number, info })?;
    }
    Ok(())
}

fn info(kit: &mut Kit<'_>) -> Checked {
    each(kit, |_, device| {
        let info = device.info;
        let good = info.device_id != 0
            && info.feature_bits <= 128
            && info.feature_bits.is_multiple_of(32)
            && info.config_size <= 4096
            && info.queues <= 64
            && info.admin_count == 0;
        must(good, || format!("device {}: {info:?}", device.number))
    })
}

fn features_required(kit: &mut Kit<'_>) -> Checked {
    each(kit, |kit, device| {
        let offered = kit.offered(device)?;
        let missing = REQUIRED.bits() & !offered;
        must(missing == 0, || {
            let missing = shared::wire::features::Features::new(missing);
            format!("device {} does not offer {missing:?}", device.number)
        })
    })
}

fn features_never(kit: &mut Kit<'_>) -> Checked {
    let never = RING_PACKED | NOTIFICATION_DATA | NOTIF_CONFIG_DATA | SR_IOV | ADMIN_VQ | SUSPEND;
    each(kit, |kit, device| {
        let offered = kit.offered(device)? & never;
        must(offered == 0, || {
            let offered = shared::wire::features::Features::new(offered);
            format!("device {} offers {offered:?}", device.number)
        })
    })
}

fn features_words(kit: &mut Kit<'_>) -> Checked {
    each(kit, |kit, device| {
        let offered = kit.offered(device)?;
        let words = device.info.feature_bits / 32;
        for (first, count) in [(0, 1), (1, 1), (words, 1), (4, 2), (u32::MAX, 1)] {
            let request = Request::GetDeviceFeatures { first, count };
            let Response::DeviceFeatures(got) = kit.ask(device.number, request)? else {
                return seen("GET_DEVICE_FEATURES has another answer");
            };
            let expected = (0..count).map(|word| match first.checked_add(word) {
                Some(0) => u32::try_from(offered & 0xFFFF_FFFF).unwrap_or(0),
                Some(1) => u32::try_from(offered >> 32).unwrap_or(0),
                _ => 0,
            });
            let same = got.iter().map(|(_, word)| word).eq(expected);
            must((got.first, got.count) == (first, count) && same, || {
                format!("{count} words from {first} are {got:x?}, offered is {offered:#x}")
            })?;
        }
        Ok(())
    })
}

/// Bytes in one message.
fn most() -> u32 {
    u32::try_from(CONFIG_DATA_MAX).unwrap_or(0)
}

fn config(kit: &mut Kit<'_>) -> Checked {
    each(kit, |kit, device| {
        let size = device.info.config_size.min(most());
        let (generation, whole) = kit.config(device, 0, size)?;
        must(whole.len() == size as usize, || {
            format!("device {}: {size} bytes asked for, {} answered", device.number, whole.len())
        })?;
        for (offset, byte) in (0..size).zip(&whole) {
            let (now, got) = kit.config(device, offset, 1)?;
            // A config space that has just changed is another one.
            must(now != generation || got == [*byte], || {
                format!("byte {offset} is {got:02x?} alone, {byte:#04x} in the whole")
            })?;
        }
        Ok(())
    })
}

fn config_outside(kit: &mut Kit<'_>) -> Checked {
    each(kit, |kit, device| {
        let size = device.info.config_size;
        for (offset, count) in
            [(size, 1), (size.saturating_sub(1), 2), (u32::MAX, 1), (u32::MAX, 2)]
        {
            let (_, got) = kit.config(device, offset, count)?;
            must(got.is_empty(), || {
                format!("{count} bytes at {offset} of {size} are answered with {got:02x?}")
            })?;
        }
        Ok(())
    })
}

fn config_much(kit: &mut Kit<'_>) -> Checked {
    each(kit, |kit, device| {
        for count in [most() + 1, 1 << 31, u32::MAX] {
            let (_, got) = kit.config(device, 0, count)?;
            must(got.is_empty(), || format!("{count} bytes are answered with {}", got.len()))?;
        }
        Ok(())
    })
}

/// SET_CONFIG: the generation and how many bytes were written.
fn set_config(
    kit: &mut Kit<'_>,
    device: Device,
    generation: u32,
    offset: u32,
    bytes: &[u8],
) -> Result<(u32, usize), Stop> {
    let data = ConfigData::new(bytes).unwrap_or_else(ConfigData::empty);
    match kit.ask(device.number, Request::SetConfig { generation, offset, data })? {
        Response::SetConfig { generation, offset: said, data } if said == offset => {
            Ok((generation, data.as_slice().len()))
        }
        other => seen(format!("SET_CONFIG at {offset} is answered with {other:?}")),
    }
}

fn config_stale(kit: &mut Kit<'_>) -> Checked {
    each(kit, |kit, device| {
        if device.info.config_size == 0 {
            return Ok(());
        }
        let (generation, before) = kit.config(device, 0, 1)?;
        let (_, written) = set_config(kit, device, generation ^ 1, 0, &[!before[0]])?;
        must(written == 0, || format!("{written} bytes were written"))?;
        let (now, after) = kit.config(device, 0, 1)?;
        must(now != generation || after == before, || {
            format!("byte 0 was {before:02x?} and is {after:02x?}")
        })
    })
}

fn config_write_outside(kit: &mut Kit<'_>) -> Checked {
    each(kit, |kit, device| {
        let size = device.info.config_size;
        let (generation, _) = kit.config(device, 0, 0)?;
        for offset in [size, u32::MAX] {
            let (_, written) = set_config(kit, device, generation, offset, &[0xEE])?;
            must(written == 0, || format!("{written} bytes at {offset} of {size} were written"))?;
        }
        Ok(())
    })
}

fn shm(kit: &mut Kit<'_>) -> Checked {
    each(kit, |kit, device| {
        for index in [0, u32::MAX] {
            match kit.ask(device.number, Request::GetShm { index })? {
                Response::Shm { index: said, len: 0, .. } if said == index => {}
                other => return seen(format!("index {index} is answered with {other:?}")),
            }
        }
        Ok(())
    })
}

fn queue_absent(kit: &mut Kit<'_>) -> Checked {
    each(kit, |kit, device| {
        for queue in [device.info.queues, 0x1_0000, u32::MAX] {
            let nothing = (0, addresses(0, [0; 3]));
            let before = kit.queue(device, queue)?;
            kit.set_queue(device, queue, addresses(2, [0x1000, 0x2000, 0x3000]))?;
            match kit.ask(device.number, Request::ResetVqueue { queue })? {
                Response::ResetVqueue => {}
                other => return seen(format!("RESET_VQUEUE is answered with {other:?}")),
            }
            let after = kit.queue(device, queue)?;
            must(before == nothing && after == nothing, || {
                format!("queue {queue} of {} shows {before:x?}, {after:x?}", device.info.queues)
            })?;
        }
        Ok(())
    })
}

fn queue_first(kit: &mut Kit<'_>) -> Checked {
    each(kit, |kit, device| {
        for queue in 0..device.info.queues {
            let (largest, shown) = kit.queue(device, queue)?;
            let good = largest.is_power_of_two() && (2..=1 << 15).contains(&largest);
            must(good && shown == addresses(0, [0; 3]), || {
                format!("queue {queue} of device {}: {largest}, {shown:x?}", device.number)
            })?;
        }
        Ok(())
    })
}

/// A device with a queue that may be routed now.
fn routable(kit: &mut Kit<'_>) -> Result<Device, Stop> {
    kit.attach()?;
    let device = kit.any_device()?;
    let status = kit.negotiate(device, REQUIRED.bits())?;
    must(status == crate::conform::device::FEATURES_OK, || {
        format!("FEATURES_OK with what is required is refused: status {status:#x}")
    })?;
    Ok(device)
}

fn route_wrong(kit: &mut Kit<'_>, doorbell: bool) -> Checked {
    let device = routable(kit)?;
    let description = &kit.board()?.description;
    let count = if doorbell { description.doorbell.count } else { description.vectors };
    for number in [0, count, count + 1, u32::MAX] {
        let (bell, vector) = if doorbell { (number, 1) } else { (1, number) };
        let result = kit.route(device.number.into(), 0, bell, vector)?;
        must(result == ResultCode::Invalid, || {
            format!("doorbell {bell}, vector {vector}: answered with {}", result.code())
        })?;
    }
    Ok(())
}

fn route_unknown(kit: &mut Kit<'_>) -> Checked {
    let device = routable(kit)?;
    kit.notifications(0)?;
    let there = kit.numbers()?;
    let absent = (0..NUMBERS).find(|number| !there.contains(number)).map_or(64, u32::from);
    let (own, queues) = (u32::from(device.number), device.info.queues);
    for (number, queue) in
        [(absent, 0), (64, 0), (0x1_0000, 0), (u32::MAX, 0), (own, queues), (own, u32::MAX)]
    {
        let result = kit.route(number, queue, 1, 1)?;
        must(result == ResultCode::Unknown, || {
            format!("device {number}, queue {queue}: answered with {}", result.code())
        })?;
    }
    Ok(())
}

fn reserved(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let (_, region, _) = kit.board_region()?;
    let (base, len) = (region.base.bits(), region.len);
    let shared::msg::RegionKind::Board { index } = region.kind else {
        return seen("no board region");
    };
    let low = |value: u64| u32::try_from(value & 0xFFFF_FFFF).unwrap_or(0);
    let add = words(&[
        region.id,
        1,
        region.rights,
        0,
        low(base),
        low(base >> 32),
        low(len),
        low(len >> 32),
        index,
        1,
    ]);
    let boot = kit.live(shared::wire::control::live::BOOT_EPOCH)?;
    let session = kit.session()?.epoch;
    let attach = words(&[1, boot, session, 1]);
    for (name, id, payload, result_at) in [
        ("ATTACH", 0x80, attach, 8),
        ("ADD_REGION", 0x81, add, 12),
        ("REMOVE_REGION", 0x82, words(&[9, 1]), 12),
        ("BOARD_RESET", 0x84, words(&[boot, 1]), 8),
    ] {
        let token = kit.session()?.fresh_token();
        let size = u16::try_from(8 + payload.len()).unwrap_or(0);
        let frame = raw(2, id, 0, token, size, &payload);
        kit.send(&frame)?;
        let answer = kit.answer_to(&frame);
        let answer = answer.or_else(|_| seen(format!("{name} with it is not answered")))?;
        let result = answer[result_at];
        must(result == 3, || format!("{name} with it is answered with {result}"))?;
    }
    Ok(())
}
