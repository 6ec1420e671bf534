//! The real rings on the instrument: nothing is lost, and each rule of R4
//! that is broken loses something.
//!
//! One queue in the split layout. The host pushes a request into board memory;
//! the board answers through its DMA engine into host memory. Both sleep
//! whenever they may. "Lost": both asleep, nothing under way, work left.

use shared::address::BusAddress;
use shared::virtq::{
    Chain, DeviceQueue, DeviceSlot, DriverQueue, DriverSlot, Parts, QueueSize, RingOptions,
    Segment, SleepFlush, UsedEntry,
};
use shared::window::Word;

use super::*;
use crate::bus::{Latch, Ring};

/// A window whose owner leaves out one kind of barrier.
#[derive(Clone)]
struct Careless(SimWindow, Option<Barrier>);

impl Window for Careless {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn load<T: Word>(&self, offset: u64) -> T {
        self.0.load(offset)
    }
    fn store<T: Word>(&self, offset: u64, value: T) {
        self.0.store(offset, value);
    }
    fn read(&self, offset: u64, into: &mut [u8]) {
        self.0.read(offset, into);
    }
    fn write(&self, offset: u64, from: &[u8]) {
        self.0.write(offset, from);
    }
    fn barrier(&self, barrier: Barrier) {
        if self.1 != Some(barrier) {
            self.0.barrier(barrier);
        } else if barrier == Barrier::Full {
            // What it says about the order of stores and of loads stays.
            self.0.barrier(Barrier::Write);
            self.0.barrier(Barrier::Read);
        }
    }
    fn part(&self, offset: u64, len: u64) -> Option<Self> {
        Some(Self(self.0.part(offset, len)?, self.1))
    }
}

const SIZE: u16 = 8;
const BUFFER: u64 = 64;
const USED: u64 = 0x400;
const BUFFERS: u64 = 0x1000;

/// What a run does differently.
#[derive(Clone, Copy)]
struct Rules {
    in_order: bool,
    event_idx: bool,
    host_leaves_out: Option<Barrier>,
    board_leaves_out: Option<Barrier>,
    host_flush: SleepFlush,
    board_flush: SleepFlush,
    finish_dma: bool,
    drain_first: bool,
    /// The host arms again after a wake-up that found nothing.
    arms_again: bool,
    order: BrokenOrder,
}

const GOOD: Rules = Rules {
    in_order: true,
    event_idx: true,
    host_leaves_out: None,
    board_leaves_out: None,
    host_flush: SleepFlush::ReadBack,
    board_flush: SleepFlush::ReadBack,
    finish_dma: true,
    drain_first: true,
    arms_again: true,
    order: BrokenOrder {
        relaxed_writes: false,
        relaxed_requests: false,
        relaxed_completions: false,
        separate_interrupts: false,
        interrupt_ignores_dma: false,
        interrupt_ignores_cpu: false,
    },
};

#[derive(Debug, PartialEq)]
enum Outcome {
    AllArrived,
    Lost,
    /// Wrong bytes, or a ring that makes no sense.
    Garbled,
}

type Driver = DriverQueue<Careless, Careless, Careless, Vec<DriverSlot>>;
type Device = DeviceQueue<Careless, Careless, Careless, Vec<DeviceSlot>>;

fn queues(rig: &Rig, rules: Rules) -> (Driver, Device) {
    let options = |sleep_flush| RingOptions {
        size: QueueSize::try_from(u32::from(SIZE)).unwrap(),
        in_order: rules.in_order,
        event_idx: rules.event_idx,
        indirect: false,
        sleep_flush,
        publish_flush: false,
    };
    let parts = |bar: &SimWindow, ram: &SimWindow, barrier| {
        let bar = Careless(bar.clone(), barrier);
        let used = Careless(ram.clone(), barrier).part(USED, 0x400).unwrap();
        let avail = bar.part(0x400, 0x400).unwrap();
        Parts { descriptors: bar, avail, avail_at: 0, used, used_at: 4 }
    };
    let host = parts(&rig.host_bar, &rig.host_ram, rules.host_leaves_out);
    let slots = vec![DriverSlot::default(); SIZE.into()];
    let driver = DriverQueue::new(host, slots, options(rules.host_flush)).unwrap();
    rig.bus.settle();
    let board = parts(&rig.board_bar, &rig.board_ram, rules.board_leaves_out);
    let slots = vec![DeviceSlot::default(); SIZE.into()];
    (driver, DeviceQueue::new(board, slots, options(rules.board_flush)).unwrap())
}

fn request(number: u64) -> [u8; 48] {
    [mix(number) as u8; 48]
}

