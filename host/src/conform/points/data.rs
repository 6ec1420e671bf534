//! Frames: there, back, and what the rings say of them.

use shared::window::{Barrier, Window};
use shared::wire::features::{EVENT_IDX, IN_ORDER, INDIRECT_DESC};
use shared::wire::net::{CONFIG_LEN, HEADER_BYTES, HEADER_LEN, NetConfig, feature};
use shared::wire::virtq::{DESC_INDIRECT, DESC_WRITE};

use crate::conform::Answers;
use crate::conform::frames::SHORTEST;
use crate::conform::kit::Kit;
use crate::conform::net::{BUFFER, BUFFERS, Net, TRANSMITQ};
use crate::conform::point::{Checked, Point, Stop, must, seen, skip};
use crate::conform::queue::Descriptor;
use crate::conform::session::FAR_WRITABLE;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "data-config",
        section: "5.3",
        rule: "virtio-net's config has a MAC address that is not multicast, an MTU of 68 to 65521, \
               and known status bits",
        check: config,
    },
    Point {
        id: "data-driver-ok",
        section: "8.1",
        rule: "at DRIVER_OK every queue is looked at, without a doorbell",
        check: driver_ok,
    },
    Point {
        id: "data-before",
        section: "rings: Rings",
        rule: "before DRIVER_OK the device takes nothing and writes nothing",
        check: before,
    },
    Point {
        id: "data-to-board",
        section: "rings: Rings",
        rule: "a frame to the board comes back: used.id its head, used.len 0",
        check: to_board,
    },
    Point {
        id: "data-answer",
        section: "rings: Rings",
        rule: "a frame to the host fills a buffer that was posted: used.id its head, used.len what \
               was written, at most its writable bytes",
        check: answer,
    },
    Point {
        id: "data-lengths",
        section: "rings: Rings",
        rule: "frames of every length up to the MTU come back as they are",
        check: lengths,
    },
    Point {
        id: "data-pull",
        section: "6",
        rule: "a frame to the board may lie in host memory that the device reads",
        check: pull,
    },
    Point {
        id: "data-chain",
        section: "rings: Rings",
        rule: "header and frame may lie in descriptors of their own; one of length 0 is legal",
        check: chain,
    },
    Point {
        id: "data-two-regions",
        section: "6",
        rule: "a buffer may lie in two regions that are adjacent",
        check: two_regions,
    },
    Point {
        id: "data-batch",
        section: "rings: Rings",
        rule: "of frames that were announced at once, each comes back once",
        check: |kit| batch(kit, 0),
    },
    Point {
        id: "data-laps",
        section: "rings: Rings",
        rule: "indices go around the rings, and around 2^16 of them as plain numbers",
        check: laps,
    },
    Point {
        id: "data-out-of-order",
        section: "rings: Rings",
        rule: "heads may be made available in any order",
        check: out_of_order,
    },
    Point {
        id: "data-used-aligned",
        section: "rings: Rings",
        rule: "a used ring at 0 modulo 8 works too, in words of 32 bits",
        check: used_aligned,
    },
    Point {
        id: "data-indirect",
        section: "rings: Rings",
        rule: "a buffer may be described by an indirect table",
        check: |kit| indirect(kit, 0),
    },
    Point {
        id: "data-indirect-unaligned",
        section: "rings: Rings",
        rule: "an indirect table needs no alignment",
        check: |kit| indirect(kit, 2),
    },
    Point {
        id: "data-in-order",
        section: "rings: In-order and what is not written",
        rule: "with VIRTIO_F_IN_ORDER buffers are returned in order; a batch is told by its last",
        check: |kit| batch(kit, IN_ORDER),
    },
    Point {
        id: "data-event-index",
        section: "rings: Rings",
        rule: "with VIRTIO_F_EVENT_IDX frames flow as without",
        check: |kit| batch(kit, EVENT_IDX),
    },
    Point {
        id: "data-mergeable",
        section: "5.3",
        rule: "with VIRTIO_NET_F_MRG_RXBUF a frame fills as many buffers as it needs, and \
               num_buffers counts them",
        check: mergeable,
    },
    Point {
        id: "data-no-buffers",
        section: "rings: Rings",
        rule: "without buffers nothing is written to the host; when some come, frames flow",
        check: no_buffers,
    },
    Point {
        id: "data-short",
        section: "safety: Policy for each fault",
        rule: "a chain too short for a frame to the board is returned, and the queue goes on",
        check: short,
    },
    Point {
        id: "data-reset",
        section: "5.1",
        rule: "behind the answer to a reset the device writes neither rings nor buffers",
        check: reset,
    },
];

