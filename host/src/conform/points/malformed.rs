//! Everything malformed in a queue that known code got wrong. Each costs the
//! device its queue, and nothing else: DEVICE_NEEDS_RESET, EVENT_CONFIG,
//! EVENT_FAULT; messages, the other devices and the heartbeat go on; a reset
//! heals (docs/safety.md, "Policy for each fault").

use shared::fault::PeerFault;
use shared::window::Window;
use shared::wire::features::INDIRECT_DESC;
use shared::wire::net::feature;
use shared::wire::virtq::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE};

use crate::conform::Answers;
use crate::conform::frames::SHORTEST;
use crate::conform::kit::Kit;
use crate::conform::net::{Net, RECEIVEQ, TRANSMITQ};
use crate::conform::point::{Checked, Point, must, skip};
use crate::conform::queue::Descriptor;
use crate::conform::session::{FAR_READABLE, FAR_WRITABLE};

const SAFETY: &str = "safety: Policy for each fault";

/// A point about the transmitq.
macro_rules! to_board {
    ($id:literal, $rule:literal, $codes:expr, $features:expr, $spoil:expr) => {
        Point {
            id: $id,
            section: SAFETY,
            rule: $rule,
            check: |kit| transmit(kit, $features, $codes, $spoil),
        }
    };
}

/// A point about the receiveq.
macro_rules! to_host {
    ($id:literal, $rule:literal, $codes:expr, $features:expr, $spoil:expr) => {
        Point {
            id: $id,
            section: SAFETY,
            rule: $rule,
            check: |kit| receive(kit, $features, $codes, $spoil),
        }
    };
}

const INDEX_AHEAD: u32 = PeerFault::AvailIndexAhead { claimed: 0, limit: 0 }.code();
const DESCRIPTOR_INDEX: u32 = PeerFault::DescriptorIndex { index: 0, size: 0 }.code();
const HEAD_IN_FLIGHT: u32 = PeerFault::HeadInFlight { head: 0 }.code();
const TOO_LONG: u32 = PeerFault::ChainTooLong { limit: 0 }.code();
const TOO_LARGE: u32 = PeerFault::ChainTooLarge.code();
const READABLE_BEHIND: u32 = PeerFault::ReadableAfterWritable.code();
const FLAGS: u32 = PeerFault::DescriptorFlags { flags: 0 }.code();
const NESTED: u32 = PeerFault::IndirectInIndirect.code();
const TABLE_LENGTH: u32 = PeerFault::IndirectLength { length: 0 }.code();
const WRAPS: u32 = PeerFault::AddressWraps { address: 0, length: 0 }.code();
const UNMAPPED: u32 = PeerFault::AddressUnmapped { address: 0 }.code();
const RIGHTS: u32 = PeerFault::AddressRights { address: 0 }.code();
const STRADDLES: u32 = PeerFault::AddressStraddles { address: 0 }.code();
const TOO_SHORT: u32 = PeerFault::ChainTooShort { found: 0, needed: 0 }.code();

