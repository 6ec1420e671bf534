//! The host's end of a net device, for tests: both queues, buffers, frames.

use proptest::prelude::Rng;
use shared::address::BusAddress;
use shared::msg::device::DeviceModel;
use shared::msg::status::QueueSetup;
use shared::region::RegionTable;
use shared::virtq::{
    DeviceSlot, DriverQueue, DriverSlot, IndirectTables, Parts, QueueSize, RingOptions, Segment,
    SleepFlush,
};
use shared::window::Window;
use shared::wire::features::{EVENT_IDX, Features, IN_ORDER, INDIRECT_DESC};
use shared::wire::net::{HEADER_LEN, NetHeader, feature};
use shared::wire::net_control::{COMMAND_MAX, Command};

use super::{FakeBoard, FakeView, Memories, Memory, leak};
use crate::device::net::{
    CONTROLQ, NetBackend, NetDevice, NetMemory, NetOptions, RECEIVEQ, TRANSMITQ,
};
use crate::device::{BoardDevice, Clock, Context, Ran};
use crate::dma::{CpuCopy, DmaEngine};

pub(crate) type Driver = DriverQueue<Memory, Memory, Memory, Vec<DriverSlot>>;

/// Where rings and the buffers for frames to the board lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// Rings split by who reads them, buffers in host memory.
    Split,
    /// Everything in board memory.
    BarOnly,
}

/// How a rig is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RigOptions {
    pub(crate) size: u32,
    pub(crate) layout: Layout,
    /// Device-independent and net features that the driver accepts.
    pub(crate) features: u64,
    /// Bytes of each buffer for frames to the host.
    pub(crate) buffer: u32,
    /// Descriptors that each of those has.
    pub(crate) pieces: u32,
    pub(crate) mtu: u16,
    /// Where the avail rings lie, modulo 8: 0 or 4.
    pub(crate) avail_at: u64,
}

impl Default for RigOptions {
    fn default() -> Self {
        Self {
            size: 64,
            layout: Layout::Split,
            features: IN_ORDER | EVENT_IDX | feature::MRG_RXBUF,
            buffer: 2048,
            pieces: 1,
            mtu: 9000,
            avail_at: 0,
        }
    }
}

/// Bytes kept for each buffer towards the board.
const SEND_STRIDE: u64 = 70_000;

/// Descriptors of each indirect table.
const TABLE_ENTRIES: u16 = 12;

/// Offsets in the memories.
const RINGS: u64 = 0;
const BUFFERS: u64 = 0x10_0000;
/// The control queue's rings, and its buffers in host memory (split layout only).
const CONTROL: u64 = 0x60_0000;
const COMMANDS: u64 = 0x7F_0000;

/// A frame and its header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SentFrame {
    pub(crate) header: NetHeader,
    pub(crate) frame: Vec<u8>,
}

pub(crate) struct NetRig<B, E = CpuCopy> {
    pub(crate) memories: Memories,
    pub(crate) regions: RegionTable<Memory>,
    pub(crate) board: FakeBoard,
    pub(crate) dma: E,
    pub(crate) device: NetDevice<'static, Memory, B>,
    pub(crate) receive: Driver,
    pub(crate) transmit: Driver,
    /// The control queue, used if its feature is accepted.
    pub(crate) control: Driver,
    pub(crate) options: RigOptions,
    setups: [QueueSetup; 3],
    sends: u64,
}

impl<B: NetBackend> NetRig<B> {
    pub(crate) fn new(options: RigOptions, backend: B) -> Self {
        Self::with_engine(options, backend, CpuCopy)
    }
}

impl<B: NetBackend, E: DmaEngine<Memory>> NetRig<B, E> {
    pub(crate) fn with_engine(options: RigOptions, backend: B, dma: E) -> Self {
        let memories = Memories::new();
        let slots = usize::try_from(options.size).unwrap();
        let device = NetDevice::new(
            &NetOptions { mac: [2, 0, 0, 0, 0, 1], mtu: options.mtu, withhold: 0 },
            NetMemory {
                slots: [leak::<DeviceSlot>(slots), leak::<DeviceSlot>(slots)],
                frame: leak(NetMemory::FRAME_BYTES),
                waiting: leak(NetMemory::FRAME_BYTES),
            },
            backend,
        )
        .unwrap()
        .with_control(leak(slots))
        .unwrap();
        let queue = |number: u16| queue(&memories, &options, number);
        let [(receive, first), (transmit, second), (control, third)] =
            [RECEIVEQ, TRANSMITQ, CONTROLQ].map(queue);
        let mut rig = Self {
            regions: memories.regions(),
            memories,
            board: FakeBoard::default(),
            dma,
            device,
            receive,
            transmit,
            control,
            options,
            setups: [first, second, third],
            sends: 0,
        };
        rig.start();
        rig
    }

    /// DRIVER_OK.
    pub(crate) fn start(&mut self) {
        self.device.driver_ok(Features::new(self.options.features));
        let controlled = self.options.features & feature::CTRL_VQ != 0;
        for setup in self.setups.iter().filter(|setup| setup.queue != CONTROLQ || controlled) {
            self.device.activate_queue(setup, &self.regions).unwrap();
        }
    }

