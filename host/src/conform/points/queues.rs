//! A queue's set-up and reset.

use shared::msg::{QueueAddresses, ResultCode};
use shared::wire::features::{REQUIRED, RING_RESET};
use shared::wire::net::DEVICE_ID;

use crate::conform::device::{ACKNOWLEDGE, DRIVER, DRIVER_OK, Device, FEATURES_OK, addresses};
use crate::conform::kit::Kit;
use crate::conform::net::{RECEIVEQ, TRANSMITQ};
use crate::conform::point::{Checked, Point, Stop, must, skip};
use crate::conform::queue::{Queue, SIZE};
use crate::conform::session::{FAR_READABLE, FAR_WRITABLE, Lent};

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "queues-set",
        section: "8.2",
        rule: "GET_VQUEUE shows all five fields as SET_VQUEUE set them",
        check: set,
    },
    Point {
        id: "queues-smallest",
        section: "rings: Rings",
        rule: "a queue of 2 entries is taken",
        check: |kit| sized(kit, |_| 2, true),
    },
    Point {
        id: "queues-largest",
        section: "5.1",
        rule: "a queue of the largest size is taken",
        check: |kit| sized(kit, |largest| largest, true),
    },
    Point {
        id: "queues-size-zero",
        section: "5.1",
        rule: "a queue of size 0 is not set up",
        check: |kit| sized(kit, |_| 0, false),
    },
    Point {
        id: "queues-size-one",
        section: "rings: Rings",
        rule: "a queue of size 1 is not set up: two ring entries share a word",
        check: |kit| sized(kit, |_| 1, false),
    },
    Point {
        id: "queues-size-odd",
        section: "5.1",
        rule: "a queue whose size is no power of two is not set up",
        check: |kit| {
            sized(kit, |_| 3, false)?;
            sized(kit, |largest| largest - 1 + u32::from(largest == 2) * 2, false)
        },
    },
    Point {
        id: "queues-size-large",
        section: "5.1",
        rule: "a queue above the largest size is not set up",
        check: |kit| {
            sized(kit, |largest| 2 * largest, false)?;
            sized(kit, |_| 1 << 16, false)?;
            sized(kit, |_| 1 << 31, false)
        },
    },
    Point {
        id: "queues-misaligned",
        section: "rings: Rings",
        rule: "descriptors off a multiple of 16, and rings off a multiple of 4, are not set up",
        check: misaligned,
    },
    Point {
        id: "queues-outside",
        section: "5.1",
        rule: "a part in no region, or only partly in one, is not set up",
        check: outside,
    },
    Point {
        id: "queues-wrap",
        section: "5.1",
        rule: "a part whose addresses wrap is not set up",
        check: wrap,
    },
    Point {
        id: "queues-rights",
        section: "6",
        rule: "a used ring in a region that the device may not write is not set up",
        check: rights,
    },
    Point {
        id: "queues-two-regions",
        section: "6",
        rule: "a part that lies in two regions is not set up, adjacent or not",
        check: two_regions,
    },
    Point {
        id: "queues-overlap",
        section: "5.1",
        rule: "parts that overlap are not set up",
        check: overlap,
    },
    Point {
        id: "queues-unrouted",
        section: "7",
        rule: "a queue that was never routed cannot be set up",
        check: unrouted,
    },
    Point {
        id: "queues-early",
        section: "5.1",
        rule: "before FEATURES_OK no queue is set up",
        check: early,
    },
    Point {
        id: "queues-unchanged",
        section: "5.1",
        rule: "a SET_VQUEUE that is not possible leaves a queue that was set up as it was",
        check: unchanged,
    },
    Point {
        id: "queues-frozen",
        section: "5.1",
        rule: "behind DRIVER_OK neither SET_VQUEUE nor ROUTE_QUEUE changes a queue that runs",
        check: frozen,
    },
    Point {
        id: "queues-device-reset",
        section: "5.1",
        rule: "a device's reset takes all its queues back",
        check: device_reset,
    },
    Point {
        id: "queues-ring-reset-off",
        section: "5.1",
        rule: "without VIRTIO_F_RING_RESET, RESET_VQUEUE changes nothing",
        check: ring_reset_off,
    },
    Point {
        id: "queues-ring-reset",
        section: "9",
        rule: "RESET_VQUEUE takes one queue back: GET_VQUEUE shows size 0, the others run on",
        check: ring_reset,
    },
    Point {
        id: "queues-ring-again",
        section: "9",
        rule: "a queue that was reset is routed, set and verified again, and runs without a doorbell",
        check: ring_again,
    },
    Point {
        id: "queues-ring-other-size",
        section: "rings: A queue's reset",
        rule: "a queue that was reset may have another size",
        check: ring_other_size,
    },
];

/// A network device whose queues may be set up.
fn open(kit: &mut Kit<'_>) -> Result<(Device, Lent), Stop> {
    let lent = kit.share()?;
    let device = kit.find_device(DEVICE_ID, "network")?;
    let status = kit.negotiate(device, REQUIRED.bits())?;
    must(status == FEATURES_OK, || format!("FEATURES_OK is refused: status {status:#x}"))?;
    Ok((device, lent))
}

