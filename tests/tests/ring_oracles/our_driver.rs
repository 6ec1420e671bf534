//! `virtio-queue` serves our driver side.

use std::collections::{HashMap, VecDeque};

use shared::address::BusAddress;
use shared::virtq::{
    AddError, DriverQueue, DriverSlot, IndirectTables, Parts, QueueSize, RingOptions, Segment,
    SleepFlush,
};
use shared::window::Window;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::raw::{Arena, ArenaWindow, BASE};
use super::{Dice, answer};

type Driver = DriverQueue<ArenaWindow, ArenaWindow, ArenaWindow, Vec<DriverSlot>>;

/// Where the parts lie in the arena, and the buffers behind them; one page a
/// segment of each head's buffer.
const DESCRIPTORS: u64 = BASE;
const AVAIL: u64 = BASE + 0x1000;
const USED: u64 = BASE + 0x2000 + 4; // 4 modulo 8, as our drivers place it
const BUFFERS: u64 = BASE + 0x4000;
const SEGMENTS: usize = 5;
/// Descriptors of each indirect table, behind the buffers: the longest
/// buffers stay direct.
const TABLE_ENTRIES: u16 = 4;
const PAGE: u64 = 4096;

struct Request {
    bytes: Vec<u8>,
    room: Vec<Segment>,
}

/// A popped chain: head, and (address, length, writable) of each descriptor.
type Held = (u16, Vec<(u64, usize, bool)>);

struct World {
    driver: Driver,
    device: Queue,
    memory: GuestMemoryMmap,
    arena: Arena,
    dice: Dice,
    event_idx: bool,
    size: usize,
    requests: HashMap<u16, Request>,
    /// Added, and how many of them are not published.
    added: VecDeque<u16>,
    unpublished: usize,
    held: Vec<Held>,
    answers: VecDeque<(u16, Vec<u8>)>,
    done: usize,
    /// The other device asked for a doorbell, and nothing was published since.
    device_sleeps: bool,
    driver_sleeps: bool,
    driver_parked: bool,
}

impl World {
    fn new(size: u16, event_idx: bool, indirect: bool, seed: u64) -> Self {
        let buffers = usize::from(size) * SEGMENTS * usize::try_from(PAGE).unwrap();
        let tables_at = BUFFERS + buffers as u64;
        let arena = Arena::new(buffers + 0x4000 + 0x4000);
        let memory = arena.guest_memory();
        let ring = QueueSize::try_from(u32::from(size)).unwrap();
        let parts = Parts {
            descriptors: arena.part(DESCRIPTORS, ring.descriptor_table_len()),
            avail: arena.part(AVAIL, ring.avail_len()),
            avail_at: 0,
            used: arena.part(USED - 4, ring.used_len() + 4),
            used_at: 4,
        };
        let options = RingOptions {
            size: ring,
            in_order: false,
            event_idx,
            indirect,
            sleep_flush: SleepFlush::ReadBack,
            publish_flush: false,
        };
        let slots = vec![DriverSlot::default(); usize::from(size)];
        let bytes = IndirectTables::<ArenaWindow>::bytes(ring, TABLE_ENTRIES);
        let tables = IndirectTables {
            window: arena.part(tables_at, bytes),
            base: BusAddress::new(tables_at),
            entries: TABLE_ENTRIES,
        };
        let driver = DriverQueue::new(parts, slots, options).unwrap().with_tables(tables).unwrap();
        let mut device = Queue::new(size).unwrap();
        device.try_set_desc_table_address(GuestAddress(DESCRIPTORS)).unwrap();
        device.try_set_avail_ring_address(GuestAddress(AVAIL)).unwrap();
        device.try_set_used_ring_address(GuestAddress(USED)).unwrap();
        device.set_event_idx(event_idx);
        device.set_ready(true);
        assert!(device.is_valid(&memory));
        Self {
            driver,
            device,
            memory,
            arena,
            dice: Dice(seed),
            event_idx,
            size: size.into(),
            requests: HashMap::new(),
            added: VecDeque::new(),
            unpublished: 0,
            held: Vec::new(),
            answers: VecDeque::new(),
            done: 0,
            device_sleeps: true,
            driver_sleeps: true,
            driver_parked: false,
        }
    }

    fn driver_adds(&mut self) {
        for _ in 0..self.dice.below(self.size + 1) {
            let Some(head) = self.driver.next_head() else { break };
            let count = 1 + self.dice.below(self.size.min(SEGMENTS));
            let readable = self.dice.below(count + 1);
            let mut bytes = Vec::new();
            let mut segments = Vec::new();
            for (i, len) in self.dice.lengths(count).into_iter().enumerate() {
                let page = u64::from(head) * SEGMENTS as u64 + i as u64;
                let address = BUFFERS + PAGE * page;
                let writable = i >= readable;
                let content = if writable { vec![0xEE; len] } else { self.dice.bytes(len) };
                self.arena.window().write(address - BASE, &content);
                if !writable {
                    bytes.extend(content);
                }
                let len = u32::try_from(len).unwrap();
                segments.push(Segment { address: BusAddress::new(address), len, writable });
            }
            match self.driver.add(&segments) {
                Ok(added) => assert_eq!(added, head),
                Err(AddError::Full { .. }) => break,
                Err(other) => panic!("{other}"),
            }
            segments.retain(|segment| segment.writable);
            self.requests.insert(head, Request { bytes, room: segments });
            self.added.push_back(head);
            self.unpublished += 1;
        }
        if self.dice.below(3) > 0 {
            self.driver_publishes();
        }
    }

