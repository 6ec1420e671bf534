//! Both ends of a [`Rig`], each stepped when a test says so and at no other
//! time: what they do depends on nothing but what they are given, so counts
//! come out the same every time, and nothing here allocates once it is up.
//!
//! Not for: order and delay, which the rig shows on the instrument.

use board::device::Wake;
use board::device::net::{FrameHandler, Port};
use board::service::{Next, ServiceOptions};
use host::bus::sim::Bill;
use host::net::{FramePort, PortError, Sent};
use host::session::{Layout, SessionConfig};
use shared::region::Located;
use shared::window::Window;
use shared::wire::net::{HEADER_LEN, NetHeader};

use crate::rig::{BOARD_MAC, HOST_MAC, Pair, Rig, RigOptions};

/// What went wrong, in its own words: for a test to fail with.
pub type Failure = Box<dyn std::error::Error>;

/// Shortest and longest frame, in bytes: as on a wire, without the checksum.
const SHORTEST: usize = 60;
const LONGEST: usize = 1514;

/// Frames of lengths that never repeat within a ring's lap, so that no
/// descriptor and no used entry says the same twice in a row.
#[derive(Clone, Copy, Debug)]
pub struct Lengths(usize);

impl Lengths {
    const SPAN: usize = LONGEST - SHORTEST + 1;

    /// From the shortest on.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    fn next(&mut self) -> usize {
        // A step that shares no factor with the span visits every length.
        self.0 = (self.0 + 463) % Self::SPAN;
        SHORTEST + self.0
    }
}

impl Default for Lengths {
    fn default() -> Self {
        Self::new()
    }
}

/// A frame of an experimental EtherType, with its virtio-net header in front.
fn write_frame(into: &mut [u8], to: [u8; 6], from: [u8; 6]) {
    let bytes = NetHeader::default().encode().into_iter().chain(to).chain(from).chain([0x88, 0xB5]);
    for (place, byte) in into.iter_mut().zip(bytes) {
        *place = byte;
    }
}

/// The host's port: frames to offer, and a count of those that came.
#[derive(Debug)]
pub struct HostFrames {
    /// Frames that the port still has for the board.
    pub waiting: u32,
    /// Frames that came from the board, and their bytes.
    pub came: u64,
    /// Their bytes, headers apart.
    pub bytes: u64,
    lengths: Lengths,
    frame: Box<[u8]>,
    sink: Box<[u8]>,
}

impl HostFrames {
    fn new() -> Self {
        let mut frame = vec![0; HEADER_LEN + LONGEST].into_boxed_slice();
        write_frame(&mut frame, BOARD_MAC, HOST_MAC);
        let sink = vec![0; HEADER_LEN + LONGEST].into_boxed_slice();
        Self { waiting: 0, came: 0, bytes: 0, lengths: Lengths::new(), frame, sink }
    }

    fn next(&mut self) -> Option<&[u8]> {
        self.waiting = self.waiting.checked_sub(1)?;
        let len = HEADER_LEN + self.lengths.next();
        self.frame.get(..len)
    }
}

impl<W: Window> FramePort<W> for HostFrames {
    fn receive(&mut self, into: &W, offset: u64, capacity: u32) -> Result<Option<u32>, PortError> {
        let Some(frame) = self.next() else { return Ok(None) };
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        assert!(len <= capacity, "a frame of {len} bytes for {capacity}");
        into.write(offset, frame);
        Ok(Some(len))
    }

    fn receive_private(&mut self, into: &mut [u8]) -> Result<Option<u32>, PortError> {
        let Some(frame) = self.next() else { return Ok(None) };
        into[..frame.len()].copy_from_slice(frame);
        Ok(u32::try_from(frame.len()).ok())
    }

    fn send(&mut self, head: &[u8], rest: &[Located<'_, W>]) -> Result<Sent, PortError> {
        let mut len = head.len();
        for piece in rest.iter().filter(|piece| piece.len > 0) {
            let into = &mut self.sink[..piece.len as usize];
            piece.window.read(piece.offset, into);
            len += into.len();
        }
        self.came += 1;
        self.bytes += (len - HEADER_LEN) as u64;
        Ok(Sent::Whole)
    }
}

/// The board's own code: the same on its side.
#[derive(Debug, Default)]
pub struct BoardFrames {
    /// Frames that the board still has for the host.
    pub waiting: u32,
    /// Frames that came from the host.
    pub came: u64,
    /// Their bytes, headers apart.
    pub bytes: u64,
    lengths: Lengths,
}

impl FrameHandler for BoardFrames {
    fn take(&mut self, _now: u64, _header: &NetHeader, frame: &[u8]) {
        self.came += 1;
        self.bytes += frame.len() as u64;
    }

