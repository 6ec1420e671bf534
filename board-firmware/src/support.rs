//! What a board brings: windows, doorbells, interrupts.
//!
//! A board's own code is an implementation of [`BoardSupport`], a DMA engine
//! ([`crate::dma`]), and a loop around [`crate::service::Service::step`].
//! Boards whose parts are plain windows (the simulator, a Linux board, QEMU
//! with ivshmem) use [`WindowBoard`].

use core::fmt;

use shared::address::BusAddress;
use shared::msg::body::{RegionKind, RegionMessage, ResultCode};
use shared::window::Window;

/// Doorbells that have rung, one bit each: bit 0 the message channel, bits 1
/// to 31 the queues that the host routed there.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Doorbells(pub u32);

impl Doorbells {
    /// None.
    pub const NONE: Self = Self(0);
    /// Could have been any: for a board that only knows that it was woken.
    pub const ALL: Self = Self(u32::MAX);

    /// Whether the message channel's doorbell is among them.
    #[must_use]
    pub const fn channel(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether a queue's doorbell is among them.
    #[must_use]
    pub const fn queues(self) -> bool {
        self.0 & !1 != 0
    }
}

/// The board under the service.
///
/// # Implementation contract
/// - No method waits for the host, and each is bounded in time.
/// - [`Window::barrier`] of its windows means: *accepted by the PCIe
///   controller*, for everything this CPU wrote through any window.
/// - Words in windows are never cached: board memory that holds ring parts or
///   control pages is mapped uncached unless the host's writes snoop the cache.
/// - Relaxed ordering and ID-based ordering are off in the function's Device
///   Control registers, and ring writes, payload and interrupts leave by one
///   function in one traffic class.
pub trait BoardSupport {
    /// A window into host memory or board memory.
    type Window: Window + Clone;

    /// Opens the region that the host adds, and returns a window of exactly
    /// its length. Called once a region, during bring-up.
    ///
    /// For host memory this points an outbound window (and the DMA engine) at
    /// the region's IOVA; for board memory it finds the BAR region of that index.
    ///
    /// # Errors
    /// [`ResultCode::OutOfReach`] or [`ResultCode::NoRoom`], which the host
    /// gets to know; nothing is open then.
    fn open_region(&mut self, region: &RegionMessage) -> Result<Self::Window, ResultCode>;

    /// Closes the region with this number. Called when no queue uses it any
    /// more and the DMA engine is drained: behind REMOVE_REGION, and for each
    /// open region at the end of a session. Every window made for it is gone
    /// or will not be touched again.
    fn close_region(&mut self, number: u32);

    /// The doorbells that rang since the last call, and forgets them. Called
    /// first in each step: draining comes before looking.
    ///
    /// A doorbell that rings after this is kept for the next call and wakes
    /// the board from the wait that follows a [`crate::service::Next::Sleep`].
    fn take_doorbells(&mut self) -> Doorbells;

    /// Raises an interrupt vector of the host. Called behind `publish`, at
    /// most once a queue and batch.
    ///
    /// It is ordered behind all earlier outbound writes of this CPU and,
    /// after [`crate::dma::DmaEngine::finish`], of the DMA engine. A board
    /// that cannot promise it says so (`interrupts_unordered` in its
    /// description), and the host flushes instead.
    fn raise(&mut self, vector: u16);

    /// Writes the dirty cache lines that `len` bytes at `offset` touch back to
    /// memory, where the host reads them. Called for each piece of payload,
    /// right behind its [`post`](crate::dma::DmaEngine::post). The lines may
    /// stay in the cache.
    ///
    /// For boards that map board memory's payload cached and whose cache does
    /// not see the host's accesses. When it returns, a [`Window::barrier`]
    /// orders the bytes like any other store (on Arm: clean by address to the
    /// point of coherency, the barrier's `dsb` completes it). A coherent board,
    /// one that maps board memory uncached, and for windows into host memory
    /// every board, has nothing to do.
    fn clean(&mut self, window: &Self::Window, offset: u64, len: u32) {
        let _ = (window, offset, len);
    }

