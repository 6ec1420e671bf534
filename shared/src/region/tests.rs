//! The region table against a plain model: every byte has its own answer.
#![expect(clippy::cast_possible_truncation, reason = "the model has a few pages")]

use proptest::prelude::*;

use super::*;
use crate::window::{Barrier, Word};

/// A window that is nothing but long.
#[derive(Clone, Debug, PartialEq)]
struct Stretch(u64);

impl Window for Stretch {
    fn len(&self) -> u64 {
        self.0
    }
    fn load<T: Word>(&self, _: u64) -> T {
        T::ALL_ONES
    }
    fn store<T: Word>(&self, _: u64, _: T) {}
    fn read(&self, _: u64, into: &mut [u8]) {
        into.fill(0xFF);
    }
    fn write(&self, _: u64, _: &[u8]) {}
    fn barrier(&self, _: Barrier) {}
    fn part(&self, offset: u64, len: u64) -> Option<Self> {
        fits(self.0, offset, len).then_some(Self(len))
    }
}

const PAGE: u64 = REGION_GRANULE;

fn region(id: u8, base: u64, pages: u64, rights: Rights) -> Region<Stretch> {
    Region { id, base: BusAddress::new(base), rights, window: Stretch(pages * PAGE) }
}

fn table(regions: &[(u64, u64, Rights)]) -> RegionTable<Stretch> {
    let mut table = RegionTable::new();
    for (id, (page, pages, rights)) in (0..).zip(regions) {
        table.insert(region(id, page * PAGE, *pages, *rights)).unwrap();
    }
    table
}

#[test]
fn lengths_and_bases_are_whole_granules() {
    let mut table = RegionTable::new();
    let odd = Region { window: Stretch(PAGE - 8), ..region(0, 0, 1, Rights::READ) };
    for bad in [region(0, 0, 0, Rights::READ), region(0, 8, 1, Rights::READ), odd] {
        assert_eq!(table.insert(bad), Err(RegionError::BadLength));
    }
    assert_eq!(table.count(), 0);
}

#[test]
fn a_region_whose_end_wraps_is_refused() {
    let mut table = RegionTable::new();
    let top = u64::MAX - PAGE + 1;
    assert_eq!(table.insert(region(0, top, 2, Rights::READ)), Err(RegionError::Wraps));
    // It would also leave host memory for the board's.
    let last_of_host = (1 << 63) - PAGE;
    assert_eq!(table.insert(region(0, last_of_host, 2, Rights::READ)), Err(RegionError::Wraps));
    assert_eq!(table.insert(region(0, last_of_host, 1, Rights::READ)), Ok(()));
}

#[test]
fn neither_an_id_nor_a_byte_is_given_twice() {
    let mut table = table(&[(4, 4, Rights::READ)]);
    assert_eq!(table.insert(region(0, 100 * PAGE, 1, Rights::READ)), Err(RegionError::Overlaps));
    for page in 2..=8 {
        let clash = (3..8).contains(&page);
        let result = table.insert(region(1, page * PAGE, 2, Rights::READ));
        assert_eq!(result, if clash { Err(RegionError::Overlaps) } else { Ok(()) }, "page {page}");
        let _ = table.remove(1);
    }
}

#[test]
fn sixty_four_regions_and_no_more() {
    let mut table = RegionTable::new();
    for id in 0..64 {
        table.insert(region(id, u64::from(id) * 2 * PAGE, 1, Rights::READ)).unwrap();
    }
    assert_eq!(table.insert(region(64, 1 << 40, 1, Rights::READ)), Err(RegionError::TableFull));
    table.remove(7).unwrap();
    assert_eq!(table.remove(7).err(), Some(RegionError::Unknown));
    assert_eq!(table.insert(region(7, 1 << 40, 1, Rights::READ)), Ok(()));
}