pub(super) const POINTS: &[Point] = &[
    to_board!(
        "malformed-index-ahead",
        "an avail.idx that is further ahead than the queue has entries stops the queue",
        &[INDEX_AHEAD],
        0,
        |net| net.transmit.announce_as(net.transmit.next().wrapping_add(net.transmit.size + 1))
    ),
    to_board!(
        "malformed-index-back",
        "an avail.idx that goes back stops the queue",
        &[INDEX_AHEAD],
        0,
        |net| net.transmit.announce_as(net.transmit.next().wrapping_sub(1))
    ),
    to_board!(
        "malformed-head",
        "a head outside the table stops the queue",
        &[DESCRIPTOR_INDEX],
        0,
        |net| offer(net, net.transmit.size)
    ),
    to_board!(
        "malformed-head-large",
        "a head of all ones stops the queue",
        &[DESCRIPTOR_INDEX],
        0,
        |net| offer(net, u16::MAX)
    ),
    to_board!(
        "malformed-next",
        "a next outside the table stops the queue",
        &[DESCRIPTOR_INDEX],
        0,
        |net| {
            let size = net.transmit.size;
            chain(net, &[(0, 64, DESC_NEXT, size)]);
        }
    ),
    to_board!("malformed-loop", "a chain that loops stops the queue", &[TOO_LONG], 0, |net| chain(
        net,
        &[(0, 64, DESC_NEXT, 1), (0, 64, DESC_NEXT, 0)]
    )),
    to_board!(
        "malformed-loop-zero",
        "a loop of descriptors of length 0 stops the queue",
        &[TOO_LONG],
        0,
        |net| chain(net, &[(0, 0, DESC_NEXT, 0)])
    ),
    to_board!(
        "malformed-too-large",
        "lengths that add up to more than 32 bits stop the queue",
        &[TOO_LARGE],
        0,
        |net| chain(net, &[(0, 1 << 31, DESC_NEXT, 1), (0, 1 << 31, 0, 0)])
    ),
    to_board!(
        "malformed-readable-behind",
        "a readable descriptor behind a writable one stops the queue",
        &[READABLE_BEHIND],
        0,
        |net| chain(net, &[(0, 64, DESC_WRITE | DESC_NEXT, 1), (0, 64, 0, 0)])
    ),
    to_board!("malformed-flags", "a flag that there is not stops the queue", &[FLAGS], 0, |net| {
        chain(net, &[(0, 64, 8, 0)])
    }),
    to_board!(
        "malformed-indirect-off",
        "an indirect table that was not negotiated stops the queue",
        &[FLAGS],
        0,
        |net| chain(net, &[(0, 16, DESC_INDIRECT, 0)])
    ),
    to_board!(
        "malformed-indirect-next",
        "INDIRECT together with NEXT stops the queue",
        &[FLAGS],
        INDIRECT_DESC,
        |net| chain(net, &[(0, 16, DESC_INDIRECT | DESC_NEXT, 1), (0, 64, 0, 0)])
    ),
    to_board!(
        "malformed-indirect-empty",
        "an indirect table of length 0 stops the queue",
        &[TABLE_LENGTH],
        INDIRECT_DESC,
        |net| table(net, 0, &[])
    ),
    to_board!(
        "malformed-indirect-part",
        "an indirect table whose length is no multiple of 16 stops the queue",
        &[TABLE_LENGTH],
        INDIRECT_DESC,
        |net| table(net, 24, &[])
    ),
    to_board!(
        "malformed-indirect-long",
        "an indirect table with more descriptors than the queue stops the queue",
        &[TABLE_LENGTH],
        INDIRECT_DESC,
        |net| table(net, 16 * (u32::from(net.transmit.size) + 1), &[])
    ),
    to_board!(
        "malformed-indirect-nested",
        "an indirect table in an indirect table stops the queue",
        &[NESTED],
        INDIRECT_DESC,
        |net| table(net, 16, &[(16, DESC_INDIRECT, 0)])
    ),
    to_board!(
        "malformed-indirect-next-outside",
        "a next outside its indirect table stops the queue",
        &[DESCRIPTOR_INDEX],
        INDIRECT_DESC,
        |net| table(net, 32, &[(64, DESC_NEXT, 2), (64, 0, 0)])
    ),
    to_board!(
        "malformed-indirect-loop",
        "a loop in an indirect table stops the queue",
        &[TOO_LONG],
        INDIRECT_DESC,
        |net| table(net, 32, &[(64, DESC_NEXT, 1), (0, DESC_NEXT, 0)])
    ),
    to_board!(
        "malformed-long",
        "a chain with more descriptors than the queue, its table's counted, stops the queue",
        &[TOO_LONG],
        INDIRECT_DESC,
        |net| {
            let size = net.transmit.size;
            let parts: Vec<_> = (1..=size)
                .map(|next| if next < size { (1, DESC_NEXT, next) } else { (1, 0, 0) })
                .collect();
            write_table(net, &parts);
            let (first, table) = (net.to_board(0), net.lent.near.at(TABLE));
            let flags = DESC_NEXT;
            net.transmit.describe(0, Descriptor { address: first, len: 64, flags, next: 1 });
            let (len, flags) = (16 * u32::from(size), DESC_INDIRECT);
            net.transmit.describe(1, Descriptor { address: table, len, flags, next: 0 });
            offer(net, 0);
        }
    ),
    to_board!(
        "malformed-indirect-nowhere",
        "an indirect table in no region stops the queue",
        &[UNMAPPED],
        INDIRECT_DESC,
        |net| at(net, NOWHERE, 32, DESC_INDIRECT)
    ),
    to_board!(
        "malformed-wrap",
        "an address and length that wrap stop the queue",
        &[WRAPS, UNMAPPED],
        0,
        |net| at(net, 0_u64.wrapping_sub(16), 64, 0)
    ),
    to_board!(
        "malformed-wrap-kind",
        "an address range from host memory into board memory stops the queue",
        &[WRAPS, UNMAPPED],
        0,
        |net| at(net, (1 << 63) - 16, 64, 0)
    ),
    to_board!(
        "malformed-nowhere",
        "a buffer in no region stops the queue",
        &[UNMAPPED],
        0,
        |net| at(net, NOWHERE, 64, 0)
    ),
    to_board!("malformed-zero", "a buffer at address 0 stops the queue", &[UNMAPPED], 0, |net| at(
        net, 0, 64, 0
    )),
    to_board!(
        "malformed-hole",
        "a buffer that runs into a hole behind its region stops the queue",
        &[UNMAPPED, STRADDLES],
        0,
        |net| {
            let lent = &net.lent;
            let end = match lent.split {
                true => lent.far.at(FAR_WRITABLE + FAR_READABLE),
                false => lent.near.at(lent.near.window.len()),
            };
            at(net, end - 32, 64, 0);
        }
    ),
    Point {
        id: "malformed-rights",
        section: SAFETY,
        rule: "a buffer to the host in a region that the device may not write stops the queue",
        check: |kit| {
            if kit.board()?.description.outbound.is_none() {
                return skip("the board has one region");
            }
            receive(kit, 0, &[RIGHTS], |net| {
                let address = net.lent.far.at(FAR_WRITABLE);
                post(net, &[(address, 2048, DESC_WRITE)]);
            })
        },
    },
    to_host!(
        "malformed-host-nowhere",
        "a buffer to the host in no region stops the queue",
        &[UNMAPPED],
        0,
        |net| post(net, &[(NOWHERE, 2048, DESC_WRITE)])
    ),
    Point {
        id: "malformed-host-own",
        section: SAFETY,
        rule: "a buffer to the host in no region, at an address where processors have memory or \
               devices of their own, stops the queue",
        check: own_memory,
    },
    to_host!(
        "malformed-host-wrap",
        "a buffer to the host whose addresses wrap stops the queue",
        &[WRAPS, UNMAPPED],
        0,
        |net| post(net, &[(0_u64.wrapping_sub(16), 2048, DESC_WRITE)])
    ),
    to_host!(
        "malformed-host-short",
        "a buffer to the host that is too short for a header stops the queue",
        &[TOO_SHORT],
        0,
        |net| {
            let address = net.to_host(0);
            post(net, &[(address, 4, DESC_WRITE)]);
        }
    ),
    to_host!(
        "malformed-host-readable",
        "a buffer to the host that the device may only read stops the queue",
        &[TOO_SHORT],
        0,
        |net| {
            let address = net.to_host(0);
            post(net, &[(address, 2048, 0)]);
        }
    ),
    to_host!(
        "malformed-host-twice",
        "a head that is made available again while it is in flight stops the queue",
        &[HEAD_IN_FLIGHT],
        feature::MRG_RXBUF,
        |net| {
            let address = net.to_host(0);
            post(net, &[(address, 32, DESC_WRITE)]);
            net.receive.offer(0);
        }
    ),
    Point {
        id: "malformed-changing",
        section: "safety: What holds",
        rule: "descriptors that change while the device reads them cost the queue at most",
        check: changing,
    },
    Point {
        id: "malformed-other-device",
        section: SAFETY,
        rule: "a fault of one device's leaves the others as they are",
        check: other_device,
    },
    Point {
        id: "malformed-told-once",
        section: "5.1",
        rule: "behind a fault GET_DEVICE_STATUS keeps DEVICE_NEEDS_RESET until the reset, and no \
               queue is set up before it",
        check: told_once,
    },
];

