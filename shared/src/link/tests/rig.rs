//! A host and a board over test memory, in fake time.

use crate::address::BusAddress;
use crate::fault::PeerFault;
use crate::link::board::{BoardLink, BoardModel, LinkNext, SessionEvent};
use crate::link::control::OUR_AREAS;
use crate::link::description::*;
use crate::link::host::{
    HostLink, HostOptions, HostRegion, LinkEvent, Progress, QueuePlacement, Step,
};
use crate::link::refusal::Refusal;
use crate::msg::body::{Body, Event, Message, RegionKind, RegionMessage, Response, ResultCode};
use crate::msg::codec::Frame;
use crate::msg::device::{DeviceEndpoint, DeviceModel, ModelInfo, VirtioDevice};
use crate::msg::kind::Side;
use crate::msg::status::QueueSetup;
use crate::raw::StoreWidth;
use crate::region::{RegionTable, Rights};
use crate::virtq::QueueSize;
use crate::window::Window;
use crate::window::testing::TestWindow;
use crate::wire::control::{LIVE_OFFSET, live};
use crate::wire::features::{self, Features};

pub(super) const BAR_LEN: u64 = 0x2_0000;
pub(super) const HOST_LEN: u64 = 0x2_0000;
pub(super) const IOVA: u64 = 0x10_0000;
pub(super) const CONFIG: [u8; 100] = [7; 100];

pub(super) fn offered() -> Features {
    features::REQUIRED | Features::new(features::IN_ORDER | features::RING_RESET | 1)
}

pub(super) fn description() -> BoardDescription {
    let mut regions = BoardRegions::new();
    let rights = Rights::READ;
    assert!(regions.push(BoardRegion { bar: 0, rights, offset: 0x4000, len: 0x8000 }));
    let rights = Rights::READ_WRITE;
    assert!(regions.push(BoardRegion { bar: 0, rights, offset: 0x1_0000, len: 0x1_0000 }));
    BoardDescription {
        name: Label::new("test board"),
        firmware: Label::new("0.1.0"),
        mac: [2, 0, 0, 0, 0, 9],
        versions: Versions::OURS,
        interrupts_unordered: false,
        dma_engine: false,
        vectors: 4,
        widest_store: StoreWidth::Bits64,
        heartbeat: Heartbeat { interval_ms: 100, misses: 4 },
        doorbell: DoorbellDescription {
            bar: 1,
            offset: 0x20,
            stride: 4,
            count: 4,
            value: 1,
            step: 0,
        },
        outbound: Some(Outbound {
            windows: 2,
            size: 0x10_0000,
            alignment: 0x1_0000,
            address_bits: 40,
        }),
        regions,
    }
}

/// A device that notes what it was told.
#[derive(Default)]
pub(super) struct FakeDevice {
    pub(super) features: Option<Features>,
    pub(super) queues: Vec<QueueSetup>,
    /// Calls of reset that still answer "not yet".
    pub(super) drain: u32,
    pub(super) resets: u32,
    /// Calls of queue reset that still answer "not yet".
    pub(super) queue_drain: u32,
    pub(super) rejects_config: bool,
    pub(super) refuse_activation: bool,
    pub(super) no_device: bool,
    pub(super) config: Vec<u8>,
}

impl DeviceModel<TestWindow> for FakeDevice {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            device_id: if self.no_device { 0 } else { 1 },
            vendor_id: 0x1AF4,
            features: offered(),
            config_size: u32::try_from(self.config.len()).unwrap(),
            queues: 3,
            queue_size: 256,
        }
    }
    fn read_config(&mut self, offset: u32, into: &mut [u8]) {
        let at = usize::try_from(offset).unwrap();
        into.copy_from_slice(&self.config[at..at + into.len()]);
    }
    fn write_config(&mut self, offset: u32, from: &[u8]) -> bool {
        let at = usize::try_from(offset).unwrap();
        if !self.rejects_config {
            self.config[at..at + from.len()].copy_from_slice(from);
        }
        !self.rejects_config
    }
    fn driver_ok(&mut self, features: Features) {
        self.features = Some(features);
    }
    fn activate_queue(
        &mut self,
        setup: &QueueSetup,
        regions: &RegionTable<TestWindow>,
    ) -> Result<(), PeerFault> {
        let needs = [Rights::READ, Rights::READ, Rights::WRITE];
        for ((address, len), need) in setup.parts().into_iter().zip(needs) {
            regions.resolve(address, u32::try_from(len).unwrap(), need).unwrap();
        }
        if self.refuse_activation {
            return Err(PeerFault::QueueSetup { queue: setup.queue.into() });
        }
        self.queues.push(*setup);
        Ok(())
    }
    fn reset(&mut self) -> bool {
        self.resets += 1;
        self.drain = self.drain.saturating_sub(1);
        if self.drain == 0 {
            self.queues.clear();
            self.features = None;
        }
        self.drain == 0
    }
    fn reset_queue(&mut self, queue: u16) -> bool {
        if self.queue_drain > 0 {
            self.queue_drain -= 1;
            return false;
        }
        self.queues.retain(|setup| setup.queue != queue);
        true
    }
}

