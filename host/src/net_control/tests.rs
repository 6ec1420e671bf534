//! The control queue against a device that is stepped by hand.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use memmap2::MmapRaw;
use shared::address::BusAddress;
use shared::raw::RamWindow;
use shared::virtq::{
    Chain, DeviceQueue, DeviceSlot, DriverQueue, DriverSlot, Parts, RingOptions, SleepFlush,
    UsedEntry,
};
use shared::wire::features::NET_NAMES;
use shared::wire::net::feature;
use shared::wire::net_control::{ACK_ERR, Coalescing, Command, Mac, ReceiveSwitch};

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

const READABLE: BusAddress = BusAddress::new(0x1000);
const WRITABLE: BusAddress = BusAddress::new(0x2000);

/// Where the rings' parts lie.
const DESCRIPTORS: u64 = 0;
const AVAIL: u64 = 0x200;
const USED: u64 = 0x400;

struct Rig {
    control: NetControl<Memory, Bell>,
    board: Board,
    memory: Memory,
    bell: Bell,
    now: u64,
}

const ALL: u64 = feature::CTRL_VQ
    | feature::CTRL_RX
    | feature::CTRL_RX_EXTRA
    | feature::CTRL_VLAN
    | feature::CTRL_MAC_ADDR
    | feature::CTRL_GUEST_OFFLOADS
    | feature::GUEST_ANNOUNCE
    | feature::GUEST_CSUM
    | feature::GUEST_TSO4
    | feature::NOTF_COAL;

impl Rig {
    fn new() -> Self {
        Self::with(ALL, true)
    }

    fn with(features: u64, in_order: bool) -> Self {
        let memory = SharedMemory::new(0x3000).unwrap().window();
        let size = slow_queue_size();
        let options = RingOptions {
            size,
            in_order,
            event_idx: true,
            indirect: false,
            sleep_flush: SleepFlush::LookFlushes,
            publish_flush: false,
        };
        let part = |at, len| memory.part(at, len).unwrap();
        let parts = || Parts {
            descriptors: part(DESCRIPTORS, size.descriptor_table_len()),
            avail: part(AVAIL, size.avail_len()),
            avail_at: 0,
            used: part(USED, size.used_len() + 4),
            used_at: 4,
        };
        let count = usize::from(size.get());
        let slots = vec![DriverSlot::default(); count].into_boxed_slice();
        let queue = DriverQueue::new(parts(), slots, options).unwrap();
        let slots = vec![DeviceSlot::default(); count].into_boxed_slice();
        let board = DeviceQueue::new(parts(), slots, options).unwrap();
        let bell = Bell::default();
        let area = |base: BusAddress| BufferArea::new(part(base.bits(), 0x1000), base, SLOW_BUFFER);
        let queue = SlowQueue {
            queue,
            readable: area(READABLE),
            writable: area(WRITABLE),
            doorbell: bell.clone(),
        };
        let mut control = NetControl::new(queue, Features::new(features));
        control.start();
        Self { control, board, memory, bell, now: 0 }
    }

    /// The next command as the board finds it, and what it is to be answered at.
    fn command(&mut self) -> Option<(u16, Vec<u8>, u64)> {
        let mut chain = Chain::new();
        let head = self.board.pop(&mut chain).unwrap()?;
        let [readable, writable] = chain.segments() else { panic!("{chain:?}") };
        assert!(!readable.writable && writable.writable && writable.len == 1);
        let mut bytes = vec![0; readable.len as usize];
        self.memory.read(readable.address.bits(), &mut bytes);
        Some((head, bytes, writable.address.bits()))
    }

    fn answer(&mut self, head: u16, at: u64, ack: u8, len: u32) {
        self.memory.write(at, &[ack]);
        self.board.complete(head, len, UsedEntry::Own).unwrap();
        let _ = self.board.publish();
    }

    /// Sends what waits and answers it.
    fn exchange(&mut self, ack: u8) -> Outcome {
        assert_eq!(self.control.step(self.now), Ok(None));
        let (head, _, at) = self.command().expect("a command");
        self.answer(head, at, ack, 1);
        self.control.step(self.now).unwrap().expect("an outcome")
    }

