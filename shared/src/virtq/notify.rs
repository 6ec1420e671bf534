//! The notification decisions, as pure functions (docs/protocol-rings.md,
//! "Notification"). The queues and the model checker use the same ones.
//!
//! All indices count modulo 2^16.

use crate::wire::virtq::{AVAIL_NO_INTERRUPT, USED_NO_NOTIFY};

/// Whether a batch that moved the publisher's index from `old` to `new` passed
/// the entry `event` that the sleeper waits for (VirtIO 1.3 §2.7.7.2, §2.7.10.1).
#[inline(always)]
#[must_use]
pub const fn needs_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// Whether `flags` of the peer's ring ask for a notification, without event
/// indices. The bit is the same in both rings.
#[inline(always)]
#[must_use]
pub const fn flags_ask(flags: u16) -> bool {
    const { assert!(AVAIL_NO_INTERRUPT == USED_NO_NOTIFY) };
    flags & AVAIL_NO_INTERRUPT == 0
}

/// The event word that asks for a notification at the first entry that has
/// not been seen.
#[inline(always)]
#[must_use]
pub const fn armed_event(seen: u16) -> u16 {
    seen
}

/// The event word of a side that is awake and has seen the peer's index
/// `seen`, in a queue of `size`: `None` if `event`, which stands there now,
/// will not be reached soon; else the one to write.
#[inline(always)]
#[must_use]
pub const fn parked_event(event: u16, seen: u16, size: u16) -> Option<u16> {
    // The peer's index comes at most `size` behind what was seen. A word that
    // lies behind `seen` was passed, and counts as nearly 2^16 ahead.
    let near = if size > 1 << 14 { size } else { 1 << 14 };
    if event.wrapping_sub(seen) < near { Some(seen.wrapping_add(1 << 15)) } else { None }
}
