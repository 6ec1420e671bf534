//! One end of a pair of message queues in shared memory (virtio-msg-amp).
//!
//! Guarantee: indices of the peer are only ever compared with private ones, an
//! element is copied to private memory before anything looks at it, and
//! nothing of this end's own is read back.

use crate::fault::PeerFault;
use crate::window::{Barrier, Window, fits};
use crate::wire::amp;
use crate::wire::msg::FRAME_LEN;

use super::codec::Frame;
use super::kind::Side;

/// Most elements that a queue may have.
pub const MAX_ELEMENTS: u16 = 1024;

/// Where the parts of a channel layout lie, in bytes from its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelLayout {
    /// Elements of each queue; one stays empty.
    pub elements: u16,
    /// The device side's queue head and elements.
    pub device: (u64, u64),
    /// The driver side's queue head and elements.
    pub driver: (u64, u64),
}

/// What our boards use: a page pair for each writer.
pub const OUR_LAYOUT: ChannelLayout =
    ChannelLayout { elements: 60, device: (0x40, 0x100), driver: (0x1000, 0x1100) };

impl ChannelLayout {
    /// Writes the header into `window`, the magic last (device side).
    pub fn publish<W: Window>(&self, window: &W) {
        let pair = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        window.store(amp::MAGIC_LENGTH, 0_u32);
        window.barrier(Barrier::Write);
        window.store(amp::VERSION_FEATURES, pair(amp::LAYOUT_VERSION, 0));
        window.store(amp::COUNTS, pair(0, self.elements));
        window.store(amp::ELEMENT_SIZE, pair(ELEMENT_SIZE, 0));
        for (at, (head, elements)) in
            [(amp::DEVICE_OFFSETS, self.device), (amp::DRIVER_OFFSETS, self.driver)]
        {
            window.store(at, 0_u64);
            window.store(at + 8, head);
            window.store(at + 16, elements);
        }
        window.barrier(Barrier::Write);
        window.store(amp::MAGIC_LENGTH, pair(amp::LAYOUT_MAGIC, amp::LAYOUT_LEN));
    }

    /// Reads the header from `window`, each word once, and checks the copy.
    ///
    /// # Errors
    /// [`PeerFault::LinkLost`] for all ones, else [`PeerFault::ChannelLayout`].
    pub fn read<W: Window>(window: &W) -> Result<Self, PeerFault> {
        let mut words = [0_u32; amp::LAYOUT_LEN as usize / 4];
        for (at, word) in (0_u64..).step_by(4).zip(words.iter_mut()) {
            *word = window.load(at);
            if *word == u32::MAX {
                return Err(PeerFault::LinkLost);
            }
            if at == 0 {
                window.barrier(Barrier::Read);
            }
        }
        Self::check(&words, window.len()).ok_or(PeerFault::ChannelLayout)
    }

    /// The layout in a private copy of the header, for an area of `len` bytes.
    #[must_use]
    pub fn check(words: &[u32; 16], len: u64) -> Option<Self> {
        let [magic, version, counts, size, rest @ ..] = words;
        let low = |word: &u32| u16::try_from(word & 0xFFFF).unwrap_or(0);
        let high = |word: &u32| u16::try_from(word >> 16).unwrap_or(0);
        let good = (low(magic), high(magic)) == (amp::LAYOUT_MAGIC, amp::LAYOUT_LEN)
            && low(version) == amp::LAYOUT_VERSION
            && high(version) & !amp::FEATURE_MASKED == 0
            && low(counts) == 0
            && (2..=MAX_ELEMENTS).contains(&high(counts))
            && (low(size), high(size)) == (ELEMENT_SIZE, 0);
        if !good {
            return None;
        }
        let mut offsets = rest
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[low, high]| u64::from(*low) | u64::from(*high) << 32);
        let mut side = || Some((offsets.next()?, (offsets.next()?, offsets.next()?)));
        let ((device_bitmap, device), (driver_bitmap, driver)) = (side()?, side()?);
        let layout = Self { elements: high(counts), device, driver };
        let inside = device_bitmap == 0 && driver_bitmap == 0 && layout.fits(len);
        inside.then_some(layout)
    }

    /// Whether all parts are aligned, inside `len` bytes, and apart.
    fn fits(&self, len: u64) -> bool {
        let elements = u64::from(self.elements) * u64::from(ELEMENT_SIZE);
        let parts = [
            (0, u64::from(amp::LAYOUT_LEN)),
            (self.device.0, amp::HEAD_LEN),
            (self.device.1, elements),
            (self.driver.0, amp::HEAD_LEN),
            (self.driver.1, elements),
        ];
        let inside = parts.iter().all(|(at, bytes)| fits(len, *at, *bytes) && at % 4 == 0);
        // `inside` first: then no sum below wraps.
        inside
            && parts.iter().enumerate().all(|(i, (at, bytes))| {
                parts
                    .iter()
                    .skip(i + 1)
                    .all(|(other, more)| at + bytes <= *other || other + more <= *at)
            })
    }
}