/// Tries a set-up of queue 0 that has been routed; `taken`: it has to be, and else not.
fn attempt(kit: &mut Kit<'_>, device: Device, tried: QueueAddresses, taken: bool) -> Checked {
    let (_, before) = kit.queue(device, RECEIVEQ)?;
    kit.set_queue(device, RECEIVEQ, tried)?;
    let (_, shown) = kit.queue(device, RECEIVEQ)?;
    let expected = if taken { tried } else { before };
    must(shown == expected, || format!("set {tried:x?}, GET_VQUEUE shows {shown:x?}"))
}

fn set(kit: &mut Kit<'_>) -> Checked {
    let (device, lent) = open(kit)?;
    for number in 0..device.info.queues.min(4) {
        let (largest, _) = kit.queue(device, number)?;
        let size = u16::try_from(largest).unwrap_or(SIZE).min(SIZE);
        let queue = Queue::new(&lent, number, size, 0);
        kit.route_well(device, number)?;
        kit.set_queue(device, number, queue.setup())?;
        kit.verify_queue(device, &queue)?;
    }
    Ok(())
}

/// A set-up with room for `size` entries, if the kit's memory has it: the
/// rings lie far apart.
fn roomy(lent: &Lent, size: u32) -> QueueAddresses {
    addresses(size, [lent.near.at(0), lent.near.at(0xC000), lent.far.at(0x1004)])
}

fn sized(kit: &mut Kit<'_>, size: impl Fn(u32) -> u32, taken: bool) -> Checked {
    let (device, lent) = open(kit)?;
    let (largest, _) = kit.queue(device, RECEIVEQ)?;
    let size = size(largest);
    if taken && size > 1024 {
        return skip(format!("a queue of {size} entries is larger than the kit's memory"));
    }
    kit.route_well(device, RECEIVEQ)?;
    attempt(kit, device, roomy(&lent, size), taken)
}

/// Tries set-ups of 16 entries or as many as there may be, made from good ones.
fn spoiled(kit: &mut Kit<'_>, spoil: impl Fn(&Lent, [u64; 3]) -> Vec<[u64; 3]>) -> Checked {
    let (device, lent) = open(kit)?;
    let (largest, _) = kit.queue(device, RECEIVEQ)?;
    let size = largest.min(SIZE.into());
    kit.route_well(device, RECEIVEQ)?;
    let good = [lent.near.at(0), lent.near.at(0xC000), lent.far.at(0x1004)];
    for parts in spoil(&lent, good) {
        attempt(kit, device, addresses(size, parts), false)?;
    }
    // What was tried before does not stand in a good one's way.
    attempt(kit, device, addresses(size, good), true)
}

fn misaligned(kit: &mut Kit<'_>) -> Checked {
    spoiled(kit, |_, [d, a, u]| {
        vec![
            [d + 8, a, u],
            [d + 4, a, u],
            [d + 1, a, u],
            [d, a + 2, u],
            [d, a, u + 2],
            [d, a, u + 1],
        ]
    })
}

fn outside(kit: &mut Kit<'_>) -> Checked {
    spoiled(kit, |lent, [d, a, u]| {
        let end = lent.near.at(shared::window::Window::len(&lent.near.window));
        let nowhere = 1 << 63 | 1 << 50;
        let mut tries = vec![
            [0, a, u],
            [d, 0, u],
            [d, a, 0],
            [nowhere, a, u],
            [d, nowhere, u],
            [d, a, nowhere],
            [end - 16, a, u],
            [d, end - 4, u],
        ];
        if lent.split {
            // What the bus shares and no region names.
            tries.push([d, a, lent.far.at(FAR_WRITABLE + FAR_READABLE) + 4]);
        }
        tries
    })
}

fn wrap(kit: &mut Kit<'_>) -> Checked {
    spoiled(kit, |_, [d, a, u]| {
        let top = 0_u64.wrapping_sub(16);
        let middle = (1 << 63) - 16;
        vec![[top, a, u], [d, top, u], [d, a, top], [middle, a, u], [d, middle, u], [d, a, middle]]
    })
}

fn rights(kit: &mut Kit<'_>) -> Checked {
    let lent = kit.share()?;
    if !lent.split {
        return skip("the board has one region with both rights");
    }
    spoiled(kit, |lent, [d, a, _]| vec![[d, a, lent.far.at(FAR_WRITABLE) + 4]])
}

fn two_regions(kit: &mut Kit<'_>) -> Checked {
    let lent = kit.share()?;
    if !lent.split {
        return skip("the board has one region");
    }
    // Regions 0 and 1 are adjacent, and the device may read both.
    spoiled(kit, |lent, [d, a, u]| {
        let seam = lent.far.at(FAR_WRITABLE);
        vec![[seam - 16, a, u], [d, seam - 4, u]]
    })
}

fn overlap(kit: &mut Kit<'_>) -> Checked {
    spoiled(kit, |lent, [d, a, u]| {
        let mut tries = vec![[d, d, u], [d, d + 16, u], [a, a, u]];
        if !lent.split {
            tries.extend([[d, a, d], [d, a, a], [u - 4, a, u]]);
        }
        tries
    })
}

