//! Firmware that goes wrong says what it was, and starts over.

use virtio_phys_host::namespace::in_namespace;

use crate::command::Machine;
use crate::process::until;
use crate::rack::{Rack, crashed};

/// Boots that are waited for: each but the first begins with a machine reset.
const BOOTS: usize = 3;

/// What the serial line says of a board that does this wrong in each boot.
fn provoked(machine: Machine, what: &str, said: &str) -> String {
    let mut rack = Rack::new(&[machine], "");
    let slot = &mut rack.slots[0];
    slot.more = format!("provoke={what}");
    slot.start();
    until(&format!("{said:?} from {}, {BOOTS} times", machine.name()), || {
        slot.serial().matches(said).count() >= BOOTS
    });
    let serial = slot.serial();
    assert!(!serial.contains("nothing went wrong"), "{serial}");
    // The other tests look for this, on boards that are not asked for it.
    assert!(crashed(&serial).is_some_and(|line| line.contains(said)), "{serial}");
    serial
}

#[test]
fn a_panic_is_told_and_the_board_starts_over() {
    in_namespace("crashes::a_panic_is_told_and_the_board_starts_over", || {
        for machine in [Machine::QemuAarch64, Machine::QemuRiscv64, Machine::QemuPowerpc] {
            let serial = provoked(machine, "panic", "panicked at");
            assert!(serial.contains("asked for"), "{serial}");
        }
    });
}

#[test]
fn a_stack_that_is_used_up_overwrites_nothing() {
    in_namespace("crashes::a_stack_that_is_used_up_overwrites_nothing", || {
        // A store that found nothing mapped, right below the stack.
        provoked(Machine::QemuAarch64, "stack", "esr 0x96000046 far 0x00000000411f");
        provoked(Machine::QemuRiscv64, "stack", "trap: mcause 0x7 mtval 0x811f");
        provoked(Machine::QemuPowerpc, "stack", "interrupt 13: esr 0x00800000 dear 0x00ff");
    });
}

/// A load from between two words would be two transfers on a bus.
#[test]
fn aarch64_takes_no_misaligned_access() {
    in_namespace("crashes::aarch64_takes_no_misaligned_access", || {
        // A data abort at this level, and its cause: alignment.
        provoked(Machine::QemuAarch64, "alignment", "exception: esr 0x96000021");
    });
}
