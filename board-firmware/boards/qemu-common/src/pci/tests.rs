//! A configuration space whose function answers what a test says.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;
use crate::raw::{Aperture, Message, Registers};

const AT: Function = Function { bus: 0, device: 3, function: 0 };

/// Functions as words; BARs keep the address bits that their masks have.
#[derive(Default)]
struct Fake {
    words: RefCell<BTreeMap<(u8, u8, u16), u32>>,
    masks: BTreeMap<u16, (u32, u32)>,
    reads: std::cell::Cell<usize>,
}

impl Fake {
    /// A function at 3.0 with this identity.
    fn with_function() -> Self {
        let fake = Self::default();
        fake.set(AT, 0, 0x1110_1AF4);
        fake
    }

    fn set(&self, at: Function, offset: u16, value: u32) {
        self.words.borrow_mut().insert((at.device, at.function, offset), value);
    }

    fn get(&self, offset: u16) -> u32 {
        self.read(AT, offset)
    }

    /// A BAR word with these writable bits and these that always read so.
    fn bar(mut self, number: u16, mask: u32, fixed: u32) -> Self {
        self.masks.insert(0x10 + 4 * number, (mask, fixed));
        self.set(AT, 0x10 + 4 * number, fixed);
        self
    }

    fn capabilities(&self, first: u32, list: &[(u16, u8, u8)]) {
        self.set(AT, 0x04, 1 << 20);
        self.set(AT, 0x34, first);
        for (at, id, next) in list {
            self.set(AT, *at, u32::from(*next) << 8 | u32::from(*id));
        }
    }
}

impl ConfigSpace for Fake {
    fn read(&self, at: Function, offset: u16) -> u32 {
        self.reads.set(self.reads.get() + 1);
        let words = self.words.borrow();
        if !words.contains_key(&(at.device, at.function, 0)) {
            return u32::MAX;
        }
        words.get(&(at.device, at.function, offset)).copied().unwrap_or(0)
    }

    fn write(&self, at: Function, offset: u16, value: u32) {
        let value = match self.masks.get(&offset) {
            Some((mask, fixed)) => value & mask | fixed,
            None => value,
        };
        self.set(at, offset, value);
    }
}

/// Addresses that the tests give out and never touch.
fn aperture(bus: u64, len: u64) -> Aperture {
    Aperture::untouched(bus, len)
}

fn assigned(fake: &Fake, bar: u8, aperture: &mut Aperture) -> Result<(u64, usize), PciError> {
    assign(fake, AT, bar, aperture).map(|span| (span.bus(), span.len()))
}

#[test]
fn the_function_is_found_wherever_it_is_on_bus_0() {
    let fake = Fake::default();
    assert_eq!(find(&fake, 0x1AF4, 0x1110), None);
    assert_eq!(fake.reads.get(), 32, "nothing asked behind an empty place");
    for (device, function) in [(0, 0), (3, 0), (31, 0), (9, 7)] {
        let fake = Fake::default();
        let at = Function { bus: 0, device, function };
        fake.set(Function { function: 0, ..at }, 0, 0x0D0C_1B36);
        fake.set(Function { function: 0, ..at }, 0x0C, 1 << 23);
        fake.set(at, 0, 0x1110_1AF4);
        assert_eq!(find(&fake, 0x1AF4, 0x1110), Some(at));
    }
}

#[test]
fn a_function_behind_one_that_is_alone_is_no_function() {
    let fake = Fake::default();
    fake.set(AT, 0, 0x0D0C_1B36);
    fake.set(Function { function: 1, ..AT }, 0, 0x1110_1AF4);
    assert_eq!(find(&fake, 0x1AF4, 0x1110), None);
}

#[test]
fn bars_get_aligned_addresses_one_behind_the_other() {
    let fake = Fake::with_function().bar(0, 0xFFFF_FF00, 0).bar(1, 0xFFFF_F000, 0);
    let fake = fake.bar(2, 0xFC00_0000, 0xC).bar(3, u32::MAX, 0);
    let mut room = aperture(0x1000_0000, 0x1000_0000);
    assert_eq!(assigned(&fake, 1, &mut room), Ok((0x1000_0000, 0x1000)));
    assert_eq!(assigned(&fake, 2, &mut room), Ok((0x1400_0000, 64 << 20)));
    assert_eq!(assigned(&fake, 0, &mut room), Ok((0x1800_0000, 256)));
    let words: Vec<_> = (4..8).map(|word| fake.get(4 * word)).collect();
    assert_eq!(words, [0x1800_0000, 0x1000_0000, 0x1400_000C, 0]);
}

