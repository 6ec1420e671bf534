//! Both sides against each other: random batches, sizes, chains and features,
//! over the wrap of the indices.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::rig::{Rig, TABLE_ENTRIES, options};
use crate::address::BusAddress;
use crate::virtq::{Chain, Completion, RingOptions, Segment, UsedEntry};

pub(super) fn readable(address: u64, len: u32) -> Segment {
    Segment { address: BusAddress::new(address), len, writable: false }
}

pub(super) fn writable(address: u64, len: u32) -> Segment {
    Segment { address: BusAddress::new(address), len, writable: true }
}

#[test]
fn one_buffer_goes_there_and_back() {
    for (in_order, event_idx) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut rig = Rig::new(4, in_order, event_idx);
        let mut chain = Chain::new();
        assert_eq!(rig.device.pop(&mut chain), Ok(None));
        let segments = [readable(0x1000, 12), writable(0x2000, 100)];
        let head = rig.driver.add(&segments).unwrap();
        assert_eq!(rig.device.pop(&mut chain), Ok(None), "not published yet");
        assert!(rig.driver.publish(), "the first entry is notified");
        assert_eq!(rig.device.pop(&mut chain), Ok(Some(head)));
        assert_eq!(chain.segments(), segments);
        assert_eq!((chain.readable_len(), chain.writable_len()), (12, 100));
        rig.device.complete(head, 60, UsedEntry::Own).unwrap();
        assert_eq!(rig.driver.take(), Ok(None), "not published yet");
        assert!(rig.device.publish());
        assert_eq!(rig.driver.take(), Ok(Some(Completion { head, len: 60 })));
        assert_eq!((rig.driver.take(), rig.driver.free()), (Ok(None), 4));
    }
}

/// xorshift64*: enough, and the same everywhere.
struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % bound
    }
}

/// What a side last told its peer about notifications.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    /// Nothing since it woke up: a notification may come or not.
    Woken,
    Parked,
    Asleep,
}

impl Mood {
    /// Checks a publish towards a side in this mood.
    fn hear(&mut self, entries: usize, notified: bool) {
        match self {
            _ if entries == 0 => assert!(!notified, "notified of nothing"),
            Self::Asleep => {
                assert!(notified, "asleep, and not woken");
                *self = Self::Woken;
            }
            Self::Parked => assert!(!notified, "notified while awake"),
            Self::Woken => {}
        }
    }
}

/// Whether buffers have several segments, and where those are described.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Chains {
    None,
    Direct,
    /// In indirect tables as far as they fit.
    Tables,
}

struct World {
    rig: Rig,
    dice: Dice,
    in_order: bool,
    chains: bool,
    indirect: bool,
    next_address: u64,
    /// Buffers by head, from `add` on.
    out: HashMap<u16, Vec<Segment>>,
    /// Heads in the order added; not yet popped.
    expected: VecDeque<u16>,
    added: usize,
    /// Popped and not completed, in order.
    held: Vec<u16>,
    /// Completed and not taken: head, and the length that `take` must report.
    returned: VecDeque<Completion>,
    completed: usize,
    taken: usize,
    driver: Mood,
    device: Mood,
}

impl World {
    fn buffer(&mut self) -> Vec<Segment> {
        let most = if self.chains { usize::from(self.rig.size.get()).min(4) } else { 1 };
        let segments = 1 + self.dice.below(most);
        let first_writable = self.dice.below(segments + 1);
        (0..segments)
            .map(|i| {
                self.next_address += 1 + self.dice.below(5000) as u64;
                let len = u32::try_from(self.dice.below(3000)).unwrap();
                let address = self.next_address;
                if i < first_writable { readable(address, len) } else { writable(address, len) }
            })
            .collect()
    }

    /// Descriptors of the queue that a buffer takes.
    fn descriptors(&self, buffer: &[Segment]) -> usize {
        let in_table = self.indirect && buffer.len() <= usize::from(TABLE_ENTRIES);
        if in_table { 1 } else { buffer.len() }
    }

    fn driver_adds(&mut self) {
        for _ in 0..self.dice.below(usize::from(self.rig.size.get()) + 2) {
            let buffer = self.buffer();
            let due = self.rig.driver.next_head();
            match self.rig.driver.add(&buffer) {
                Ok(head) => {
                    assert_eq!(Some(head), due);
                    assert!(self.out.insert(head, buffer).is_none(), "head {head} is in flight");
                    self.expected.push_back(head);
                    self.added += 1;
                }
                Err(_) => {
                    assert!(usize::from(self.rig.driver.free()) < self.descriptors(&buffer));
                    break;
                }
            }
        }
        if self.dice.below(3) > 0 {
            let notified = self.rig.driver.publish();
            let added = std::mem::take(&mut self.added);
            self.device.hear(added, notified);
        }
    }

