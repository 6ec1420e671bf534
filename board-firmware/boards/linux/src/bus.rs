//! The board's face of an ivshmem bus: shared memory and eventfds.

use board::dma::CpuCopy;
use board::program::{Port, Wiring};
use board::support::Doorbells;
use host::bus::ivshmem::{IvshmemBoard, IvshmemWindow};
use shared::address::BusAddress;

/// A board on ivshmem, which may do without host memory.
#[derive(Debug)]
pub(crate) struct Bus {
    pub(crate) board: IvshmemBoard,
    /// Interrupt vectors of the host that it raises.
    pub(crate) vectors: u16,
    /// As if it could not reach host memory.
    pub(crate) bar_only: bool,
}

impl Port for Bus {
    type Window = IvshmemWindow;
    /// Host memory is memory of this machine: the CPU does not wait for it.
    type Engine = CpuCopy;

    fn wiring(&self) -> Wiring {
        Wiring {
            bar_len: self.board.bar_len(),
            doorbell: self.board.doorbells(),
            outbound: (!self.bar_only).then(|| self.board.reach()),
            vectors: self.vectors.into(),
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
