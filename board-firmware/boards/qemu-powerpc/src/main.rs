//! A board in QEMU's mpc8544ds, with an e500v2: 32 bits, big-endian.
//!
//! ```text
//! qemu-system-ppc -M mpc8544ds -m 64M -nographic
//!     -chardev socket,id=iv,path=SOCKET -device ivshmem-doorbell,chardev=iv,vectors=4
//!     -kernel qemu-powerpc.elf
//! ```
//!
//! The machine has no way to end QEMU but a reset (`-no-reboot`: with status 0)
//! and a panic, for which it needs `-device pvpanic-pci -action
//! panic=exit-failure` (status 1).
#![no_std]
#![no_main]
#![no_builtins]

mod bridge;
mod interrupts;
mod raw;

use core::fmt::Arguments;
use core::panic::PanicInfo;

use qemu_common::console::{Console, Uart};
use qemu_common::machine::{End, Machine};
use qemu_common::parameters::{Identity, Parameters};
use qemu_common::pci;
use qemu_common::raw::{Aperture, Message, PaintedStack};

use crate::bridge::Bridge;
use crate::raw::CCSR;

/// Ticks of the time base in a microsecond.
const TICKS: u64 = 400;

/// Reset control: asks for a hard reset.
const RESET_CONTROL: usize = 0xE_00B0;
const RESET_REQUEST: u32 = 1 << 1;

/// The first NS16550, as QEMU leaves it.
struct Ns16550;

impl Uart for Ns16550 {
    fn put(&self, byte: u8) {
        const DATA: usize = 0x4500;
        const STATUS: usize = 0x4505;
        const ROOM: u8 = 1 << 5;
        while CCSR.read8(STATUS) & ROOM == 0 {}
        CCSR.write8(DATA, byte);
    }
}

static CONSOLE: Console<Ns16550> = Console::new(Ns16550);

/// QEMU's mpc8544ds.
struct Mpc8544ds;

impl Machine for Mpc8544ds {
    type Config = Bridge;

    fn config_space(&self) -> Bridge {
        Bridge
    }

    fn aperture(&self) -> Aperture {
        raw::aperture()
    }

    fn message(&mut self, vector: u16) -> Option<Message> {
        interrupts::message(vector)
    }

    fn now_us(&self) -> u64 {
        raw::ticks() / TICKS
    }

    fn sleep_until(&mut self, until_us: u64) {
        // Rounded up: a board that wakes too soon would only go to sleep again.
        // The decrementer's 32 bits are 10 seconds: another sleep follows.
        let ticks = until_us.saturating_mul(TICKS).saturating_sub(raw::ticks());
        raw::sleep_unless(qemu_common::vectors::any, u32::try_from(ticks).unwrap_or(u32::MAX));
    }

    // A reset does not stop the time base. From one QEMU to the next there is
    // only how long it took to get here, in units of 2.5 ns.
    fn entropy(&self) -> u64 {
        raw::ticks()
    }

    fn stack(&self) -> PaintedStack {
        raw::stack()
    }

    fn end(&mut self, how: End) -> ! {
        end(how)
    }
}

/// Ends this boot.
fn end(how: End) -> ! {
    if how != End::Reset && how != End::Exit(0) {
        tell_qemu();
    }
    CCSR.write32(RESET_CONTROL, RESET_REQUEST);
    loop {
        raw::settle();
    }
}

/// Reports a panic by QEMU's own function for that, where there is one.
fn tell_qemu() {
    const PANICKED: u8 = 1;
    let Some(function) = pci::find(&Bridge, 0x1B36, 0x0011) else { return };
    pci::enable(&Bridge, function, false);
    if let Ok(registers) = pci::assign(&Bridge, function, 0, &mut raw::apart()) {
        pci::enable(&Bridge, function, true);
        registers.registers().write8(0, PANICKED);
    }
}

fn main() -> ! {
    bridge::on();
    interrupts::on();
    let identity = Identity { name: "qemu-powerpc", number: 3 };
    let parameters = Parameters::read(raw::parameters(), identity);
    qemu_common::run(Mpc8544ds, &CONSOLE, &parameters)
}

/// An interrupt that nobody asked for: all that is known of it, and a new boot.
fn unexpected(number: u32, registers: &[u32; 33], place: [u32; 2], cause: [u32; 3]) -> ! {
    let say = |text: Arguments<'_>| CONSOLE.line(text);
    let ([pc, msr], [esr, dear, mcsr]) = (place, cause);
    let [general @ .., link] = registers;
    say(format_args!("interrupt {number}: esr {esr:#010x} dear {dear:#010x} mcsr {mcsr:#010x}"));
    say(format_args!("pc {pc:#010x} lr {link:#010x} msr {msr:#010x}"));
    for (row, values) in general.chunks(8).enumerate() {
        say(format_args!("r{:<2} {values:08x?}", row * 8));
    }
    end(qemu_common::after_a_crash())
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    CONSOLE.line(format_args!("{info}"));
    end(qemu_common::after_a_crash())
}
