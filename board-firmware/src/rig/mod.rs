//! What the tests stand on: plain memory as windows, a board of them, and a
//! driver for the net device.

mod console;
mod driver;
mod memory;
mod view;

pub(crate) use console::ConsoleRig;
pub(crate) use driver::{Layout, NetRig, RigOptions, SentFrame, frame_of, random_frame};
pub(crate) use memory::{FakeBoard, Memory, leak};
pub(crate) use view::FakeView;

use shared::address::BusAddress;
use shared::region::{Region, RegionTable, Rights};

/// Bytes of each of the three memories.
pub(crate) const MEMORY: u64 = 8 << 20;

/// Host memory that the device writes, host memory that it reads, and board
/// memory.
#[derive(Clone)]
pub(crate) struct Memories {
    pub(crate) written: Memory,
    pub(crate) read: Memory,
    pub(crate) board: Memory,
}

impl Memories {
    pub(crate) const WRITTEN: BusAddress = BusAddress::new(0x1000_0000);
    pub(crate) const READ: BusAddress = BusAddress::new(0x4000_0000);

    pub(crate) fn board_base() -> BusAddress {
        BusAddress::board(0x10_0000)
    }

    pub(crate) fn new() -> Self {
        Self { written: Memory::new(MEMORY), read: Memory::new(MEMORY), board: Memory::new(MEMORY) }
    }

    pub(crate) fn regions(&self) -> RegionTable<Memory> {
        let mut table = RegionTable::new();
        for (id, base, rights, window) in [
            (0, Self::WRITTEN, Rights::WRITE, &self.written),
            (1, Self::READ, Rights::READ, &self.read),
            (2, Self::board_base(), Rights::READ_WRITE, &self.board),
        ] {
            table.insert(Region { id, base, rights, window: window.clone() }).unwrap();
        }
        table
    }
}
