//! MSI-X: which message a vector sends.

use super::{ConfigSpace, Function, PciError, capability};
use crate::raw::{Message, Registers};

const CAPABILITY: u8 = 0x11;
/// In the word whose upper half is Message Control.
const ENABLE: u32 = 1 << 31;
const MASK_ALL: u32 = 1 << 30;

const ENTRY: usize = 16;
const MASKED: u32 = 1;

/// A function's MSI-X table (PCI Express Base Specification 5.0 §7.7.2).
#[derive(Debug)]
pub struct Msix {
    function: Function,
    at: u16,
    table: Registers,
    entries: u16,
}

impl Msix {
    /// Which BAR the table is in.
    ///
    /// # Errors
    /// [`PciError::NoMsix`].
    pub fn bar(config: &impl ConfigSpace, function: Function) -> Result<u8, PciError> {
        let at = capability(config, function, CAPABILITY).ok_or(PciError::NoMsix)?;
        Ok(config.read(function, at + 4).to_le_bytes()[0] & 7)
    }

    /// The table of `function`, in its BAR number `bar`, which is `registers`.
    ///
    /// # Errors
    /// [`PciError::NoMsix`], [`PciError::MsixTable`].
    pub fn open(
        config: &impl ConfigSpace,
        function: Function,
        (bar, registers): (u8, Registers),
    ) -> Result<Self, PciError> {
        let at = capability(config, function, CAPABILITY).ok_or(PciError::NoMsix)?;
        let entries = u16::try_from((config.read(function, at) >> 16) & 0x7FF).unwrap_or(0) + 1;
        let place = config.read(function, at + 4);
        let (table, offset) = (place.to_le_bytes()[0] & 7, place & !7);
        let elsewhere = PciError::MsixTable { bar: table, offset, entries };
        let start = usize::try_from(offset).map_err(|_| elsewhere)?;
        if table != bar {
            return Err(elsewhere);
        }
        let table = registers.part(start, ENTRY * usize::from(entries)).ok_or(elsewhere)?;
        Ok(Self { function, at, table, entries })
    }

    /// How many vectors there are.
    #[must_use]
    pub const fn entries(&self) -> u16 {
        self.entries
    }

    /// Vector `vector` sends `message` from now on; `None`: nothing at all. One
    /// that is not there is left alone. The function must answer in its BARs.
    pub fn set(&self, vector: u16, message: Option<Message>) {
        let entry = ENTRY * usize::from(vector);
        // The table is little-endian for every processor.
        let write = |offset, value: u32| self.table.write32(entry + offset, value.to_le());
        write(12, MASKED);
        if let Some(message) = message {
            let [a, b, c, d, high @ ..] = message.address().to_le_bytes();
            write(0, u32::from_le_bytes([a, b, c, d]));
            write(4, u32::from_le_bytes(high));
            write(8, message.data());
            write(12, 0);
        }
    }

    /// Messages go out from now on, in place of the interrupt line.
    pub fn enable(&self, config: &impl ConfigSpace) {
        let word = config.read(self.function, self.at) & !MASK_ALL;
        config.write(self.function, self.at, word | ENABLE);
    }
}
