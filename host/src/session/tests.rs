//! A board that sends events for ever, as fast as the host can read them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shared::link::board::{BoardLink, BoardModel, SessionEvent};
use shared::link::{
    BoardDescription, BoardRegion, BoardRegions, Epoch, Heartbeat, Label, Reason, Versions,
};
use shared::msg::channel::OUR_LAYOUT;
use shared::msg::device::DeviceEndpoint;
use shared::msg::{Body, Event as Said, Message, RegionMessage, ResultCode};
use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::window::Window;
use shared::wire::amp;
use shared::wire::control::{CHANNEL_OFFSET, CONTROL_LEN, HOST_PAGE_OFFSET, host_page};

use super::*;
use crate::bus::sim::{
    Access, AccessKind, Fault, Initiator, OutboundLimits, Profile, SimBoardPort, SimBus,
    SimHostPort, SimOptions, SimWindow,
};

/// Loads after which the board gives up, so that a test that fails ends.
const ENDLESS: u64 = 100_000;

/// A board without devices.
struct Empty;

impl BoardModel<SimWindow> for Empty {
    fn session(&mut self, _: SessionEvent) {}
    fn add_region(&mut self, _: &RegionMessage) -> Result<SimWindow, ResultCode> {
        Err(ResultCode::NoRoom)
    }
    fn remove_region(&mut self, _: u8) -> bool {
        true
    }
    fn device(&mut self, _: u16) -> Option<&mut dyn DeviceEndpoint<SimWindow>> {
        None
    }
    fn board_reset(&mut self) -> bool {
        false
    }
}

/// A session whose board answers the first request, and from then on shows
/// one event more whenever the host looks.
struct Flood {
    session: Session<SimHostPort>,
    port: SimBoardPort,
    now: u64,
    /// The host's loads of the board's channel index.
    looks: Arc<AtomicU64>,
}

impl Flood {
    fn begin(event: Said) -> Self {
        let options = SimOptions {
            bar_len: 1 << 20,
            outbound: OutboundLimits::none(),
            ..SimOptions::instrument(1, Profile::Eager)
        };
        let bus = SimBus::new(options).unwrap();
        let port = bus.board();
        let mut regions = BoardRegions::new();
        let (offset, len) = (CONTROL_LEN, bus.bar_len() - CONTROL_LEN);
        assert!(regions.push(BoardRegion { bar: 0, rights: Rights::READ_WRITE, offset, len }));
        let description = BoardDescription {
            name: Label::new("flood"),
            firmware: Label::new("0"),
            mac: [2, 0, 0, 0, 0, 1],
            versions: Versions::OURS,
            interrupts_unordered: false,
            dma_engine: false,
            vectors: 4,
            widest_store: StoreWidth::Bits64,
            heartbeat: Heartbeat { interval_ms: 100, misses: 100 },
            doorbell: bus.doorbells(),
            outbound: None,
            regions,
        };
        let mut board = BoardLink::new(port.control().unwrap(), 0, description).unwrap();
        board.publish(Epoch::from_random(7), 0);
        let config = SessionConfig { layout: Layout::BarOnly, ..SessionConfig::default() };
        let session = Session::new(bus.host(), config, Epoch::from_random(9)).unwrap();
        let looks = Arc::new(AtomicU64::new(0));
        let mut flood = Self { session, port, now: 0, looks: Arc::clone(&looks) };
        let flowing = Arc::new(AtomicBool::new(false));
        bus.set_faults(Some(Box::new(endless(Arc::clone(&flowing), looks)))).unwrap();
        while board.stats().messages == 0 {
            flood.now += 1;
            assert!(flood.now < 1000, "the channel does not start");
            flood.session.step(flood.now).unwrap();
            board.poll(flood.now, true, &mut Empty);
            bus.settle();
        }
        let frame = Message { device: 0, token: 0, body: Body::Event(event) }.encode();
        let channel = flood.port.control().unwrap();
        for element in 0..u64::from(OUR_LAYOUT.elements) {
            channel.write(u64::from(CHANNEL_OFFSET) + OUR_LAYOUT.device.1 + element * 64, &frame);
        }
        bus.settle();
        flowing.store(true, Ordering::Relaxed);
        flood
    }

    /// Steps once; how often the host looked for messages.
    fn step(&mut self) -> (Result<Step<SimHostPort>, SessionError>, u64) {
        let before = self.looks.load(Ordering::Relaxed);
        let step = self.session.step(self.now);
        (step, self.looks.load(Ordering::Relaxed) - before)
    }
}

/// While `flowing`, one more element each time that the host looks.
fn endless(
    flowing: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
) -> impl FnMut(&Access) -> Option<Fault> {
    let at = u64::from(CHANNEL_OFFSET) + OUR_LAYOUT.device.0 + amp::HEAD_INDICES;
    let mut tail = None;
    move |access| {
        let look = (access.initiator, access.kind, access.address)
            == (Initiator::HostCpu, AccessKind::Load, at);
        if !look || !flowing.load(Ordering::Relaxed) {
            return None;
        }
        let tail = tail.get_or_insert(access.value & 0xFFFF);
        if looks.fetch_add(1, Ordering::Relaxed) < ENDLESS {
            *tail = (*tail + 1) % u64::from(OUR_LAYOUT.elements);
        }
        Some(Fault::Replace(access.value & 0xFFFF_0000 | *tail))
    }
}

const HOTPLUG: Said = Said::Device { device: 1, state: 1 };
const FAULT: Said = Said::Fault { code: 1, device: 0, queue: 0, detail: 0, count: 1 };

#[test]
fn a_flood_of_events_holds_up_no_step() {
    for event in [HOTPLUG, FAULT] {
        let mut flood = Flood::begin(event);
        for _ in 0..100 {
            flood.now += 1;
            let (step, looks) = flood.step();
            assert!(step.unwrap().event.is_none());
            assert!(looks <= 100, "{looks} looks in one step");
        }
    }
}

#[test]
fn a_flood_of_events_holds_up_no_deadline_and_no_heartbeat() {
    let mut flood = Flood::begin(HOTPLUG);
    let page = flood.port.control().unwrap();
    let beat = || page.load::<u32>(u64::from(HOST_PAGE_OFFSET) + host_page::HEARTBEAT);
    let (began, first) = (flood.now, beat());
    let refusal = loop {
        flood.now += 10;
        assert!(flood.now - began <= 2000, "the request's second is over");
        match flood.step().0 {
            Ok(_) => {}
            Err(SessionError::Link(refusal)) => break refusal,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(matches!(refusal.reason, Reason::NoAnswer(_)), "{refusal}");
    assert!(beat() >= first + 9);
}

#[test]
fn a_storm_of_interrupts_is_not_listened_to() {
    let mut flood = Flood::begin(HOTPLUG);
    let mut listened = 0;
    while flood.session.message_interrupt().is_some() {
        flood.port.raise(0);
        flood.step().0.unwrap();
        listened += 1;
        assert!(listened < 10_000, "a storm is listened to for ever");
    }
    // Looks go on, in time with the heartbeat.
    let (step, _) = flood.step();
    assert_eq!(step.unwrap().wait_until, flood.now + 10);
}
