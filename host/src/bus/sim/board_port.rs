//! The board's face of a simulated bus.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::address::BusAddress;
use shared::link::DoorbellDescription;
use shared::raw::StoreWidth;

use super::core::{Core, Engine, lock};
use super::host_port::{DOORBELL_BAR, DOORBELL_STRIDE};
use super::options::OutboundLimits;
use super::window::{SimWindow, Slot};
use crate::bus::BusError;
use crate::bus::bill::Initiator;

/// The board's face of a simulated bus: what a board-support package has at
/// hand. Clones are the same board.
#[derive(Clone, Debug)]
pub struct SimBoardPort {
    core: Arc<Core>,
}

impl SimBoardPort {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    fn window_of_bar(&self, who: Initiator, offset: u64, len: u64) -> Result<SimWindow, BusError> {
        SimWindow::new(&self.core, who, Arc::clone(&self.core.bar), offset, len, None)
            .map(|window| window.with_widest(self.widest(who)))
            .ok_or(BusError::OutsideBar { offset, len })
    }

    fn widest(&self, who: Initiator) -> StoreWidth {
        match who {
            Initiator::BoardCpu if self.core.options.board_32_bit => StoreWidth::Bits32,
            _ => StoreWidth::Bits64,
        }
    }

    /// The control pages at the start of BAR 0, as the board's CPU sees them.
    ///
    /// # Errors
    /// [`BusError::OutsideBar`] if BAR 0 is shorter than they are.
    pub fn control(&self) -> Result<SimWindow, BusError> {
        self.memory(0, self.core.options.bar_link_len)
    }

    /// `len` bytes at `offset` of BAR 0, as the board's CPU sees them: local
    /// memory. `offset` is a multiple of 8.
    ///
    /// # Errors
    /// [`BusError::OutsideBar`].
    pub fn memory(&self, offset: u64, len: u64) -> Result<SimWindow, BusError> {
        self.window_of_bar(Initiator::BoardCpu, offset, len)
    }

    /// The same memory through the CPU's cache, which nothing keeps coherent:
    /// `read` and `write` go through it, words do not. Lines have
    /// [`CACHE_LINE`](super::CACHE_LINE) bytes. [`SimWindow::clean`] and
    /// [`SimWindow::invalidate`] maintain it. Plain memory in counted mode.
    ///
    /// # Errors
    /// [`BusError::OutsideBar`].
    pub fn cached_memory(&self, offset: u64, len: u64) -> Result<SimWindow, BusError> {
        Ok(self.memory(offset, len)?.through_cache())
    }

    /// The same memory as the DMA engine sees it.
    ///
    /// # Errors
    /// [`BusError::OutsideBar`].
    pub fn dma_memory(&self, offset: u64, len: u64) -> Result<SimWindow, BusError> {
        self.window_of_bar(Initiator::BoardDma, offset, len)
    }

    /// Opens an outbound window for the board's CPU onto host memory, or as many
    /// side by side as it takes. They stay open until the last clone or part goes.
    ///
    /// # Errors
    /// [`BusError::OutboundLimit`] where the board's limits forbid it,
    /// [`BusError::NotShared`] where the host shares nothing.
    pub fn outbound(&self, iova: BusAddress, len: u64) -> Result<SimWindow, BusError> {
        let limits = self.limits();
        let refused = |reason| BusError::OutboundLimit { address: iova, len, reason };
        if !iova.bits().is_multiple_of(limits.alignment.max(1)) {
            return Err(refused("its windows cannot start there"));
        }
        // Windows that do not fill their alignment leave gaps.
        let step = limits.window_len - limits.window_len % limits.alignment.max(1);
        let needed = match step {
            _ if len <= limits.window_len => 1,
            0 => u64::MAX,
            _ => len.div_ceil(step),
        };
        let needed = u16::try_from(needed).ok().filter(|needed| *needed <= limits.windows);
        let needed = needed.ok_or(refused("its windows are too few or too short"))?;
        let open = self.core.outbound_open.fetch_add(needed, Ordering::Relaxed);
        // Counts down again if anything below fails.
        let slot = Slot(Arc::clone(&self.core), needed);
        if open.saturating_add(needed) > limits.windows {
            return Err(refused("all its windows are in use"));
        }
        self.host_memory(Initiator::BoardCpu, iova, len, Some(slot))
    }

