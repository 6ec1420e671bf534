//! Sessions that come and go.

use virtio_phys_tests::rig::frames::Sizes;
use virtio_phys_tests::rig::{Rig, RigOptions};

use super::load::echo;
use super::{LAYOUTS, PROFILES};

#[test]
fn a_session_comes_and_goes_and_comes_again() {
    for profile in PROFILES {
        for layout in LAYOUTS {
            for seed in 0..16 {
                let options = RigOptions::instrument(seed, profile).layout(layout);
                let mut rig = Rig::echo(options);
                for _ in 0..3 {
                    rig.attach().unwrap();
                    echo(&mut rig, 100, Sizes::ETHERNET);
                    rig.detach().unwrap();
                    rig.assert_clean();
                    rig.next_session().unwrap();
                }
            }
        }
    }
}

#[test]
fn the_same_on_plain_shared_memory() {
    for layout in LAYOUTS {
        let mut rig = Rig::echo(RigOptions::counted().layout(layout).mtu(9004));
        for _ in 0..3 {
            rig.attach().unwrap();
            echo(&mut rig, 2_000, Sizes { large_one_in: 50, ..Sizes::PLAIN });
            rig.detach().unwrap();
            rig.assert_clean();
            rig.next_session().unwrap();
        }
    }
}
