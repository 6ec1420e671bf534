//! The console against a device that is stepped by hand, and a terminal that
//! takes what it likes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use memmap2::MmapRaw;
use proptest::collection::vec;
use proptest::prelude::*;
use shared::address::BusAddress;
use shared::raw::RamWindow;
use shared::virtq::{
    Chain, DeviceQueue, DeviceSlot, DriverQueue, DriverSlot, Parts, RingOptions, SleepFlush,
    UsedEntry,
};

use super::*;
use crate::bridge::BufferArea;
use crate::raw::SharedMemory;
use crate::slow_queue::slow_queue_size;

type Memory = RamWindow<Arc<MmapRaw>>;
type Board = DeviceQueue<Memory, Memory, Memory, Box<[DeviceSlot]>>;

/// Counts its rings.
#[derive(Clone, Default)]
struct Bell(Rc<Cell<u32>>);

impl Ring for Bell {
    fn ring(&self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Takes as many bytes as there is room for.
#[derive(Default)]
struct Screen {
    shown: Vec<u8>,
    room: usize,
    typed: VecDeque<u8>,
    broken: bool,
}

impl Terminal for Screen {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = into.len().min(self.typed.len());
        for (place, byte) in into.iter_mut().zip(self.typed.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room);
        self.room -= count;
        self.shown.extend(&bytes[..count]);
        Ok(count)
    }

    fn forget_typed(&mut self) -> io::Result<()> {
        self.typed.clear();
        Ok(())
    }
}

/// Bytes of memory for each queue, and where in them its buffers begin.
const QUEUE: u64 = 0x3000;
const AREA: u64 = 0x1000;

struct Rig {
    console: Console<Memory, Bell>,
    to_host: Board,
    to_board: Board,
    memory: Memory,
    bells: [Bell; 2],
    screen: Screen,
    now: u64,
}

impl Rig {
    fn new(in_order: bool) -> Self {
        let memory = SharedMemory::new(0x6000).unwrap().window();
        let bells = [Bell::default(), Bell::default()];
        let (first, to_host) = queue(&memory, 0, in_order, &bells[0]);
        let (second, to_board) = queue(&memory, QUEUE, in_order, &bells[1]);
        let console = Console::new(first, second);
        let screen = Screen { room: usize::MAX, ..Screen::default() };
        Self { console, to_host, to_board, memory, bells, screen, now: 0 }
    }

    /// A rig whose console has begun.
    fn begun(in_order: bool) -> Self {
        let mut rig = Self::new(in_order);
        assert_eq!(rig.step(), Moved::default());
        rig
    }

    fn step(&mut self) -> Moved {
        self.console.step(self.now, &mut self.screen).unwrap()
    }

    /// The board says something, in one buffer. `false`: it has none.
    fn say(&mut self, bytes: &[u8]) -> bool {
        let mut chain = Chain::new();
        let Some(head) = self.to_host.pop(&mut chain).unwrap() else { return false };
        let [segment] = chain.segments() else { panic!("{chain:?}") };
        assert!(segment.writable && segment.len == SLOW_BUFFER);
        self.memory.write(segment.address.bits(), bytes);
        let len = u32::try_from(bytes.len()).unwrap();
        self.to_host.complete(head, len, UsedEntry::Own).unwrap();
        let _ = self.to_host.publish();
        true
    }

