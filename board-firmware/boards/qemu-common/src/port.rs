//! The endpoint, as the board's program knows it.

use core::cell::Cell;

use board::dma::CpuCopy;
use board::program::{Port, Wiring};
use board::support::Doorbells;
use shared::address::BusAddress;
use shared::raw::BusWindow;

use crate::endpoint::Endpoint;
use crate::vectors;

/// Interrupt vectors of the host that the board raises.
const HOST_VECTORS: u32 = 4;

/// The board's face of the bus.
#[derive(Debug)]
pub struct EndpointPort {
    endpoint: Endpoint,
    outbound: bool,
    reset: Cell<bool>,
}

impl EndpointPort {
    /// The face of `endpoint`; without `outbound` as if it could not reach
    /// host memory.
    #[must_use]
    pub const fn new(endpoint: Endpoint, outbound: bool) -> Self {
        Self { endpoint, outbound, reset: Cell::new(false) }
    }

    /// What has come since the last time: the doorbells; a wish for a reboot
    /// is kept.
    fn drain(&self) -> u32 {
        let (came, reboot) = (vectors::take(), self.endpoint.reboot_bit());
        if came & reboot != 0 {
            self.reset.set(true);
        }
        came & !reboot
    }
}

impl Port for EndpointPort {
    type Window = BusWindow;
    /// What stands in for host memory is memory of this machine: the processor
    /// does not wait for it.
    type Engine = CpuCopy;

    fn wiring(&self) -> Wiring {
        Wiring {
            bar_len: self.endpoint.bar_len(),
            doorbell: self.endpoint.doorbells(),
            outbound: self.outbound.then(|| self.endpoint.reach()),
            vectors: HOST_VECTORS,
            dma_engine: self.outbound,
        }
    }

    fn memory(&self, offset: u64, len: u64) -> Option<BusWindow> {
        self.endpoint.memory(offset, len)
    }

    fn outbound(&self, iova: BusAddress, len: u64) -> Option<BusWindow> {
        self.endpoint.outbound(iova.bits(), len).filter(|_| self.outbound)
    }

    fn take_doorbells(&self) -> Doorbells {
        Doorbells(self.drain())
    }

    fn raise(&self, vector: u16) {
        self.endpoint.raise(vector);
    }

    // Drained with the doorbells, in each step before this is asked.
    fn take_reset(&self) -> bool {
        self.reset.take()
    }
}
