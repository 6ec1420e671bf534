//! The conformance kit plays the host against each firmware.

use std::process::Stdio;

use virtio_phys_host::namespace::in_namespace;

use crate::command::Machine;
use crate::process::vphys;
use crate::rack::Rack;

fn conforms(machine: Machine, more: &str) {
    let mut rack = Rack::new(&[machine], "");
    rack.slots[0].more = more.to_owned();
    rack.slots[0].start();
    rack.slots[0].until_booted();
    let output = vphys()
        .args(["conform", "--bus", "ivshmem", "--socket"])
        .arg(rack.slots[0].socket())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (table, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} {more}:\n{table}\n{error}", machine.name());
    rack.end();
}

#[test]
fn all_firmware_passes_the_conformance_kit() {
    in_namespace("conformance::all_firmware_passes_the_conformance_kit", || {
        for machine in [Machine::QemuAarch64, Machine::QemuRiscv64, Machine::QemuPowerpc] {
            conforms(machine, "");
        }
        conforms(Machine::QemuAarch64, "outbound=no");
    });
}