fn config(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let device = kit.find_device(shared::wire::net::DEVICE_ID, "network")?;
    let len = u32::try_from(CONFIG_LEN).unwrap_or(0);
    let (_, bytes) = kit.config(device, 0, len)?;
    let Some(config) = NetConfig::decode(&bytes) else {
        return seen(format!("{len} bytes are answered with {}", bytes.len()));
    };
    let offered = kit.offered(device)?;
    if offered & feature::MAC != 0 {
        must(config.mac[0] & 1 == 0 && config.mac != [0; 6], || format!("{:02x?}", config.mac))?;
    }
    if offered & feature::MTU != 0 {
        let good = shared::wire::net::MTU_RANGE.contains(&config.mtu);
        must(good, || format!("the MTU is {}", config.mtu))?;
    }
    must(config.status & !3 == 0, || format!("the status is {:#x}", config.status))
}

/// A frame that needs no answer.
fn plain(net: &mut Net) -> Vec<u8> {
    net.ask(Answers::Echo, SHORTEST).2
}

fn driver_ok(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_set(0)?;
    let frame = plain(&mut net);
    net.offer(&frame);
    net.transmit.announce();
    for head in 0..net.receive.size {
        net.post(head);
    }
    net.receive.announce();
    kit.advance(net.device, crate::conform::device::DRIVER_OK)?;
    kit.settle(&mut net)
}

fn before(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_set(0)?;
    let frame = plain(&mut net);
    net.offer(&frame);
    kit.push(&net)?;
    for _ in 0..8 {
        kit.fence("a doorbell before DRIVER_OK")?;
    }
    let (used, event) = (net.transmit.used_index(), net.transmit.asked_at());
    must((used, event) == (0, 0), || format!("used.idx is {used}, avail_event {event}"))
}

fn to_board(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_up(0)?;
    // Another head each time: an entry that is all zeros need not be written.
    for _ in 0..4 {
        let frame = plain(&mut net);
        net.offer(&frame);
        kit.push(&net)?;
        kit.settle(&mut net)?;
    }
    Ok(())
}

/// A device that runs, and what answers behind it.
fn answering(kit: &mut Kit<'_>, features: u64) -> Result<(Net, Answers), Stop> {
    let mut net = kit.net_up(features)?;
    let answers = kit.need_answers(&mut net)?;
    Ok((net, answers))
}

fn answer(kit: &mut Kit<'_>) -> Checked {
    let (mut net, answers) = answering(kit, 0)?;
    kit.question(&mut net, answers, SHORTEST)
}

fn lengths(kit: &mut Kit<'_>) -> Checked {
    let (mut net, answers) = answering(kit, 0)?;
    for len in [60, 61, 62, 63, 64, 65, 127, 128, 129, 255, 256, 511, 512, 1023, 1024, 1513, 1514] {
        kit.question(&mut net, answers, len)?;
    }
    Ok(())
}

/// The features that need an answer, or none: sends one frame whose place is chosen.
fn sent_from(
    kit: &mut Kit<'_>,
    features: u64,
    place: impl FnOnce(&mut Net, u16, &[u8]) -> Vec<(u64, u32, u16)>,
) -> Checked {
    let mut net = kit.net_up(features)?;
    let answers = match kit.need_answers(&mut net) {
        Ok(answers) => Some(answers),
        Err(Stop::Skip(_)) => None,
        Err(stop) => return Err(stop),
    };
    let (number, len, frame) = net.ask(answers.unwrap_or(Answers::Echo), 300);
    let head = net.next_head();
    let parts = place(&mut net, head, &frame);
    net.transmit.chain(head, &parts);
    net.transmit.offer(head);
    kit.push(&net)?;
    if let Some(answers) = answers {
        kit.await_answer(&mut net, answers, number, len)?;
    }
    kit.settle(&mut net)
}

