//! Who a board is.

use shared::link::{BoardDescription, BoardRegion, BoardRegions, Heartbeat, Label, Versions};
use shared::raw::StoreWidth;
use shared::region::Rights;

use super::{CONTROL_LEN, ProgramError, Wiring};

/// Twice a second, and given up after two seconds.
pub const HEARTBEAT: Heartbeat = Heartbeat { interval_ms: 500, misses: 4 };

/// Who a board is.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Its name: up to 32 printable ASCII characters, the rest is cut.
    pub name: &'a str,
    /// Its firmware's version: the same.
    pub firmware: &'a str,
    /// Tells the MAC addresses of several boards apart.
    pub number: u8,
    /// The versions of the protocol that it speaks.
    pub versions: Versions,
    /// How often it shows that it lives.
    pub heartbeat: Heartbeat,
}

/// A board's addresses on the link, with their prefix lengths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// IPv4.
    pub v4: ([u8; 4], u8),
    /// IPv6.
    pub v6: ([u8; 16], u8),
}

/// Whose network card a MAC address belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Card {
    /// The host interface's.
    Host = 1,
    /// The board's own.
    Board = 2,
}

/// The MAC address of a card at board `number`: locally administered.
#[must_use]
pub const fn mac(number: u8, card: Card) -> [u8; 6] {
    [0x02, 0x76, 0x70, 0x68, number, card as u8]
}

impl Setup<'_> {
    /// The board's own MAC address.
    #[must_use]
    pub const fn mac(&self) -> [u8; 6] {
        mac(self.number, Card::Board)
    }

    /// What the control block says, of a board whose BARs take 64-bit stores
    /// and whose interrupts stay behind its writes.
    ///
    /// # Errors
    /// [`ProgramError::Bar`]: BAR 0 has no memory behind the control pages.
    pub fn describe(&self, wiring: &Wiring) -> Result<BoardDescription, ProgramError> {
        let memory = BoardRegion {
            bar: 0,
            rights: Rights::READ_WRITE,
            offset: CONTROL_LEN,
            len: wiring.bar_len.saturating_sub(CONTROL_LEN),
        };
        let mut regions = BoardRegions::new();
        if memory.len == 0 || !regions.push(memory) {
            return Err(ProgramError::Bar { len: wiring.bar_len });
        }
        Ok(BoardDescription {
            name: Label::new(self.name),
            firmware: Label::new(self.firmware),
            mac: self.mac(),
            versions: self.versions,
            interrupts_unordered: false,
            dma_engine: wiring.dma_engine,
            vectors: wiring.vectors,
            widest_store: StoreWidth::Bits64,
            heartbeat: self.heartbeat,
            doorbell: wiring.doorbell,
            outbound: wiring.outbound,
            regions,
        })
    }
}

#[cfg(test)]
mod tests {
    use shared::link::{DoorbellDescription, Versions};

    use super::*;

    const BOARD: Setup<'_> = Setup {
        name: "a name of more than thirty-two characters",
        firmware: "1.0",
        number: 7,
        versions: Versions::OURS,
        heartbeat: HEARTBEAT,
    };

    const fn wiring(bar_len: u64) -> Wiring {
        Wiring {
            bar_len,
            doorbell: DoorbellDescription {
                bar: 1,
                offset: 12,
                stride: 0,
                count: 3,
                value: 0,
                step: 1,
            },
            outbound: None,
            vectors: 4,
            dma_engine: false,
        }
    }

    #[test]
    fn all_memory_behind_the_control_pages_is_offered() {
        let described = BOARD.describe(&wiring(1 << 20)).unwrap();
        let region = described.regions.get(0).unwrap();
        assert_eq!((region.bar, region.offset, region.offset + region.len), (0, 16 << 10, 1 << 20));
        assert_eq!(described.mac, [2, 0x76, 0x70, 0x68, 7, 2]);
        assert_eq!(described.name.to_string(), "a name of more than thirty-two c");
    }

    #[test]
    fn a_bar_without_memory_is_refused_with_what_it_needs() {
        for len in [0, 16 << 10] {
            let error = BOARD.describe(&wiring(len)).unwrap_err();
            assert_eq!(error, ProgramError::Bar { len });
            assert_eq!(
                error.to_string(),
                format!(
                    "BAR 0 has {len} bytes: the control pages take 16384, and memory for rings \
                     has to lie behind them"
                )
            );
        }
    }
}
