//! A bus that keeps the host's part of the [`bill`](super::bill).
//!
//! [`MeteredBus`] goes around any other bus and passes everything on. On the way
//! it counts what the host does, by direction and as the simulated bus counts it:
//! words and payload, in host memory and across the bus, doorbells, and the
//! board's interrupts. What the board does in its own memory nobody here sees.
//!
//! A BAR is treated as a card's: even where it is ordinary memory (ivshmem) the
//! kernel copies nothing into or out of it, and all of its payload is counted.
//! Between host memory and an interface the kernel copies by itself, which is no
//! access of ours, here as on the simulated bus.
//!
//! For measurements: whoever asks for none makes no such bus, and pays nothing.

#[cfg(test)]
mod tests;
mod window;

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use shared::link::DoorbellDescription;
use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::window::Window;

use self::window::Memory;
pub use self::window::MeteredWindow;
use super::bill::{Bill, Initiator, Label, MemoryLabels, Meter, NotificationLabels};
use super::{Bus, BusError, HostMemory, Latch, Ring};

/// A bus whose accesses are counted.
#[derive(Debug)]
pub struct MeteredBus<B> {
    bus: B,
    books: Arc<Books>,
}

/// The counters of a [`MeteredBus`], which outlive it. Clones are the same ones.
#[derive(Clone, Debug)]
pub struct BusMeter(Arc<Books>);

#[derive(Debug)]
struct Books {
    meter: Meter,
    /// What labels are put on: the memories that are in use.
    memories: Mutex<Vec<Weak<Memory>>>,
    notifications: NotificationLabels,
    next_id: AtomicUsize,
}

impl<B: Bus> MeteredBus<B> {
    /// Counts what is done through `bus` from now on.
    #[must_use]
    pub fn new(bus: B) -> Self {
        let books = Books {
            meter: Meter::new(),
            memories: Mutex::default(),
            notifications: NotificationLabels::default(),
            // Behind the numbers of all BARs.
            next_id: AtomicUsize::new(usize::from(u8::MAX) + 1),
        };
        Self { bus, books: Arc::new(books) }
    }

    /// Its counters.
    #[must_use]
    pub fn meter(&self) -> BusMeter {
        BusMeter(Arc::clone(&self.books))
    }

    fn window(
        &self,
        window: B::Window,
        bar: Option<u8>,
        base: u64,
        widest: StoreWidth,
    ) -> MeteredWindow<B::Window> {
        let id = match bar {
            Some(index) => index.into(),
            None => self.books.next_id.fetch_add(1, Ordering::Relaxed),
        };
        // What no label names is billed to the link.
        let labels = MemoryLabels::new(u64::MAX);
        let memory = Arc::new(Memory { id, bar, base, len: window.len(), labels, widest });
        let mut memories = self.books.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.retain(|memory| memory.strong_count() > 0);
        memories.push(Arc::downgrade(&memory));
        MeteredWindow::new(window, Arc::clone(&self.books), memory)
    }
}

impl BusMeter {
    /// What the host has done so far, and, as the board's processor's, the
    /// interrupts that the host has taken: several that came before it looked
    /// are one.
    #[must_use]
    pub fn bill(&self) -> Bill {
        self.0.meter.bill()
    }

    /// Bills accesses to these stretches, and these doorbells and vectors, to
    /// their planes: in the memory of the session that is up, with one call a
    /// session. All else is billed to the link.
    pub fn label(&self, labels: &[Label<'_>]) {
        let memories = self.0.memories.lock().unwrap_or_else(PoisonError::into_inner);
        for memory in memories.iter().filter_map(Weak::upgrade) {
            memory.labels.set(labels, memory.bar, memory.base, memory.len);
        }
        self.0.notifications.set(labels);
    }
}

impl<B: Bus> Bus for MeteredBus<B> {
    type Window = MeteredWindow<B::Window>;
    type Doorbell = MeteredDoorbell<B::Doorbell>;
    type Interrupt = MeteredInterrupt<B::Interrupt>;

    fn bar_len(&self, index: u8) -> u64 {
        self.bus.bar_len(index)
    }

    fn bar(&self, index: u8, widest: StoreWidth) -> Result<Self::Window, BusError> {
        let window = self.bus.bar(index, widest)?;
        Ok(self.window(window, Some(index), 0, widest))
    }

    fn share(&mut self, len: u64, rights: Rights) -> Result<HostMemory<Self::Window>, BusError> {
        let HostMemory { iova, window } = self.bus.share(len, rights)?;
        let window = self.window(window, None, iova.bits(), StoreWidth::Bits64);
        Ok(HostMemory { iova, window })
    }

    fn unshare_all(&mut self) {
        self.bus.unshare_all();
    }

    fn doorbell(
        &self,
        described: &DoorbellDescription,
        index: u32,
    ) -> Result<Self::Doorbell, BusError> {
        let doorbell = self.bus.doorbell(described, index)?;
        Ok(MeteredDoorbell { doorbell, books: Arc::clone(&self.books), index })
    }

    fn interrupt(&self, vector: u16) -> Result<Self::Interrupt, BusError> {
        let interrupt = self.bus.interrupt(vector)?;
        Ok(MeteredInterrupt { interrupt, books: Arc::clone(&self.books), vector })
    }

    fn reset(&mut self) -> Result<(), BusError> {
        self.bus.reset()
    }
}

/// A doorbell that counts.
#[derive(Debug)]
pub struct MeteredDoorbell<R> {
    doorbell: R,
    books: Arc<Books>,
    index: u32,
}

impl<R: Ring> Ring for MeteredDoorbell<R> {
    fn ring(&self) {
        let plane = self.books.notifications.plane(self.index);
        self.books.meter.doorbell(Initiator::HostCpu, plane);
        self.doorbell.ring();
    }
}

/// A latch that counts what it takes.
#[derive(Debug)]
pub struct MeteredInterrupt<L> {
    interrupt: L,
    books: Arc<Books>,
    vector: u16,
}

impl<L: Latch> Latch for MeteredInterrupt<L> {
    fn drain(&self) -> bool {
        let pending = self.interrupt.drain();
        if pending {
            let plane = self.books.notifications.plane(self.vector.into());
            self.books.meter.interrupt(Initiator::BoardCpu, plane);
        }
        pending
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.interrupt.fd()
    }
}
