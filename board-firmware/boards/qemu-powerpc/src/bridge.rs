//! The PCI bridge (MPC8544E Reference Manual ch. 15 and 16; QEMU's
//! hw/pci-host/ppce500.c).

use qemu_common::pci::{ConfigSpace, Function};

use crate::raw::{self, CCSR, CCSR_ON_BUS, WINDOW, WINDOW_BITS};

const CONFIG_ADDRESS: usize = 0x8000;
const CONFIG_DATA: usize = 0x8004;

/// The first outbound window: addresses in pages of 4 KiB.
mod outbound {
    pub(super) const ON_BUS: usize = 0x8C20;
    pub(super) const ON_BUS_HIGH: usize = 0x8C24;
    pub(super) const HERE: usize = 0x8C28;
    pub(super) const ATTRIBUTES: usize = 0x8C30;
}

/// On; reads and writes are memory reads and writes.
const MEMORY: u32 = 0x8004_4000;

/// The bridge itself, as a function of its bus.
const SELF: Function = Function { bus: 0, device: 0, function: 0 };
const COMMAND: u16 = 0x04;
const MEMORY_SPACE: u32 = 1 << 1;
/// Through this BAR functions reach CCSR, and nothing else here.
const BAR_0: u16 = 0x10;

/// Configuration space by an address and a data register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bridge;

/// Makes the window through which the processor reaches BARs, and the one
/// through which messages reach the interrupt controller. No other lets a
/// function reach anything here, RAM least of all.
pub(crate) fn on() {
    CCSR.write32(outbound::ON_BUS, WINDOW >> 12);
    CCSR.write32(outbound::ON_BUS_HIGH, 0);
    CCSR.write32(outbound::HERE, WINDOW >> 12);
    CCSR.write32(outbound::ATTRIBUTES, MEMORY | (WINDOW_BITS - 1));
    raw::settle();
    Bridge.write(SELF, BAR_0, CCSR_ON_BUS);
    Bridge.write(SELF, COMMAND, MEMORY_SPACE);
}

fn select(Function { bus, device, function }: Function, offset: u16) {
    let place = [0x80, bus, device << 3 | function & 7, offset.to_le_bytes()[0] & 0xFC];
    CCSR.write32(CONFIG_ADDRESS, u32::from_be_bytes(place));
    raw::settle();
}

impl ConfigSpace for Bridge {
    // The address register is the chip's own, the data register the bus's.
    fn read(&self, function: Function, offset: u16) -> u32 {
        select(function, offset);
        let value = u32::from_le(CCSR.read32(CONFIG_DATA));
        raw::settle();
        value
    }

    fn write(&self, function: Function, offset: u16, value: u32) {
        select(function, offset);
        CCSR.write32(CONFIG_DATA, value.to_le());
        raw::settle();
    }
}