/// A frame with its header, in whole words.
fn with_header(frame: &[u8]) -> (Vec<u8>, u32) {
    let mut bytes = vec![0; HEADER_LEN];
    bytes.extend(frame);
    let len = u32::try_from(bytes.len()).unwrap_or(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    (bytes, len)
}

fn pull(kit: &mut Kit<'_>) -> Checked {
    if kit.board()?.description.outbound.is_none() {
        return skip("the board does not reach host memory");
    }
    sent_from(kit, 0, |net, _, frame| {
        let (bytes, len) = with_header(frame);
        net.lent.far.window.write(FAR_WRITABLE + 0x100, &bytes);
        vec![(net.lent.far.at(FAR_WRITABLE + 0x100), len, 0)]
    })
}

fn chain(kit: &mut Kit<'_>) -> Checked {
    sent_from(kit, 0, |net, head, frame| {
        let (address, len) = net.put(head, frame);
        vec![
            (address, HEADER_BYTES, 0),
            (address, 0, 0),
            (address + u64::from(HEADER_BYTES), 17, 0),
            (address + u64::from(HEADER_BYTES) + 17, len - HEADER_BYTES - 17, 0),
        ]
    })
}

fn two_regions(kit: &mut Kit<'_>) -> Checked {
    if kit.board()?.description.outbound.is_none() {
        return skip("the board has one region");
    }
    // Regions 0 and 1 are adjacent, and the device may read both.
    sent_from(kit, 0, |net, _, frame| {
        let (bytes, len) = with_header(frame);
        let at = FAR_WRITABLE - 64;
        net.lent.far.window.write(at, &bytes);
        vec![(net.lent.far.at(at), len, 0)]
    })
}

fn batch(kit: &mut Kit<'_>, features: u64) -> Checked {
    let mut net = kit.net_up(features)?;
    kit.works(&mut net)?;
    for count in [1, 3, net.transmit.size] {
        let mut asked = Vec::new();
        for _ in 0..count {
            let (number, len, frame) = net.ask(Answers::Echo, SHORTEST);
            net.offer(&frame);
            asked.push((number, len));
        }
        kit.push(&net)?;
        kit.settle(&mut net)?;
        if kit.answers == Answers::Echo {
            take_echoes(kit, &mut net, asked)?;
        }
    }
    kit.works(&mut net)
}

/// Takes the echoes of these questions, in whatever order.
fn take_echoes(kit: &mut Kit<'_>, net: &mut Net, mut asked: Vec<(u16, usize)>) -> Checked {
    let (limit, stations) = (kit.patience(), net.stations);
    let all = kit.receive(net, limit, |frame| {
        asked.retain(|(number, len)| !stations.is_answer(Answers::Echo, *number, *len, frame));
        asked.is_empty().then_some(())
    })?;
    must(all.is_some(), || format!("{} frames of a batch were not echoed", asked.len()))
}

fn laps(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_up(0)?;
    kit.works(&mut net)?;
    // Past the rings' ends several times, in batches that do not divide them.
    for round in 0..50_u16 {
        for _ in 0..1 + round % 7 {
            let frame = plain(&mut net);
            net.offer(&frame);
        }
        kit.push(&net)?;
        kit.settle(&mut net)?;
        let now = std::time::Duration::ZERO;
        kit.receive(&mut net, now, |_| None::<()>)?;
    }
    kit.works(&mut net)
}

fn out_of_order(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_up(0)?;
    let size = net.transmit.size;
    for head in [5, 1, 3, 0, 7, 2].into_iter().filter(|head| *head < size) {
        let frame = plain(&mut net);
        let (address, len) = net.put(head, &frame);
        net.transmit.chain(head, &[(address, len, 0)]);
        net.transmit.offer(head);
    }
    kit.push(&net)?;
    kit.settle(&mut net)
}

fn used_aligned(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_shifted(0, 4)?;
    kit.net_start(&mut net)?;
    for _ in 0..4 {
        kit.works(&mut net)?;
    }
    Ok(())
}

fn indirect(kit: &mut Kit<'_>, shift: u64) -> Checked {
    sent_from(kit, INDIRECT_DESC, |net, head, frame| {
        let (address, len) = net.put(head, frame);
        let part =
            |address, len, next| Descriptor { address, len, flags: u16::from(next > 0), next };
        let frame = u64::from(HEADER_BYTES);
        let table = [
            part(address, HEADER_BYTES, 2),
            part(address + frame + 100, len - HEADER_BYTES - 100, 0),
            part(address + frame, 100, 1),
        ];
        let mut bytes = vec![0; usize::try_from(shift).unwrap_or(0)];
        bytes.extend(table.iter().flat_map(|entry| entry.bytes()));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        net.lent.near.window.write(INDIRECT, &bytes);
        vec![(net.lent.near.at(INDIRECT + shift), 48, DESC_INDIRECT)]
    })
}

/// Where indirect tables lie in `near`.
const INDIRECT: u64 = 0x4000;

fn mergeable(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_set(feature::MRG_RXBUF)?;
    kit.net_start(&mut net)?;
    let answers = kit.need_answers(&mut net)?;
    // All buffers are the kit's again, and short ones take their place.
    kit.reset_device(net.device)?;
    let stations = net.stations;
    let mut net = kit.net_set_again(feature::MRG_RXBUF)?;
    net.stations = stations;
    const SHORT: u32 = 128;
    for head in 0..net.receive.size {
        let address = net.to_host(head);
        net.receive.chain(head, &[(address, SHORT, DESC_WRITE)]);
        net.receive.offer(head);
    }
    net.receive.announce();
    kit.advance(net.device, crate::conform::device::DRIVER_OK)?;
    net.introduce(answers);
    let (number, len, frame) = net.ask(answers, 400);
    net.offer(&frame);
    kit.push(&net)?;
    let limit = kit.patience();
    let mut bytes: Vec<u8> = Vec::new();
    let mut wanted = 0;
    let whole = kit.until(limit, |_| {
        for (head, len) in net.receive.take()? {
            let mut part = vec![0; usize::try_from(len).unwrap_or(0)];
            net.lent.far.window.read(BUFFERS + u64::from(head) * u64::from(BUFFER), &mut part);
            if wanted == 0 {
                let Some(count) = part.get(10..12) else {
                    return seen(format!("the first buffer has {len} bytes"));
                };
                wanted = u16::from_le_bytes([count[0], count[1]]);
                bytes.clear();
                must((1..=net.receive.size).contains(&wanted), || {
                    format!("num_buffers is {wanted}")
                })?;
            }
            bytes.extend(part);
            wanted -= 1;
            let frame = bytes.get(HEADER_LEN..).unwrap_or(&[]);
            if wanted == 0 && stations.is_answer(answers, number, frame.len(), frame) {
                return Ok(Some(frame.len()));
            }
        }
        Ok(None)
    })?;
    match whole {
        Some(got) => must(got == len, || format!("a frame of {len} bytes came back with {got}")),
        None => seen(format!("a frame of {len} bytes in buffers of {SHORT} is not answered")),
    }
}

fn no_buffers(kit: &mut Kit<'_>) -> Checked {
    let (net, answers) = answering(kit, 0)?;
    let stations = net.stations;
    kit.reset_device(net.device)?;
    let mut net = kit.net_set_again(0)?;
    net.stations = stations;
    kit.advance(net.device, crate::conform::device::DRIVER_OK)?;
    net.introduce(answers);
    let (number, len, frame) = net.ask(answers, SHORTEST);
    net.offer(&frame);
    kit.push(&net)?;
    for _ in 0..8 {
        kit.fence("a frame without buffers")?;
    }
    let used = net.receive.used_index();
    must(used == 0, || format!("used.idx of the receiveq is {used}, without a buffer"))?;
    for head in 0..net.receive.size {
        net.post(head);
    }
    net.receive.announce();
    kit.ring_queue(&net.receive)?;
    // The answer may have been dropped; then the next one has room.
    let limit = kit.patience() / 4;
    let came = kit.receive(&mut net, limit, |frame| {
        stations.is_answer(answers, number, len, frame).then_some(())
    })?;
    kit.settle(&mut net)?;
    match came {
        Some(()) => Ok(()),
        None => kit.question(&mut net, answers, SHORTEST),
    }
}

fn short(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_up(0)?;
    for len in [0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 13] {
        let head = net.next_head();
        let (address, _) = net.put(head, &[0; 14]);
        net.transmit.chain(head, &[(address, len, 0)]);
        net.transmit.offer(head);
        kit.push(&net)?;
        kit.settle(&mut net)?;
    }
    let status = kit.status(net.device)?;
    must(status == crate::conform::device::DRIVER_OK, || {
        format!("queue {TRANSMITQ} of a device with status {status:#x}")
    })?;
    kit.works(&mut net)
}

fn reset(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_up(0)?;
    kit.works(&mut net)?;
    for _ in 0..net.transmit.size {
        let frame = plain(&mut net);
        net.offer(&frame);
    }
    kit.push(&net)?;
    kit.reset_device(net.device)?;
    // What was there at the answer stays as it is.
    let far = net.lent.far.window.clone();
    far.barrier(Barrier::Read);
    let start = usize::try_from(4096_u64).unwrap_or(0);
    let copy = |window: &crate::conform::card::Shared| {
        let mut bytes = vec![0; usize::try_from(FAR_WRITABLE).unwrap_or(0)];
        window.read(0, &mut bytes);
        bytes.split_off(start)
    };
    let then = copy(&far);
    for queue in [1, 2, 3] {
        kit.ring(queue);
    }
    for _ in 0..8 {
        kit.fence("a reset")?;
    }
    let now = copy(&far);
    let changed = then.iter().zip(&now).position(|(then, now)| then != now);
    must(changed.is_none(), || format!("byte {:#x} changed", changed.unwrap_or(0) + start))
}
