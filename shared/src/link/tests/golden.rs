//! The document's golden lines are what the code writes, on this processor.

use super::rig::{Rig, description};
use crate::address::BusAddress;
use crate::link::control::{OUR_AREAS, StaticPart};
use crate::msg::channel::{Channel, OUR_LAYOUT};
use crate::msg::kind::Side;
use crate::msg::tests::samples;
use crate::raw::StoreWidth;
use crate::raw::tests::{MappedWindow, bytes, mapped};
use crate::region::{REGION_GRANULE, Region, RegionTable, Rights};
use crate::virtq::{
    Chain, Completion, DeviceQueue, DeviceSlot, DriverQueue, DriverSlot, IndirectTables, Parts,
    QueueSize, RingOptions, Segment, SleepFlush, UsedEntry,
};
use crate::wire::amp::HEAD_LEN;
use crate::wire::control::{host_page, live};
use crate::wire::msg::FRAME_LEN;
use crate::wire::net::{NetConfig, NetHeader};
use crate::wire::net_control::{COMMAND_MAX, Coalescing, Command, Macs, ReceiveSwitch};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn part(bytes: &[u8], at: u64, len: u64) -> String {
    hex(&bytes[usize::try_from(at).unwrap()..][..usize::try_from(len).unwrap()])
}

fn messages(lines: &mut Vec<String>) {
    for (kind, response, _, message) in samples::all() {
        let frame = message.encode();
        let size = usize::from(u16::from_le_bytes([frame[6], frame[7]]));
        assert!(frame[size..].iter().all(|byte| *byte == 0));
        let side = if response {
            "response"
        } else if kind.is_event() {
            "event"
        } else {
            "request"
        };
        lines.push(format!("{kind:?} {side} {}", hex(&frame[..size])));
    }
}

/// Both ends of a channel behind one message from the board.
fn channel(lines: &mut Vec<String>) {
    let window = mapped(0x2000, StoreWidth::Bits64);
    OUR_LAYOUT.publish(&window);
    lines.push(format!("ChannelLayout {}", part(&bytes(&window), 0, 64)));
    let mut ends =
        [Side::Device, Side::Driver].map(|side| Channel::new(window.clone(), &OUR_LAYOUT, side));
    ends.iter_mut().for_each(Channel::begin);
    for _ in 0..3 {
        ends.iter_mut().for_each(|end| end.poll().unwrap());
    }
    let mut frame = [0; FRAME_LEN];
    let [board, host] = &mut ends;
    assert!(board.send(&frame).unwrap() && host.receive(&mut frame).unwrap());
    let [board, host] = [OUR_LAYOUT.device.0, OUR_LAYOUT.driver.0];
    lines.push(format!("ChannelHead device {}", part(&bytes(&window), board, HEAD_LEN)));
    lines.push(format!("ChannelHead driver {}", part(&bytes(&window), host, HEAD_LEN)));
}

/// The words of a session in which nothing has happened yet.
fn pages(lines: &mut Vec<String>) {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    let (board, host) = (rig.bar.copy_out(), rig.host_memory.copy_out());
    lines.push(format!("LiveWords {}", part(&board, OUR_AREAS.live.offset, live::LEN)));
    lines.push(format!("HostPage {}", part(&board, OUR_AREAS.host_page.offset, host_page::LEN)));
    lines.push(format!("StatusPage {}", part(&host, 0, live::STATUS_LEN)));
}