pub(super) type Device = VirtioDevice<FakeDevice, 4>;

/// What lies around the board's link.
pub(super) struct FakeBoard {
    pub(super) bar: TestWindow,
    pub(super) host: TestWindow,
    pub(super) device: Device,
    pub(super) second: Option<Device>,
    pub(super) sessions: Vec<SessionEvent>,
    pub(super) removed: Vec<u8>,
    pub(super) refuse_region: Option<ResultCode>,
    pub(super) reset_asked: bool,
    pub(super) grants_reset: bool,
    /// Calls of remove_region that still answer "not yet".
    pub(super) region_drain: u32,
    /// Devices that are away, one bit each.
    pub(super) away: u64,
    /// The accepted session in the BAR each time that it was to go quiet.
    pub(super) quiesced: Vec<u32>,
}

impl BoardModel<TestWindow> for FakeBoard {
    fn session(&mut self, event: SessionEvent) {
        self.sessions.push(event);
    }
    fn quiesce(&mut self) {
        let accepted = u64::from(LIVE_OFFSET) + live::ACCEPTED;
        self.quiesced.push(self.bar.peek(accepted));
    }
    fn add_region(&mut self, region: &RegionMessage) -> Result<TestWindow, ResultCode> {
        if let Some(code) = self.refuse_region {
            return Err(code);
        }
        match region.kind {
            RegionKind::Host { .. } => {
                let offset = region.base.offset_from(BusAddress::new(IOVA)).unwrap();
                self.host.part(offset, region.len).ok_or(ResultCode::OutOfReach)
            }
            RegionKind::Board { index } => {
                let offered = description().regions.get(usize::try_from(index).unwrap()).unwrap();
                Ok(self.bar.part(offered.offset, offered.len).unwrap())
            }
        }
    }
    fn remove_region(&mut self, id: u8) -> bool {
        if self.region_drain > 0 {
            self.region_drain -= 1;
            return false;
        }
        self.removed.push(id);
        true
    }
    fn device(&mut self, number: u16) -> Option<&mut dyn DeviceEndpoint<TestWindow>> {
        match number {
            3 => Some(&mut self.device),
            5 => self.second.as_mut().map(|device| device as &mut dyn DeviceEndpoint<TestWindow>),
            _ => None,
        }
    }
    fn present(&self, number: u16) -> bool {
        self.away.checked_shr(number.into()).unwrap_or(0) & 1 == 0
    }
    fn board_reset(&mut self) -> bool {
        self.reset_asked = true;
        self.grants_reset
    }
}

/// Changes each frame that the board sends; the count is from the rig's start.
type Tamper = Box<dyn FnMut(usize, &mut Frame)>;

/// Both ends.
pub(super) struct Rig {
    pub(super) now: u64,
    pub(super) bar: TestWindow,
    pub(super) host_memory: TestWindow,
    pub(super) link: BoardLink<TestWindow>,
    pub(super) board: FakeBoard,
    pub(super) host: HostLink<TestWindow>,
    pub(super) session: Epoch,
    pub(super) tamper: Option<Tamper>,
    pub(super) frames: usize,
    seen_tail: u16,
    pub(super) board_runs: bool,
    pub(super) vector: bool,
    pub(super) doorbell: bool,
    pub(super) rings: u32,
    pub(super) bar_only: bool,
    pub(super) log: Vec<Progress>,
}

pub(super) fn device() -> Device {
    Device::new(FakeDevice { config: CONFIG.to_vec(), drain: 1, ..FakeDevice::default() })
}