    fn device_pops(&mut self) {
        let mut chain = Chain::new();
        let before = self.held.len();
        for _ in 0..self.dice.below(usize::from(self.rig.size.get()) + 2) {
            let Some(head) = self.rig.pop(&mut chain).unwrap() else {
                assert_eq!(self.expected.len(), self.added, "published and not popped");
                break;
            };
            assert_eq!(Some(head), self.expected.pop_front(), "popped in the order added");
            assert_eq!(chain.segments(), self.out[&head]);
            self.held.push(head);
        }
        // Give some of this round's back.
        let back = self.dice.below(self.held.len() - before + 1);
        self.rig.device.unpop(u16::try_from(back).unwrap());
        for _ in 0..back {
            self.expected.push_front(self.held.pop().unwrap());
        }
    }

    fn device_completes(&mut self) {
        for _ in 0..self.dice.below(self.held.len() + 1) {
            let which = if self.in_order { 0 } else { self.dice.below(self.held.len()) };
            let head = self.held.remove(which);
            let writable: u32 = self.out[&head].iter().filter(|s| s.writable).map(|s| s.len).sum();
            let (len, entry) = if self.dice.below(2) == 0 {
                (writable, UsedEntry::MaySkip)
            } else {
                let len = self.dice.below(usize::try_from(writable).unwrap() + 1);
                (u32::try_from(len).unwrap(), UsedEntry::Own)
            };
            self.rig.device.complete(head, len, entry).unwrap();
            self.returned.push_back(Completion { head, len });
            self.completed += 1;
        }
        if self.dice.below(3) > 0 {
            let notified = self.rig.device.publish();
            let completed = std::mem::take(&mut self.completed);
            self.driver.hear(completed, notified);
        }
    }

    fn driver_takes(&mut self) {
        let published = self.returned.len() - self.completed;
        assert_eq!(self.rig.driver.pending(), Ok(u16::try_from(published).unwrap()));
        for _ in 0..self.dice.below(usize::from(self.rig.size.get()) + 2) {
            let Some(completion) = self.rig.driver.take().unwrap() else {
                assert_eq!(self.returned.len(), self.completed, "published and not taken");
                break;
            };
            assert_eq!(Some(completion), self.returned.pop_front());
            assert!(self.out.remove(&completion.head).is_some());
            self.taken += 1;
        }
        let flying: usize = self.out.values().map(|buffer| self.descriptors(buffer)).sum();
        assert_eq!(usize::from(self.rig.driver.in_flight()), flying);
    }

    fn sides_doze(&mut self) {
        match self.dice.below(6) {
            0 => {
                self.rig.driver.park();
                self.driver = Mood::Parked;
            }
            1 => {
                let nothing = self.returned.len() == self.completed;
                assert_eq!(self.rig.driver.arm(), Ok(nothing));
                self.driver = if nothing { Mood::Asleep } else { Mood::Woken };
            }
            2 => {
                self.rig.device.park();
                self.device = Mood::Parked;
            }
            3 => {
                let nothing = self.expected.len() == self.added;
                assert_eq!(self.rig.device.arm(), Ok(nothing));
                self.device = if nothing { Mood::Asleep } else { Mood::Woken };
            }
            _ => {}
        }
    }

    /// Goes on until `buffers` have come back, then empties the queue.
    fn run(&mut self, buffers: usize) {
        let until = self.taken + buffers;
        while self.taken < until {
            match self.dice.below(5) {
                0 => self.driver_adds(),
                1 => self.device_pops(),
                2 => self.device_completes(),
                3 => self.driver_takes(),
                _ => self.sides_doze(),
            }
        }
        while !self.out.is_empty() {
            let notified = self.rig.driver.publish();
            let added = std::mem::take(&mut self.added);
            self.device.hear(added, notified);
            self.device_pops();
            self.device_completes();
            self.driver_takes();
        }
        assert_eq!(self.rig.driver.free(), self.rig.size.get());
        assert_eq!((self.rig.driver.fault(), self.rig.device.fault()), (None, None));
    }
}

