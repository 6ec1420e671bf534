//! The host's end of a console, for tests.

use shared::address::BusAddress;
use shared::msg::device::DeviceModel;
use shared::msg::status::QueueSetup;
use shared::region::RegionTable;
use shared::virtq::{DeviceSlot, Segment};
use shared::window::Window;
use shared::wire::features::Features;

use super::driver::{Driver, queue};
use super::{FakeBoard, FakeView, Memories, Memory, RigOptions, leak};
use crate::device::console::{ConsoleBackend, ConsoleDevice, Log, RECEIVEQ, Shell, TRANSMITQ};
use crate::device::{BoardDevice, Clock, Context, Ran};
use crate::dma::{CpuCopy, DmaEngine};

/// Bytes kept for each buffer.
const STRIDE: u64 = 4096;
/// Where the buffers begin in their memories.
const BUFFERS: u64 = 0x10_0000;

pub(crate) struct ConsoleRig<B, E = CpuCopy> {
    pub(crate) memories: Memories,
    pub(crate) regions: RegionTable<Memory>,
    pub(crate) board: FakeBoard,
    pub(crate) dma: E,
    pub(crate) view: FakeView,
    pub(crate) device: ConsoleDevice<'static, Memory, B>,
    pub(crate) receive: Driver,
    pub(crate) transmit: Driver,
    /// Some device has asked for a restart of the board.
    pub(crate) reboot: bool,
    pub(crate) now: u64,
    options: RigOptions,
    setups: [QueueSetup; 2],
}

impl ConsoleRig<Shell<'static>> {
    /// A shell whose log has so many bytes.
    pub(crate) fn shell(log: usize) -> Self {
        Self::new(RigOptions::default(), Shell::new(Log::new(leak(log))), CpuCopy)
    }
}

impl<B: ConsoleBackend, E: DmaEngine<Memory>> ConsoleRig<B, E> {
    pub(crate) fn new(options: RigOptions, backend: B, dma: E) -> Self {
        let memories = Memories::new();
        let slots = usize::try_from(options.size).unwrap();
        let slots = [leak::<DeviceSlot>(slots), leak::<DeviceSlot>(slots)];
        let device = ConsoleDevice::new(slots, backend).unwrap();
        let queue = |number: u16| queue(&memories, &options, number);
        let ((receive, first), (transmit, second)) = (queue(RECEIVEQ), queue(TRANSMITQ));
        let mut rig = Self {
            regions: memories.regions(),
            memories,
            board: FakeBoard::default(),
            dma,
            view: FakeView::new(),
            device,
            receive,
            transmit,
            reboot: false,
            now: 0,
            options,
            setups: [first, second],
        };
        rig.start();
        rig
    }

    /// The same device behind a reset, with queues set up anew.
    pub(crate) fn again(mut self) -> Self {
        assert!(self.device.reset());
        let queue = |number: u16| queue(&self.memories, &self.options, number);
        let ((receive, first), (transmit, second)) = (queue(RECEIVEQ), queue(TRANSMITQ));
        (self.receive, self.transmit) = (receive, transmit);
        self.setups = [first, second];
        self.start();
        self
    }

    /// DRIVER_OK.
    fn start(&mut self) {
        self.device.driver_ok(Features::new(self.options.features));
        for setup in &self.setups {
            self.device.activate_queue(setup, &self.regions).unwrap();
        }
    }

    /// Gives the board `count` buffers of `len` bytes.
    pub(crate) fn offer(&mut self, count: usize, len: u32) {
        for _ in 0..count {
            let Some(head) = self.receive.next_head() else { break };
            let address = at(Memories::WRITTEN, head);
            self.receive.add(&[Segment { address, len, writable: true }]).unwrap();
        }
        let _ = self.receive.publish();
    }

    /// Sends bytes in one buffer. `false`: there was no descriptor for it.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        let Some(head) = self.transmit.next_head() else { return false };
        self.memories.read.write(offset(head), bytes);
        let (address, len) = (at(Memories::READ, head), u32::try_from(bytes.len()).unwrap());
        self.transmit.add(&[Segment { address, len, writable: false }]).unwrap();
        let _ = self.transmit.publish();
        true
    }

    pub(crate) fn run(&mut self) -> Ran {
        let mut context = Context {
            now: self.now,
            clock: Clock { now_us: self.now * 1000, slack_us: 0 },
            rung: true,
            support: &mut self.board,
            dma: &mut self.dma,
            regions: &self.regions,
            board: &self.view,
            reboot: false,
        };
        let ran = self.device.run(&mut context);
        self.reboot |= context.reboot;
        ran
    }

    /// What the board has written since the last call.
    pub(crate) fn received(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(done) = self.receive.take().unwrap() {
            let mut bytes = vec![0; usize::try_from(done.len).unwrap()];
            self.memories.written.read(offset(done.head), &mut bytes);
            all.extend(bytes);
        }
        all
    }

    /// Buffers of the host's that came back from the transmitq.
    pub(crate) fn sent(&mut self) -> usize {
        let mut count = 0;
        while let Some(done) = self.transmit.take().unwrap() {
            assert_eq!(done.len, 0);
            count += 1;
        }
        count
    }

    /// Runs until nothing moves, with buffers of `len` bytes for all that comes.
    pub(crate) fn screen_in(&mut self, len: u32) -> String {
        let mut all = Vec::new();
        for _ in 0..10_000 {
            self.offer(8, len);
            let moved = self.run().moved;
            all.extend(self.received());
            self.sent();
            if moved == 0 {
                return String::from_utf8(all).unwrap();
            }
        }
        panic!("it never stops: {:?}", String::from_utf8_lossy(&all));
    }

    pub(crate) fn screen(&mut self) -> String {
        self.screen_in(256)
    }

    /// What the board says to these keys.
    pub(crate) fn keys(&mut self, keys: &str) -> String {
        assert!(self.send(keys.as_bytes()));
        self.screen()
    }
}

fn offset(head: u16) -> u64 {
    BUFFERS + u64::from(head) * STRIDE
}

fn at(base: BusAddress, head: u16) -> BusAddress {
    base.checked_add(offset(head)).unwrap()
}
