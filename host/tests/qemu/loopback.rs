//! Frames from one board through the host to another and back, while a third
//! one is reset every few seconds.

use std::time::{Duration, Instant};

use virtio_phys_host::netlink::Netlink;

use crate::command::Machine;
use crate::interfaces::Interfaces;
use crate::process::until;
use crate::rack::{Rack, Slot};
use crate::services::{addresses, ping};

const BRIDGE: &str = "bridge0";

/// Slots: who talks, who sends back, and who is reset.
const TALKER: usize = 0;
const ECHO: usize = 1;
const THIRD: usize = 2;

/// How often the third board is reset, and what flows between the others
/// meanwhile, in time and in frames.
const RESETS: u64 = 5;
const APART: Duration = Duration::from_secs(2);
const FRAMES: u64 = 2000;

/// What a talker has said last: sent, back, wrong, lost.
fn tally(talker: &Slot) -> Option<[u64; 4]> {
    let serial = talker.serial();
    // The last line may be half-written.
    let (whole, _) = serial.rsplit_once('\n')?;
    whole.lines().rev().find_map(|line| {
        let numbers = line.split_once("talker: sent ")?.1.split([' ', ',']);
        numbers.filter_map(|word| word.trim().parse().ok()).collect::<Vec<u64>>().try_into().ok()
    })
}

pub(crate) fn three_boards() {
    let interfaces = Interfaces::new();
    let machines = [Machine::QemuAarch64, Machine::QemuPowerpc, Machine::QemuRiscv64];
    let mut rack = Rack::alone(&machines, "");
    rack.slots[TALKER].more = "behind=talker:1".to_owned();
    rack.slots[ECHO].more = "behind=echo".to_owned();
    rack.start_daemon();
    for slot in 0..machines.len() {
        rack.slots[slot].start();
    }
    for slot in 0..machines.len() {
        rack.link_is_up(slot, 1);
    }
    let mut netlink = Netlink::open().unwrap();
    netlink.add_bridge(BRIDGE).unwrap();
    for interface in ["vphys0", "vphys1"] {
        netlink.add_to_bridge(interface, BRIDGE).unwrap();
    }
    netlink.set_up(BRIDGE).unwrap();
    netlink.add_address("vphys2", addresses_of_host(2), 24).unwrap();
    let third = addresses(2)[0];
    ping(third, 1);
    until("frames between the boards", || tally(&rack.slots[TALKER]).is_some());

    let index = interfaces.read("vphys2", "ifindex");
    assert!(index.is_some());
    for round in 1..=RESETS {
        let start = Instant::now();
        let before = tally(&rack.slots[TALKER]).unwrap();
        let (sessions, changes) =
            (rack.sessions(THIRD), interfaces.read("vphys2", "carrier_changes").unwrap());
        rack.slots[THIRD].press_reset();
        rack.link_is_up(THIRD, sessions + 1);
        ping(third, 1);
        assert_eq!(interfaces.read("vphys2", "ifindex"), index, "its interface stays");
        let changes = interfaces.read("vphys2", "carrier_changes").unwrap() - changes;
        assert!(changes >= 2, "its carrier went down and up: {changes} changes");
        until(&format!("frames between the others, round {round}"), || {
            let [_, back, ..] = tally(&rack.slots[TALKER]).unwrap();
            back >= before[1] + FRAMES && start.elapsed() >= APART
        });
    }
    let [sent, back, wrong, lost] = tally(&rack.slots[TALKER]).unwrap();
    println!("{back} of {sent} frames came back, {wrong} changed, {lost} lost");
    assert_eq!((wrong, lost), (0, 0));
    for slot in [TALKER, ECHO] {
        assert_eq!(rack.sessions(slot), 1, "the others did not notice");
    }
    rack.end();
}

fn addresses_of_host(number: u8) -> std::net::IpAddr {
    std::net::Ipv4Addr::new(10, 77, number, 1).into()
}