#[test]
fn address_and_length_that_wrap() {
    let table = table(&[(0, 1, Rights::READ)]);
    for address in [u64::MAX, u64::MAX - 7, (1 << 63) - 1] {
        let wraps = PeerFault::AddressWraps { address, length: 16 };
        let bus = BusAddress::new(address);
        assert_eq!(table.resolve(bus, 16, Rights::READ).err(), Some(wraps));
        assert_eq!(table.resolve_buffer(bus, 16, Rights::READ).err(), Some(wraps));
    }
}

#[test]
fn a_buffer_over_a_hole_a_right_that_ends_and_a_third_region() {
    let (r, w) = (Rights::READ, Rights::READ_WRITE);
    let table = table(&[(0, 1, w), (1, 1, w), (2, 1, w), (3, 1, r), (5, 1, w)]);
    let at = |page: u64, before: u64| BusAddress::new(page * PAGE - before);
    let spans = |address, len| {
        let found = table.resolve_buffer(address, len, Rights::WRITE);
        found.map(|spans| spans.iter().map(|span| span.len).collect::<std::vec::Vec<_>>())
    };
    assert_eq!(spans(at(1, 8), 16), Ok(std::vec![8, 8]));
    let third = PeerFault::AddressStraddles { address: PAGE - 8 };
    assert_eq!(spans(at(1, 8), PAGE as u32 + 9), Err(third));
    assert_eq!(spans(at(3, 8), 16), Err(PeerFault::AddressRights { address: 3 * PAGE }));
    let hole = PeerFault::AddressUnmapped { address: 4 * PAGE };
    let over = table.resolve_buffer(at(4, 8), 16, Rights::READ).err();
    assert_eq!(over, Some(hole));
    // A ring part never crosses, however adjacent.
    let part = table.resolve(at(1, 8), 16, Rights::WRITE).err();
    assert_eq!(part, Some(PeerFault::AddressStraddles { address: PAGE - 8 }));
}

proptest! {
    /// Every look-up against the page map that the regions describe.
    #[test]
    fn each_look_up_agrees_with_a_map_of_pages(
        wanted in prop::collection::vec((0_u64..24, 1_u64..4, 1_u32..4), 0..12),
        looks in prop::collection::vec((0_u64..26, 0_u64..PAGE, 0_u32..3 * PAGE as u32), 1..40),
        need in 1_u32..4,
    ) {
        let mut table = RegionTable::new();
        let mut pages = [None; 32];
        for (id, (page, count, rights)) in (0_u8..).zip(&wanted) {
            let rights = Rights::from_bits(*rights).unwrap();
            if table.insert(region(id, page * PAGE, *count, rights)).is_ok() {
                for slot in pages.iter_mut().skip(*page as usize).take(*count as usize) {
                    prop_assert!(slot.is_none());
                    *slot = Some((id, rights, *page));
                }
            }
        }
        let need = Rights::from_bits(need).unwrap();
        for (page, into, len) in looks {
            let address = page * PAGE + into;
            let last = address + u64::from(len.max(1)) - 1;
            let touched = &pages[page as usize..=(last / PAGE) as usize];
            let good = touched.iter().all(|p| p.is_some_and(|(_, rights, _)| rights.contains(need)));
            let mut regions: std::vec::Vec<_> = touched.iter().flatten().map(|p| p.0).collect();
            regions.dedup();
            let bus = BusAddress::new(address);
            let whole = table.resolve(bus, len, need);
            prop_assert_eq!(whole.is_ok(), good && regions.len() == 1);
            if let Ok(located) = whole {
                let base = pages[page as usize].unwrap().2 * PAGE;
                prop_assert_eq!((located.offset, located.len), (address - base, len));
            }
            let spans = table.resolve_buffer(bus, len, need);
            prop_assert_eq!(spans.is_ok(), good && regions.len() <= 2);
            if let Ok(spans) = spans {
                let total: u64 = spans.iter().map(|span| u64::from(span.len)).sum();
                prop_assert_eq!(total, u64::from(len));
                for span in spans.iter() {
                    prop_assert!(fits(span.window.len(), span.offset, u64::from(span.len)));
                }
            }
        }
    }
}
