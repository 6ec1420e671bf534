//! The interrupt controller, a GICv2 with a GICv2m frame for messages
//! (Arm IHI 0048B, Arm DEN 0029A appendix E).

use qemu_common::raw::Message;
use qemu_common::vectors;

use crate::raw::{self, CPU_INTERFACE, DISTRIBUTOR, MESSAGES};

/// The distributor.
mod distributor {
    pub(super) const CONTROL: usize = 0x000;
    pub(super) const ENABLE: usize = 0x100;
    pub(super) const PRIORITY: usize = 0x400;
    pub(super) const TARGET: usize = 0x800;
    pub(super) const CONFIG: usize = 0xC00;
}

/// The processor's interface.
mod interface {
    pub(super) const CONTROL: usize = 0x00;
    pub(super) const PRIORITY_MASK: usize = 0x04;
    pub(super) const ACKNOWLEDGE: usize = 0x0C;
    pub(super) const END: usize = 0x10;
}

/// MSI_TYPER: the first interrupt in bits 25 to 16, their number in 9 to 0.
const MESSAGE_TYPE: usize = 0x008;

/// The virtual timer's.
const TIMER: u32 = 27;

/// From here on an acknowledged number means that there is none.
const NONE: u32 = 1020;

/// Interrupts taken at once; what is left raises the next.
const MOST: usize = 64;

fn messages() -> (u32, u32) {
    let kind = MESSAGES.read32(MESSAGE_TYPE);
    (kind >> 16 & 0x3FF, kind & 0x3FF)
}

/// Switches both on, with the timer's interrupt.
pub(crate) fn on() {
    enable(TIMER);
    DISTRIBUTOR.write32(distributor::CONTROL, 1);
    CPU_INTERFACE.write32(interface::PRIORITY_MASK, 0xFF);
    CPU_INTERFACE.write32(interface::CONTROL, 1);
    raw::unmask();
}

fn enable(number: u32) {
    let at = number as usize;
    DISTRIBUTOR.write8(distributor::PRIORITY + at, 0x80);
    DISTRIBUTOR.write8(distributor::TARGET + at, 1);
    DISTRIBUTOR.write32(distributor::ENABLE + at / 32 * 4, 1 << (number % 32));
}

/// The message of vector `vector`, whose interrupt is taken from now on.
pub(crate) fn message(vector: u16) -> Option<Message> {
    let (first, count) = messages();
    let number = first + u32::from(vector);
    if u32::from(vector) >= count {
        return None;
    }
    // Messages are edges: two bits an interrupt, the upper one says so.
    let config = distributor::CONFIG + number as usize / 16 * 4;
    let edge = 0b10 << (number % 16 * 2);
    DISTRIBUTOR.write32(config, DISTRIBUTOR.read32(config) | edge);
    enable(number);
    Some(raw::message(u16::try_from(number).ok()?))
}

/// Takes the interrupts that are pending.
pub(crate) fn take() {
    let (first, count) = messages();
    for _ in 0..MOST {
        let acknowledged = CPU_INTERFACE.read32(interface::ACKNOWLEDGE);
        let number = acknowledged & 0x3FF;
        match number {
            NONE.. => return,
            TIMER => raw::set_timer(None),
            number if number >= first && number < first + count => {
                vectors::arrived(number - first);
            }
            _ => {}
        }
        CPU_INTERFACE.write32(interface::END, acknowledged);
    }
}