struct Host<'a> {
    rig: &'a Rig,
    rules: Rules,
    queue: Driver,
    doorbell: SimDoorbell,
    latch: SimInterrupt,
    asleep: bool,
    /// It has looked, and drains its latch only now: against R4.
    drains_late: bool,
    woken: bool,
    /// Which request each head carries.
    of_head: [u64; SIZE as usize],
    sent: u64,
    answered: u64,
    total: u64,
}

impl Host<'_> {
    /// One turn; `Err` where what arrives is wrong.
    fn turn(&mut self, random: u64) -> Result<(), ()> {
        if std::mem::take(&mut self.drains_late) {
            self.latch.drain();
            self.asleep = true;
            return Ok(());
        }
        if self.asleep {
            self.asleep = !self.latch.drain();
            self.woken = !self.asleep;
            return Ok(());
        }
        let woken = std::mem::take(&mut self.woken);
        let mut busy = false;
        while let Some(done) = self.queue.take().map_err(drop)? {
            let mut answer = [0; 48];
            let slot = BUFFERS + u64::from(done.head) * BUFFER;
            self.rig.host_ram.read(slot, &mut answer);
            let number = self.of_head[usize::from(done.head)];
            if done.len != 48 || answer != request(number).map(|byte| !byte) {
                return Err(());
            }
            self.answered += 1;
            busy = true;
        }
        for _ in 0..random % 5 {
            if self.sent == self.total || self.queue.free() < 2 {
                break;
            }
            let slot = BUFFERS + u64::from(self.queue.next_head().ok_or(())?) * BUFFER;
            self.rig.host_bar.write(slot, &request(self.sent));
            let segment = |address, writable| Segment { address, len: 48, writable };
            let chain =
                [segment(BusAddress::board(slot), false), segment(BusAddress::new(slot), true)];
            let head = self.queue.add(&chain).map_err(drop)?;
            self.of_head[usize::from(head)] = self.sent;
            self.sent += 1;
            busy = true;
        }
        if self.queue.publish() {
            self.doorbell.ring();
        }
        let more = self.sent < self.total && self.queue.free() >= 2;
        if !busy && !more && woken && !self.rules.arms_again {
            self.asleep = true;
        } else if !busy && !more {
            if self.rules.drain_first {
                self.latch.drain();
            }
            let nothing = self.queue.arm().map_err(drop)?;
            self.asleep = nothing && self.rules.drain_first;
            self.drains_late = nothing && !self.rules.drain_first;
        }
        Ok(())
    }
}

struct Board<'a> {
    rig: &'a Rig,
    rules: Rules,
    queue: Device,
    asleep: bool,
    /// It has looked, and drains its latch only now: against R4.
    drains_late: bool,
}

impl Board<'_> {
    fn turn(&mut self, random: u64) -> Result<(), ()> {
        if std::mem::take(&mut self.drains_late) {
            let _ = self.rig.board.take_doorbells();
            self.asleep = true;
            return Ok(());
        }
        if self.asleep {
            self.asleep = self.rig.board.take_doorbells() == 0;
            return Ok(());
        }
        let mut chain = Chain::new();
        let mut busy = false;
        for _ in 0..=random % 5 {
            let Some(head) = self.queue.pop(&mut chain).map_err(drop)? else {
                break;
            };
            let [from, to] = chain.segments() else {
                return Err(());
            };
            let mut bytes = [0; 48];
            let at = from.address.offset_from(BusAddress::board(0)).ok_or(())?;
            self.rig.board_bar.read(at, &mut bytes);
            self.rig.dma_ram.write(to.address.bits(), &bytes.map(|byte| !byte));
            if self.rules.finish_dma {
                self.rig.dma_ram.barrier(Barrier::Full);
            }
            self.queue.complete(head, 48, UsedEntry::Own).map_err(drop)?;
            busy = true;
        }
        if self.queue.publish() {
            self.rig.board.raise(1);
        }
        if !busy {
            if self.rules.drain_first {
                let _ = self.rig.board.take_doorbells();
            }
            let nothing = self.queue.arm().map_err(drop)?;
            self.asleep = nothing && self.rules.drain_first;
            self.drains_late = nothing && !self.rules.drain_first;
        }
        Ok(())
    }
}

