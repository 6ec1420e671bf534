//! What links to boards in QEMU cost that have nothing to carry.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::command::Machine;
use crate::rack::{ADDRESSES, Rack};
use crate::services::{addresses, ping};
use crate::taken::Taken;

const MACHINES: [Machine; 3] = [Machine::QemuAarch64, Machine::QemuRiscv64, Machine::QemuPowerpc];

const WINDOW: Duration = Duration::from_secs(10);

/// How often each thread of an idle daemon looks in a window.
const LOOKS: u32 = 20;

/// The part of a window that is 0.0 % when it is rounded, for each board that
/// the daemon looks after.
const NOTHING: Duration = Duration::from_millis(5);

/// A wake-up may cost as much as so many of a thread that does nothing at all.
const WORK: u32 = 3;

/// Of a window what QEMU may take whose processor is halted but for a heartbeat
/// twice a second: one that does not halt takes all of it. On a slow machine it
/// is what so many wake-ups of a thread cost that does nothing.
const HALTED: Duration = Duration::from_millis(50);
const WAKEUPS: u32 = 200;

fn frames(rack: &Rack) -> Vec<String> {
    let stats = rack.ask(&["stats"]);
    stats
        .lines()
        .filter(|line| line.trim_start().starts_with("frames"))
        .map(str::to_owned)
        .collect()
}

pub(crate) fn idle() {
    let mut rack = Rack::alone(&MACHINES, ADDRESSES);
    // The kernel's own frames would only make it wait longer: where they cannot be
    // forbidden it does.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/router_solicitations", "0");
    rack.start_daemon();
    for slot in &mut rack.slots {
        slot.start();
    }
    for slot in 0..MACHINES.len() {
        rack.link_is_up(slot, 1);
        for to in addresses(rack.slots[slot].number) {
            ping(to, 1);
        }
    }
    // As in the daemon's own test: a window in which no frame moved has to do.
    let boards = u32::try_from(MACHINES.len()).unwrap();
    let (mut daemon_idle, mut halted) = (false, [false; 3]);
    for _ in 0..12 {
        let moved = frames(&rack);
        let qemus = || -> Vec<_> {
            rack.slots.iter().map(|slot| Taken::by(slot.qemu.as_ref().unwrap())).collect()
        };
        let (before, daemon) = (qemus(), Taken::by(rack.daemon.as_ref().unwrap()));
        let own = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        let bare = own();
        for _ in 0..LOOKS {
            sleep(WINDOW / LOOKS);
        }
        let bare = (own() - bare) / LOOKS;
        let daemon = Taken::by(rack.daemon.as_ref().unwrap()).since(daemon);
        let qemus: Vec<_> =
            qemus().into_iter().zip(before).map(|(now, before)| now.since(before)).collect();
        println!("{daemon:?}, a bare wake-up {bare:?}, {qemus:?}");
        if frames(&rack) != moved {
            continue;
        }
        let looks = boards * (2 * LOOKS + 10);
        daemon_idle |= daemon.sleeps <= u64::from(looks)
            && daemon.time <= (NOTHING * boards).max(bare * WORK * looks);
        for (qemu, halted) in qemus.iter().zip(&mut halted) {
            *halted |= qemu.time <= HALTED.max(bare * WORK * WAKEUPS);
        }
        if daemon_idle && halted == [true; 3] {
            rack.end();
            return;
        }
    }
    panic!("the daemon is idle: {daemon_idle}; the boards' processors halt: {halted:?}");
}
