//! A board in QEMU's aarch64 `virt` machine.
//!
//! ```text
//! qemu-system-aarch64 -M virt,highmem=off,gic-version=2 -cpu cortex-a53 -m 32M -nographic
//!     -chardev socket,id=iv,path=SOCKET -device ivshmem-doorbell,chardev=iv,vectors=4
//!     -kernel qemu-aarch64.elf
//! ```
#![no_std]
#![no_main]

mod interrupts;
mod raw;

use core::fmt::Arguments;
use core::panic::PanicInfo;

use qemu_common::console::{Console, Uart};
use qemu_common::machine::{End, Machine};
use qemu_common::parameters::{Identity, Parameters};
use qemu_common::pci::Ecam;
use qemu_common::raw::{Aperture, Message, PaintedStack};
use qemu_common::vectors;

/// The PL011 (Arm DDI 0183).
struct Pl011;

impl Uart for Pl011 {
    fn put(&self, byte: u8) {
        const DATA: usize = 0x00;
        const FLAGS: usize = 0x18;
        const FULL: u32 = 1 << 5;
        while raw::UART.read32(FLAGS) & FULL != 0 {}
        raw::UART.write32(DATA, byte.into());
    }
}

static CONSOLE: Console<Pl011> = Console::new(Pl011);

/// QEMU's virt machine.
struct Virt {
    rate: u64,
}

impl Machine for Virt {
    type Config = Ecam;

    fn config_space(&self) -> Ecam {
        Ecam::new(raw::CONFIG_SPACE)
    }

    fn aperture(&self) -> Aperture {
        raw::aperture()
    }

    fn message(&mut self, vector: u16) -> Option<Message> {
        interrupts::message(vector)
    }

    fn now_us(&self) -> u64 {
        let ticks = raw::ticks();
        ticks / self.rate * 1_000_000 + ticks % self.rate * 1_000_000 / self.rate
    }

    fn sleep_until(&mut self, until_us: u64) {
        let (seconds, rest) = (until_us / 1_000_000, until_us % 1_000_000);
        let ticks = seconds.checked_mul(self.rate);
        // Rounded up: a board that wakes too soon would only go to sleep again.
        let until = ticks.and_then(|t| t.checked_add(rest * self.rate / 1_000_000 + 1));
        raw::sleep_unless(vectors::any, until);
    }

    fn entropy(&self) -> u64 {
        // The PL031's seconds of the day, and the counter's nanoseconds.
        u64::from(raw::CLOCK.read32(0)) << 32 ^ raw::ticks()
    }

    fn stack(&self) -> PaintedStack {
        raw::stack()
    }

    fn load_misaligned(&mut self) {
        raw::load_misaligned();
    }

    fn end(&mut self, how: End) -> ! {
        raw::end(how)
    }
}

fn main() -> ! {
    interrupts::on();
    let identity = Identity { name: "qemu-aarch64", number: 1 };
    let parameters = Parameters::read(raw::parameters(), identity);
    qemu_common::run(Virt { rate: raw::tick_rate().max(1) }, &CONSOLE, &parameters)
}

/// An exception that nobody asked for: all that is known of it, and a new boot.
fn unexpected(registers: &[u64; 33], syndrome: u64, address: u64) -> ! {
    let [general @ .., pc, state] = registers;
    let say = |text: Arguments<'_>| CONSOLE.line(text);
    say(format_args!("exception: esr {syndrome:#010x} far {address:#018x}"));
    say(format_args!("pc {pc:#018x} spsr {state:#010x} sctlr {:#x}", raw::system_control()));
    for (row, values) in general.chunks(4).enumerate() {
        say(format_args!("x{:<2} {values:016x?}", row * 4));
    }
    raw::end(qemu_common::after_a_crash())
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    CONSOLE.line(format_args!("{info}"));
    raw::end(qemu_common::after_a_crash())
}