/// Runs to the end; also the bill, and how often host and board flushed.
fn run(rules: Rules, seed: u64, profile: Profile, total: u64) -> (Outcome, Bill, [u64; 2]) {
    let rig = broken(seed, profile, rules.order);
    let (driver, device) = queues(&rig, rules);
    let start = rig.bus.bill();
    let mut host = Host {
        rig: &rig,
        rules,
        queue: driver,
        doorbell: rig.host.doorbell(&rig.bus.doorbells(), 1).unwrap(),
        latch: rig.host.interrupt(1).unwrap(),
        asleep: false,
        drains_late: false,
        woken: false,
        of_head: [0; SIZE as usize],
        sent: 0,
        answered: 0,
        total,
    };
    let mut board = Board { rig: &rig, rules, queue: device, asleep: false, drains_late: false };
    let mut random = seed;
    let mut idle = 0;
    let mut outcome = Outcome::AllArrived;
    while host.answered < total {
        random = mix(random);
        let turn = if random & 1 == 0 { host.turn(random >> 8) } else { board.turn(random >> 8) };
        if turn.is_err() {
            outcome = Outcome::Garbled;
            break;
        }
        idle = if host.asleep && board.asleep { idle + 1 } else { 0 };
        if idle == 200 {
            rig.bus.settle();
        }
        if idle == 400 {
            outcome = Outcome::Lost;
            break;
        }
    }
    let flushes = [host.queue.stats().flushes, board.queue.stats().flushes];
    (outcome, rig.bus.bill() - start, flushes)
}

/// Runs until the outcome shows; `false` if it never does.
fn shows(rules: Rules, outcome: &Outcome) -> bool {
    (0..400).any(|seed| {
        PROFILES.into_iter().any(|profile| {
            [true, false].into_iter().any(|event_idx| {
                let rules = Rules { event_idx, ..rules };
                run(rules, seed, profile, 40).0 == *outcome
            })
        })
    })
}

#[test]
fn by_the_rules_nothing_is_lost() {
    for seed in 0..60 {
        for profile in PROFILES {
            for (in_order, event_idx) in [(true, true), (true, false), (false, true)] {
                let rules = Rules { in_order, event_idx, ..GOOD };
                let (outcome, bill, flushes) = run(rules, seed, profile, 300);
                assert_eq!(outcome, Outcome::AllArrived, "seed {seed} {profile:?}");
                // One bus read a sleep, on each side, and no other.
                for (who, flushes) in [Initiator::HostCpu, Initiator::BoardCpu].iter().zip(flushes)
                {
                    assert_eq!(bill[(*who, Plane::Data)].bus_reads(), flushes);
                }
            }
        }
    }
}

#[test]
fn any_rule_of_the_sleepers_left_out_loses_a_wake_up() {
    let flush = SleepFlush::LookFlushes;
    assert!(shows(Rules { host_flush: flush, ..GOOD }, &Outcome::Lost));
    assert!(shows(Rules { board_flush: flush, ..GOOD }, &Outcome::Lost));
    assert!(shows(Rules { drain_first: false, ..GOOD }, &Outcome::Lost));
}

#[test]
fn any_barrier_left_out_loses_or_garbles() {
    let full = Some(Barrier::Full);
    assert!(shows(Rules { host_leaves_out: full, ..GOOD }, &Outcome::Lost));
    assert!(shows(Rules { board_leaves_out: full, ..GOOD }, &Outcome::Lost));
    for barrier in [Some(Barrier::Write), Some(Barrier::Read)] {
        assert!(shows(Rules { host_leaves_out: barrier, ..GOOD }, &Outcome::Garbled));
        assert!(shows(Rules { board_leaves_out: barrier, ..GOOD }, &Outcome::Garbled));
    }
    assert!(shows(Rules { finish_dma: false, ..GOOD }, &Outcome::Garbled));
}

#[test]
fn a_bus_that_breaks_its_own_rules_loses_or_garbles() {
    let order = GOOD.order;
    let relaxed_requests = BrokenOrder { relaxed_requests: true, ..order };
    let relaxed_completions = BrokenOrder { relaxed_completions: true, ..order };
    let relaxed_writes = BrokenOrder { relaxed_writes: true, ..order };
    assert!(shows(Rules { order: relaxed_requests, ..GOOD }, &Outcome::Lost));
    assert!(shows(Rules { order: relaxed_completions, ..GOOD }, &Outcome::Lost));
    assert!(shows(Rules { order: relaxed_writes, ..GOOD }, &Outcome::Garbled));
}

/// An interrupt that overtakes the data wakes a host that finds nothing, and
/// that then arms again: R4 holds.
#[test]
fn interrupts_on_a_path_of_their_own_are_survived() {
    let order = BrokenOrder {
        separate_interrupts: true,
        interrupt_ignores_dma: true,
        interrupt_ignores_cpu: true,
        ..GOOD.order
    };
    for seed in 0..60 {
        for profile in PROFILES {
            let (outcome, ..) = run(Rules { order, ..GOOD }, seed, profile, 200);
            assert_eq!(outcome, Outcome::AllArrived, "seed {seed} {profile:?}");
        }
    }
    assert!(shows(Rules { order, arms_again: false, ..GOOD }, &Outcome::Lost));
}
