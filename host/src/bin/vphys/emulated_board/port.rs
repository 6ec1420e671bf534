//! What an emulated board stands on: one bus or another.

use board::dma::{CpuCopy, DmaEngine, DmaError};
use board::program::{Port, Wiring};
use board::support::Doorbells;
use shared::address::BusAddress;
use shared::link::Outbound;
use shared::window::{Barrier, Window};
use virtio_phys_host::bus::ivshmem::{IvshmemBoard, IvshmemWindow};
use virtio_phys_host::bus::sim::{SimBoardPort, SimWindow};

/// Interrupt vectors that the board raises.
const VECTORS: u32 = 4;

/// A board on the simulated bus.
#[derive(Clone, Debug)]
pub(crate) struct SimPort(pub(crate) SimBoardPort);

impl Port for SimPort {
    type Window = SimWindow;
    type Engine = SimEngine;

    fn wiring(&self) -> Wiring {
        let limits = self.0.limits();
        Wiring {
            bar_len: self.0.bar_len(),
            doorbell: self.0.doorbells(),
            outbound: (limits.windows > 0).then(|| Outbound {
                windows: limits.windows.into(),
                size: limits.window_len,
                alignment: limits.alignment,
                address_bits: limits.address_bits.into(),
            }),
            vectors: VECTORS,
            dma_engine: limits.dma,
        }
    }

    fn memory(&self, offset: u64, len: u64) -> Option<SimWindow> {
        self.0.memory(offset, len).ok()
    }

    fn outbound(&self, iova: BusAddress, len: u64) -> Option<SimWindow> {
        self.0.outbound(iova, len).ok()
    }

    fn take_doorbells(&self) -> Doorbells {
        // Doorbells above 31 do not exist on this board.
        let rung = self.0.take_doorbells() & u64::from(u32::MAX);
        Doorbells(u32::try_from(rung).unwrap_or(u32::MAX))
    }

    fn raise(&self, vector: u16) {
        self.0.raise(vector);
    }

    fn take_reset(&self) -> bool {
        self.0.take_reset()
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
            vectors: VECTORS,
            dma_engine: !self.bar_only,
        }
    }

    fn memory(&self, offset: u64, len: u64) -> Option<IvshmemWindow> {
        self.board.memory(offset, len).ok()
    }

    fn outbound(&self, iova: BusAddress, len: u64) -> Option<IvshmemWindow> {
        self.board.outbound(iova, len).ok()
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
}