    /// Sets a queue up anew that was reset.
    pub(crate) fn reopen(&mut self, number: u16) {
        let (driver, setup) = queue(&self.memories, &self.options, number);
        match number {
            RECEIVEQ => self.receive = driver,
            TRANSMITQ => self.transmit = driver,
            _ => self.control = driver,
        }
        self.device.activate_queue(&setup, &self.regions).unwrap();
    }

    /// How a queue was set up.
    pub(crate) const fn setup(&self, queue: u16) -> QueueSetup {
        self.setups[queue as usize]
    }

    pub(crate) fn run_at(&mut self, now: u64) -> Ran {
        self.run_with(Clock { now_us: now * 1000, slack_us: 0 })
    }

    pub(crate) fn run_with(&mut self, clock: Clock) -> Ran {
        let mut context = Context {
            now: clock.now_us / 1000,
            clock,
            rung: true,
            support: &mut self.board,
            dma: &mut self.dma,
            regions: &self.regions,
            board: &FakeView::new(),
            reboot: false,
        };
        self.device.run(&mut context)
    }

    pub(crate) fn run(&mut self) -> Ran {
        self.run_at(0)
    }

    /// Where the buffer of a receiveq head lies: the memory, its offset there,
    /// its bus address.
    fn buffer(&self, head: u16) -> (&Memory, u64, BusAddress) {
        let offset = BUFFERS + u64::from(head) * u64::from(self.options.buffer);
        let (memory, base) = match self.options.layout {
            Layout::Split => (&self.memories.written, Memories::WRITTEN),
            Layout::BarOnly => (&self.memories.board, Memories::board_base()),
        };
        (memory, offset, base.checked_add(offset).unwrap())
    }

    /// Makes up to `count` buffers available for frames from the board.
    pub(crate) fn offer(&mut self, count: usize) -> usize {
        let mut offered = 0;
        while offered < count {
            let Some(head) = self.receive.next_head() else { break };
            let (_, _, address) = self.buffer(head);
            let RigOptions { buffer, pieces, .. } = self.options;
            let step = buffer / pieces;
            let segments: Vec<_> = (0..pieces)
                .map(|piece| Segment {
                    address: address.checked_add(u64::from(piece * step)).unwrap(),
                    len: if piece + 1 == pieces { buffer - piece * step } else { step },
                    writable: true,
                })
                .collect();
            if self.receive.add(&segments).is_err() {
                break;
            }
            offered += 1;
        }
        let _ = self.receive.publish();
        offered
    }

    /// Makes a command available, its bytes cut at `cuts` into descriptors,
    /// with room for so many bytes of answer behind it.
    pub(crate) fn put_command(&mut self, bytes: &[u8], cuts: &[usize], room: u32) {
        let at = COMMANDS + u64::from(self.control.next_head().unwrap()) * 0x400;
        self.memories.read.write(at, bytes);
        self.memories.written.write(at, &[0xEE; 8]);
        let (read, written) = (Memories::READ, Memories::WRITTEN);
        let mut segments = Vec::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([bytes.len()]) {
            segments.push(Segment {
                address: read.checked_add(at + start as u64).unwrap(),
                len: u32::try_from(end - start).unwrap(),
                writable: false,
            });
            start = end;
        }
        if room > 0 {
            let address = written.checked_add(at).unwrap();
            segments.push(Segment { address, len: room, writable: true });
        }
        self.control.add(&segments).unwrap();
        let _ = self.control.publish();
    }

    /// The answer to the next command.
    pub(crate) fn answer(&mut self) -> Option<u8> {
        let done = self.control.take().unwrap()?;
        assert_eq!(done.len, 1);
        let mut bytes = [0; 2];
        self.memories.written.read(COMMANDS + u64::from(done.head) * 0x400, &mut bytes);
        assert_eq!(bytes[1], 0xEE, "more than the answer was written");
        Some(bytes[0])
    }

    /// Has the board do a command, and returns its answer.
    pub(crate) fn command(&mut self, command: Command<'_>) -> u8 {
        let mut bytes = [0; COMMAND_MAX];
        let len = command.encode(&mut bytes).unwrap();
        self.put_command(&bytes[..len], &[], 1);
        self.run();
        self.answer().expect("an answer")
    }

    /// Puts bytes where the board may read them, for one descriptor.
    pub(crate) fn place(&mut self, bytes: &[u8]) -> BusAddress {
        let (memory, base, first, places) = match self.options.layout {
            Layout::Split => (&self.memories.read, Memories::READ, BUFFERS, 100),
            Layout::BarOnly => (&self.memories.board, Memories::board_base(), 3 * BUFFERS, 70),
        };
        let at = first + (self.sends % places) * SEND_STRIDE;
        self.sends += 1;
        memory.write(at, bytes);
        base.checked_add(at).unwrap()
    }