/// In no region, of either kind.
const NOWHERE: u64 = 1 << 63 | 1 << 50;

/// Memory and devices of processors that the host is not to reach: the data and
/// the serial line of each of our boards in QEMU (docs/boards.md).
const OWN: [u64; 6] =
    [0x4020_0000, 0x0900_0000, 0x8020_0000, 0x1000_0000, 0x0104_0000, 0xE000_4500];

/// Where indirect tables lie in `near`.
const TABLE: u64 = 0x4000;

/// Offers head `head` and announces it.
fn offer(net: &mut Net, head: u16) {
    net.transmit.offer(head);
    net.transmit.announce();
}

/// One readable or writable part at `address`.
fn at(net: &mut Net, address: u64, len: u32, flags: u16) {
    net.transmit.describe(0, Descriptor { address, len, flags, next: 0 });
    offer(net, 0);
}

/// Descriptors from 0 on: offset in the first buffer, length, flags, next.
fn chain(net: &mut Net, parts: &[(u64, u32, u16, u16)]) {
    for (index, (offset, len, flags, next)) in (0..).zip(parts) {
        let address = net.to_board(0) + offset;
        let (len, flags, next) = (*len, *flags, *next);
        net.transmit.describe(index, Descriptor { address, len, flags, next });
    }
    offer(net, 0);
}