    /// What was typed, as the board finds it in the next buffer.
    fn hear(&mut self) -> Option<Vec<u8>> {
        let mut chain = Chain::new();
        let head = self.to_board.pop(&mut chain).unwrap()?;
        let [segment] = chain.segments() else { panic!("{chain:?}") };
        assert!(!segment.writable);
        let mut bytes = vec![0; segment.len as usize];
        self.memory.read(segment.address.bits(), &mut bytes);
        self.to_board.complete(head, 0, UsedEntry::MaySkip).unwrap();
        let _ = self.to_board.publish();
        Some(bytes)
    }
}

fn queue(
    memory: &Memory,
    at: u64,
    in_order: bool,
    bell: &Bell,
) -> (SlowQueue<Memory, Bell>, Board) {
    let size = slow_queue_size();
    let options = RingOptions {
        size,
        in_order,
        event_idx: true,
        indirect: false,
        sleep_flush: SleepFlush::LookFlushes,
        publish_flush: false,
    };
    let part = |offset, len| memory.part(at + offset, len).unwrap();
    let parts = || Parts {
        descriptors: part(0, size.descriptor_table_len()),
        avail: part(0x200, size.avail_len()),
        avail_at: 0,
        used: part(0x400, size.used_len() + 4),
        used_at: 4,
    };
    let count = usize::from(size.get());
    let slots = vec![DriverSlot::default(); count].into_boxed_slice();
    let queue = DriverQueue::new(parts(), slots, options).unwrap();
    let slots = vec![DeviceSlot::default(); count].into_boxed_slice();
    let board = DeviceQueue::new(parts(), slots, options).unwrap();
    let area = |offset| {
        let base = BusAddress::new(at + offset);
        BufferArea::new(part(offset, 0x1000), base, SLOW_BUFFER)
    };
    let (readable, writable) = (area(AREA), area(2 * AREA));
    (SlowQueue { queue, readable, writable, doorbell: bell.clone() }, board)
}

#[test]
fn the_board_is_given_every_buffer_and_told() {
    let mut rig = Rig::begun(true);
    assert_eq!(rig.bells[0].0.get(), 1);
    for _ in 0..SLOW_ENTRIES {
        assert!(rig.say(b"x"));
    }
    assert!(!rig.say(b"x"));
    rig.step();
    assert!(rig.say(b"x"), "no buffer came back");
}

#[test]
fn a_terminal_that_takes_nothing_holds_the_board_back() {
    for in_order in [true, false] {
        let mut rig = Rig::begun(in_order);
        rig.screen.room = 0;
        let mut said = 0_u32;
        for _ in 0..100 {
            if rig.say(&said.to_le_bytes()) {
                said += 1;
            }
            rig.step();
        }
        // One buffer here, the others at the board.
        assert_eq!(said, 1 + SLOW_ENTRIES);
        assert_eq!(rig.console.wants(), Wants { readable: true, writable: true });
        assert!(rig.console.arm().unwrap(), "it cannot do anything now");
        rig.screen.room = usize::MAX;
        rig.step();
        rig.step();
        let expected: Vec<_> = (0..said).flat_map(u32::to_le_bytes).collect();
        assert_eq!(rig.screen.shown, expected);
        assert!(!rig.console.wants().writable);
    }
}

#[test]
fn what_is_typed_waits_while_the_board_does_not_read() {
    let mut rig = Rig::begun(true);
    let typed: Vec<u8> = (0..5000_u32).map(|at| at.to_le_bytes()[0]).collect();
    rig.screen.typed.extend(&typed);
    for _ in 0..10 {
        rig.step();
    }
    let taken = (SLOW_ENTRIES * SLOW_BUFFER) as usize;
    assert_eq!(rig.screen.typed.len(), typed.len() - taken);
    assert!(!rig.console.wants().readable);
    let mut heard = Vec::new();
    while let Some(bytes) = rig.hear() {
        heard.extend(bytes);
        rig.step();
    }
    assert_eq!(heard, typed);
    assert_eq!(rig.console.total(), Moved { to_host: 0, to_board: 5000 });
}

#[test]
fn what_was_typed_before_the_session_is_forgotten() {
    let mut rig = Rig::new(true);
    rig.screen.typed.extend(b"reboot\r");
    assert!(!rig.console.arm().unwrap(), "it has not begun");
    rig.step();
    assert_eq!(rig.hear(), None);
    rig.screen.typed.extend(b"help\r");
    rig.step();
    assert_eq!(rig.hear().unwrap(), b"help\r");
}

#[test]
fn nothing_is_slept_over() {
    let mut rig = Rig::begun(true);
    assert!(rig.console.arm().unwrap());
    rig.say(b"a");
    assert!(!rig.console.arm().unwrap());
    assert_eq!(rig.step().to_host, 1);
    assert!(rig.console.arm().unwrap());
    // A board that sleeps is rung for.
    assert!(rig.to_board.arm().unwrap());
    let rings = rig.bells[1].0.get();
    rig.screen.typed.extend(b"b");
    rig.step();
    assert_eq!(rig.bells[1].0.get(), rings + 1);
}

#[test]
fn a_flood_of_empty_buffers_costs_little() {
    let mut rig = Rig::begun(true);
    let mut came = 0_u32;
    for now in 0..100 {
        rig.now = now;
        for _ in 0..1000 {
            came += u32::from(rig.say(b""));
            rig.step();
        }
        let due = rig.console.wake_at().expect("a flood that nothing holds back");
        assert!((now..=now + PERIOD).contains(&due));
        assert!(rig.console.arm().unwrap(), "it spins");
    }
    assert!(came <= 10 * BUFFERS + 2 * SLOW_ENTRIES, "{came} buffers in 100 ms");
    rig.now = 1000;
    rig.step();
    rig.say(b"still there");
    rig.step();
    assert_eq!(rig.screen.shown, b"still there");
}

#[test]
fn a_broken_rule_is_one_for_good() {
    for (used_id, len, fault) in [
        (SLOW_ENTRIES, 1, PeerFault::UsedId { id: SLOW_ENTRIES }),
        (0, 257_u32, PeerFault::UsedLength { length: 257, limit: SLOW_BUFFER }),
    ] {
        for at in [0, QUEUE] {
            let mut rig = Rig::begun(true);
            rig.screen.typed.extend(b"x");
            rig.step();
            rig.memory.store(at + 0x400 + 8, used_id);
            rig.memory.store(at + 0x400 + 12, len);
            rig.memory.store(at + 0x400 + 4, 1_u32 << 16);
            let fault = match fault {
                PeerFault::UsedLength { length, .. } if at == QUEUE => {
                    PeerFault::UsedLength { length, limit: 0 }
                }
                fault => fault,
            };
            for _ in 0..3 {
                let error = rig.console.step(0, &mut rig.screen).unwrap_err();
                assert!(matches!(error, ConsoleError::Peer(found) if found == fault), "{error}");
            }
            assert!(rig.screen.shown.is_empty());
        }
    }
}

#[test]
fn a_terminal_that_fails_is_told_from_a_board_that_does() {
    let mut rig = Rig::begun(true);
    rig.screen.broken = true;
    let error = rig.console.step(0, &mut rig.screen).unwrap_err();
    assert!(matches!(error, ConsoleError::Terminal(_)), "{error}");
}

proptest! {
    /// Whatever the sizes, and however little the terminal takes at a time,
    /// every byte arrives, in order.
    #[test]
    fn every_byte_arrives_in_order(
        pieces in vec((vec(any::<u8>(), 0..256), 0..300_usize), 0..60),
        in_order: bool,
    ) {
        let mut rig = Rig::begun(in_order);
        rig.screen.room = 0;
        let mut said: Vec<u8> = Vec::new();
        for (bytes, room) in &pieces {
            rig.now += PERIOD;
            if rig.say(bytes) {
                said.extend(bytes);
            }
            rig.screen.room += room;
            rig.step();
        }
        rig.screen.room = usize::MAX;
        for _ in 0..3 {
            rig.now += PERIOD;
            rig.step();
        }
        prop_assert_eq!(&rig.screen.shown, &said);
        prop_assert_eq!(rig.console.total().to_host, said.len() as u64);
    }
}
