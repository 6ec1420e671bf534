//! The host's face of a simulated bus.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use shared::address::BusAddress;
use shared::link::DoorbellDescription;
use shared::raw::StoreWidth;
use shared::region::Rights;

use super::core::{Core, Engine, lock};
use super::machine::Reset;
use super::memory::Memory;
use super::window::SimWindow;
use crate::bus::bill::{Initiator, MemoryLabels, Side};
use crate::bus::{Bus, BusError, HostMemory, Latch, Ring};
use crate::raw::SharedMemory;

/// The BAR that holds the doorbell registers.
pub const DOORBELL_BAR: u8 = 1;

/// Bytes from one doorbell register to the next.
pub const DOORBELL_STRIDE: u32 = 4;

/// What shared memory is a multiple of on every bus, in bytes.
const PAGE: u64 = 4096;

/// The host's face of a simulated bus.
#[derive(Debug)]
pub struct SimHostPort {
    core: Arc<Core>,
}

impl SimHostPort {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

impl Bus for SimHostPort {
    type Window = SimWindow;
    type Doorbell = SimDoorbell;
    type Interrupt = SimInterrupt;

    fn bar_len(&self, index: u8) -> u64 {
        match index {
            0 => self.core.bar.len,
            DOORBELL_BAR => PAGE,
            _ => 0,
        }
    }

    fn bar(&self, index: u8, widest: StoreWidth) -> Result<SimWindow, BusError> {
        let bar = Arc::clone(&self.core.bar);
        let len = bar.len;
        (index == 0)
            .then(|| SimWindow::new(&self.core, Initiator::HostCpu, bar, 0, len, None))
            .flatten()
            .map(|window| window.with_widest(widest))
            .ok_or(BusError::NoBar { index })
    }

    fn share(&mut self, len: u64, rights: Rights) -> Result<HostMemory<SimWindow>, BusError> {
        let core = &self.core;
        let options = &core.options;
        if len == 0 || !len.is_multiple_of(PAGE) {
            return Err(BusError::BadLength { len, page: PAGE });
        }
        let no_space = BusError::NoAddressSpace { len, address_bits: options.iova_bits };
        let Some(len) = len.checked_next_multiple_of(options.page_size) else {
            return Err(no_space);
        };
        let mut directory = core.directory();
        let limit = 1_u64.checked_shl(options.iova_bits.into()).unwrap_or(1 << 63);
        let Some(base) = directory.place(len, options.iova_base, limit) else {
            return Err(no_space);
        };
        let available = options.host_limit.saturating_sub(directory.shared_bytes());
        if len > available {
            return Err(BusError::NoHostMemory { len, available });
        }
        let (Ok(bytes), true) = (usize::try_from(len), directory.has_room()) else {
            return Err(no_space);
        };
        let link_len = if directory.is_empty() { options.host_link_len } else { 0 };
        let memory = |id, ram| {
            let live = AtomicBool::new(true);
            Arc::new(Memory {
                id,
                home: Side::Host,
                base,
                len,
                rights,
                labels: MemoryLabels::new(link_len),
                live,
                ram,
            })
        };
        let memory = match &core.engine {
            Engine::Instrument(machine) => lock(machine).add_memory(bytes, |id| memory(id, None)),
            Engine::Counted(_) => {
                let ram = SharedMemory::new(bytes)
                    .map_err(|error| BusError::System { what: "map shared memory", error })?;
                memory(directory.next_id(), Some(ram.window()))
            }
        };
        directory.insert(Arc::clone(&memory));
        let window = SimWindow::new(core, Initiator::HostCpu, memory, 0, len, None);
        Ok(HostMemory { iova: BusAddress::new(base), window: window.ok_or(no_space)? })
    }

    fn unshare_all(&mut self) {
        self.core.directory().clear();
    }

    fn doorbell(
        &self,
        described: &DoorbellDescription,
        index: u32,
    ) -> Result<SimDoorbell, BusError> {
        let bad = |reason| BusError::BadDoorbell { index, reason };
        if described.bar != DOORBELL_BAR {
            return Err(bad("this board's doorbell registers lie in BAR 1"));
        }
        let (at, _) = described.register(index).ok_or(bad("the board has fewer doorbells"))?;
        if !at.is_multiple_of(DOORBELL_STRIDE.into()) {
            return Err(bad("its register is not aligned to 32 bits"));
        }
        let register = u16::try_from(at / u64::from(DOORBELL_STRIDE)).ok();
        let register = register
            .filter(|register| *register < self.core.options.doorbells)
            .ok_or(bad("its register lies behind the last one of this board"))?;
        Ok(SimDoorbell { core: Arc::clone(&self.core), register })
    }

    fn interrupt(&self, vector: u16) -> Result<SimInterrupt, BusError> {
        let count = self.core.options.vectors;
        if vector >= count {
            return Err(BusError::NoVector { vector, count });
        }
        Ok(SimInterrupt { core: Arc::clone(&self.core), vector })
    }

    /// Drops what is on the bus and on the board; the board learns of it from
    /// [`SimBoardPort::take_reset`](super::SimBoardPort::take_reset) and sends
    /// nothing before that.
    fn reset(&mut self) -> Result<(), BusError> {
        if self.core.board.is_unplugged() {
            return Err(BusError::Gone);
        }
        self.core.start_over(Reset::Bus);
        Ok(())
    }
}

/// One doorbell register.
#[derive(Debug)]
pub struct SimDoorbell {
    core: Arc<Core>,
    register: u16,
}

impl Ring for SimDoorbell {
    fn ring(&self) {
        let plane = self.core.notifications.plane(self.register.into());
        self.core.meter.doorbell(Initiator::HostCpu, plane);
        match &self.core.engine {
            Engine::Instrument(machine) => lock(machine).ring(self.register),
            Engine::Counted(signals) if !self.core.board.is_dead() => signals.ring(self.register),
            Engine::Counted(_) => {}
        }
    }
}

/// One interrupt vector's latch: in counted mode an eventfd.
#[derive(Debug)]
pub struct SimInterrupt {
    core: Arc<Core>,
    vector: u16,
}

impl Latch for SimInterrupt {
    fn drain(&self) -> bool {
        match &self.core.engine {
            Engine::Instrument(machine) => lock(machine).take_interrupt(self.vector),
            Engine::Counted(signals) => signals.vector(self.vector).is_some_and(|v| v.drain()),
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.core.engine {
            Engine::Instrument(_) => None,
            Engine::Counted(signals) => Some(signals.vector(self.vector)?.fd()),
        }
    }
}