/// An indirect table that is said to have `len` bytes.
fn table(net: &mut Net, len: u32, parts: &[(u32, u16, u16)]) {
    write_table(net, parts);
    at(net, net.lent.near.at(TABLE), len, DESC_INDIRECT);
}

/// Writes an indirect table: length, flags, next.
fn write_table(net: &Net, parts: &[(u32, u16, u16)]) {
    let address = net.to_board(0);
    let bytes: Vec<u8> = parts
        .iter()
        .flat_map(|(len, flags, next)| {
            Descriptor { address, len: *len, flags: *flags, next: *next }.bytes()
        })
        .collect();
    net.lent.near.window.write(TABLE, &bytes);
}

/// A buffer to the host, in descriptors from 0 on.
fn post(net: &mut Net, parts: &[(u64, u32, u16)]) {
    net.receive.chain(0, parts);
    net.receive.offer(0);
}

/// A fault in the transmitq: stopped, told, the rest runs, and a reset heals.
fn transmit(
    kit: &mut Kit<'_>,
    features: u64,
    codes: &[u32],
    spoil: impl FnOnce(&mut Net),
) -> Checked {
    let mut net = kit.net_up(features)?;
    kit.works(&mut net)?;
    let before = net.transmit.used_index();
    spoil(&mut net);
    kit.ring_queue(&net.transmit)?;
    kit.await_fault(net.device, TRANSMITQ, codes)?;
    let after = net.transmit.used_index();
    must(after == before, || format!("used.idx went from {before} to {after} behind the fault"))?;
    heals(kit, net)
}

/// A fault in the receiveq, which the answer to a frame meets.
fn receive(
    kit: &mut Kit<'_>,
    features: u64,
    codes: &[u32],
    spoil: impl FnOnce(&mut Net),
) -> Checked {
    let mut net = kit.net_up(features)?;
    let answers = kit.need_answers(&mut net)?;
    let stations = net.stations;
    kit.reset_device(net.device)?;
    let mut net = kit.net_set_again(features)?;
    net.stations = stations;
    spoil(&mut net);
    net.receive.announce();
    kit.advance(net.device, crate::conform::device::DRIVER_OK)?;
    let (_, _, frame) = net.ask(answers, SHORTEST);
    net.offer(&frame);
    kit.push(&net)?;
    kit.await_fault(net.device, RECEIVEQ, codes)?;
    let used = net.receive.used_index();
    must(used == 0, || format!("used.idx is {used} behind the fault"))?;
    // The other queue takes frames all the same.
    let (_, _, frame) = net.ask(Answers::Echo, SHORTEST);
    net.offer(&frame);
    kit.push(&net)?;
    kit.settle(&mut net)?;
    heals(kit, net)
}