#[test]
fn a_wide_bar_can_lie_above_4_gib_a_narrow_one_cannot() {
    let high = 0x40_0000_0000;
    let fake = Fake::with_function().bar(0, 0xFFFF_FF00, 0).bar(2, 0xFFF0_0000, 0xC);
    let fake = fake.bar(3, u32::MAX, 0).bar(4, 0, 0x4).bar(5, 0xFFFF_FFFE, 0);
    assert_eq!(assigned(&fake, 2, &mut aperture(high, 1 << 40)), Ok((high, 1 << 20)));
    assert_eq!((fake.get(0x18), fake.get(0x1C)), (0xC, 0x40));
    assert_eq!(assigned(&fake, 4, &mut aperture(high, 1 << 40)), Ok((high, 1 << 33)));
    let none = PciError::NoRoom { bar: 0, len: 256 };
    assert_eq!(assigned(&fake, 0, &mut aperture(high, 1 << 40)), Err(none));
}

#[test]
fn what_is_no_memory_bar_gets_nothing() {
    // Not there, I/O, below 1 MiB, all ones, half of a wide one at the end, no BAR at all.
    let bars = [(0, 0), (0xFFFF_FFFC, 1), (0xFFFF_F000, 2), (0, u32::MAX), (0, 6), (0, 4)];
    for (bar, (mask, fixed)) in (0_u8..).zip(bars) {
        let fake = Fake::with_function().bar(bar.into(), mask, fixed);
        let mut room = aperture(0x1000_0000, 1 << 30);
        assert_eq!(assigned(&fake, bar, &mut room), Err(PciError::NoMemoryBar { bar }));
    }
    for bar in [6, 7, 255] {
        let mut room = aperture(0x1000_0000, 1 << 30);
        let result = assigned(&Fake::with_function(), bar, &mut room);
        assert_eq!(result, Err(PciError::NoMemoryBar { bar }));
    }
    // A wide one without a length.
    let fake = Fake::with_function().bar(2, 0, 4).bar(3, 0, 0);
    let result = assigned(&fake, 2, &mut aperture(0x1000_0000, 1 << 30));
    assert_eq!(result, Err(PciError::NoMemoryBar { bar: 2 }));
}

