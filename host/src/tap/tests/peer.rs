//! What stands at the board's end of the tap in these tests.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use memmap2::MmapRaw;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shared::raw::RamWindow;
use shared::region::Located;
use shared::window::{Barrier, Window, Word};
use shared::wire::net::{HEADER_LEN, NetHeader};

use crate::bus::KernelMemory;
use crate::net::tests::grammar::{BOARD_MAC, HOST_MAC, L4, Recipe};
use crate::net::{CHECKED_BYTES, FramePort, Offloads, OutboundHeader, Rules, Sanitizer, Sent};
use crate::netlink::Netlink;
use crate::raw::{KernelRange, SharedMemory};
use crate::tap::{Tap, TapOptions};

/// Room for one frame.
const ROOM: u32 = 96 * 1024;

/// Longest wait for a frame.
const PATIENCE: Duration = Duration::from_secs(10);

/// A window that the kernel may copy into, or one that it must not touch.
#[derive(Clone)]
pub(crate) struct TestWindow {
    memory: RamWindow<std::sync::Arc<MmapRaw>>,
    reachable: bool,
}

impl TestWindow {
    pub(crate) fn new(reachable: bool) -> Self {
        Self { memory: SharedMemory::new(2 * ROOM as usize).unwrap().window(), reachable }
    }
}

impl Window for TestWindow {
    fn len(&self) -> u64 {
        self.memory.len()
    }
    fn load<T: Word>(&self, offset: u64) -> T {
        self.memory.load(offset)
    }
    fn store<T: Word>(&self, offset: u64, value: T) {
        self.memory.store(offset, value);
    }
    fn read(&self, offset: u64, into: &mut [u8]) {
        self.memory.read(offset, into);
    }
    fn write(&self, offset: u64, from: &[u8]) {
        self.memory.write(offset, from);
    }
    fn barrier(&self, barrier: Barrier) {
        self.memory.barrier(barrier);
    }
    fn part(&self, offset: u64, len: u64) -> Option<Self> {
        Some(Self { memory: self.memory.part(offset, len)?, ..self.clone() })
    }
}

impl KernelMemory for TestWindow {
    fn kernel_range(&self, offset: u64, len: usize) -> Option<KernelRange<'_>> {
        self.reachable.then(|| KernelRange::of(&self.memory, offset, len)).flatten()
    }
}

/// A tap that is up, as 10.0.0.1 and fd00::1, and the board's address there:
/// 10.0.0.2 and fd00::2.
pub(super) struct Peer {
    pub(super) tap: Tap,
    pub(super) window: TestWindow,
    outbound: OutboundHeader,
    sanitizer: Sanitizer,
}

impl Peer {
    pub(super) fn new(offloads: Offloads, reachable: bool) -> Self {
        let tap = Tap::open(&TapOptions::new("vphys0")).unwrap();
        tap.set_offloads(offloads).unwrap();
        tap.set_carrier(true).unwrap();
        let mut net = Netlink::open().unwrap();
        net.no_automatic_address("vphys0").unwrap();
        net.set_mac("vphys0", HOST_MAC).unwrap();
        net.set_up("vphys0").unwrap();
        net.add_address("vphys0", "10.0.0.1".parse().unwrap(), 24).unwrap();
        Self {
            tap,
            window: TestWindow::new(reachable),
            outbound: OutboundHeader::new(offloads, 1500),
            sanitizer: Sanitizer::new(Rules::new(offloads, 1500, Some(BOARD_MAC))),
        }
    }

