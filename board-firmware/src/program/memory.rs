//! The memory of a board's devices.

use shared::virtq::DeviceSlot;

use crate::device::net::NetMemory;

/// Largest queues that the network device serves, in entries.
pub(super) const QUEUE_ENTRIES: usize = 256;

/// The same for the console.
pub(super) const CONSOLE_ENTRIES: usize = 8;

/// Bytes of the board's log: some eighty lines.
const LOG_BYTES: usize = 4096;

/// The memory of a board's devices, about 140 KiB: in a static place, or on
/// the heap. A boot begins with it as it is new.
#[derive(Debug)]
pub struct Memory {
    pub(super) queues: [[DeviceSlot; QUEUE_ENTRIES]; 3],
    pub(super) frames: [[u8; NetMemory::FRAME_BYTES]; 2],
    pub(super) console: [[DeviceSlot; CONSOLE_ENTRIES]; 2],
    pub(super) log: [u8; LOG_BYTES],
}

impl Memory {
    /// All of it unused.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            queues: [const { [const { DeviceSlot::NEW }; QUEUE_ENTRIES] }; 3],
            frames: [[0; NetMemory::FRAME_BYTES]; 2],
            console: [const { [const { DeviceSlot::NEW }; CONSOLE_ENTRIES] }; 2],
            log: [0; LOG_BYTES],
        }
    }

    /// As new. The frames' bytes are never read before they were written.
    pub(super) fn clear(&mut self) {
        self.queues.as_flattened_mut().fill(DeviceSlot::NEW);
        self.console.as_flattened_mut().fill(DeviceSlot::NEW);
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}