    fn step(&mut self) -> Result<Option<Outcome>, ControlError> {
        self.control.step(self.now)
    }
}

const MAC: Mac = [2, 0, 0, 0, 0, 7];
const DELAY: Coalescing = Coalescing { max_packets: 8, max_usecs: 100 };

fn requests() -> Vec<Request> {
    let (unicast, multicast) = (vec![MAC; 3], vec![[3; 6]; 38]);
    let mut all = vec![
        Request::MacAddress(MAC),
        Request::Addresses { unicast, multicast },
        Request::Vlan { id: 4095, wanted: true },
        Request::Vlan { id: 7, wanted: false },
        Request::CoalesceToHost(DELAY),
        Request::CoalesceToBoard(DELAY),
        Request::Offloads(feature::GUEST_CSUM | feature::GUEST_TSO4),
        Request::Offloads(0),
        Request::AnnounceAck,
    ];
    all.extend(ReceiveSwitch::ALL.map(|switch| Request::Receive { switch, on: true }));
    all
}

#[test]
fn each_request_reaches_the_board_and_its_answer_comes_back() {
    for in_order in [true, false] {
        let mut rig = Rig::with(ALL, in_order);
        for _ in 0..5 {
            for request in requests() {
                for ack in [ACK_OK, ACK_ERR, 7, 255] {
                    rig.control.ask(request.clone()).unwrap();
                    assert_eq!(rig.control.wake_at(), Some(0));
                    assert_eq!(rig.step(), Ok(None));
                    let (head, bytes, at) = rig.command().unwrap();
                    let len = u32::try_from(bytes.len()).unwrap();
                    assert_eq!(Command::decode(&bytes, len), Ok(request.command()));
                    assert_eq!(rig.step(), Ok(None));
                    rig.answer(head, at, ack, 1);
                    let accepted = ack == ACK_OK;
                    let outcome = Outcome { request: request.clone(), accepted };
                    assert_eq!(rig.step(), Ok(Some(outcome)));
                    assert!(rig.control.is_idle());
                    assert_eq!(rig.control.wake_at(), None);
                }
            }
        }
        assert_eq!(rig.command(), None);
    }
}

/// A board that says it has answered and has not: no word of an earlier answer,
/// nor what memory began with, is taken for one.
#[test]
fn an_answer_that_was_not_written_is_no_yes() {
    let mut rig = Rig::new();
    for _ in 0..20 {
        rig.control.ask(Request::AnnounceAck).unwrap();
        assert_eq!(rig.step(), Ok(None));
        let (head, _, _) = rig.command().unwrap();
        rig.board.complete(head, 1, UsedEntry::Own).unwrap();
        let _ = rig.board.publish();
        assert!(!rig.step().unwrap().unwrap().accepted);
        rig.control.ask(Request::AnnounceAck).unwrap();
        assert!(rig.exchange(ACK_OK).accepted);
    }
}

#[test]
fn nothing_is_sent_to_a_device_that_is_not_live() {
    let mut rig = Rig::new();
    rig.control.started = false;
    rig.control.ask(Request::AnnounceAck).unwrap();
    assert_eq!(rig.step(), Ok(None));
    assert_eq!((rig.command(), rig.bell.0.get()), (None, 0));
    assert_eq!(rig.control.wake_at(), None);
    // A bring-up may take its time.
    rig.now = 10 * DEADLINE;
    rig.control.start();
    assert!(rig.exchange(ACK_OK).accepted);
}

