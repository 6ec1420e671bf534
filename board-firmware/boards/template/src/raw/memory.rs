//! Memory: what the host sees too, and what is the board's own.

use core::cell::UnsafeCell;
use core::ptr::{NonNull, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use shared::raw::{BusWindow, StoreWidth};
use shared::window::fits;

use crate::soc::{BAR_LEN, BOUNCE_LEN, WIDEST_STORE_OUT, address, endpoint};
use crate::window::TwoMappings;

/// BAR 0, as this processor sees it.
pub(crate) fn bar() -> Option<TwoMappings> {
    let mapped = |at| window(at, BAR_LEN, StoreWidth::Bits64);
    Some(TwoMappings::new(mapped(address::BAR_MEMORY)?, mapped(address::BAR_PAYLOAD)?))
}

/// Memory behind BAR 0 that the DMA engine copies to and from.
pub(crate) fn bounce() -> Option<BusWindow> {
    window(address::BAR_MEMORY + BAR_LEN, BOUNCE_LEN, StoreWidth::Bits64)
}

/// `len` bytes at `offset` of where the outbound windows appear.
pub(crate) fn outbound(offset: u64, len: u64) -> Option<TwoMappings> {
    let all = endpoint::WINDOW_LEN * u64::from(endpoint::WINDOWS);
    let offset = usize::try_from(offset).ok().filter(|_| fits(all, offset, len))?;
    let len = usize::try_from(len).ok()?;
    window(address::OUTBOUND + offset, len, WIDEST_STORE_OUT).map(TwoMappings::once)
}

fn window(at: usize, len: usize, widest: StoreWidth) -> Option<BusWindow> {
    let start = NonNull::new(with_exposed_provenance_mut::<u8>(at))?;
    // SAFETY: as far as src/soc.rs is right, it is mapped all the time, and
    // the linker puts nothing there; so nothing but windows touches it. A
    // host that takes its memory away makes loads return anything.
    let window = unsafe { BusWindow::new(start, len, widest, ()) };
    at.is_multiple_of(8).then_some(window)
}

/// A static value that one caller gets.
pub(crate) struct Owned<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `take` alone reaches the value, and gives it to one caller.
unsafe impl<T: Send> Sync for Owned<T> {}

impl<T> Owned<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// The value, the first time.
    #[expect(clippy::mut_from_ref, reason = "the first caller only")]
    pub(crate) fn take(&'static self) -> Option<&'static mut T> {
        let first = !self.taken.swap(true, Ordering::AcqRel);
        // SAFETY: static, and only one caller is the first.
        first.then(|| unsafe { &mut *self.value.get() })
    }
}

/// A number that is another one in each boot: here a counter in RAM that keeps
/// its value through a reset, and has any value at power-on. (Or: a counter in
/// flash, a clock with a battery, a generator of noise.)
pub(crate) fn count_boot() -> u32 {
    // SAFETY: the linker script leaves this section alone, and any bits will do.
    #[unsafe(link_section = ".noinit")]
    static BOOTS: AtomicU32 = AtomicU32::new(0);
    BOOTS.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
}
