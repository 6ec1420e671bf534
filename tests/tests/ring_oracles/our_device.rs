//! `virtio-drivers` drives our device side.

use std::collections::{HashMap, VecDeque};

use shared::address::BusAddress;
use shared::region::{Region, RegionTable, Rights};
use shared::virtq::{
    Chain, DeviceQueue, DeviceSlot, Parts, QueueSize, RingOptions, SleepFlush, UsedEntry,
};
use shared::window::Window;

use super::raw::{Arena, ArenaWindow, BASE, OtherDriver, hal_arena};
use super::{Dice, answer};

type Device = DeviceQueue<ArenaWindow, ArenaWindow, ArenaWindow, Vec<DeviceSlot>>;

/// What the driver gave, and what it expects back.
struct Request {
    bytes: Vec<u8>,
    room: Vec<usize>,
}

struct World<const SIZE: usize> {
    driver: OtherDriver<SIZE>,
    device: Device,
    arena: Arena,
    /// The arena, where the device looks indirect tables up.
    regions: RegionTable<ArenaWindow>,
    dice: Dice,
    event_idx: bool,
    wants_interrupts: bool,
    requests: HashMap<u16, Request>,
    /// Added and not popped, in order.
    added: VecDeque<u16>,
    /// Popped and not completed.
    held: Vec<(u16, Chain)>,
    /// Completed: token and the bytes written.
    answers: VecDeque<(u16, Vec<u8>)>,
    /// Of those, not published.
    unpublished: usize,
    done: usize,
    device_sleeps: bool,
}

impl<const SIZE: usize> World<SIZE> {
    fn new(event_idx: bool, indirect: bool, seed: u64) -> Self {
        let (driver, place) = OtherDriver::<SIZE>::new(event_idx, indirect);
        let arena = hal_arena();
        let mut regions = RegionTable::new();
        let base = BusAddress::new(BASE);
        let region = Region { id: 0, base, rights: Rights::READ, window: arena.window() };
        regions.insert(region).unwrap();
        let size = QueueSize::try_from(u32::try_from(SIZE).unwrap()).unwrap();
        let parts = Parts {
            descriptors: arena.part(place.descriptors, size.descriptor_table_len()),
            avail: arena.part(place.avail & !7, size.avail_len() + place.avail % 8),
            avail_at: place.avail % 8,
            used: arena.part(place.used & !7, size.used_len() + place.used % 8),
            used_at: place.used % 8,
        };
        let options = RingOptions {
            size,
            in_order: false,
            event_idx,
            indirect,
            sleep_flush: SleepFlush::ReadBack,
            publish_flush: false,
        };
        let device = DeviceQueue::new(parts, vec![DeviceSlot::default(); SIZE], options).unwrap();
        Self {
            driver,
            device,
            arena,
            regions,
            dice: Dice(seed),
            event_idx,
            wants_interrupts: true,
            requests: HashMap::new(),
            added: VecDeque::new(),
            held: Vec::new(),
            answers: VecDeque::new(),
            unpublished: 0,
            done: 0,
            device_sleeps: false,
        }
    }

    fn driver_adds(&mut self) {
        for _ in 0..self.dice.below(SIZE + 1) {
            let segments = 1 + self.dice.below(SIZE.min(5));
            let readable = self.dice.below(segments + 1);
            let to: Vec<Vec<u8>> =
                self.dice.lengths(readable).into_iter().map(|len| self.dice.bytes(len)).collect();
            let room = self.dice.lengths(segments - readable);
            let request = Request { bytes: to.concat(), room: room.clone() };
            let from = room.into_iter().map(|len| vec![0xEE; len]).collect();
            let Some(token) = self.driver.add(to, from) else { return };
            self.requests.insert(token, request);
            self.added.push_back(token);
            if std::mem::take(&mut self.device_sleeps) && self.done + 2 * SIZE < 1 << 16 {
                // (Over the wrap the other's comparison does not hold.)
                assert!(self.driver.queue.should_notify(), "our device asked for this one");
            }
        }
    }

    fn device_pops(&mut self) {
        let mut chain = Chain::new();
        assert_eq!(usize::from(self.device.available().unwrap()), self.added.len());
        let mut popped = 0;
        for _ in 0..self.dice.below(SIZE + 1) {
            let find = |address, len| self.regions.resolve(address, len, Rights::READ);
            let next = self.device.pop_with_tables(&mut chain, find, |_, _| {}).unwrap();
            let Some(head) = next else { break };
            assert_eq!(Some(head), self.added.pop_front());
            let room: Vec<usize> = chain
                .segments()
                .iter()
                .filter(|s| s.writable)
                .map(|s| usize::try_from(s.len).unwrap())
                .collect();
            assert_eq!(room, self.requests[&head].room);
            self.held.push((head, chain.clone()));
            popped += 1;
        }
        for _ in 0..self.dice.below(popped + 1) {
            self.device.unpop(1);
            self.added.push_front(self.held.pop().unwrap().0);
        }
    }