pub(super) fn options(session: u32) -> HostOptions {
    HostOptions {
        session: Epoch::new(session).unwrap(),
        control_bar: 0,
        bars: [BAR_LEN, 0x1000, 0, 0, 0, 0],
        versions: Versions::OURS,
    }
}

impl Rig {
    /// A board that booted and a host that has not begun.
    pub(super) fn new() -> Self {
        Self::with(description())
    }

    pub(super) fn with(description: BoardDescription) -> Self {
        let bar = TestWindow::new(BAR_LEN);
        let host_memory = TestWindow::new(HOST_LEN);
        let mut link = BoardLink::new(bar.part(0, 0x4000).unwrap(), 0, description).unwrap();
        link.publish(Epoch::new(77).unwrap(), 0);
        let board = FakeBoard {
            bar: bar.clone(),
            host: host_memory.clone(),
            device: device(),
            second: None,
            sessions: Vec::new(),
            removed: Vec::new(),
            refuse_region: None,
            reset_asked: false,
            grants_reset: true,
            region_drain: 0,
            away: 0,
            quiesced: Vec::new(),
        };
        let host = HostLink::new(bar.clone(), options(1000));
        Self {
            now: 0,
            bar,
            host_memory,
            link,
            board,
            host,
            session: Epoch::new(1000).unwrap(),
            tamper: None,
            frames: 0,
            seen_tail: 0,
            board_runs: true,
            vector: false,
            doorbell: false,
            rings: 0,
            bar_only: false,
            log: Vec::new(),
        }
    }

    /// A new host link with the next session epoch.
    pub(super) fn new_host(&mut self) {
        self.session = self.session.next();
        self.host = HostLink::new(self.bar.clone(), options(self.session.get()));
        self.seen_tail = 0;
        self.log.clear();
    }

    /// The board boots again.
    pub(super) fn reboot(&mut self, boot: u32) {
        let control = self.bar.part(0, 0x4000).unwrap();
        self.link = BoardLink::new(control, 0, description()).unwrap();
        self.link.publish(Epoch::new(boot).unwrap(), self.now);
        self.board.device = device();
        self.seen_tail = 0;
    }

    /// A device comes or goes.
    /// A device comes or goes; how often it did before is forgotten.
    pub(super) fn announce(&mut self, number: u16, ready: bool) {
        self.host.forget_returns();
        self.announce_again(number, ready);
    }

    /// A device comes or goes.
    pub(super) fn announce_again(&mut self, number: u16, ready: bool) {
        let bit = 1_u64.checked_shl(number.into()).unwrap_or(0);
        self.board.away = if ready { self.board.away & !bit } else { self.board.away | bit };
        self.link.announce(number, ready, &mut self.board);
    }

    pub(super) fn poll_board(&mut self) -> LinkNext {
        let rung = core::mem::take(&mut self.doorbell);
        let next = self.link.poll(self.now, rung, &mut self.board);
        self.vector |= next.raise_vector0;
        self.tamper_frames();
        next
    }

    fn tamper_frames(&mut self) {
        let layout = self.bar.part(OUR_AREAS.channel.offset, 0x2000).unwrap();
        let tail = u16::try_from(layout.peek(0x44) & 0xFFFF).unwrap();
        // A tail that a test scribbled over says nothing.
        while self.seen_tail != tail && tail < 60 {
            let at = 0x100 + 64 * u64::from(self.seen_tail);
            let mut frame = [0; 64];
            layout.read(at, &mut frame);
            if let Some(tamper) = &mut self.tamper {
                tamper(self.frames, &mut frame);
            }
            layout.write(at, &frame);
            self.frames += 1;
            self.seen_tail = (self.seen_tail + 1) % 60;
        }
    }

    /// One millisecond: the board, then the host.
    pub(super) fn tick(&mut self) -> Result<Step, Refusal> {
        self.now += 1;
        if self.board_runs {
            self.poll_board();
        }
        let fired = core::mem::take(&mut self.vector);
        let step = self.host.step(self.now, fired)?;
        self.rings += step.ring;
        self.doorbell |= step.ring > 0;
        self.log.push(step.progress);
        Ok(step)
    }

    pub(super) fn regions() -> [HostRegion; 2] {
        let region = |base, len, rights| HostRegion { base: BusAddress::new(base), len, rights };
        [
            region(IOVA, 0x1_0000, Rights::READ_WRITE),
            region(IOVA + 0x1_0000, 0x1_0000, Rights::READ),
        ]
    }