const ELEMENT_SIZE: u16 = 64;
const _: () = assert!(FRAME_LEN == ELEMENT_SIZE as usize);

/// Where an end of a channel stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChannelState {
    /// Set up; the peer has not been seen.
    Init,
    /// The peer has been seen.
    Ready,
    /// Messages flow.
    Run,
    /// Ended.
    Closed,
}

/// One end of a channel.
#[derive(Debug)]
pub struct Channel<W> {
    window: W,
    elements: u16,
    mine: (u64, u64),
    theirs: (u64, u64),
    state: ChannelState,
    /// The highest status that the peer has shown.
    peer_status: u16,
    /// Next element that I write.
    tail: u16,
    /// Next element of the peer's that I read.
    head: u16,
    /// The peer's tail and head, as last accepted.
    peer_tail: u16,
    peer_head: u16,
}

impl<W: Window> Channel<W> {
    /// The end `side` of a channel whose layout was checked (or written) for
    /// `window`. Nothing is written yet.
    pub const fn new(window: W, layout: &ChannelLayout, side: Side) -> Self {
        let (mine, theirs) = match side {
            Side::Device => (layout.device, layout.driver),
            Side::Driver => (layout.driver, layout.device),
        };
        Self {
            window,
            elements: layout.elements,
            mine,
            theirs,
            state: ChannelState::Closed,
            peer_status: 0,
            tail: 0,
            head: 0,
            peer_tail: 0,
            peer_head: 0,
        }
    }

    /// Where this end stands.
    pub const fn state(&self) -> ChannelState {
        self.state
    }

    /// Elements of each queue; one stays empty.
    pub const fn elements(&self) -> u16 {
        self.elements
    }

    /// Whether messages flow both ways.
    pub fn is_running(&self) -> bool {
        self.state == ChannelState::Run && self.peer_status == amp::STATUS_RUN
    }

    fn store_status(&self, status: u16) {
        let word = u32::from(amp::HEAD_MAGIC) | u32::from(status) << 16;
        self.window.store(self.mine.0 + amp::HEAD_STATUS, word);
    }

    fn store_indices(&self) {
        let word = u32::from(self.tail) | u32::from(self.head) << 16;
        self.window.store(self.mine.0 + amp::HEAD_INDICES, word);
    }

    /// Starts over: empty queue, status init.
    pub fn begin(&mut self) {
        (self.tail, self.head, self.peer_tail, self.peer_head) = (0, 0, 0, 0);
        self.peer_status = amp::STATUS_INIT;
        self.state = ChannelState::Init;
        self.store_indices();
        self.window.barrier(Barrier::Write);
        self.store_status(amp::STATUS_INIT);
    }

    /// Ends this end; the peer sees it in the status.
    pub fn close(&mut self, peer_dead: bool) {
        if self.state != ChannelState::Closed {
            self.state = ChannelState::Closed;
            self.store_status(if peer_dead { amp::STATUS_PEER_DEAD } else { amp::STATUS_SHUTDOWN });
        }
    }