    fn device_completes(&mut self) {
        for _ in 0..self.dice.below(self.held.len() + 1) {
            let which = self.dice.below(self.held.len());
            let (head, chain) = self.held.swap_remove(which);
            let memory = self.arena.window();
            let mut request = Vec::new();
            for segment in chain.segments().iter().filter(|s| !s.writable) {
                let mut bytes = vec![0; usize::try_from(segment.len).unwrap()];
                memory.read(segment.address.bits() - BASE, &mut bytes);
                request.extend(bytes);
            }
            assert_eq!(request, self.requests[&head].bytes, "byte for byte");
            let room = usize::try_from(chain.writable_len()).unwrap();
            let reply = answer(&request, self.dice.below(room + 1), 7);
            let mut rest = reply.as_slice();
            for segment in chain.segments().iter().filter(|s| s.writable) {
                let (piece, more) =
                    rest.split_at(rest.len().min(usize::try_from(segment.len).unwrap()));
                memory.write(segment.address.bits() - BASE, piece);
                rest = more;
            }
            let len = u32::try_from(reply.len()).unwrap();
            self.device.complete(head, len, UsedEntry::MaySkip).unwrap();
            self.answers.push_back((head, reply));
            self.unpublished += 1;
        }
        if self.dice.below(3) > 0 {
            self.device_publishes();
        }
    }

    fn device_publishes(&mut self) {
        // The other driver asks for the next entry with every pop: an
        // interrupt is due if it had taken all that was published.
        let waiting = self.answers.len() == self.unpublished;
        let wanted = if self.event_idx { waiting } else { self.wants_interrupts };
        assert_eq!(self.device.publish(), wanted && self.unpublished > 0);
        self.unpublished = 0;
    }

    fn driver_pops(&mut self) {
        for _ in 0..self.dice.below(SIZE + 1) {
            let Some((token, len, outputs)) = self.driver.pop() else {
                assert_eq!(self.answers.len(), self.unpublished);
                return;
            };
            let (head, reply) = self.answers.pop_front().unwrap();
            assert_eq!((token, usize::try_from(len).unwrap()), (head, reply.len()));
            let outputs = outputs.concat();
            assert_eq!(outputs[..reply.len()], reply, "byte for byte");
            assert!(outputs[reply.len()..].iter().all(|byte| *byte == 0xEE), "and no more");
            self.requests.remove(&token);
            self.done += 1;
        }
    }

    fn sides_doze(&mut self) {
        match self.dice.below(4) {
            0 => {
                self.device.park();
                self.device_sleeps = false;
            }
            1 => {
                self.device_sleeps = self.device.arm().unwrap();
                assert_eq!(self.device_sleeps, self.added.is_empty());
            }
            2 => {
                self.wants_interrupts = !self.wants_interrupts;
                self.driver.queue.set_dev_notify(self.wants_interrupts);
            }
            _ => {}
        }
    }

    fn run(&mut self, buffers: usize) {
        while self.done < buffers {
            match self.dice.below(5) {
                0 => self.driver_adds(),
                1 => self.device_pops(),
                2 => self.device_completes(),
                3 => self.driver_pops(),
                _ => self.sides_doze(),
            }
        }
        while self.driver.in_flight() > 0 {
            self.device_pops();
            self.device_completes();
            self.device_publishes();
            self.driver_pops();
        }
        assert_eq!(self.device.fault(), None);
        assert_eq!(self.driver.queue.available_desc(), SIZE);
    }
}

#[test]
fn virtio_drivers_with_event_index() {
    World::<16>::new(true, false, 11).run(70_000);
    World::<2>::new(true, false, 12).run(10_000);
    World::<128>::new(true, false, 13).run(20_000);
}

#[test]
fn virtio_drivers_with_flags() {
    World::<16>::new(false, false, 21).run(70_000);
    World::<2>::new(false, false, 22).run(10_000);
    World::<128>::new(false, false, 23).run(20_000);
}

#[test]
fn virtio_drivers_with_indirect_tables() {
    World::<16>::new(true, true, 51).run(70_000);
    World::<2>::new(false, true, 52).run(10_000);
    World::<128>::new(true, true, 53).run(20_000);
}
