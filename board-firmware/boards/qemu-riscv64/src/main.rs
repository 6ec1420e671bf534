//! A board in QEMU's riscv64 `virt` machine.
//!
//! ```text
//! qemu-system-riscv64 -M virt,aia=aplic-imsic -m 32M -nographic -bios none
//!     -chardev socket,id=iv,path=SOCKET -device ivshmem-doorbell,chardev=iv,vectors=4
//!     -kernel qemu-riscv64.elf
//! ```
//!
//! `aia=aplic-imsic`: with the machine's other interrupt controller, a PLIC,
//! its PCI functions have no MSI-X.
#![no_std]
#![no_main]

mod raw;

use core::fmt::Arguments;
use core::panic::PanicInfo;

use qemu_common::console::{Console, Uart};
use qemu_common::machine::{End, Machine};
use qemu_common::parameters::{Identity, Parameters};
use qemu_common::pci::Ecam;
use qemu_common::raw::{Aperture, Message, PaintedStack};
use qemu_common::vectors;

/// Ticks in a microsecond.
const TICKS: u64 = 10;

/// Vectors that the board takes: identities 1 to 32 of the interrupt file.
const VECTORS: u16 = 32;

/// Registers of an interrupt file (RISC-V Advanced Interrupt Architecture 1.0 §3.8).
mod file {
    /// 1: interrupts reach the hart.
    pub(crate) const DELIVERY: usize = 0x70;
    /// 0: all that are enabled do.
    pub(crate) const THRESHOLD: usize = 0x72;
    /// A bit for each identity from 0 to 63: enabled.
    pub(crate) const ENABLE: usize = 0xC0;
}

/// The NS16550, as QEMU leaves it.
struct Ns16550;

impl Uart for Ns16550 {
    fn put(&self, byte: u8) {
        const DATA: usize = 0;
        const STATUS: usize = 5;
        const ROOM: u8 = 1 << 5;
        while raw::UART.read8(STATUS) & ROOM == 0 {}
        raw::UART.write8(DATA, byte);
    }
}

static CONSOLE: Console<Ns16550> = Console::new(Ns16550);

/// QEMU's virt machine.
struct Virt;

impl Machine for Virt {
    type Config = Ecam;

    fn config_space(&self) -> Ecam {
        Ecam::new(raw::CONFIG_SPACE)
    }

    fn aperture(&self) -> Aperture {
        raw::aperture()
    }

    fn message(&mut self, vector: u16) -> Option<Message> {
        // Identity 0 stands for none.
        let identity = vector.checked_add(1).filter(|identity| *identity <= VECTORS)?;
        raw::imsic_set(file::ENABLE, 1 << identity);
        Some(raw::message(identity))
    }

    fn now_us(&self) -> u64 {
        raw::ticks() / TICKS
    }

    fn sleep_until(&mut self, until_us: u64) {
        raw::disable_interrupts();
        if !vectors::any() {
            set_timer(until_us.saturating_mul(TICKS));
            raw::wait();
        }
        raw::enable_interrupts();
    }

    fn entropy(&self) -> u64 {
        // The Goldfish clock's nanoseconds since 1970; reading the low half
        // keeps the high half. A reset does not stop it.
        let low = raw::CLOCK.read32(0);
        u64::from(raw::CLOCK.read32(4)) << 32 | u64::from(low)
    }

    fn stack(&self) -> PaintedStack {
        raw::stack()
    }

    fn end(&mut self, how: End) -> ! {
        end(how)
    }
}

/// Has the timer's interrupt wait from tick `at` on.
#[expect(clippy::cast_possible_truncation, reason = "takes the halves apart")]
fn set_timer(at: u64) {
    // On the way from one time to the next it is never sooner than both
    // (Privileged Architecture, §3.2.1).
    raw::TIMER.write32(0, u32::MAX);
    raw::TIMER.write32(4, (at >> 32) as u32);
    raw::TIMER.write32(0, at as u32);
}

/// From the trap vector: messages have come.
fn take_interrupts() {
    // Bounded for a peer that never stops ringing; what is left comes at once again.
    for _ in 0..2 * VECTORS {
        match u32::try_from(raw::claim()) {
            Ok(identity @ 1..) => vectors::arrived(identity - 1),
            _ => return,
        }
    }
}

/// Ends this boot, through the register that QEMU has for tests.
fn end(how: End) -> ! {
    raw::disable_interrupts();
    let command = match how {
        End::Reset => 0x7777,
        End::Exit(0) => 0x5555,
        End::Exit(status) => u32::from(status) << 16 | 0x3333,
    };
    loop {
        raw::FINISHER.write32(0, command);
        raw::wait();
    }
}

fn main() -> ! {
    raw::imsic_write(file::DELIVERY, 1);
    raw::imsic_write(file::THRESHOLD, 0);
    raw::enable_interrupts();
    let identity = Identity { name: "qemu-riscv64", number: 2 };
    let parameters = Parameters::read(raw::parameters(), identity);
    qemu_common::run(Virt, &CONSOLE, &parameters)
}

/// A trap that nobody asked for: all that is known of it, and a new boot.
fn unexpected(cause: usize, value: usize, registers: &[usize; 32]) -> ! {
    let [pc, general @ ..] = registers;
    let say = |text: Arguments<'_>| CONSOLE.line(text);
    say(format_args!("trap: mcause {cause:#x} mtval {value:#x} mepc {pc:#x}"));
    for (number, value) in (1..).zip(general) {
        say(format_args!("x{number:<2} {value:#018x}"));
    }
    end(qemu_common::after_a_crash())
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    CONSOLE.line(format_args!("{info}"));
    end(qemu_common::after_a_crash())
}
