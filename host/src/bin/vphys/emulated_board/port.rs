//! What an emulated board stands on: one bus or another.

use std::os::fd::BorrowedFd;

use board::dma::{CpuCopy, DmaEngine, DmaError};
use board::support::Doorbells;
use shared::address::BusAddress;
use shared::link::{DoorbellDescription, Outbound};
use shared::window::{Barrier, Window};
use virtio_phys_host::bus::BusError;
use virtio_phys_host::bus::ivshmem::{IvshmemBoard, IvshmemWindow};
use virtio_phys_host::bus::sim::{SimBoardPort, SimWindow};

/// What the board's control block says of its bus.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wiring {
    /// Bytes of BAR 0.
    pub(crate) bar_len: u64,
    pub(crate) doorbell: DoorbellDescription,
    pub(crate) outbound: Option<Outbound>,
    pub(crate) dma_engine: bool,
}

/// The board's face of a bus.
pub(crate) trait Port {
    type Window: Window + Clone;
    type Engine: DmaEngine<Self::Window> + Default;

    fn wiring(&self) -> Wiring;
    /// `len` bytes at `offset` of BAR 0.
    fn memory(&self, offset: u64, len: u64) -> Result<Self::Window, BusError>;
    /// `len` bytes of host memory.
    fn outbound(&self, iova: BusAddress, len: u64) -> Result<Self::Window, BusError>;
    /// The doorbells that rang since the last time.
    fn take_doorbells(&self) -> Doorbells;
    fn raise(&self, vector: u16);
    /// Whether the host has reset the board since the last time.
    fn take_reset(&self) -> bool;
    /// What becomes readable with either; `None`: the bus is gone.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

impl Port for SimBoardPort {
    type Window = SimWindow;
    type Engine = SimEngine;

    fn wiring(&self) -> Wiring {
        let limits = self.limits();
        Wiring {
            bar_len: self.bar_len(),
            doorbell: self.doorbells(),
            outbound: (limits.windows > 0).then(|| Outbound {
                windows: limits.windows.into(),
                size: limits.window_len,
                alignment: limits.alignment,
                address_bits: limits.address_bits.into(),
            }),
            dma_engine: limits.dma,
        }
    }

    fn memory(&self, offset: u64, len: u64) -> Result<SimWindow, BusError> {
        Self::memory(self, offset, len)
    }

    fn outbound(&self, iova: BusAddress, len: u64) -> Result<SimWindow, BusError> {
        Self::outbound(self, iova, len)
    }

    fn take_doorbells(&self) -> Doorbells {
        // Doorbells above 31 do not exist on this board.
        let rung = Self::take_doorbells(self) & u64::from(u32::MAX);
        Doorbells(u32::try_from(rung).unwrap_or(u32::MAX))
    }

    fn raise(&self, vector: u16) {
        Self::raise(self, vector);
    }

    fn take_reset(&self) -> bool {
        Self::take_reset(self)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.doorbell_fd()
    }
}

/// The simulated DMA engine. Short copies are the CPU's: an engine costs more
/// to set up than they take.
#[derive(Debug, Default)]
pub(crate) struct SimEngine {
    /// Where the engine has posted since the last `finish`.
    posted: Option<SimWindow>,
}

/// Posts below this many bytes are the CPU's.
const ENGINE_FROM: usize = 1024;

impl DmaEngine<SimWindow> for SimEngine {
    fn fetch(&mut self, from: &SimWindow, offset: u64, into: &mut [u8]) -> Result<(), DmaError> {
        // Across the bus always the engine: the CPU would wait for each word.
        match from.dma_view().filter(|_| from.is_remote()) {
            Some(view) => CpuCopy.fetch(&view, offset, into),
            None => CpuCopy.fetch(from, offset, into),
        }
    }

    fn post(&mut self, from: &[u8], to: &SimWindow, offset: u64) -> Result<(), DmaError> {
        match to.dma_view().filter(|_| to.is_remote() && from.len() >= ENGINE_FROM) {
            Some(view) => {
                CpuCopy.post(from, &view, offset)?;
                self.posted = Some(view);
                Ok(())
            }
            None => CpuCopy.post(from, to, offset),
        }
    }

    fn finish(&mut self) -> Result<(), DmaError> {
        if let Some(view) = self.posted.take() {
            view.barrier(Barrier::Full);
        }
        Ok(())
    }

    fn drain(&mut self) {
        let _ = self.finish();
    }
}

/// A board on ivshmem, which may do without host memory.
#[derive(Debug)]
pub(crate) struct IvshmemPort {
    pub(crate) board: IvshmemBoard,
    /// As if it could not reach host memory.
    pub(crate) bar_only: bool,
}

impl Port for IvshmemPort {
    type Window = IvshmemWindow;
    /// Host memory is memory of this machine: the CPU does not wait for it.
    type Engine = CpuCopy;

    fn wiring(&self) -> Wiring {
        Wiring {
            bar_len: self.board.bar_len(),
            doorbell: self.board.doorbells(),
            outbound: (!self.bar_only).then(|| self.board.reach()),
            dma_engine: !self.bar_only,
        }
    }

    fn memory(&self, offset: u64, len: u64) -> Result<IvshmemWindow, BusError> {
        self.board.memory(offset, len)
    }

    fn outbound(&self, iova: BusAddress, len: u64) -> Result<IvshmemWindow, BusError> {
        self.board.outbound(iova, len)
    }

    fn take_doorbells(&self) -> Doorbells {
        Doorbells(self.board.take_doorbells())
    }

    fn raise(&self, vector: u16) {
        self.board.raise(vector);
    }

    fn take_reset(&self) -> bool {
        self.board.take_reset()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.board.is_connected().then(|| self.board.fd())
    }
}