#[test]
fn lengths_that_are_none_are_refused() {
    for (mask, len) in [(0xFF00_FF00, 0x00FF_0100), (0x0F00_0000, 0xF100_0000)] {
        let fake = Fake::with_function().bar(0, mask, 0);
        let result = assigned(&fake, 0, &mut aperture(0x1000_0000, 1 << 30));
        assert_eq!(result, Err(PciError::BarLength { bar: 0, len }), "{mask:#x}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_takes_no_room() {
    let fake = Fake::with_function().bar(0, 0xFC00_0000, 0).bar(1, 0xFE00_0000, 0);
    let mut room = aperture(0x1000_0000, 0x300_0000);
    let none = PciError::NoRoom { bar: 0, len: 64 << 20 };
    assert_eq!(assigned(&fake, 0, &mut room), Err(none));
    assert_eq!(assigned(&fake, 1, &mut room), Ok((0x1000_0000, 32 << 20)));
    assert_eq!(assigned(&fake, 1, &mut room), Err(PciError::NoRoom { bar: 1, len: 32 << 20 }));
    // At the end of all addresses.
    let mut room = aperture(u64::MAX - 0xFFF, 0x1000);
    assert_eq!(assigned(&fake, 1, &mut room), Err(PciError::NoRoom { bar: 1, len: 32 << 20 }));
}

#[test]
fn enabling_leaves_the_rest_of_the_command_alone() {
    let fake = Fake::with_function();
    fake.set(AT, 0x04, 0xF910_0541);
    enable(&fake, AT, true);
    assert_eq!(fake.get(0x04), 0x0547);
    enable(&fake, AT, false);
    assert_eq!(fake.get(0x04), 0x0541);
}

#[test]
fn capability_lists_that_loop_or_leave_end() {
    let lists: [&[(u16, u8, u8)]; 4] = [
        &[(0x40, 1, 0x40)],
        &[(0x40, 1, 0x50), (0x50, 5, 0x40)],
        &[(0x40, 1, 0x04)],
        &[(0x40, 1, 0x00)],
    ];
    for list in lists {
        let fake = Fake::with_function();
        fake.capabilities(0x40, list);
        assert_eq!(capability(&fake, AT, 0x11), None, "{list:?}");
        assert!(fake.reads.get() < 60);
    }
    // 64 of them, each 4 bytes long, do not fit behind the header.
    let fake = Fake::with_function();
    for at in (0x40..0x100).step_by(4) {
        fake.set(AT, at, (u32::from(at) + 4) << 8 & 0xFF00 | 1);
    }
    fake.capabilities(0x43, &[(0xFC, 0x11, 0)]);
    assert_eq!(capability(&fake, AT, 0x11), Some(0xFC), "reserved bits do not count");
    fake.set(AT, 0x04, 0);
    assert_eq!(capability(&fake, AT, 0x11), None, "the status register says there is no list");
}

#[test]
fn vectors_send_what_they_are_told_and_the_others_nothing() {
    let fake = Fake::with_function();
    fake.capabilities(0x40, &[(0x40, 0x11, 0)]);
    fake.set(AT, 0x40, 0x4003_0011);
    fake.set(AT, 0x44, 0x0000_0041);
    assert_eq!(Msix::bar(&fake, AT), Ok(1));
    let registers = Registers::leaked(512);
    let msix = Msix::open(&fake, AT, (1, registers)).unwrap();
    assert_eq!(msix.entries(), 4);
    msix.set(2, Some(Message::unsent(0x12_0802_0040, 82)));
    msix.set(1, None);
    msix.set(4, Some(Message::unsent(1, 1)));
    let entry = |vector: usize| {
        let at = 0x40 + 16 * vector;
        [0, 4, 8, 12].map(|word| u32::from_le(registers.read32(at + word)))
    };
    assert_eq!(entry(2), [0x0802_0040, 0x12, 82, 0]);
    assert_eq!(entry(1), [u32::MAX, u32::MAX, u32::MAX, 1]);
    assert_eq!(entry(4), [u32::MAX; 4], "behind the table");
    assert_eq!(registers.read32(0x3C), u32::MAX, "in front of it");
    msix.enable(&fake);
    assert_eq!(fake.get(0x40), 0x8003_0011);
}

#[test]
fn a_table_that_is_elsewhere_is_refused() {
    let open = |control: u32, place: u32, len: usize| {
        let fake = Fake::with_function();
        fake.capabilities(0x40, &[(0x40, 0x11, 0)]);
        fake.set(AT, 0x40, control << 16 | 0x11);
        fake.set(AT, 0x44, place);
        Msix::open(&fake, AT, (1, Registers::leaked(len))).map(|msix| msix.entries())
    };
    assert_eq!(open(31, 1, 512), Ok(32));
    assert_eq!(open(32, 1, 512), Err(PciError::MsixTable { bar: 1, offset: 0, entries: 33 }));
    assert_eq!(open(0, 0x1F9, 512), Err(PciError::MsixTable { bar: 1, offset: 0x1F8, entries: 1 }));
    assert_eq!(open(0, 2, 512), Err(PciError::MsixTable { bar: 2, offset: 0, entries: 1 }));
    let far = PciError::MsixTable { bar: 1, offset: 0xFFFF_FFF8, entries: 2048 };
    assert_eq!(open(0xFFFF, 0xFFFF_FFF9, 512), Err(far));
    let fake = Fake::with_function();
    assert_eq!(Msix::bar(&fake, AT), Err(PciError::NoMsix));
}

#[test]
fn ecam_finds_each_function_and_nothing_outside() {
    let memory = Registers::leaked(4 << 12);
    let space = Ecam::new(memory);
    let second = Function { bus: 0, device: 0, function: 2 };
    space.write(second, 0x10, 0x1234_5678);
    assert_eq!(space.read(second, 0x10), 0x1234_5678);
    assert_eq!(u32::from_le(memory.read32(0x2010)), 0x1234_5678);
    for outside in [Function { device: 1, ..second }, Function { bus: 1, ..second }] {
        space.write(outside, 0, 1);
        assert_eq!(space.read(outside, 0), u32::MAX);
    }
}
