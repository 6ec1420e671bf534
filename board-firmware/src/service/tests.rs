//! The whole board over plain memory, attached to by the host's end of the link.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use shared::address::BusAddress;
use shared::fault::PeerFault;
use shared::link::{
    BoardDescription, BoardRegion, BoardRegions, DoorbellDescription, Epoch, Heartbeat, HostLink,
    HostOptions, HostRegion, Label, LinkEvent, Outbound, Progress, QueuePlacement, Versions,
};
use shared::msg::ResultCode;
use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::virtq::{
    DeviceSlot, DriverQueue, DriverSlot, Parts, QueueSize, RingOptions, Segment, SleepFlush,
};
use shared::window::Window;
use shared::wire::features::{EVENT_IDX, Features, IN_ORDER, REQUIRED};
use shared::wire::net::{CONFIG_LEN, NetConfig, NetHeader, feature};

use super::{Next, Service, ServiceOptions};

mod control;
mod ends;

use crate::device::net::{Echo, NetDevice, NetMemory, NetOptions};
use crate::dma::{CpuCopy, DmaEngine, DmaError};
use crate::rig::{Memory, frame_of, leak};
use crate::support::{Doorbells, WindowBoard};
use crate::trace::Event;

const BAR: u64 = 1 << 20;
const CONTROL: u64 = 16 << 10;
/// Host memory: what the board writes, and behind it what it reads.
const IOVA: BusAddress = BusAddress::new(0x10_0000);
const HALF: u64 = 1 << 20;
const HOST: u64 = 2 * HALF;
const SIZE: u32 = 16;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

type Reach = Box<dyn FnMut(BusAddress, u64) -> Result<Memory, ResultCode>>;
type Bells = Box<dyn FnMut() -> Doorbells>;
type Raise = Box<dyn FnMut(u16)>;
type Board =
    Service<WindowBoard<Memory, 1, Reach, Bells, Raise>, Engine, NetDevice<'static, Memory, Echo>>;
type Driver = DriverQueue<Memory, Memory, Memory, Vec<DriverSlot>>;

/// The CPU, and how often it was drained.
#[derive(Default)]
struct Engine {
    drains: u32,
}

impl DmaEngine<Memory> for Engine {
    fn fetch(&mut self, from: &Memory, offset: u64, into: &mut [u8]) -> Result<(), DmaError> {
        CpuCopy.fetch(from, offset, into)
    }

    fn post(&mut self, from: &[u8], to: &Memory, offset: u64) -> Result<(), DmaError> {
        CpuCopy.post(from, to, offset)
    }

    fn finish(&mut self) -> Result<(), DmaError> {
        Ok(())
    }

    fn drain(&mut self) {
        self.drains += 1;
    }
}

struct Wires {
    bar: Memory,
    host: Memory,
    bells: Rc<Cell<u32>>,
    raised: Rc<RefCell<Vec<u16>>>,
}

fn description() -> BoardDescription {
    let mut regions = BoardRegions::new();
    assert!(regions.push(BoardRegion {
        bar: 0,
        rights: Rights::READ_WRITE,
        offset: CONTROL,
        len: BAR - CONTROL,
    }));
    BoardDescription {
        name: Label::new("test board"),
        firmware: Label::new("0"),
        mac: [2, 0, 0, 0, 0, 2],
        versions: Versions::OURS,
        interrupts_unordered: false,
        dma_engine: false,
        vectors: 3,
        widest_store: StoreWidth::Bits64,
        heartbeat: Heartbeat { interval_ms: 100, misses: 3 },
        doorbell: DoorbellDescription { bar: 2, offset: 0, stride: 4, count: 3, value: 1, step: 0 },
        outbound: Some(Outbound { windows: 4, size: 4 << 20, alignment: 4096, address_bits: 40 }),
        regions,
    }
}