    /// Host memory as the DMA engine sees it; it needs no window.
    ///
    /// # Errors
    /// As for [`outbound`](Self::outbound).
    pub fn dma(&self, iova: BusAddress, len: u64) -> Result<SimWindow, BusError> {
        if !self.limits().dma {
            let reason = "it has no DMA engine";
            return Err(BusError::OutboundLimit { address: iova, len, reason });
        }
        self.host_memory(Initiator::BoardDma, iova, len, None)
    }

    fn host_memory(
        &self,
        who: Initiator,
        iova: BusAddress,
        len: u64,
        slot: Option<Slot>,
    ) -> Result<SimWindow, BusError> {
        let reach = 1_u64.checked_shl(self.limits().address_bits.into()).unwrap_or(u64::MAX);
        if iova.bits().checked_add(len).is_none_or(|end| end > reach) {
            let reason = "it lies beyond the board's address bits";
            return Err(BusError::OutboundLimit { address: iova, len, reason });
        }
        let not_shared = BusError::NotShared { address: iova, len };
        let Some((memory, offset)) = self.core.directory().find(iova, len) else {
            return Err(not_shared);
        };
        SimWindow::new(&self.core, who, memory, offset, len, slot)
            .map(|window| window.with_widest(self.widest(who)))
            .ok_or(not_shared)
    }

    /// BAR 0's length in bytes.
    #[must_use]
    pub fn bar_len(&self) -> u64 {
        self.core.bar.len
    }

    /// What the board's control block says of its doorbells: one register
    /// each, any value rings.
    #[must_use]
    pub fn doorbells(&self) -> DoorbellDescription {
        DoorbellDescription {
            bar: DOORBELL_BAR,
            offset: 0,
            stride: DOORBELL_STRIDE,
            count: self.core.options.doorbells.into(),
            value: 1,
            step: 0,
        }
    }

    /// How the board reaches host memory.
    #[must_use]
    pub fn limits(&self) -> OutboundLimits {
        self.core.options.outbound
    }

    /// Raises an interrupt vector, behind all earlier outbound stores, the DMA
    /// engine's included. A vector that does not exist goes nowhere.
    pub fn raise(&self, vector: u16) {
        if vector >= self.core.options.vectors {
            return;
        }
        let plane = self.core.notifications.plane(vector.into());
        self.core.meter.interrupt(Initiator::BoardCpu, plane);
        match &self.core.engine {
            Engine::Instrument(machine) => lock(machine).raise(vector),
            Engine::Counted(signals) if !self.core.board.is_silent() => signals.raise(vector),
            Engine::Counted(_) => {}
        }
    }

    /// The doorbells that rang since the last time, one bit each.
    #[must_use]
    pub fn take_doorbells(&self) -> u64 {
        match &self.core.engine {
            Engine::Instrument(machine) => lock(machine).take_doorbells(),
            Engine::Counted(signals) => signals.take_doorbells(),
        }
    }

    /// What becomes readable when a doorbell rings or the host resets the board,
    /// in counted mode; drained by [`take_doorbells`](Self::take_doorbells).
    #[must_use]
    pub fn doorbell_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.core.engine {
            Engine::Instrument(_) => None,
            Engine::Counted(signals) => Some(signals.doorbell_fd()),
        }
    }

    /// Whether the board has been reset or plugged in since the last time. It
    /// then starts over; until it has asked, nothing of it gets out.
    #[must_use]
    pub fn take_reset(&self) -> bool {
        self.core.board.take_reset()
    }
}