    /// The next frame that is not ARP, with the header that a board would see.
    pub(super) fn receive(&mut self) -> (NetHeader, Vec<u8>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(len) = self.tap.receive(&self.window, 64, ROOM).unwrap() else {
                let left = deadline.saturating_duration_since(Instant::now());
                let left = PollTimeout::try_from(left).unwrap();
                let ready = poll(&mut [PollFd::new(self.tap.as_fd(), PollFlags::POLLIN)], left);
                assert_eq!(ready, Ok(1), "no frame came");
                continue;
            };
            self.outbound.check(&self.window, 64, len).unwrap();
            let mut bytes = vec![0; len as usize];
            self.window.read(64, &mut bytes);
            let frame = bytes.split_off(HEADER_LEN);
            match frame[12..14] {
                [0x08, 0x06] => self.answer_arp(&frame),
                [0x08, 0x00] => return (NetHeader::decode(&bytes).unwrap(), frame),
                _ => {}
            }
        }
    }

    /// "10.0.0.2 is at the board."
    fn answer_arp(&mut self, asked: &[u8]) {
        let mut reply = vec![];
        reply.extend(HOST_MAC);
        reply.extend(BOARD_MAC);
        reply.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
        reply.extend(BOARD_MAC);
        reply.extend([10, 0, 0, 2]);
        reply.extend(&asked[22..32]);
        if asked[38..42] == [10, 0, 0, 2] {
            self.send(NetHeader::default(), &reply);
        }
    }

    /// Sends a frame as the bridge does: checked, in three pieces.
    pub(super) fn send(&mut self, header: NetHeader, frame: &[u8]) {
        assert_eq!(self.try_send(header, frame), Sent::Whole);
    }

    pub(super) fn try_send(&mut self, header: NetHeader, frame: &[u8]) -> Sent {
        let split = frame.len().min(CHECKED_BYTES);
        let mut head = header.encode().to_vec();
        head.extend(&frame[..split]);
        let checked = self.sanitizer.check(&head, frame.len() as u32).unwrap();
        self.window.write(3, &frame[split..]);
        let window = &self.window;
        let (len, first) = (frame.len() - split, (frame.len() - split) / 3);
        let pieces = [(3, first), (3 + first, 0), (3 + first, len - first)];
        let rest =
            pieces.map(|(offset, len)| Located { window, offset: offset as u64, len: len as u32 });
        self.tap.send(checked.head(&mut head), &rest).unwrap()
    }

    /// A TCP segment to the host's `port`, from port 9.
    pub(super) fn send_tcp(&mut self, port: u16, flags: u8, seq: u32, ack: u32, payload: &[u8]) {
        // One word of options: the largest segment, 1460.
        let recipe = Recipe { tcp_options: 1, ..Recipe::new(false, L4::Tcp, payload.len()) };
        let mut frame = recipe.build();
        let tcp = recipe.transport_at();
        frame[tcp..tcp + 2].copy_from_slice(&9u16.to_be_bytes());
        frame[tcp + 2..tcp + 4].copy_from_slice(&port.to_be_bytes());
        frame[tcp + 4..tcp + 8].copy_from_slice(&seq.to_be_bytes());
        frame[tcp + 8..tcp + 12].copy_from_slice(&ack.to_be_bytes());
        frame[tcp + 13] = flags;
        frame[tcp + 14..tcp + 16].copy_from_slice(&[0xFF, 0xFF]);
        let option: [u8; 4] = if flags & 2 != 0 { [2, 4, 0x05, 0xb4] } else { [1; 4] };
        frame[tcp + 20..tcp + 24].copy_from_slice(&option);
        frame[recipe.headers()..].copy_from_slice(payload);
        let segment = (payload.len() > 1400).then_some(1400);
        self.send(recipe.header(segment), &frame);
    }
}

/// Fields of a TCP segment over IPv4 without options.
pub(super) struct Segment {
    pub(super) port: u16,
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) payload: Vec<u8>,
}

pub(super) fn read_tcp(frame: &[u8]) -> Segment {
    assert_eq!(frame[23], 6, "not TCP");
    let tcp = &frame[34..];
    Segment {
        port: u16::from_be_bytes([tcp[0], tcp[1]]),
        flags: tcp[13],
        seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        payload: tcp[usize::from(tcp[12] >> 4) * 4..].to_vec(),
    }
}