fn board(wires: &Wires) -> Board {
    let (host, bells, raised) =
        (wires.host.clone(), Rc::clone(&wires.bells), Rc::clone(&wires.raised));
    let reach: Reach = Box::new(move |iova, len| {
        let offset = iova.offset_from(IOVA).ok_or(ResultCode::OutOfReach)?;
        host.part(offset, len).ok_or(ResultCode::OutOfReach)
    });
    let support = WindowBoard::new(
        [wires.bar.part(CONTROL, BAR - CONTROL).unwrap()],
        reach,
        Box::new(move || Doorbells(bells.replace(0))) as Bells,
        Box::new(move |vector| raised.borrow_mut().push(vector)) as Raise,
    )
    .that_reboots();
    let slots = usize::try_from(SIZE).unwrap();
    let device = NetDevice::new(
        &NetOptions { mac: MAC, mtu: 1500, withhold: 0 },
        NetMemory {
            slots: [leak::<DeviceSlot>(slots), leak::<DeviceSlot>(slots)],
            frame: leak(2048),
            waiting: leak(2048),
        },
        Echo::verbatim(),
    )
    .unwrap()
    .with_control(leak(slots))
    .unwrap();
    let control = wires.bar.part(0, CONTROL).unwrap();
    let options = ServiceOptions { spin: 2, recheck_ms: 10 };
    let mut service =
        Board::new(control, 0, description(), support, Engine::default(), [device], options)
            .unwrap();
    service.boot(Epoch::new(7).unwrap(), 0);
    service
}

/// A host that has attached, and the board it attached to.
struct Session {
    wires: Wires,
    board: Board,
    link: HostLink<Memory>,
    queues: [Driver; 3],
    config: Option<NetConfig>,
    now: u64,
    ups: u32,
}

const RING: u64 = IN_ORDER | EVENT_IDX;

fn rings(wires: &Wires, base: BusAddress, number: u16, ring: u64) -> (Driver, QueuePlacement) {
    let size = QueueSize::try_from(SIZE).unwrap();
    let at = u64::from(number) * 0x1000;
    let (descriptors, avail, used) = (at, at + 0x400, 0x2000 + at + 4);
    let memory = wires.bar.part(CONTROL, BAR - CONTROL).unwrap();
    let parts = Parts {
        descriptors: memory.part(descriptors, size.descriptor_table_len()).unwrap(),
        avail: memory.part(avail, size.avail_len()).unwrap(),
        avail_at: 0,
        used: wires.host.part(used - 4, size.used_len() + 4).unwrap(),
        used_at: 4,
    };
    let options = RingOptions {
        size,
        in_order: ring & IN_ORDER != 0,
        event_idx: ring & EVENT_IDX != 0,
        indirect: false,
        sleep_flush: SleepFlush::ReadBack,
        publish_flush: false,
    };
    let slots = vec![DriverSlot::default(); usize::try_from(SIZE).unwrap()];
    let placement = QueuePlacement {
        queue: number,
        size,
        descriptors: base.checked_add(descriptors).unwrap(),
        driver: base.checked_add(avail).unwrap(),
        device: IOVA.checked_add(used).unwrap(),
        // The control queue shares the transmitq's.
        doorbell: u32::from(number.min(1)) + 1,
        vector: u32::from(number.min(1)) + 1,
    };
    (Driver::new(parts, slots, options).unwrap(), placement)
}

impl Session {
    fn attach() -> Self {
        Self::attach_with(RING)
    }

    fn attach_with(ring: u64) -> Self {
        let wires = Wires {
            bar: Memory::new(BAR),
            host: Memory::new(HOST),
            bells: Rc::default(),
            raised: Rc::default(),
        };
        // A BAR comes up empty.
        wires.bar.write(0, &vec![0; usize::try_from(BAR).unwrap()]);
        wires.host.write(0, &[0; 4096]);
        let board = board(&wires);
        Self::attach_to(wires, board, 0, 9, ring)
    }