#[test]
fn one_command_at_a_time_and_the_newest_of_a_kind() {
    let mut rig = Rig::new();
    let vlan = |id, wanted| Request::Vlan { id, wanted };
    let switch = |switch, on| Request::Receive { switch, on };
    let (promiscuous, all) = (ReceiveSwitch::Promiscuous, ReceiveSwitch::AllMulticast);
    rig.control.ask(vlan(1, true)).unwrap();
    assert_eq!(rig.step(), Ok(None));
    // Under way, so it is not taken back.
    for request in [
        vlan(1, false),
        vlan(2, true),
        switch(promiscuous, true),
        switch(all, true),
        Request::CoalesceToHost(DELAY),
        vlan(1, true),
        vlan(2, false),
        switch(promiscuous, false),
        Request::CoalesceToBoard(DELAY),
    ] {
        rig.control.ask(request).unwrap();
        assert_eq!(rig.step(), Ok(None));
    }
    let mut outcomes = Vec::new();
    while !rig.control.is_idle() {
        let (head, _, at) = rig.command().expect("one is under way");
        assert_eq!(rig.command(), None, "two are under way");
        rig.answer(head, at, ACK_OK, 1);
        outcomes.push(rig.step().unwrap().unwrap().request);
    }
    assert_eq!(
        outcomes,
        [
            vlan(1, true),
            vlan(1, true),
            vlan(2, false),
            switch(promiscuous, false),
            switch(all, true),
            Request::CoalesceToHost(DELAY),
            Request::CoalesceToBoard(DELAY),
        ]
    );
}

#[test]
fn whatever_is_asked_what_waits_is_bounded() {
    let mut rig = Rig::new();
    for round in 0..20_000_u16 {
        let id = round % 4096;
        rig.control.ask(Request::Vlan { id, wanted: round % 3 == 0 }).unwrap();
        for request in requests() {
            rig.control.ask(request).unwrap();
        }
    }
    // Each VLAN, each switch, and the other kinds.
    assert_eq!(rig.control.waiting.len(), 4096 + 6 + 6);
}

#[test]
fn an_answer_that_never_comes_ends_the_session() {
    let mut rig = Rig::new();
    rig.control.ask(Request::AnnounceAck).unwrap();
    assert_eq!(rig.step(), Ok(None));
    assert_eq!(rig.control.wake_at(), Some(DEADLINE));
    rig.now = DEADLINE - 1;
    assert_eq!(rig.step(), Ok(None));
    rig.now = DEADLINE;
    assert_eq!(rig.step(), Err(ControlError::Late));
    // A late answer changes nothing, and nothing is sent any more.
    let (head, _, at) = rig.command().unwrap();
    rig.answer(head, at, ACK_OK, 1);
    rig.control.ask(Request::MacAddress(MAC)).unwrap();
    assert_eq!(rig.step(), Err(ControlError::Late));
    assert_eq!(rig.command(), None);
}

#[test]
fn an_answer_at_the_deadline_counts() {
    let mut rig = Rig::new();
    rig.control.ask(Request::AnnounceAck).unwrap();
    assert_eq!(rig.step(), Ok(None));
    let (head, _, at) = rig.command().unwrap();
    rig.answer(head, at, ACK_OK, 1);
    rig.now = 10 * DEADLINE;
    assert!(rig.step().unwrap().unwrap().accepted);
}

/// Writes used entry 0 and used index 1.
fn entry(rig: &Rig, id: u32, len: u32) {
    rig.memory.store(USED + 8, u64::from(len) << 32 | u64::from(id));
    rig.memory.store(USED + 4, 1_u32 << 16);
}

/// Lies in the used ring, each of which stays a fault for good.
#[test]
fn a_board_that_lies_is_a_fault() {
    type Lie = fn(&mut Rig, u16);
    let cases: [(Lie, PeerFault); 5] = [
        (
            |rig, head| rig.answer(head, WRITABLE.bits(), ACK_OK, 0),
            PeerFault::ChainTooShort { found: 0, needed: 1 },
        ),
        (|rig, head| entry(rig, u32::from(head), 2), PeerFault::UsedLength { length: 2, limit: 1 }),
        (|rig, head| entry(rig, u32::from(head) + 1, 1), PeerFault::UsedId { id: 1 }),
        (|rig, _| entry(rig, 8, 1), PeerFault::UsedId { id: 8 }),
        (
            |rig, _| rig.memory.store(USED + 4, 2_u32 << 16),
            PeerFault::UsedIndexAhead { claimed: 2, limit: 1 },
        ),
    ];
    for (lie, fault) in cases {
        let mut rig = Rig::new();
        rig.control.ask(Request::AnnounceAck).unwrap();
        assert_eq!(rig.step(), Ok(None));
        let (head, ..) = rig.command().unwrap();
        lie(&mut rig, head);
        for _ in 0..3 {
            assert_eq!(rig.step(), Err(ControlError::Peer(fault)));
            assert_eq!(rig.control.arm(), Err(ControlError::Peer(fault)));
            assert_eq!(rig.control.pending(), Err(ControlError::Peer(fault)));
        }
    }
}