fn unrouted(kit: &mut Kit<'_>) -> Checked {
    let (device, lent) = open(kit)?;
    attempt(kit, device, roomy(&lent, 2), false)
}

fn early(kit: &mut Kit<'_>) -> Checked {
    let lent = kit.share()?;
    let device = kit.find_device(DEVICE_ID, "network")?;
    kit.advance(device, ACKNOWLEDGE)?;
    kit.advance(device, DRIVER)?;
    let (doorbell, vector) = kit.notifications(RECEIVEQ)?;
    // Whether it can be routed now is not said; set up it cannot be.
    kit.route(device.number.into(), RECEIVEQ, doorbell, vector)?;
    attempt(kit, device, roomy(&lent, 2), false)
}

fn unchanged(kit: &mut Kit<'_>) -> Checked {
    let (device, lent) = open(kit)?;
    kit.route_well(device, RECEIVEQ)?;
    attempt(kit, device, roomy(&lent, 2), true)?;
    attempt(kit, device, roomy(&lent, 3), false)?;
    attempt(kit, device, addresses(2, [0; 3]), false)?;
    // Another good one replaces it.
    let other = [lent.near.at(0x40), lent.near.at(0xC000), lent.far.at(0x1004)];
    attempt(kit, device, addresses(2, other), true)
}

fn frozen(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_up(0)?;
    let other = Queue::new(&net.lent, 3, 2, 0);
    kit.set_queue(net.device, TRANSMITQ, other.setup())?;
    kit.verify_queue(net.device, &net.transmit)?;
    let (doorbell, vector) = kit.notifications(TRANSMITQ)?;
    let result = kit.route(net.device.number.into(), TRANSMITQ, doorbell, vector)?;
    must(result == ResultCode::NotAllowed, || {
        format!("ROUTE_QUEUE of a queue that runs is answered with {}", result.code())
    })?;
    kit.works(&mut net)
}

fn device_reset(kit: &mut Kit<'_>) -> Checked {
    let net = kit.net_up(0)?;
    kit.reset_device(net.device)?;
    for queue in 0..net.device.info.queues {
        let (_, shown) = kit.queue(net.device, queue)?;
        must(shown == addresses(0, [0; 3]), || format!("queue {queue} shows {shown:x?}"))?;
    }
    Ok(())
}

fn ring_reset_off(kit: &mut Kit<'_>) -> Checked {
    use shared::msg::Request;
    let mut net = kit.net_up(0)?;
    kit.ask(net.device.number, Request::ResetVqueue { queue: TRANSMITQ })?;
    kit.verify_queue(net.device, &net.transmit)?;
    kit.works(&mut net)
}

fn ring_reset(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_up(RING_RESET)?;
    kit.works(&mut net)?;
    kit.reset_queue(net.device, RECEIVEQ)?;
    let (_, shown) = kit.queue(net.device, RECEIVEQ)?;
    must(shown == addresses(0, [0; 3]), || format!("GET_VQUEUE shows {shown:x?}"))?;
    let status = kit.status(net.device)?;
    must(status == DRIVER_OK, || format!("the device has status {status:#x}"))?;
    // Frames to the board still go; what answers them finds no buffer.
    kit.verify_queue(net.device, &net.transmit)?;
    let (_, _, frame) = net.ask(crate::conform::Answers::Echo, 60);
    net.offer(&frame);
    kit.push(&net)?;
    let held = net.transmit.next();
    let limit = kit.patience();
    // A frame may wait for the answer's buffer; the queue is looked at all the same.
    let _ = kit.until(limit / 4, |_| {
        net.transmit.take()?;
        Ok((net.transmit.taken() == held).then_some(()))
    })?;
    kit.fence("a queue's reset")
}

fn ring_again(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_up(RING_RESET)?;
    kit.works(&mut net)?;
    kit.reset_queue(net.device, TRANSMITQ)?;
    net.transmit.restart();
    // A frame is there before the queue is; nobody rings for it.
    let (_, _, frame) = net.ask(crate::conform::Answers::Echo, 60);
    net.offer(&frame);
    net.transmit.announce();
    kit.route_well(net.device, TRANSMITQ)?;
    kit.set_queue(net.device, TRANSMITQ, net.transmit.setup())?;
    kit.verify_queue(net.device, &net.transmit)?;
    kit.settle(&mut net)?;
    kit.works(&mut net)
}

fn ring_other_size(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_up(RING_RESET)?;
    kit.works(&mut net)?;
    kit.reset_queue(net.device, TRANSMITQ)?;
    net.transmit = Queue::new(&net.lent, TRANSMITQ, 4, 0);
    kit.route_well(net.device, TRANSMITQ)?;
    kit.set_queue(net.device, TRANSMITQ, net.transmit.setup())?;
    kit.verify_queue(net.device, &net.transmit)?;
    for _ in 0..6 {
        kit.works(&mut net)?;
    }
    Ok(())
}
