//! PCI, as much of it as a board with one function needs.
//!
//! Guarantee: whatever configuration space answers, nothing here panics or
//! loops for ever, and no BAR gets addresses outside of the board's aperture.

mod bars;
mod ecam;
mod msix;
#[cfg(test)]
mod tests;

use core::fmt;

pub use bars::assign;
pub use ecam::Ecam;
pub use msix::Msix;

/// A function's place: bus, device, function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// 0 to 255.
    pub bus: u8,
    /// 0 to 31.
    pub device: u8,
    /// 0 to 7.
    pub function: u8,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

/// PCI configuration space, in aligned 32-bit words. Values are the numbers
/// that the specification speaks of, whatever the processor's byte order.
pub trait ConfigSpace {
    /// Reads the word at `offset`, a multiple of 4. All ones where nothing answers.
    fn read(&self, function: Function, offset: u16) -> u32;
    /// Writes it.
    fn write(&self, function: Function, offset: u16, value: u32);
}

/// What of a function cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PciError {
    /// BAR `bar` is not there, is an I/O BAR, or half of another.
    NoMemoryBar {
        /// Which.
        bar: u8,
    },
    /// BAR `bar` answers with a length that is no power of two.
    BarLength {
        /// Which.
        bar: u8,
        /// The length that it answers with, in bytes.
        len: u64,
    },
    /// BAR `bar` does not fit into what is left of the board's aperture.
    NoRoom {
        /// Which.
        bar: u8,
        /// Its length in bytes.
        len: u64,
    },
    /// The function has no MSI-X capability.
    NoMsix,
    /// The MSI-X table does not lie in the BAR that was opened for it.
    MsixTable {
        /// Its BAR.
        bar: u8,
        /// Where in it, in bytes.
        offset: u32,
        /// How many entries of 16 bytes it has.
        entries: u16,
    },
}

impl fmt::Display for PciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemoryBar { bar } => write!(f, "BAR {bar} is no memory BAR"),
            Self::BarLength { bar, len } => {
                write!(f, "BAR {bar} says it has {len:#x} bytes, no power of two")
            }
            Self::NoRoom { bar, len } => {
                write!(f, "no room for the {len:#x} bytes of BAR {bar}: give it less memory")
            }
            Self::NoMsix => write!(f, "no MSI-X capability: give it vectors"),
            Self::MsixTable { bar, offset, entries } => write!(
                f,
                "the MSI-X table ({entries} entries at {offset:#x} of BAR {bar}) is not where \
                 it should be"
            ),
        }
    }
}

impl core::error::Error for PciError {}

const COMMAND: u16 = 0x04;
const HEADER: u16 = 0x0C;
const CAPABILITIES: u16 = 0x34;

const MEMORY_SPACE: u32 = 1 << 1;
const BUS_MASTER: u32 = 1 << 2;
/// In the status register, the upper half of the command's word.
const HAS_CAPABILITIES: u32 = 1 << 20;
const MULTI_FUNCTION: u32 = 1 << 23;

/// Capabilities that fit into 256 bytes: a list that is longer is a loop.
const MOST_CAPABILITIES: usize = 48;

/// The first function of bus 0 with this vendor and device.
pub fn find(config: &impl ConfigSpace, vendor: u16, device: u16) -> Option<Function> {
    let wanted = u32::from(device) << 16 | u32::from(vendor);
    (0..32).find_map(|slot| {
        let first = Function { bus: 0, device: slot, function: 0 };
        if config.read(first, 0) == u32::MAX {
            return None;
        }
        let several = config.read(first, HEADER) & MULTI_FUNCTION != 0;
        (0..if several { 8 } else { 1 })
            .map(|function| Function { function, ..first })
            .find(|function| config.read(*function, 0) == wanted)
    })
}

/// Lets the function answer in its BARs and send messages, or stops both.
///
/// The status register in the same word is written with zeroes, which changes
/// nothing there.
pub fn enable(config: &impl ConfigSpace, function: Function, on: bool) {
    let both = MEMORY_SPACE | BUS_MASTER;
    let command = config.read(function, COMMAND) & 0xFFFF & !both;
    config.write(function, COMMAND, if on { command | both } else { command });
}

/// Where the capability with this number is, in bytes.
fn capability(config: &impl ConfigSpace, function: Function, id: u8) -> Option<u16> {
    if config.read(function, COMMAND) & HAS_CAPABILITIES == 0 {
        return None;
    }
    let mut next = config.read(function, CAPABILITIES).to_le_bytes()[0];
    for _ in 0..MOST_CAPABILITIES {
        // The two lowest bits are reserved; the header's 64 bytes hold none.
        let at = u16::from(next & !3);
        if at < 0x40 {
            return None;
        }
        let [found, behind, ..] = config.read(function, at).to_le_bytes();
        if found == id {
            return Some(at);
        }
        next = behind;
    }
    None
}
