//! The host's face of the bus, with interrupts that a test can see coming.

use std::cell::Cell;
use std::os::fd::BorrowedFd;

use host::bus::sim::{SimDoorbell, SimHostPort, SimInterrupt, SimWindow};
use host::bus::{Bus, BusError, HostMemory, Latch};
use shared::link::DoorbellDescription;
use shared::raw::StoreWidth;
use shared::region::Rights;

/// The host's face of a simulated bus.
#[derive(Debug)]
pub struct RigBus(pub SimHostPort);

/// A latch that tells what waits in it without draining it: what a poll for
/// its file descriptor tells a thread.
#[derive(Debug)]
pub struct RigLatch {
    inner: SimInterrupt,
    waits: Cell<bool>,
}

impl RigLatch {
    /// Whether a notification waits.
    #[must_use]
    pub fn peek(&self) -> bool {
        self.waits.set(self.inner.drain() | self.waits.get());
        self.waits.get()
    }
}

impl Latch for RigLatch {
    fn drain(&self) -> bool {
        // Both, always: what came since the last peek goes with it.
        self.inner.drain() | self.waits.take()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.fd()
    }
}

impl Bus for RigBus {
    type Window = SimWindow;
    type Doorbell = SimDoorbell;
    type Interrupt = RigLatch;

    fn bar_len(&self, index: u8) -> u64 {
        self.0.bar_len(index)
    }

    fn bar(&self, index: u8, widest: StoreWidth) -> Result<SimWindow, BusError> {
        self.0.bar(index, widest)
    }

    fn share(&mut self, len: u64, rights: Rights) -> Result<HostMemory<SimWindow>, BusError> {
        self.0.share(len, rights)
    }

    fn unshare_all(&mut self) {
        self.0.unshare_all();
    }

    fn doorbell(
        &self,
        described: &DoorbellDescription,
        index: u32,
    ) -> Result<SimDoorbell, BusError> {
        self.0.doorbell(described, index)
    }

    fn interrupt(&self, vector: u16) -> Result<RigLatch, BusError> {
        Ok(RigLatch { inner: self.0.interrupt(vector)?, waits: Cell::new(false) })
    }

    fn reset(&mut self) -> Result<(), BusError> {
        self.0.reset()
    }
}