    /// Drops the cache lines that `len` bytes at `offset` touch, so that the
    /// next access finds what is in memory. For the same boards as
    /// [`clean`](Self::clean); loads that come later must not be served from a
    /// line fetched earlier (on Arm: invalidate by address, then `dsb`).
    ///
    /// Called for each piece of payload right before its
    /// [`fetch`](crate::dma::DmaEngine::fetch): lines from an earlier use of the
    /// buffer, or fetched ahead, are old. And for its first and its last byte
    /// before each `post`: lines are written back whole, and an old copy of the
    /// neighbours in them would go along. Nothing in these lines is ever dirty,
    /// because each post is cleaned at once; so nothing is lost. Rings and the
    /// buffers of either direction never share 64 bytes (R2); a board with
    /// longer lines maps board memory uncached.
    fn invalidate(&mut self, window: &Self::Window, offset: u64, len: u32) {
        let _ = (window, offset, len);
    }

    /// The host asks for a reboot. `true`: the board does it once the answer
    /// has gone out, when
    /// [`Service::reboot_due`](crate::service::Service::reboot_due) says so.
    fn reboot(&mut self) -> bool {
        false
    }
}

/// A board made of plain windows: board memory as an array of them, host
/// memory through `reach`, doorbells and interrupts through one function each.
///
/// - `memory`: the board regions of the description, in its order.
/// - `reach(iova, len)`: a window into host memory of exactly that length.
/// - `doorbells()`: as [`BoardSupport::take_doorbells`].
/// - `raise(vector)`: as [`BoardSupport::raise`].
///
/// A region's window closes when the last clone of it is dropped. Nothing is
/// cached. The host's wish for a reboot is refused, unless the board is one
/// [`that_reboots`](Self::that_reboots).
pub struct WindowBoard<W, const REGIONS: usize, O, D, I> {
    memory: [W; REGIONS],
    reach: O,
    doorbells: D,
    raise: I,
    reboots: bool,
}

impl<W, const REGIONS: usize, O, D, I> WindowBoard<W, REGIONS, O, D, I> {
    /// A board with these parts.
    pub const fn new(memory: [W; REGIONS], reach: O, doorbells: D, raise: I) -> Self {
        Self { memory, reach, doorbells, raise, reboots: false }
    }

    /// The same with a loop that starts over when
    /// [`Service::reboot_due`](crate::service::Service::reboot_due) says so.
    #[must_use]
    pub fn that_reboots(self) -> Self {
        Self { reboots: true, ..self }
    }
}

impl<W, const REGIONS: usize, O, D, I> fmt::Debug for WindowBoard<W, REGIONS, O, D, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowBoard").field("regions", &REGIONS).finish_non_exhaustive()
    }
}

impl<W, const REGIONS: usize, O, D, I> BoardSupport for WindowBoard<W, REGIONS, O, D, I>
where
    W: Window + Clone,
    O: FnMut(BusAddress, u64) -> Result<W, ResultCode>,
    D: FnMut() -> Doorbells,
    I: FnMut(u16),
{
    type Window = W;

    fn open_region(&mut self, region: &RegionMessage) -> Result<W, ResultCode> {
        let window = match region.kind {
            RegionKind::Host { .. } => (self.reach)(region.base, region.len)?,
            RegionKind::Board { index } => usize::try_from(index)
                .ok()
                .and_then(|index| self.memory.get(index))
                .ok_or(ResultCode::Unknown)?
                .clone(),
        };
        if window.len() == region.len { Ok(window) } else { Err(ResultCode::Invalid) }
    }

    fn close_region(&mut self, _number: u32) {}

    fn take_doorbells(&mut self) -> Doorbells {
        (self.doorbells)()
    }

    fn raise(&mut self, vector: u16) {
        (self.raise)(vector);
    }

    fn reboot(&mut self) -> bool {
        self.reboots
    }
}