fn world(
    size: u32,
    in_order: bool,
    event_idx: bool,
    chains: Chains,
    [avail_at, used_at]: [u64; 2],
    seed: u64,
) -> World {
    let indirect = chains == Chains::Tables;
    let options = RingOptions { indirect, ..options(size, in_order, event_idx) };
    World {
        rig: Rig::placed(options, avail_at, used_at),
        dice: Dice(seed | 1),
        in_order,
        chains: chains != Chains::None,
        indirect,
        next_address: 0,
        out: HashMap::new(),
        expected: VecDeque::new(),
        added: 0,
        held: Vec::new(),
        returned: VecDeque::new(),
        completed: 0,
        taken: 0,
        driver: Mood::Asleep, // both event words are zero, and so are both indices
        device: Mood::Asleep,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_lost_or_bent(
        shift in 1_u32..=6, in_order: bool, event_idx: bool, kind in 0..3, odd: [bool; 2], seed: u64,
    ) {
        let chains = [Chains::None, Chains::Direct, Chains::Tables][usize::try_from(kind).unwrap()];
        let places = odd.map(|odd| if odd { 4 } else { 0 });
        world(1 << shift, in_order, event_idx, chains, places, seed).run(2000);
    }
}

#[test]
fn indices_wrap() {
    for (number, size) in (1_u64..).zip([2, 8, 64]) {
        for (in_order, event_idx, chains) in [
            (true, true, Chains::None),
            (true, true, Chains::Direct),
            (true, false, Chains::Tables),
            (false, true, Chains::Tables),
            (false, false, Chains::None),
        ] {
            // Twice around, so that parked event words come around as well.
            world(size, in_order, event_idx, chains, [0, 4], 77 * number).run(140_000);
        }
    }
}

#[test]
fn the_largest_queue_full_at_the_wrap() {
    for in_order in [false, true] {
        let mut rig = Rig::new(32768, in_order, true);
        let mut chain = Chain::new();
        for lap in 0..4_u32 {
            for i in 0..32768_u32 {
                rig.driver.add(&[writable(u64::from(i) + 1, 64)]).unwrap();
            }
            assert_eq!(rig.driver.next_head(), None);
            let _ = rig.driver.publish();
            assert_eq!(rig.device.available(), Ok(32768), "lap {lap}");
            while let Some(head) = rig.device.pop(&mut chain).unwrap() {
                rig.device.complete(head, 1, UsedEntry::Own).unwrap();
            }
            let _ = rig.device.publish();
            let mut count = 0;
            while let Some(completion) = rig.driver.take().unwrap() {
                assert_eq!(completion.len, 1);
                count += 1;
            }
            assert_eq!(count, 32768, "lap {lap}");
        }
    }
}

#[test]
fn an_old_buffer_outlives_the_indices() {
    // Out of order: one buffer stays out while 2^16 others pass by, so that
    // its avail index comes around while something is unpublished.
    let mut rig = Rig::new(4, false, true);
    let mut chain = Chain::new();
    let old = rig.driver.add(&[writable(1, 10)]).unwrap();
    let _ = rig.driver.publish();
    assert_eq!(rig.device.pop(&mut chain), Ok(Some(old)));
    for _ in 0..65_535 {
        let head = rig.driver.add(&[writable(2, 10)]).unwrap();
        let _ = rig.driver.publish();
        assert_eq!(rig.device.pop(&mut chain), Ok(Some(head)));
        rig.device.complete(head, 3, UsedEntry::Own).unwrap();
        let _ = rig.device.publish();
        assert_eq!(rig.driver.take(), Ok(Some(Completion { head, len: 3 })));
    }
    let unpublished = rig.driver.add(&[writable(3, 10)]).unwrap();
    rig.device.complete(old, 10, UsedEntry::Own).unwrap();
    let _ = rig.device.publish();
    assert_eq!(rig.driver.take(), Ok(Some(Completion { head: old, len: 10 })));
    assert_ne!(old, unpublished);
}

#[test]
fn a_device_that_skips_nothing_is_understood_in_order() {
    let mut rig = Rig::new(8, true, true);
    let mut chain = Chain::new();
    for _ in 0..5 {
        for i in 0..6 {
            rig.driver.add(&[readable(1 + i, 64)]).unwrap();
        }
        let _ = rig.driver.publish();
        while let Some(head) = rig.device.pop(&mut chain).unwrap() {
            rig.device.complete(head, 0, UsedEntry::Own).unwrap();
        }
        let _ = rig.device.publish();
        for _ in 0..6 {
            assert!(rig.driver.take().unwrap().is_some());
        }
        assert_eq!(rig.driver.take(), Ok(None));
    }
}

#[test]
fn a_batch_as_large_as_the_ring_and_packets_across_its_end() {
    let mut rig = Rig::new(8, true, true);
    let mut chain = Chain::new();
    for _ in 0..10 {
        for i in 0..8 {
            rig.driver.add(&[writable(0x1000 * (1 + i), 100)]).unwrap();
        }
        let _ = rig.driver.publish();
        // Unequal packets of 3, 1 and 4 buffers in one batch.
        let mut heads = Vec::new();
        while let Some(head) = rig.device.pop(&mut chain).unwrap() {
            heads.push(head);
        }
        let mut heads = heads.into_iter();
        for (buffers, last) in [(3, 17), (1, 99), (4, 0)] {
            for _ in 1..buffers {
                rig.device.complete(heads.next().unwrap(), 100, UsedEntry::MaySkip).unwrap();
            }
            rig.device.complete(heads.next().unwrap(), last, UsedEntry::Own).unwrap();
        }
        let _ = rig.device.publish();
        let lens: Vec<u32> =
            std::iter::from_fn(|| rig.driver.take().unwrap()).map(|c| c.len).collect();
        assert_eq!(lens, [100, 100, 17, 99, 100, 100, 100, 0]);
        // Shift, so that the next laps' packets cross the ring's end elsewhere.
        let _ = rig.driver.add(&[readable(1, 1)]).unwrap();
        let _ = rig.driver.publish();
        let head = rig.device.pop(&mut chain).unwrap().unwrap();
        rig.device.complete(head, 0, UsedEntry::MaySkip).unwrap();
        let _ = rig.device.publish();
        assert_eq!(rig.driver.take(), Ok(Some(Completion { head, len: 0 })));
    }
}