/// A queue of 4 in which two buffers went there and, the later one first, back:
/// one of three descriptors, and one by an indirect table.
fn rings(lines: &mut Vec<String>) {
    const TABLES: u64 = 0x70_0000;
    let size = QueueSize::try_from(4).unwrap();
    let window = |len: u64| mapped(len.next_multiple_of(8), StoreWidth::Bits64);
    let parts: Parts<MappedWindow, MappedWindow, MappedWindow> = Parts {
        descriptors: window(size.descriptor_table_len()),
        avail: window(size.avail_len()),
        avail_at: 0,
        used: window(4 + size.used_len()),
        used_at: 4,
    };
    let tables = window(REGION_GRANULE);
    let base = BusAddress::new(TABLES);
    let mut regions = RegionTable::new();
    let rights = Rights::READ;
    regions.insert(Region { id: 1, base, rights, window: tables.clone() }).unwrap();
    let options = RingOptions {
        size,
        in_order: false,
        event_idx: true,
        indirect: true,
        sleep_flush: SleepFlush::ReadBack,
        publish_flush: false,
    };
    let mut driver = DriverQueue::new(parts.clone(), vec![DriverSlot::default(); 4], options)
        .unwrap()
        .with_tables(IndirectTables { window: tables.clone(), base, entries: 2 })
        .unwrap();
    let mut device =
        DeviceQueue::new(parts.clone(), vec![DeviceSlot::default(); 4], options).unwrap();

    let segment = |address, len, writable| Segment { address, len, writable };
    let read = segment(BusAddress::new(0x0102_0304_0506_0708), 0x090A_0B0C, false);
    let written = segment(BusAddress::board(0x1000), 0x0D0E, true);
    let three = [read, written, written];
    // What a table is too short for is described in the queue itself.
    let buffers = [&three[..], &three[..2]];
    let heads = buffers.map(|segments| driver.add(segments).unwrap());
    let _ = driver.publish();
    for (segments, head) in buffers.into_iter().zip(heads) {
        let mut chain = Chain::new();
        let find = |address, len| regions.resolve(address, len, Rights::READ);
        assert_eq!(device.pop_with_tables(&mut chain, find, |_, _| {}), Ok(Some(head)));
        assert_eq!(chain.segments(), segments);
    }
    for (head, len) in heads.into_iter().rev().zip([0x0B0C, 0x0D0E]) {
        device.complete(head, len, UsedEntry::Own).unwrap();
        let _ = device.publish();
        assert_eq!(driver.take(), Ok(Some(Completion { head, len })));
    }
    driver.arm().unwrap();
    device.arm().unwrap();

    lines.push(format!("DescriptorTable {}", hex(&bytes(&parts.descriptors))));
    lines.push(format!("IndirectTable {}", indirect(&bytes(&tables))));
    lines.push(format!("AvailRing {}", part(&bytes(&parts.avail), 0, size.avail_len())));
    lines.push(format!("UsedRing {}", part(&bytes(&parts.used), 4, size.used_len())));
}

/// The one table that was written, of two descriptors.
fn indirect(tables: &[u8]) -> String {
    let mut written = tables.chunks(32).filter(|table| table.iter().any(|byte| *byte != 0));
    let table = written.next().unwrap();
    assert!(written.next().is_none());
    hex(table)
}

fn net(lines: &mut Vec<String>) {
    let config =
        NetConfig { mac: [2, 0, 0, 0, 0, 9], status: 1, max_virtqueue_pairs: 0x0102, mtu: 0x05DC };
    lines.push(format!("NetConfig {}", hex(&config.encode())));
    let header = NetHeader {
        flags: 1,
        gso_type: 4,
        hdr_len: 0x0203,
        gso_size: 0x0405,
        csum_start: 0x0607,
        csum_offset: 0x0809,
        num_buffers: 0x0A0B,
    };
    lines.push(format!("NetHeader {}", hex(&header.encode())));
    let delay = Coalescing { max_packets: 0x0102, max_usecs: 0x0304_0506 };
    let macs = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [3, 0, 0, 0, 0, 3]];
    let tables =
        Command::MacTables { unicast: Macs::These(&macs[..2]), multicast: Macs::These(&macs[2..]) };
    for (name, command) in [
        ("Receive", Command::Receive { switch: ReceiveSwitch::NoBroadcast, on: true }),
        ("MacTables", tables),
        ("MacAddress", Command::MacAddress(macs[0])),
        ("Vlan", Command::Vlan { id: 0x0FED, wanted: false }),
        ("AnnounceAck", Command::AnnounceAck),
        ("GuestOffloads", Command::GuestOffloads(1 << 54 | 1 << 1)),
        ("CoalesceTransmit", Command::CoalesceTransmit(delay)),
        ("CoalesceReceive", Command::CoalesceReceive(delay)),
    ] {
        let mut bytes = [0; COMMAND_MAX];
        let len = command.encode(&mut bytes).unwrap();
        lines.push(format!("{name} command {}", hex(&bytes[..len])));
    }
}

#[test]
fn every_structure_is_as_the_document_has_it() {
    let mut lines = Vec::new();
    let block = StaticPart::encode(&description(), &OUR_AREAS);
    lines.push(format!("ControlBlock {}", hex(block.as_slice())));
    channel(&mut lines);
    messages(&mut lines);
    pages(&mut lines);
    rings(&mut lines);
    net(&mut lines);
    let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../", "docs/protocol.md"));
    let (_, golden) = document.split_once("```golden\n").unwrap();
    let (golden, _) = golden.split_once("```").unwrap();
    let there: Vec<&str> = golden.lines().collect();
    assert!(there == lines, "docs/protocol.md should have:\n{}", lines.join("\n"));
}
