//! A host that means harm: a second peer of the board's server, which writes
//! and rings whatever it likes. The firmware stays alive; when it is over, the
//! link comes back by itself.

use std::path::Path;
use std::time::{Duration, Instant};

use shared::address::BusAddress;
use shared::link::DoorbellDescription;
use shared::window::Window;
use virtio_phys_host::bus::ivshmem::{
    DOORBELL_BAR, DOORBELL_OFFSET, IvshmemBoard, IvshmemBus, IvshmemOptions, IvshmemWindow,
};
use virtio_phys_host::bus::{Bus, Ring};
use virtio_phys_host::namespace::in_namespace;

use crate::command::{Machine, VECTORS};
use crate::process::HANGS;
use crate::rack::{ADDRESSES, Rack};
use crate::services::{addresses, ping};
use crate::stream::Stream;

pub(crate) const MACHINES: [Machine; 3] =
    [Machine::QemuAarch64, Machine::QemuRiscv64, Machine::QemuPowerpc];

/// How long each attack lasts.
const ATTACK: Duration = Duration::from_secs(3);

/// The first bytes of the BAR: control pages, channels, and the first rings.
const HEAD: u64 = 64 << 10;

/// A peer of a board's server that obeys nothing.
struct Attacker {
    bus: IvshmemBus,
    /// The board's BAR.
    memory: IvshmemWindow,
    noise: u64,
}

impl Attacker {
    fn new(socket: &Path) -> Self {
        let peer = IvshmemBoard::connect(socket, VECTORS - 1, HANGS).unwrap();
        let memory = peer.memory(0, peer.bar_len()).unwrap();
        // A host says that it is the host; this one does not want its interrupts.
        let word = peer.outbound(BusAddress::new(0), 8).unwrap();
        let host: u32 = word.load(0);
        let options = IvshmemOptions { patience: HANGS, ..IvshmemOptions::new(socket) };
        let bus = IvshmemBus::connect(options).unwrap();
        word.store(0, host);
        Self { bus, memory, noise: 0x9E37_79B9_7F4A_7C15 }
    }

    fn noise(&mut self) -> u64 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        self.noise
    }

    /// Writes noise all over the BAR, most of it where the protocol lives.
    fn scribble(&mut self, time: Duration) -> u64 {
        let (start, mut words) = (Instant::now(), 0);
        while start.elapsed() < time {
            for _ in 0..256 {
                let (value, place) = (self.noise(), self.noise());
                let len = if place & 3 == 0 { self.memory.len() } else { HEAD };
                let at = (place % len) & !7;
                // Small numbers, too: they pass more checks.
                self.memory.store(at, if value & 1 == 0 { value } else { value >> 40 });
                words += 1;
            }
        }
        words
    }

    /// Rings every doorbell that the board has, but for the one that asks it
    /// to reboot.
    fn storm(&self, board: u16, time: Duration) -> u64 {
        let bells = (0..VECTORS - 1).map(|vector| {
            let described = DoorbellDescription {
                bar: DOORBELL_BAR,
                offset: DOORBELL_OFFSET,
                stride: 0,
                count: u32::from(VECTORS) - 1,
                value: u32::from(board) << 16,
                step: 1,
            };
            self.bus.doorbell(&described, vector.into()).unwrap()
        });
        let bells: Vec<_> = bells.collect();
        let (start, mut rings) = (Instant::now(), 0);
        while start.elapsed() < time {
            for bell in &bells {
                bell.ring();
                rings += 1;
            }
        }
        rings
    }
}

/// After whatever was done to it: it has not crashed, and serves again. It has
/// started over as often as it was asked to, and once at first.
fn is_well(rack: &Rack, slot: usize) {
    rack.link_is_up(slot, 1);
    let number = rack.slots[slot].number;
    let mut stream = Stream::new(number);
    stream.flows(10);
    for to in addresses(number) {
        ping(to, 3);
    }
    rack.slots[slot].has_not_crashed();
    let serial = rack.slots[slot].serial();
    let (boots, asked) = (count_boots(&serial), serial.matches("INFO: reboot").count());
    println!("{}: {boots} boots, {asked} asked for", rack.slots[slot].machine.name());
    assert!((1..=1 + asked).contains(&boots), "{serial}");
}

/// The board's number among its server's peers, which it says as it boots.
fn peer(serial: &str) -> u16 {
    let (_, line) = serial.rsplit_once("peer ").unwrap();
    line.split(',').next().unwrap().parse().unwrap()
}

fn count_boots(serial: &str) -> usize {
    serial.matches("boot 0x").count()
}

/// hostile host: rewrites all of the BAR at random while traffic runs.
fn scribbles(machine: Machine) {
    let rack = Rack::up(machine);
    let mut stream = Stream::new(0);
    stream.flows(10);
    let mut attacker = Attacker::new(&rack.slots[0].socket());
    stream.load(64);
    let words = attacker.scribble(ATTACK);
    println!("{words} words of noise");
    drop(attacker);
    rack.link_is_up(0, 1);
    is_well(&rack, 0);
    rack.end();
}

/// The same from the first instant of the board's life on.
fn scribbles_from_the_start(machine: Machine) {
    let mut rack = Rack::new(&[machine], ADDRESSES);
    let mut attacker = Attacker::new(&rack.slots[0].socket());
    rack.slots[0].start();
    attacker.scribble(ATTACK);
    drop(attacker);
    rack.start_daemon();
    is_well(&rack, 0);
    rack.end();
}

/// Rings all doorbells in a tight loop: heartbeat and traffic go on.
pub(crate) fn rings_in_a_loop(machine: Machine) {
    let rack = Rack::alone(&[machine], ADDRESSES).powered_up();
    let mut stream = Stream::new(0);
    stream.flows(10);
    let attacker = Attacker::new(&rack.slots[0].socket());
    let sessions = rack.sessions(0);
    let board = peer(&rack.slots[0].serial());
    let rings = std::thread::scope(|scope| {
        let storm = scope.spawn(|| attacker.storm(board, ATTACK));
        stream.flows(20);
        storm.join().unwrap()
    });
    println!("{}: {rings} rings", machine.name());
    assert_eq!(rack.sessions(0), sessions, "the heartbeat went on");
    is_well(&rack, 0);
    rack.end();
}

#[test]
fn all_of_the_bar_is_rewritten_at_random() {
    in_namespace("hostile::all_of_the_bar_is_rewritten_at_random", || {
        MACHINES.into_iter().for_each(scribbles);
    });
}

#[test]
fn the_bar_is_hammered_from_the_first_instant() {
    in_namespace("hostile::the_bar_is_hammered_from_the_first_instant", || {
        MACHINES.into_iter().for_each(scribbles_from_the_start);
    });
}
