//! What the host and the board agree on, and the code that both run.
//!
//! The layers, top down; each calls only those below it:
//!
//! 1. [`link`]: control block, epochs, and the bring-up as numbered steps.
//! 2. [`msg`]: virtio-msg messages and the channels that carry them.
//! 3. [`virtq`]: split virtqueues, driver side and device side, and the
//!    notification protocol between them.
//! 4. [`region`]: the one table that turns a peer's addresses into memory.
//! 5. [`window`]: the only way to touch memory that the peer also sees.
//! 6. [`wire`]: the bytes, little-endian and aligned, with their sources.
//! 7. `raw`: the accesses and barriers themselves; all unsafe code is here.
//!
//! Nothing here allocates, reads a clock or blocks. Every value that the peer
//! wrote is read once, checked, then used; what fails the check is a
//! [`fault::PeerFault`], and no peer can cause a panic or an endless loop.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod address;
pub mod fault;
pub mod link;
pub mod msg;
pub mod raw;
pub mod region;
pub mod virtq;
pub mod window;
pub mod wire;