#[test]
fn an_answer_to_nothing_is_a_fault() {
    let mut rig = Rig::new();
    rig.memory.store(USED + 4, 1_u32 << 16);
    let fault = PeerFault::UsedIndexAhead { claimed: 1, limit: 0 };
    assert_eq!(rig.step(), Err(ControlError::Peer(fault)));
}

#[test]
fn it_sleeps_only_with_its_interrupt_armed() {
    let mut rig = Rig::new();
    for round in 0..20 {
        rig.control.ask(Request::Vlan { id: round, wanted: true }).unwrap();
        assert_eq!(rig.step(), Ok(None));
        assert_eq!(rig.bell.0.get(), u32::from(round) + 1);
        assert_eq!(rig.control.arm(), Ok(true));
        let (head, _, at) = rig.command().unwrap();
        rig.memory.write(at, &[ACK_OK]);
        rig.board.complete(head, 1, UsedEntry::Own).unwrap();
        assert!(rig.board.publish(), "no interrupt for a sleeper");
        assert_eq!(rig.board.arm(), Ok(true));
        assert_eq!(rig.control.pending(), Ok(true));
        assert_eq!(rig.control.arm(), Ok(false));
        assert!(rig.step().unwrap().is_some());
    }
}

#[test]
fn what_was_not_negotiated_is_not_asked() {
    for request in requests() {
        let mut asked = 0;
        for (bit, name) in NET_NAMES {
            if ALL & bit == 0 {
                continue;
            }
            let mut rig = Rig::with(ALL & !bit, true);
            match rig.control.ask(request.clone()) {
                Ok(()) => asked += 1,
                Err(Unable::Features { missing }) => {
                    assert_eq!(missing, Features::new(bit), "{name} {request:?}");
                    assert!(rig.control.is_idle());
                }
                Err(other) => panic!("{other}"),
            }
        }
        // CTRL_VQ at least, and a feature of its own.
        assert!(asked <= 8, "{request:?}");
    }
}

#[test]
fn what_makes_no_sense_is_not_asked() {
    let mut rig = Rig::new();
    let many = |count| vec![MAC; count];
    for (request, unable) in [
        (Request::MacAddress([3, 0, 0, 0, 0, 1]), Unable::MacAddress),
        (Request::MacAddress([0; 6]), Unable::MacAddress),
        (
            Request::Addresses { unicast: many(40), multicast: many(2) },
            Unable::Addresses { found: 42, limit: 41 },
        ),
        (Request::Vlan { id: 4096, wanted: true }, Unable::Vlan { id: 4096 }),
        (
            Request::Offloads(feature::GUEST_TSO4),
            Unable::Offloads { bits: Features::new(feature::GUEST_TSO4) },
        ),
        (
            Request::Offloads(feature::CTRL_VQ),
            Unable::Offloads { bits: Features::new(feature::CTRL_VQ) },
        ),
    ] {
        assert_eq!(rig.control.ask(request), Err(unable));
        assert!(!unable.to_string().is_empty());
    }
    assert!(rig.control.is_idle());
    rig.control.ask(Request::Addresses { unicast: many(39), multicast: many(2) }).unwrap();
    assert!(rig.exchange(ACK_OK).accepted);
}

#[test]
fn delays_are_cut_to_what_the_data_path_allows() {
    let mut rig = Rig::new();
    let long = Coalescing { max_packets: 64, max_usecs: u32::MAX };
    rig.control.ask(Request::CoalesceToHost(long)).unwrap();
    let cut = Coalescing { max_usecs: LONGEST_DELAY_US, ..long };
    assert_eq!(rig.exchange(ACK_OK).request, Request::CoalesceToHost(cut));
}