    fn driver_publishes(&mut self) {
        let doorbell = self.driver.publish();
        if self.unpublished == 0 {
            assert!(!doorbell);
        } else if self.device_sleeps {
            assert!(doorbell, "the other device asked for this one");
            // With the event index it asked for one entry; with flags for all.
            self.device_sleeps = !self.event_idx;
        } else {
            assert!(!doorbell, "the other device is awake");
        }
        self.unpublished = 0;
    }

    fn device_pops(&mut self) {
        for _ in 0..self.dice.below(self.size + 1) {
            let Some(chain) = self.device.pop_descriptor_chain(&self.memory) else {
                assert_eq!(self.added.len(), self.unpublished, "published and not popped");
                return;
            };
            let head = chain.head_index();
            assert_eq!(Some(head), self.added.pop_front());
            let parts: Vec<_> = chain
                .map(|d| (d.addr().0, usize::try_from(d.len()).unwrap(), d.is_write_only()))
                .collect();
            self.held.push((head, parts));
        }
    }

    fn device_completes(&mut self) {
        let count = self.dice.below(self.held.len() + 1);
        for _ in 0..count {
            let which = self.dice.below(self.held.len());
            let (head, parts) = self.held.swap_remove(which);
            let mut request = Vec::new();
            for (address, len, _) in parts.iter().filter(|(_, _, writable)| !writable) {
                let mut bytes = vec![0; *len];
                self.memory.read_slice(&mut bytes, GuestAddress(*address)).unwrap();
                request.extend(bytes);
            }
            assert_eq!(request, self.requests[&head].bytes, "byte for byte");
            let writable = || parts.iter().filter(|(_, _, writable)| *writable);
            let room: usize = writable().map(|(_, len, _)| len).sum();
            let reply = answer(&request, self.dice.below(room + 1), 9);
            let mut rest = reply.as_slice();
            for (address, len, _) in writable() {
                let (piece, more) = rest.split_at(rest.len().min(*len));
                self.memory.write_slice(piece, GuestAddress(*address)).unwrap();
                rest = more;
            }
            let len = u32::try_from(reply.len()).unwrap();
            self.device.add_used(&self.memory, head, len).unwrap();
            self.answers.push_back((head, reply));
        }
        let interrupt = self.device.needs_notification(&self.memory).unwrap();
        if self.event_idx && count > 0 {
            assert!(interrupt || !self.driver_sleeps, "our driver asked for this one");
            assert!(!interrupt || !self.driver_parked, "our driver is awake");
            if self.driver_sleeps {
                self.driver_sleeps = false;
            }
        }
    }

    fn driver_takes(&mut self) {
        let pending = self.driver.pending().unwrap();
        assert_eq!(usize::from(pending), self.answers.len());
        for _ in 0..self.dice.below(self.size + 1) {
            let Some(completion) = self.driver.take().unwrap() else {
                assert!(self.answers.is_empty());
                return;
            };
            let (head, reply) = self.answers.pop_front().unwrap();
            let len = usize::try_from(completion.len).unwrap();
            assert_eq!((completion.head, len), (head, reply.len()));
            let request = self.requests.remove(&head).unwrap();
            let mut written = Vec::new();
            for segment in request.room {
                let mut bytes = vec![0; usize::try_from(segment.len).unwrap()];
                self.arena.window().read(segment.address.bits() - BASE, &mut bytes);
                written.extend(bytes);
            }
            assert_eq!(written[..len], reply, "byte for byte");
            assert!(written[len..].iter().all(|byte| *byte == 0xEE), "and no more");
            self.done += 1;
        }
    }

    fn sides_doze(&mut self) {
        match self.dice.below(5) {
            0 => {
                self.driver.park();
                (self.driver_sleeps, self.driver_parked) = (false, true);
            }
            1 => {
                self.driver_sleeps = self.driver.arm().unwrap();
                self.driver_parked = false;
                assert_eq!(self.driver_sleeps, self.answers.is_empty());
            }
            2 => {
                let more = self.device.enable_notification(&self.memory).unwrap();
                assert_eq!(more, self.added.len() > self.unpublished);
                // With the event index what is there already counts as told.
                self.device_sleeps = !more || !self.event_idx;
            }
            3 => {
                self.device.disable_notification(&self.memory).unwrap();
                // With the event index that does nothing.
                self.device_sleeps &= self.event_idx;
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
                3 => self.driver_takes(),
                _ => self.sides_doze(),
            }
        }
        while !self.requests.is_empty() {
            self.driver_publishes();
            self.device_pops();
            self.device_completes();
            self.driver_takes();
        }
        assert_eq!((self.driver.fault(), usize::from(self.driver.free())), (None, self.size));
    }
}

#[test]
fn virtio_queue_with_event_index() {
    World::new(16, true, false, 31).run(70_000);
    World::new(2, true, false, 32).run(10_000);
    World::new(128, true, false, 33).run(20_000);
}

#[test]
fn virtio_queue_with_flags() {
    World::new(16, false, false, 41).run(70_000);
    World::new(2, false, false, 42).run(10_000);
    World::new(128, false, false, 43).run(20_000);
}

#[test]
fn virtio_queue_with_indirect_tables() {
    World::new(16, true, true, 61).run(70_000);
    World::new(2, false, true, 62).run(10_000);
    World::new(128, true, true, 63).run(20_000);
}
