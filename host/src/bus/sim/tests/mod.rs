//! What the simulated bus promises, rule by rule.
#![expect(clippy::cast_possible_truncation, reason = "small numbers")]

mod bill;
mod cache;
mod counted;
mod faults;
mod litmus;
mod memory;
mod ports;
mod presence;
mod rings;
mod speed;

use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::window::{Barrier, Window};

use super::*;
use crate::bus::Bus;

const PROFILES: [Profile; 3] = [Profile::Eager, Profile::Lazy, Profile::Adversarial];

/// Offset of data in BAR 0, behind the control pages.
const DATA: u64 = 0x8000;

/// A bus, and everybody's windows of its two memories. Words are numbered from
/// 0; they lie 64 bytes apart.
struct Rig {
    bus: SimBus,
    host: SimHostPort,
    board: SimBoardPort,
    /// The host's view of the board's memory, and of its own.
    host_bar: SimWindow,
    host_ram: SimWindow,
    /// The board CPU's.
    board_bar: SimWindow,
    board_ram: SimWindow,
    /// The DMA engine's.
    dma_bar: SimWindow,
    dma_ram: SimWindow,
    iova: shared::address::BusAddress,
}

fn rig(options: SimOptions) -> Rig {
    let bus = SimBus::new(SimOptions { bar_len: 1 << 16, ..options }).unwrap();
    let (mut host, board) = (bus.host(), bus.board());
    let shared = host.share(1 << 16, Rights::READ_WRITE).unwrap();
    let half = 1 << 15;
    let widest = if options.bar_32_bit { StoreWidth::Bits32 } else { StoreWidth::Bits64 };
    let ram = shared.iova;
    Rig {
        host_bar: host.bar(0, widest).unwrap().part(DATA, half).unwrap(),
        host_ram: shared.window.part(DATA, half).unwrap(),
        board_bar: board.memory(DATA, half).unwrap(),
        board_ram: board.outbound(ram, 1 << 16).unwrap().part(DATA, half).unwrap(),
        dma_bar: board.dma_memory(DATA, half).unwrap(),
        dma_ram: board.dma(ram, 1 << 16).unwrap().part(DATA, half).unwrap(),
        iova: ram,
        bus,
        host,
        board,
    }
}

fn instrument(seed: u64, profile: Profile) -> Rig {
    rig(SimOptions::instrument(seed, profile))
}

fn broken(seed: u64, profile: Profile, order: BrokenOrder) -> Rig {
    let settings = Instrument { order, ..Instrument::new(seed, profile) };
    rig(SimOptions { mode: Mode::Instrument(settings), ..SimOptions::default() })
}

fn set(window: &SimWindow, word: u64, value: u32) {
    window.store(word * 64, value);
}

fn get(window: &SimWindow, word: u64) -> u32 {
    window.load(word * 64)
}

/// SplitMix64, apart from the bus's own.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
