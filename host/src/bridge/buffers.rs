//! Where a queue's buffers lie: descriptor i always carries buffer i (R5).

use shared::address::BusAddress;
use shared::window::Window;

/// Equal buffers in one window, one for each descriptor of a queue.
#[derive(Clone, Debug)]
pub struct BufferArea<W> {
    window: W,
    base: BusAddress,
    stride: u32,
}

impl<W: Window> BufferArea<W> {
    /// The area of `window`, whose first byte the board knows as `base`, cut
    /// into buffers of `stride` bytes.
    #[must_use]
    pub const fn new(window: W, base: BusAddress, stride: u32) -> Self {
        Self { window, base, stride }
    }

    /// The memory.
    #[must_use]
    pub const fn window(&self) -> &W {
        &self.window
    }

    /// Bytes a buffer.
    #[must_use]
    pub const fn stride(&self) -> u32 {
        self.stride
    }

    /// Offset of buffer `index` in the window.
    #[must_use]
    pub fn offset(&self, index: u16) -> u64 {
        u64::from(index) * u64::from(self.stride)
    }

    /// Bus address of buffer `index`.
    #[must_use]
    pub const fn address(&self, index: u16) -> BusAddress {
        BusAddress::new(self.base.bits() + index as u64 * self.stride as u64)
    }

    /// How many buffers fit.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.window.len() / u64::from(self.stride.max(1))
    }
}

/// Where the port leaves a frame before it goes to the board.
#[derive(Debug)]
pub enum Staging<W> {
    /// Host memory that the board can fetch from: large frames stay there.
    Shared(BufferArea<W>),
    /// Private memory of one frame: the board cannot reach host memory, so
    /// every frame is pushed.
    Private(Box<[u8]>),
}

/// Bytes that [`copy`] moves at a time: small enough to stay in the first-level cache.
const COPY_CHUNK: u32 = 512;

/// Copies `len` bytes from one window to another, rounded up to whole 32-bit
/// words so that the last store suits every bus.
pub(super) fn copy<W: Window>(from: &W, from_offset: u64, to: &W, to_offset: u64, len: u32) {
    let mut chunk = [0; COPY_CHUNK as usize];
    let mut done = 0;
    while done < len {
        let left = len - done;
        let part = left.min(COPY_CHUNK);
        let Some(bytes) = chunk.get_mut(..part as usize) else { return };
        from.read(from_offset + u64::from(done), bytes);
        write_whole_words(to, to_offset + u64::from(done), &mut chunk, part);
        done += part;
    }
}

/// Writes the first `len` bytes of `chunk`, padded with zeroes to whole words.
fn write_whole_words<W: Window>(to: &W, offset: u64, chunk: &mut [u8], len: u32) {
    let padded = len.next_multiple_of(4) as usize;
    if let Some(pad) = chunk.get_mut(len as usize..padded) {
        pad.fill(0);
    }
    if let Some(bytes) = chunk.get(..padded) {
        to.write(offset, bytes);
    }
}
