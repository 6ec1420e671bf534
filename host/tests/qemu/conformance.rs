//! The conformance kit plays the host against each firmware.

use std::process::Stdio;

use virtio_phys_host::namespace::in_namespace;

use crate::command::Machine;
use crate::hostile::MACHINES;
use crate::process::vphys;
use crate::rack::Rack;

/// All machines, and one again that does not reach the host's memory, each with
/// a kit of its own at once: most of the time a kit waits, to see what does not come.
fn conform() {
    let mut all = Rack::new(&MACHINES, "");
    let mut confined = Rack::new(&[Machine::QemuAarch64], "");
    confined.slots[0].more = "outbound=no".to_owned();
    let mut kits = Vec::new();
    for slot in all.slots.iter_mut().chain(&mut confined.slots) {
        slot.start();
        slot.until_booted();
        let mut kit = vphys();
        kit.args(["conform", "--bus", "ivshmem", "--socket"]).arg(slot.socket());
        kit.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        kits.push((kit.spawn().unwrap(), slot.machine, slot.more.clone()));
    }
    for (kit, machine, more) in kits {
        let output = kit.wait_with_output().unwrap();
        let (table, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{} {more}:\n{table}\n{error}", machine.name());
    }
    all.end();
    confined.end();
}

#[test]
fn all_firmware_passes_the_conformance_kit() {
    in_namespace("conformance::all_firmware_passes_the_conformance_kit", conform);
}