    fn attach_to(wires: Wires, board: Board, now: u64, session: u32, ring: u64) -> Self {
        let options = HostOptions {
            session: Epoch::new(session).unwrap(),
            control_bar: 0,
            bars: [BAR, 0, 4096, 0, 0, 0],
            versions: Versions::OURS,
        };
        let link = HostLink::new(wires.bar.clone(), options);
        let base = BusAddress::board(0);
        let [(receive, first), (transmit, second), (control, third)] =
            [0, 1, 2].map(|n| rings(&wires, base, n, ring));
        let queues = [receive, transmit, control];
        let mut this = Self { wires, board, link, queues, config: None, now, ups: 0 };
        for _ in 0..2000 {
            match this.step() {
                Progress::NeedRegions => {
                    assert_eq!(this.link.board_regions().next().unwrap().base, base);
                    let region = |at, rights| HostRegion {
                        base: IOVA.checked_add(at).unwrap(),
                        len: HALF,
                        rights,
                    };
                    let regions = [region(0, Rights::WRITE), region(HALF, Rights::READ)];
                    let status = this.wires.host.part(0, 4096);
                    this.link.supply_regions(&regions, status).unwrap();
                }
                Progress::NeedFeatures { .. } => {
                    let facts = this.link.facts().unwrap();
                    assert_eq!(facts.info.device_id, 1);
                    assert!(facts.offered.has(feature::MAC | feature::MTU | feature::STATUS));
                    let ours = ring | feature::MRG_RXBUF;
                    this.link.supply_features(REQUIRED | Features::new(ours)).unwrap();
                }
                Progress::NeedQueues { .. } => {
                    let facts = this.link.facts().unwrap();
                    assert_eq!(facts.queue_sizes, [16, 16, 16]);
                    assert_eq!(facts.config.len(), CONFIG_LEN);
                    this.config = NetConfig::decode(facts.config);
                    let queues = [first, second, third];
                    let count = if ring & feature::CTRL_VQ == 0 { 2 } else { 3 };
                    this.link.supply_queues(&queues[..count]).unwrap();
                }
                Progress::DeviceUp { device } => {
                    assert_eq!(device, 0);
                    this.ups += 1;
                }
                Progress::Running => return this,
                Progress::Waiting => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("no session");
    }

    /// Both ends once; a millisecond passes.
    fn step(&mut self) -> Progress {
        let fired = self.wires.raised.borrow().contains(&0);
        self.wires.raised.borrow_mut().retain(|vector| *vector != 0);
        let step = self.link.step(self.now, fired).unwrap();
        if step.ring > 0 {
            self.ring(0);
        }
        self.board.step(self.now);
        self.now += 1;
        step.progress
    }

    fn ring(&self, number: u32) {
        self.wires.bells.set(self.wires.bells.get() | 1 << number);
    }

    fn offer(&mut self) {
        while let Some(head) = self.queues[0].next_head() {
            let at = 0x1_0000 + u64::from(head) * 2048;
            let address = IOVA.checked_add(at).unwrap();
            self.queues[0].add(&[Segment { address, len: 2048, writable: true }]).unwrap();
        }
        if self.queues[0].publish() {
            self.ring(1);
        }
    }

    /// Sends a frame; whether the board wanted a doorbell.
    fn send(&mut self, frame: &[u8]) -> bool {
        let at = HALF + u64::from(self.queues[1].next_head().unwrap()) * 2048;
        let bytes = [&NetHeader::default().encode(), frame].concat();
        self.wires.host.write(at, &bytes);
        let segment = Segment {
            address: IOVA.checked_add(at).unwrap(),
            len: u32::try_from(bytes.len()).unwrap(),
            writable: false,
        };
        self.queues[1].add(&[segment]).unwrap();
        self.queues[1].publish()
    }

    fn received(&mut self) -> Option<Vec<u8>> {
        let done = self.queues[0].take().unwrap()?;
        let mut bytes = vec![0; done.len as usize];
        self.wires.host.read(0x1_0000 + u64::from(done.head) * 2048, &mut bytes);
        Some(bytes.split_off(12))
    }

    /// What the host is told of device 0 within the next heartbeats. It takes
    /// none that comes.
    fn told(&mut self) -> Vec<u16> {
        let mut states = Vec::new();
        for _ in 0..250 {
            match self.step() {
                Progress::Event(LinkEvent::Device { device, state }) => {
                    assert_eq!(device, 0);
                    states.push(state);
                }
                Progress::NeedFeatures { .. } => self.link.decline_device().unwrap(),
                _ => {}
            }
        }
        states
    }

    /// Lets time pass, with both heartbeats.
    fn pass(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while self.now < end {
            self.now = self.settle().clamp(self.now + 1, end);
            self.link.step(self.now, false).unwrap();
        }
        self.settle();
    }

    /// Steps the board without the host until it sleeps.
    fn settle(&mut self) -> u64 {
        for _ in 0..100 {
            if let Next::Sleep { until } = self.board.step(self.now) {
                return until;
            }
        }
        panic!("never asleep");
    }
}

#[test]
fn a_host_attaches_and_frames_come_back() {
    let mut session = Session::attach();
    assert_eq!(session.ups, 1);
    let config = session.config.unwrap();
    assert_eq!((config.mac, config.mtu, config.status), (MAC, 1500, 1));
    for round in 0..200 {
        session.offer();
        let frame = frame_of(60 + round, round as u64);
        if session.send(&frame) {
            session.ring(2);
        }
        session.step();
        assert_eq!(session.received().unwrap(), frame);
        assert_eq!(session.queues[1].take().unwrap().unwrap().len, 0);
    }
    assert_eq!(session.board.device(0).unwrap().counters().to_board_frames, 200);
    assert_eq!(session.board.stats().polled, 0);
    let events: Vec<_> = session.board.trace().iter().map(|entry| entry.event).collect();
    assert_eq!(events, [Event::Boot { epoch: 7 }, Event::Attached { session: 9 }]);
}

#[test]
fn sleep_is_answered_only_with_doorbells_armed() {
    // Flags show at once what event words show only after a lap of theirs.
    for ring in [RING, IN_ORDER, EVENT_IDX, 0] {
        doorbells_only_asleep(Session::attach_with(ring));
    }
}

fn doorbells_only_asleep(mut session: Session) {
    session.offer();
    session.settle();
    for round in 0..100 {
        // Asleep: every frame asks for a doorbell.
        assert!(session.send(&frame_of(100, round)), "round {round}");
        session.ring(2);
        assert_eq!(session.board.step(session.now), Next::Again);
        // Awake: none does.
        assert!(!session.send(&frame_of(100, round)), "round {round}");
        session.settle();
        assert_eq!(session.received().unwrap(), frame_of(100, round));
        assert!(session.received().is_some());
        while session.queues[1].take().unwrap().is_some() {}
        session.offer();
        session.settle();
    }
    let stats = *session.board.stats();
    let flushes = session.board.device(0).unwrap().queue_stats()[1].flushes;
    assert!(flushes <= stats.sleeps, "{flushes} flushes in {} sleeps", stats.sleeps);
}

/// Between draining and sleeping a frame comes at any step of the board's.
#[test]
fn no_frame_is_slept_over() {
    let mut session = Session::attach();
    session.offer();
    for before in 0..8 {
        session.settle();
        for _ in 0..before {
            session.board.step(session.now);
        }
        let wanted = session.send(&frame_of(100, before));
        // The doorbell is lost if it was wanted; if not, the board must come by itself.
        let mut slept = false;
        for _ in 0..20 {
            slept |= matches!(session.board.step(session.now), Next::Sleep { .. });
        }
        assert!(wanted || session.received().is_some());
        assert!(slept);
        session.ring(2);
        session.settle();
        while session.received().is_some() {}
        while session.queues[1].take().unwrap().is_some() {}
        session.offer();
    }
}

#[test]
fn a_board_that_waits_for_buffers_is_woken_by_them() {
    let mut session = Session::attach();
    session.send(&frame_of(100, 1));
    session.send(&frame_of(100, 2));
    session.ring(2);
    session.settle();
    assert_eq!(session.received(), None);
    session.offer();
    assert_eq!(session.wires.bells.get(), 2, "no doorbell for the buffers");
    session.settle();
    assert_eq!(session.received().unwrap(), frame_of(100, 1));
    assert_eq!(session.received().unwrap(), frame_of(100, 2));
}

#[test]
fn idle_boards_sleep_until_their_timers() {
    let mut session = Session::attach();
    let steps = session.board.stats().steps;
    // Keep the host's heartbeat going for ten seconds.
    let end = session.now + 10_000;
    let mut wakes = 0;
    while session.now < end {
        let until = session.settle();
        assert!(until <= session.now + 100);
        session.now = until.max(session.now + 1);
        wakes += 1;
        session.link.step(session.now, false).unwrap();
    }
    assert!(wakes < 250, "{wakes} wake-ups in ten idle seconds");
    assert!(session.board.stats().steps - steps < 1500);
    // A second long after a frame, rings are looked at all the same.
    session.offer();
    session.send(&frame_of(100, 1));
    session.ring(2);
    let start = session.now;
    let mut longest = 0;
    while session.now < start + 3000 {
        let until = session.settle();
        let nap = until - session.now;
        if session.now < start + 990 {
            assert!(nap <= 10, "{nap} ms at {}", session.now - start);
        }
        longest = longest.max(nap);
        session.now = until.max(session.now + 1);
        session.link.step(session.now, false).unwrap();
    }
    assert!(longest > 50);
}

#[test]
fn a_lost_doorbell_is_counted() {
    let mut session = Session::attach();
    session.offer();
    session.settle();
    assert!(session.send(&frame_of(100, 1)));
    // No doorbell; a timer finds it.
    session.pass(20);
    assert!(session.received().is_some());
    assert_eq!(session.board.stats().polled, 0, "it may still come");
    session.pass(1100);
    assert_eq!(session.board.stats().polled, 1);
    // A late one is none.
    assert!(session.send(&frame_of(100, 2)));
    session.pass(500);
    assert!(session.received().is_some());
    session.ring(2);
    session.pass(1100);
    assert_eq!(session.board.stats().polled, 1);
}

#[test]
fn a_broken_rule_reaches_the_host() {
    let mut session = Session::attach();
    session.offer();
    session.send(&frame_of(100, 1));
    let address = BusAddress::new(0x7777_0000);
    session.queues[1].add(&[Segment { address, len: 100, writable: false }]).unwrap();
    let _ = session.queues[1].publish();
    session.ring(2);
    let mut events = Vec::new();
    // The host may take a heartbeat's interval to look for the second event.
    for _ in 0..150 {
        if let Progress::Event(event) = session.step() {
            events.push(event);
        }
    }
    assert!(events.iter().any(|event| matches!(event, LinkEvent::NeedsReset { device: 0 })));
    assert!(
        events
            .iter()
            .any(|event| matches!(event, LinkEvent::Fault { device: 0, queue: 1, count: 1, .. })),
        "{events:?}"
    );
    assert_eq!(session.received().unwrap(), frame_of(100, 1));
    let fault = PeerFault::AddressUnmapped { address: 0x7777_0000 };
    let last = session.board.trace().iter().last().unwrap();
    assert_eq!(last.event, Event::QueueFault { device: 0, queue: 1, fault });
}

#[test]
fn a_host_detaches_and_another_attaches() {
    let mut session = Session::attach();
    for epoch in 10..20 {
        session.offer();
        session.send(&frame_of(100, 3));
        session.ring(2);
        session.step();
        assert_eq!(session.received().unwrap(), frame_of(100, 3));
        session.link.detach(session.now);
        let mut clean = None;
        for _ in 0..100 {
            if let Progress::Detached { clean: was } = session.step() {
                clean = Some(was);
                break;
            }
        }
        assert_eq!(clean, Some(true));
        let before = session.wires.host.snapshot();
        for _ in 0..20 {
            session.board.step(session.now);
            session.now += 1;
        }
        assert!(session.wires.host.snapshot() == before, "written after the detach");
        let Session { wires, board, now, .. } = session;
        session = Session::attach_to(wires, board, now, epoch, RING);
    }
    assert_eq!(session.board.link().stats().sessions, 11);
}

#[test]
fn a_device_vanishes_and_comes_back() {
    let mut session = Session::attach();
    session.offer();
    session.send(&frame_of(100, 1));
    session.ring(2);
    session.step();
    assert_eq!(session.received().unwrap(), frame_of(100, 1));

    session.offer();
    session.send(&frame_of(100, 2));
    session.board.set_present(0, false);
    // From here on the rings are the host's again, whatever is in them.
    let rings = session.wires.host.part(4096, HOST - 4096).unwrap();
    let before = rings.snapshot();
    session.ring(2);
    assert_eq!(session.told(), [2]);
    assert!(rings.snapshot() == before, "a device that is gone wrote");
    assert_eq!(session.received(), None);

    // What changes nothing is not told, the newest state always is.
    session.board.set_present(0, false);
    assert_eq!(session.told(), []);
    session.board.set_present(0, true);
    assert_eq!(session.told(), [1]);
    session.board.set_present(0, false);
    session.board.set_present(0, true);
    assert_eq!(session.told(), [2, 1]);
    assert!(rings.snapshot() == before, "it runs queues that nobody set up");

    // No such device, no such news.
    session.board.set_present(1, false);
    assert_eq!(session.told(), []);
    let events = session.board.trace().iter().map(|entry| entry.event);
    let expected = [
        Event::DeviceWent { device: 0 },
        Event::DeviceCame { device: 0 },
        Event::DeviceWent { device: 0 },
        Event::DeviceCame { device: 0 },
    ];
    assert_eq!(events.skip(2).collect::<Vec<_>>(), expected);
}
