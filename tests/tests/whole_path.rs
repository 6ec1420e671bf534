//! Frames over the whole path: host session and bridge, simulated bus, board
//! service and device.

use host::bus::sim::Profile;
use host::session::Layout;
use virtio_phys_tests::rig::frames::{Frames, Sizes};
use virtio_phys_tests::rig::{Rig, RigOptions};

const PROFILES: [Profile; 3] = [Profile::Eager, Profile::Lazy, Profile::Adversarial];
const LAYOUTS: [Layout; 3] = [Layout::Split, Layout::BarOnly, Layout::AllHost];

#[test]
fn a_session_comes_and_goes_and_comes_again() {
    for profile in PROFILES {
        for layout in LAYOUTS {
            for seed in 0..4 {
                let options = RigOptions::instrument(seed, profile).layout(layout);
                let mut rig = Rig::echo(options);
                for _ in 0..3 {
                    rig.attach().unwrap();
                    let mut sent = Frames::new(seed, Sizes { to: 1514, ..Sizes::PLAIN });
                    let mut came = sent.clone();
                    let mut scratch = Vec::new();
                    for _ in 0..100 {
                        rig.port.send_with(|into| _ = sent.next(into));
                    }
                    rig.run_until(100_000, |rig| rig.port.arrived() == 100).unwrap();
                    while let Some(frame) = rig.port.take() {
                        came.check(&frame, &mut scratch);
                        rig.port.recycle(frame);
                    }
                    rig.run_until_idle().unwrap();
                    rig.assert_nothing_polled();
                    rig.detach().unwrap();
                    rig.assert_clean();
                    rig.next_session().unwrap();
                }
            }
        }
    }
}