    fn give(&mut self, _now: u64, into: &mut [u8]) -> Option<(NetHeader, usize)> {
        self.waiting = self.waiting.checked_sub(1)?;
        // The addresses were written by the frame before, all but the first.
        let [d0, d1, d2, d3, d4, d5] = HOST_MAC;
        let [s0, s1, s2, s3, s4, s5] = BOARD_MAC;
        let ethernet = [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, 0x88, 0xB5];
        into[..ethernet.len()].copy_from_slice(&ethernet);
        Some((NetHeader::default(), self.lengths.next()))
    }

    fn next(&self, _now: u64) -> Wake {
        Wake::Idle
    }
}

/// A host and a board that are up, on one bus in counted mode.
#[derive(Debug)]
pub struct Lockstep {
    /// The two, and the bus between them.
    pub rig: Rig<Port<BoardFrames>>,
    /// The host's data path, out of the rig's hands.
    pub pair: Box<Pair>,
    /// The host's port.
    pub port: HostFrames,
    host_sleeps: u64,
}

impl Lockstep {
    /// Brings both ends up with this layout and all features, else as the
    /// daemon's defaults have it.
    ///
    /// # Errors
    /// Why they did not come up.
    pub fn new(layout: Layout) -> Result<Self, Failure> {
        Self::with(RigOptions::counted().layout(layout))
    }

    /// Brings both ends up with these options.
    ///
    /// # Errors
    /// Why they did not come up.
    pub fn with(mut options: RigOptions) -> Result<Self, Failure> {
        options.session.mtu = SessionConfig::default().mtu;
        options.board.spin = ServiceOptions::default().spin;
        let mut rig = Rig::try_new(options, Port::new(BoardFrames::default(), 0))?;
        rig.attach()?;
        let pair = rig.host.pair.take().ok_or("no data path")?;
        Ok(Self { rig, pair, port: HostFrames::new(), host_sleeps: 0 })
    }

    /// The bill so far.
    #[must_use]
    pub fn bill(&self) -> Bill {
        self.rig.bill()
    }

    /// The board's own code behind the device.
    pub fn board(&mut self) -> &mut BoardFrames {
        self.rig.board.backend().handler()
    }

    /// One step of the host's data path; whether a frame moved.
    ///
    /// # Errors
    /// The board broke the protocol.
    pub fn host_step(&mut self) -> Result<bool, Failure> {
        let moved = self.pair.step(self.rig.now, &mut self.port)?;
        Ok(moved.frames > 0 || moved.more)
    }

    /// One step of the board; whether it goes on without sleep.
    pub fn board_step(&mut self) -> bool {
        self.rig.board.service.step(self.rig.now) == Next::Again
    }

    /// Steps the host until it may sleep, as the daemon's worker does.
    ///
    /// # Errors
    /// The board broke the protocol.
    pub fn host_to_sleep(&mut self) -> Result<(), Failure> {
        loop {
            while self.host_step()? {}
            if self.pair.prepare_sleep()? {
                self.host_sleeps += 1;
                return Ok(());
            }
        }
    }

    /// Steps the board until it sleeps.
    pub fn board_to_sleep(&mut self) {
        while self.board_step() {}
    }

    /// How often the host and the board went to sleep.
    #[must_use]
    pub fn sleeps(&self) -> (u64, u64) {
        (self.host_sleeps, self.rig.board.stats().sleeps)
    }

    /// Event words read back across the bus before a sleep: the host's and
    /// the board's.
    pub fn sleep_flushes(&mut self) -> (u64, u64) {
        let host = self.pair.counters();
        let board = self.rig.board.device().queue_stats();
        (
            host.to_board.sleep_flushes + host.to_host.sleep_flushes,
            board.iter().map(|queue| queue.flushes).sum(),
        )
    }
}
