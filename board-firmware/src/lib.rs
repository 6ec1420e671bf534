//! The board's side: virtio devices served from an intelligent PCIe board.
//!
//! The layers, top down; each calls only those below it:
//!
//! 1. [`program`]: a whole board, for those that are made of plain windows.
//! 2. [`service`]: one step of the whole board, which says when to come back.
//! 3. [`device`]: the virtio devices: [`device::net`] with what can lie behind
//!    it (echo, an IP stack, or the board's own code), and [`device::console`]
//!    with the board's log and a shell.
//! 4. [`dma`]: payload between windows and private memory.
//! 5. [`support`]: what a board must bring (doorbells, interrupts, windows).
//! 6. [`trace`]: what happened, for whoever looks later.
//!
//! Nothing here allocates, reads a clock or blocks: storage comes from the
//! caller, the time is passed in, and every loop that the host drives is
//! bounded. Whatever the host writes, the board answers it with the policy of
//! docs/safety.md and serves on.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod device;
pub mod dma;
pub mod program;
#[cfg(test)]
mod rig;
pub mod service;
pub mod support;
pub mod trace;
