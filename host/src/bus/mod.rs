//! The bus between host and board, as the host sees it.
//!
//! A backend brings three things: memory of the board's ([`Bus::bar`]), memory
//! of ours that the board reaches ([`Bus::share`]), and notifications each way
//! ([`Bus::doorbell`], [`Bus::interrupt`]). Everything above this layer is the
//! same on every backend: [`sim`], a simulated PCIe bus, and [`ivshmem`], memory
//! shared between processes. Either can be asked what its accesses would cost on
//! a card's bus, which is the [`bill`]: `sim` always counts, the others inside a
//! [`metered`] bus.
//!
//! What a backend promises about order is what PCIe gives to uncached windows
//! and what rule R4 rests on (docs/protocol-rings.md, "Order"):
//!
//! - stores to the board arrive in the order in which they were accepted;
//! - a load from the board arrives behind this side's earlier stores to it, and
//!   its value comes back behind the board's earlier stores to host memory;
//! - an interrupt arrives behind the board's earlier stores, unless the
//!   control block says otherwise.

pub mod bill;
mod error;
pub mod ivshmem;
pub mod metered;
pub mod sim;

use std::os::fd::BorrowedFd;

use shared::address::BusAddress;
use shared::link::DoorbellDescription;
use shared::raw::{RamWindow, StoreWidth};
use shared::region::Rights;
use shared::window::Window;

pub use error::BusError;

use crate::raw::KernelRange;

/// A board's bus, from the host's side.
pub trait Bus {
    /// Memory that both sides see: a BAR or shared host memory.
    type Window: KernelMemory + Clone + Send + 'static;
    /// Notifies the board.
    type Doorbell: Ring + Send + 'static;
    /// Notifications from the board.
    type Interrupt: Latch + Send + 'static;

    /// The length of BAR `index` in bytes, as the bus reports it; 0: none.
    fn bar_len(&self, index: u8) -> u64;

    /// The memory of BAR `index`, to be stored to in words of at most `widest`:
    /// until the board's control block says what its BARs take, in 32-bit words.
    ///
    /// # Errors
    /// [`BusError::NoBar`] where the board has none, or registers only.
    fn bar(&self, index: u8, widest: StoreWidth) -> Result<Self::Window, BusError>;

    /// Gives `len` bytes of zeroed, page-aligned host memory to the board, or
    /// what is left of the last page too where the bus's pages are larger. The
    /// IOVA is aligned to the length rounded up to a power of two. `rights`
    /// are the device's and go into the IOMMU: a board that reads its own
    /// event word back (R4) needs [`Rights::READ`] on that region too.
    ///
    /// # Errors
    /// No memory, no address space, or the backend's own reason.
    fn share(&mut self, len: u64, rights: Rights) -> Result<HostMemory<Self::Window>, BusError>;

    /// Takes all shared memory away from the board. Windows of it stay usable
    /// for the host; what the board still sends there is dropped by the bus.
    fn unshare_all(&mut self);

    /// Doorbell `index` of those that the control block describes.
    ///
    /// # Errors
    /// [`BusError::BadDoorbell`] where the register leaves its BAR or the bus
    /// cannot make such a store.
    fn doorbell(
        &self,
        described: &DoorbellDescription,
        index: u32,
    ) -> Result<Self::Doorbell, BusError>;

    /// Interrupt vector `vector`, counted from 0. One latch a vector.
    ///
    /// # Errors
    /// [`BusError::NoVector`] beyond the board's vectors.
    fn interrupt(&self, vector: u16) -> Result<Self::Interrupt, BusError>;

    /// Resets the board. What it had under way is dropped; it comes back with
    /// another boot epoch.
    ///
    /// # Errors
    /// [`BusError::Gone`] where no card answers any more (its vendor ID reads
    /// all ones), or the backend's own reason.
    fn reset(&mut self) -> Result<(), BusError>;
}

/// Shared host memory and the address at which the board reaches it.
#[derive(Clone, Debug)]
pub struct HostMemory<W> {
    /// First bus address.
    pub iova: BusAddress,
    /// The memory.
    pub window: W,
}

/// A stretch of memory that both sides see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// `None`: host memory; else the BAR.
    pub bar: Option<u8>,
    /// First byte: bus address of host memory, or offset in the BAR.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

/// A way to notify the board.
pub trait Ring {
    /// Notifies, behind all that this thread has stored before: implementations
    /// make the write barrier themselves.
    fn ring(&self);
}

/// Where notifications from the board arrive. Several before one
/// [`drain`](Latch::drain) count as one.
pub trait Latch {
    /// Takes the notification that is pending, if one is. Rule R4: drain
    /// first, look at the ring after.
    fn drain(&self) -> bool;
    /// What becomes readable when a notification arrives; `None` on a bus
    /// without file descriptors.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// A window that may allow read(2) and write(2) to copy straight into and out
/// of it (R7): ordinary memory of this process, never a BAR.
pub trait KernelMemory: Window {
    /// `len` bytes at `offset`, where the kernel may copy there and the bytes
    /// fit; else `None`, and the caller copies itself.
    fn kernel_range(&self, offset: u64, len: usize) -> Option<KernelRange<'_>>;
}

impl<K: Clone> KernelMemory for RamWindow<K> {
    fn kernel_range(&self, offset: u64, len: usize) -> Option<KernelRange<'_>> {
        KernelRange::of(self, offset, len)
    }
}