    pub(super) fn queues(&self) -> Vec<QueuePlacement> {
        let size = QueueSize::try_from(64).unwrap();
        (0..2_u16)
            .map(|queue| {
                let at = u64::from(queue) * 0x1000;
                let used = if self.bar_only {
                    BusAddress::board(0x8000 + at + 0x804)
                } else {
                    BusAddress::new(IOVA + 0x1000 + at + 4)
                };
                QueuePlacement {
                    queue,
                    size,
                    descriptors: BusAddress::board(at),
                    driver: BusAddress::board(at + 0x800),
                    device: used,
                    doorbell: u32::from(queue) + 1,
                    vector: u32::from(queue) + 1,
                }
            })
            .collect()
    }

    /// Changes what the board answers about `device`, from here on.
    pub(super) fn answer_with(
        &mut self,
        device: u16,
        mut change: impl FnMut(&mut Response) + 'static,
    ) {
        self.tamper = Some(Box::new(move |_, frame| {
            let Ok(mut message) = Message::decode(frame, Side::Device) else { return };
            let about = match message.body {
                Body::Response(Response::RouteQueue { device: routed, .. }) => {
                    routed == u32::from(device)
                }
                _ => message.device == device,
            };
            if let (true, Body::Response(response)) = (about, &mut message.body) {
                change(response);
                *frame = message.encode();
            }
        }));
    }

    /// From here on the board says its last answer to `device` once more where
    /// it would send EVENT_CONFIG.
    pub(super) fn repeat_answers(&mut self, device: u16) {
        let mut last: Option<Frame> = None;
        self.tamper = Some(Box::new(move |_, frame| match Message::decode(frame, Side::Device) {
            Ok(Message { device: about, body: Body::Response(_), .. }) if about == device => {
                last = Some(*frame);
            }
            Ok(Message { body: Body::Event(Event::Config { .. }), .. }) => {
                *frame = last.unwrap_or(*frame);
            }
            _ => {}
        }));
    }

    /// Answers what the host link asks for.
    pub(super) fn supply(&mut self, progress: Progress) -> Result<(), Refusal> {
        match progress {
            Progress::NeedRegions if self.bar_only => self.host.supply_regions(&[], None),
            Progress::NeedRegions => {
                let page = self.host_memory.part(0, 4096);
                self.host.supply_regions(&Self::regions(), page)
            }
            Progress::NeedFeatures { .. } => {
                let offered = self.host.facts().unwrap().offered;
                self.host.supply_features(offered)
            }
            Progress::NeedQueues { .. } => {
                let queues = self.queues();
                self.host.supply_queues(&queues)
            }
            _ => Ok(()),
        }
    }

    /// Ticks until `done` says so, at most `most` milliseconds.
    pub(super) fn until(
        &mut self,
        most: u64,
        mut done: impl FnMut(&Progress) -> bool,
    ) -> Result<Progress, Refusal> {
        for _ in 0..most {
            let step = self.tick()?;
            if done(&step.progress) {
                return Ok(step.progress);
            }
            self.supply(step.progress)?;
        }
        panic!("not done after {most} ms: {:?}", self.log.last());
    }

    pub(super) fn attach(&mut self) -> Result<(), Refusal> {
        self.until(30_000, |progress| *progress == Progress::Running).map(|_| ())
    }

    pub(super) fn detach(&mut self) -> bool {
        self.host.detach(self.now);
        let done = self.until(30_000, |p| matches!(p, Progress::Detached { .. }));
        matches!(done, Ok(Progress::Detached { clean: true }))
    }

    /// Ticks for `ms`, answers what the host link asks for, and returns what
    /// it said.
    pub(super) fn serve_for(&mut self, ms: u64) -> Result<Vec<LinkEvent>, Refusal> {
        let mut events = Vec::new();
        for _ in 0..ms {
            let progress = self.tick()?.progress;
            if let Progress::Event(event) = progress {
                events.push(event);
            }
            self.supply(progress)?;
        }
        Ok(events)
    }

    pub(super) fn run_for(&mut self, ms: u64) -> Result<Vec<LinkEvent>, Refusal> {
        let mut events = Vec::new();
        for _ in 0..ms {
            if let Progress::Event(event) = self.tick()?.progress {
                events.push(event);
            }
        }
        Ok(events)
    }
}
