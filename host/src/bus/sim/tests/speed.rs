//! How fast the simulator is; run by hand, prints, asserts nothing.

use std::time::Instant;

use super::*;

fn rate(name: &str, times: u64, mut act: impl FnMut(u64)) {
    let start = Instant::now();
    (0..times).for_each(&mut act);
    let each = start.elapsed().as_nanos() as u64 / times;
    println!("{name:<40}{each:>8} ns each");
}

#[test]
#[ignore = "prints figures: cargo test -p virtio-phys-host --lib speed -- --ignored --nocapture"]
fn speed() {
    let frame = [7; 1500];
    let mut into = [0; 1500];
    let modes =
        PROFILES.map(|profile| (format!("{profile:?}"), SimOptions::instrument(1, profile)));
    for (name, options) in modes.into_iter().chain([("counted".to_owned(), SimOptions::counted())])
    {
        println!("{name}");
        let rig = rig(options);
        let n = 1_000_000;
        rate("  store across, barrier every 8th", n, |i| {
            set(&rig.host_bar, i % 64, 1);
            if i % 8 == 0 {
                rig.host_bar.barrier(Barrier::Write);
            }
        });
        rate("  local load", n, |i| {
            get(&rig.board_bar, i % 64);
        });
        rate("  bus read", n, |i| {
            get(&rig.host_bar, i % 64);
        });
        rate("  1500 bytes across", n / 4, |i| rig.dma_ram.write((i % 16) * 2048, &frame));
        rate("  1500 bytes local", n / 4, |i| rig.host_ram.read((i % 16) * 2048, &mut into));
    }
}