    /// Looks at the peer's status and goes on with the start.
    ///
    /// # Errors
    /// The peer's end is closed, went back, or is not a queue head.
    pub fn poll(&mut self) -> Result<(), PeerFault> {
        if self.state == ChannelState::Closed {
            return Err(PeerFault::ChannelClosed { status: amp::STATUS_SHUTDOWN });
        }
        let word: u32 = self.window.load(self.theirs.0 + amp::HEAD_STATUS);
        if word == u32::MAX {
            return Err(PeerFault::LinkLost);
        }
        let magic = word & 0xFFFF;
        let status = u16::try_from(word >> 16).unwrap_or(0) & amp::STATUS_MASK;
        if magic != u32::from(amp::HEAD_MAGIC) {
            // Not there yet; once seen it must stay.
            return if self.state == ChannelState::Init {
                Ok(())
            } else {
                Err(PeerFault::ChannelLayout)
            };
        }
        if status > amp::STATUS_RUN || status < self.peer_status {
            return Err(PeerFault::ChannelClosed { status });
        }
        self.peer_status = status;
        if self.state == ChannelState::Init {
            self.state = ChannelState::Ready;
            self.store_status(amp::STATUS_READY);
        }
        if self.state == ChannelState::Ready && status != amp::STATUS_INIT {
            self.state = ChannelState::Run;
            self.store_status(amp::STATUS_RUN);
        }
        Ok(())
    }

    /// `to - from` in the ring; both are below the number of elements.
    const fn distance(&self, from: u16, to: u16) -> u16 {
        if to >= from { to - from } else { to + self.elements - from }
    }

    const fn after(&self, index: u16) -> u16 {
        if index + 1 == self.elements { 0 } else { index + 1 }
    }

    /// Takes the peer's indices, if they are possible.
    fn look(&mut self) -> Result<(), PeerFault> {
        let word: u32 = self.window.load(self.theirs.0 + amp::HEAD_INDICES);
        if word == u32::MAX {
            return Err(PeerFault::LinkLost);
        }
        let tail = u16::try_from(word & 0xFFFF).unwrap_or(u16::MAX);
        let head = u16::try_from(word >> 16).unwrap_or(u16::MAX);
        for index in [tail, head] {
            if index >= self.elements {
                return Err(PeerFault::ChannelIndex { index });
            }
        }
        // It may only add to what it sent, and only take what I sent.
        if self.distance(self.head, tail) < self.distance(self.head, self.peer_tail) {
            return Err(PeerFault::ChannelIndex { index: tail });
        }
        if self.distance(head, self.tail) > self.distance(self.peer_head, self.tail) {
            return Err(PeerFault::ChannelIndex { index: head });
        }
        (self.peer_tail, self.peer_head) = (tail, head);
        Ok(())
    }

    /// Whether there is room for one message.
    ///
    /// # Errors
    /// The peer's indices are impossible, or the bus is dead.
    pub fn has_room(&mut self) -> Result<bool, PeerFault> {
        let next = self.after(self.tail);
        if next == self.peer_head {
            self.look()?;
        }
        Ok(next != self.peer_head && self.is_running())
    }

    /// Sends one message; `false`: there is no room now.
    ///
    /// # Errors
    /// The peer's indices are impossible, or the bus is dead.
    pub fn send(&mut self, frame: &Frame) -> Result<bool, PeerFault> {
        if !self.has_room()? {
            return Ok(false);
        }
        self.window.write(self.element(self.mine, self.tail), frame);
        self.tail = self.after(self.tail);
        self.window.barrier(Barrier::Write);
        self.store_indices();
        Ok(true)
    }

    /// Takes one message into private memory; `false`: there is none.
    ///
    /// # Errors
    /// The peer's indices are impossible, or the bus is dead.
    pub fn receive(&mut self, into: &mut Frame) -> Result<bool, PeerFault> {
        if self.head == self.peer_tail {
            self.look()?;
        }
        if self.head == self.peer_tail || !self.is_running() {
            return Ok(false);
        }
        self.window.barrier(Barrier::Read);
        self.window.read(self.element(self.theirs, self.head), into);
        self.head = self.after(self.head);
        // The element is copied before the peer may write it again.
        self.window.barrier(Barrier::Full);
        self.store_indices();
        Ok(true)
    }

    fn element(&self, queue: (u64, u64), index: u16) -> u64 {
        queue.1 + u64::from(index) * u64::from(ELEMENT_SIZE)
    }
}
