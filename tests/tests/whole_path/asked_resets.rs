//! The operator asks for a reset of the board: it boots again, whatever it says
//! and whatever else happens.

use host::bus::sim::Profile;
use host::session::{Ended, Layout};
use shared::wire::net_control::Coalescing;
use virtio_phys_tests::rig::{LastingRig, Reboots, RigOptions};

use super::LAYOUTS;

/// A session comes up within that, in ms.
const ATTACH: u64 = 2_000;

/// The longest that a board may take to boot again by itself, in ms.
const BY_ITSELF: u64 = 5_000;

fn up(layout: Layout, reboots: Reboots, seed: u64) -> LastingRig {
    let mut options = RigOptions::instrument(seed, Profile::Adversarial).layout(layout);
    options.board.reboots = reboots;
    let mut rig = LastingRig::new(options);
    rig.start_host(7);
    until_up(&mut rig, 1, ATTACH);
    rig
}

#[track_caller]
fn until_up(rig: &mut LastingRig, session: u64, limit: u64) {
    let until = rig.now + limit;
    while rig.sessions() < session || !rig.is_up() {
        assert!(rig.now < until, "no session {session}: {rig:?}");
        rig.step(until);
    }
}

/// Asks, and says why the session ended.
fn asked(rig: &mut LastingRig, limit: u64) -> String {
    let (sessions, boots) = (rig.sessions(), rig.boots());
    rig.endings.clear();
    rig.ask_for_reset();
    until_up(rig, sessions + 1, limit);
    assert_eq!(rig.boots(), boots + 1, "{rig:?}");
    let mut endings = rig.endings.keys();
    let why = endings.next().unwrap().clone();
    assert!(endings.next().is_none(), "{rig:?}");
    why
}

#[test]
fn a_board_that_boots_again_by_itself() {
    for layout in LAYOUTS {
        let mut rig = up(layout, Reboots::Does, 1);
        for _ in 0..8 {
            // However short the sessions are: the operator need not wait.
            let why = asked(&mut rig, ATTACH);
            assert!(why.contains("the board booted again"), "{layout:?}: {why}");
        }
    }
}

#[test]
fn a_board_that_will_not() {
    for layout in LAYOUTS {
        let mut rig = up(layout, Reboots::Refuses, 2);
        let why = asked(&mut rig, ATTACH);
        assert!(why.contains("will not boot again"), "{layout:?}: {why}");
    }
}

#[test]
fn a_board_that_says_that_it_will_and_goes_on() {
    for layout in LAYOUTS {
        let mut rig = up(layout, Reboots::Promises, 3);
        for _ in 0..3 {
            let why = asked(&mut rig, BY_ITSELF + ATTACH);
            assert_eq!(why, "the operator asked for a reset of the board", "{layout:?}");
        }
    }
}

#[test]
fn a_board_that_hangs() {
    for layout in LAYOUTS {
        let mut rig = up(layout, Reboots::Does, 4);
        rig.board_hangs = true;
        asked(&mut rig, BY_ITSELF + ATTACH);
    }
}

#[test]
fn a_session_that_ends_for_another_reason_first() {
    for layout in LAYOUTS {
        for (seed, reboots) in [(5, Reboots::Promises), (6, Reboots::Refuses), (7, Reboots::Does)] {
            // The request is on its way, or answered.
            for steps in [0, 1, 5, 20, 50, 200] {
                let mut rig = up(layout, reboots, seed);
                let boots = rig.boots();
                rig.ask_for_reset();
                for _ in 0..steps {
                    if rig.is_up() {
                        rig.step(u64::MAX);
                    }
                }
                if rig.is_up() {
                    rig.fail(Ended::Caller("the interface is gone".to_owned()));
                }
                until_up(&mut rig, 2, ATTACH);
                // One that was about to boot by itself may do so twice.
                assert!(rig.boots() > boots, "{layout:?} {reboots:?} {steps}: {rig:?}");
            }
        }
    }
}

/// What was asked of the network device is of no interest any more.
#[test]
fn a_detach_in_the_middle_of_a_command() {
    for layout in LAYOUTS {
        let mut options = RigOptions::instrument(9, Profile::Eager).layout(layout);
        options.session.coalescing = Some(Coalescing { max_packets: 8, max_usecs: 500 });
        let mut rig = LastingRig::new(options);
        rig.start_host(7);
        until_up(&mut rig, 1, ATTACH);
        // For longer than a command may take.
        rig.board_hangs = true;
        rig.begin_stop();
        let until = rig.now + 1_500;
        while rig.now < until {
            rig.step(until);
        }
        rig.board_hangs = false;
        rig.stop_host().unwrap();
    }
}

#[test]
fn a_session_that_is_over_already() {
    for layout in LAYOUTS {
        for steps in [0, 1, 2, 3, 5, 10, 20, 40] {
            let mut rig = up(layout, Reboots::Does, 8);
            // It detaches, which takes some turns.
            rig.fail(Ended::Caller("the interface is gone".to_owned()));
            for _ in 0..steps {
                rig.step(u64::MAX);
            }
            let boots = rig.boots();
            rig.ask_for_reset();
            until_up(&mut rig, 2, ATTACH);
            assert!(rig.boots() > boots, "{layout:?} {steps}: {rig:?}");
        }
    }
}