    /// Makes a frame available to the board, its bytes cut at `cuts` into
    /// descriptors.
    pub(crate) fn send_cut(&mut self, header: &NetHeader, frame: &[u8], cuts: &[usize]) {
        let bytes: Vec<u8> = header.encode().into_iter().chain(frame.iter().copied()).collect();
        let base = self.place(&bytes);
        let mut segments = Vec::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([bytes.len()]) {
            segments.push(Segment {
                address: base.checked_add(start as u64).unwrap(),
                len: u32::try_from(end - start).unwrap(),
                writable: false,
            });
            start = end;
        }
        self.transmit.add(&segments).unwrap();
        let _ = self.transmit.publish();
    }

    pub(crate) fn send(&mut self, header: &NetHeader, frame: &[u8]) {
        self.send_cut(header, frame, &[]);
    }

    /// Takes the board's frames, with the checks that a driver makes.
    pub(crate) fn frames(&mut self) -> Vec<SentFrame> {
        let mut frames = Vec::new();
        while let Some(first) = self.receive.take().unwrap() {
            let mut bytes = self.bytes(first.head, first.len);
            let header = NetHeader::decode(&bytes).expect("a buffer shorter than a header");
            assert_ne!(header.num_buffers, 0);
            for _ in 1..header.num_buffers {
                let next = self.receive.take().unwrap().expect("buffers published together");
                bytes.extend(self.bytes(next.head, next.len));
            }
            frames.push(SentFrame { header, frame: bytes.split_off(HEADER_LEN) });
        }
        frames
    }

    fn bytes(&self, head: u16, len: u32) -> Vec<u8> {
        assert!(len <= self.options.buffer);
        let (memory, offset, _) = self.buffer(head);
        let mut bytes = vec![0; len as usize];
        memory.read(offset, &mut bytes);
        bytes
    }

    /// Buffers that the board has given back from the transmitq.
    pub(crate) fn sent(&mut self) -> usize {
        let mut count = 0;
        while let Some(completion) = self.transmit.take().unwrap() {
            assert_eq!(completion.len, 0);
            count += 1;
        }
        count
    }
}

/// Both ends' view of a queue, initialised by the driver.
pub(crate) fn queue(
    memories: &Memories,
    options: &RigOptions,
    number: u16,
) -> (Driver, QueueSetup) {
    let size = QueueSize::try_from(options.size).unwrap();
    let at = if number == CONTROLQ { CONTROL } else { RINGS + u64::from(number) * 0x8_0000 };
    // A used ring at 4 modulo 8, as our drivers place it.
    let (descriptors_at, avail_at, used_at) = (at, at + 0x1_0000 + options.avail_at, at + 0x2_0004);
    let tables_at = at + 0x3_0000;
    let used_base = match options.layout {
        Layout::Split => (&memories.written, Memories::WRITTEN),
        Layout::BarOnly => (&memories.board, Memories::board_base()),
    };
    let window = |memory: &Memory, at: u64, len: u64| memory.part(at & !7, len + (at & 7)).unwrap();
    let parts = Parts {
        descriptors: window(&memories.board, descriptors_at, size.descriptor_table_len()),
        avail: window(&memories.board, avail_at, size.avail_len()),
        avail_at: avail_at & 7,
        used: window(used_base.0, used_at, size.used_len()),
        used_at: used_at & 7,
    };
    let features = Features::new(options.features);
    let slots = vec![DriverSlot::default(); usize::try_from(options.size).unwrap()];
    let driver = Driver::new(
        parts,
        slots,
        RingOptions {
            size,
            in_order: features.has(IN_ORDER),
            event_idx: features.has(EVENT_IDX),
            indirect: features.has(INDIRECT_DESC),
            sleep_flush: SleepFlush::ReadBack,
            publish_flush: false,
        },
    )
    .unwrap();
    let board = |at| Memories::board_base().checked_add(at).unwrap();
    // Used if INDIRECT_DESC is among the features; shorter than the longest chain.
    let tables = IndirectTables {
        window: window(
            &memories.board,
            tables_at,
            IndirectTables::<Memory>::bytes(size, TABLE_ENTRIES),
        ),
        base: board(tables_at),
        entries: TABLE_ENTRIES,
    };
    let driver = driver.with_tables(tables).unwrap();
    let setup = QueueSetup {
        queue: number,
        size,
        descriptors: board(descriptors_at),
        driver: board(avail_at),
        device: used_base.1.checked_add(used_at).unwrap(),
        doorbell: u32::from(number) + 1,
        vector: u32::from(number) + 1,
    };
    (driver, setup)
}

/// An Ethernet frame of `len` bytes that no stack answers, with content that
/// depends on `seed`.
pub(crate) fn frame_of(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut frame: Vec<u8> = (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect();
    if let Some(head) = frame.first_chunk_mut::<14>() {
        *head = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x88, 0xB5];
    }
    frame
}

/// The same with a random length from the range.
pub(crate) fn random_frame(rng: &mut impl Rng, from: usize, to: usize) -> Vec<u8> {
    let seed = rng.next_u64();
    let len = from + usize::try_from(seed >> 40).unwrap() % (to - from + 1);
    frame_of(len, seed)
}