/// Whoever took such an address for the processor's would write over itself.
fn own_memory(kit: &mut Kit<'_>) -> Checked {
    for address in OWN {
        receive(kit, 0, &[UNMAPPED], |net| {
            // Where the host's own memory lies there, another address does.
            let taken = net.lent.far.at(0).abs_diff(address) < FAR_WRITABLE + FAR_READABLE;
            post(net, &[(if taken { NOWHERE } else { address }, 2048, DESC_WRITE)]);
        })?;
    }
    Ok(())
}

/// Behind a reset all is well again.
fn heals(kit: &mut Kit<'_>, net: Net) -> Checked {
    kit.fence("a fault")?;
    kit.reset_device(net.device)?;
    let mut again = kit.net_set_again(net.features)?;
    again.stations = net.stations;
    kit.net_start(&mut again)?;
    kit.works(&mut again)
}

fn changing(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_up(INDIRECT_DESC)?;
    kit.works(&mut net)?;
    let good = net.to_board(0);
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for round in 0..2000_u32 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let [flags, next, len, ..] = random.to_le_bytes();
        let descriptor = Descriptor {
            address: if round % 3 == 0 { NOWHERE } else { good },
            len: u32::from(len) * 16,
            flags: u16::from(flags & 7),
            next: u16::from(next & 15),
        };
        net.transmit.describe(u16::from(flags >> 4) % net.transmit.size, descriptor);
        if round % 8 == 0 {
            net.transmit.offer(u16::from(next >> 4) % net.transmit.size);
            net.transmit.announce();
            kit.ring_queue(&net.transmit)?;
        }
        if round % 256 == 0 {
            kit.fence("descriptors that change")?;
        }
    }
    heals(kit, net)
}

fn other_device(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_up(0)?;
    kit.works(&mut net)?;
    let others: Vec<u16> =
        kit.numbers()?.into_iter().filter(|number| *number != net.device.number).collect();
    if others.is_empty() {
        return skip("the board has one device");
    }
    let mut statuses = Vec::new();
    for number in &others {
        let info = kit.info(*number)?;
        let device = crate::conform::device::Device { number: *number, info };
        let status = kit.negotiate(device, shared::wire::features::REQUIRED.bits())?;
        kit.advance(device, status | crate::conform::device::DRIVER_OK)?;
        statuses.push((device, kit.status(device)?));
    }
    offer(&mut net, u16::MAX);
    kit.ring_queue(&net.transmit)?;
    kit.await_fault(net.device, TRANSMITQ, &[DESCRIPTOR_INDEX])?;
    for (device, before) in statuses {
        let now = kit.status(device)?;
        must(now == before, || {
            format!("device {} went from status {before:#x} to {now:#x}", device.number)
        })?;
    }
    Ok(())
}

fn told_once(kit: &mut Kit<'_>) -> Checked {
    use crate::conform::device::NEEDS_RESET;
    let mut net = kit.net_up(0)?;
    kit.works(&mut net)?;
    offer(&mut net, u16::MAX);
    kit.ring_queue(&net.transmit)?;
    kit.await_fault(net.device, TRANSMITQ, &[DESCRIPTOR_INDEX])?;
    kit.set_status(net.device, crate::conform::device::DRIVER_OK)?;
    let status = kit.status(net.device)?;
    must(status & NEEDS_RESET != 0, || format!("the status is {status:#x}"))?;
    let setup = net.receive.setup();
    kit.set_queue(net.device, TRANSMITQ, setup)?;
    let (_, shown) = kit.queue(net.device, TRANSMITQ)?;
    must(shown != setup, || "a queue was set up behind the fault".to_owned())?;
    heals(kit, net)
}
