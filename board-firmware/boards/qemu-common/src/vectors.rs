//! Which of the function's vectors have come: written by the interrupt
//! handler, taken by the board's loop.

use core::sync::atomic::{AtomicU32, Ordering};

static CAME: AtomicU32 = AtomicU32::new(0);

/// Vector `vector` has come. Called by interrupt handlers.
pub fn arrived(vector: u32) {
    // What the loop looks at afterwards was written by the bus, not by us; the
    // service's own barriers order it.
    CAME.fetch_or(1_u32.unbounded_shl(vector), Ordering::AcqRel);
}

/// Whether any has come since the last [`take`].
pub fn any() -> bool {
    CAME.load(Ordering::Acquire) != 0
}

/// Those that came since the last time, one bit each.
pub fn take() -> u32 {
    CAME.swap(0, Ordering::AcqRel)
}
