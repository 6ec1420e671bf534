//! Batches and packets at the rings' edges.

use board::device::net::Port;
use shared::wire::features::IN_ORDER;
use virtio_phys_tests::rig::frames::{Frames, Sizes};
use virtio_phys_tests::rig::{Rig, RigOptions};

use super::load::Streams;
use super::{LAYOUTS, PROFILES};

type StreamRig = Rig<Port<Streams>>;

/// An attached rig whose board has frames of its own to send.
fn rig(options: RigOptions, sizes: Sizes) -> (StreamRig, Frames) {
    let came = Frames::new(!options.seed, sizes);
    let far = Streams::new(options.seed, sizes);
    let mut rig = Rig::new(options, Port::new(far, 0));
    rig.attach().unwrap();
    rig.run_until_idle().unwrap();
    (rig, came)
}

/// Lets the board send `count` frames in one go, then the host take them.
fn board_sends(rig: &mut StreamRig, count: u64) -> u64 {
    let published = |rig: &mut StreamRig| {
        let [stats, _] = rig.board.device().queue_stats();
        stats.notifications + stats.suppressed
    };
    let before = published(rig);
    rig.board.backend().handler().quota = count;
    rig.board.kick();
    while rig.board_turn() && rig.board.backend().handler().quota > 0 {}
    let batches = published(rig) - before;
    rig.run_until_idle().unwrap();
    batches
}

fn check(rig: &mut StreamRig, came: &mut Frames, count: usize) {
    assert_eq!(rig.port.arrived(), count);
    let mut scratch = Vec::new();
    while let Some(frame) = rig.port.take() {
        came.check(&frame, &mut scratch);
    }
}

/// Thirty-two lengths in one used index: in order, each has its own entry.
#[test]
fn unequal_lengths_in_one_batch_to_the_host() {
    for layout in LAYOUTS {
        for profile in PROFILES {
            for seed in 0..8 {
                let options = RigOptions::instrument(seed, profile).layout(layout).sizes(64, 16);
                let (mut rig, mut came) = rig(options, Sizes::ETHERNET);
                assert!(rig.terms().features.has(IN_ORDER));
                for _ in 0..6 {
                    assert_eq!(board_sends(&mut rig, 32), 1, "batches");
                    check(&mut rig, &mut came, 32);
                }
            }
        }
    }
}

/// Packets of three buffers in a ring of sixteen: every fifth or sixth begins
/// before its end and ends behind it.
#[test]
fn a_packet_of_many_buffers_across_the_end_of_the_ring() {
    let sizes = Sizes { from: 8_300, to: 9_018, ..Sizes::PLAIN };
    for left_out in [0, IN_ORDER] {
        for layout in LAYOUTS {
            for profile in PROFILES {
                let options = RigOptions::instrument(7, profile).layout(layout);
                let options = options.without(left_out).sizes(16, 16).mtu(9004);
                let (mut rig, mut came) = rig(options, sizes);
                // Five packets, fifteen buffers a round: each round begins one earlier.
                for _ in 0..40 {
                    board_sends(&mut rig, 5);
                    check(&mut rig, &mut came, 5);
                }
                // More than the ring holds at once.
                for _ in 0..10 {
                    board_sends(&mut rig, 23);
                    check(&mut rig, &mut came, 23);
                }
                rig.assert_nothing_polled();
            }
        }
    }
}

#[test]
fn a_batch_to_the_host_as_large_as_the_ring() {
    for left_out in [0, IN_ORDER] {
        for layout in LAYOUTS {
            for profile in PROFILES {
                let options = RigOptions::instrument(3, profile).layout(layout);
                let options = options.without(left_out).sizes(32, 32);
                let (mut rig, mut came) = rig(options, Sizes::ETHERNET);
                for _ in 0..10 {
                    assert_eq!(board_sends(&mut rig, 32), 1, "batches");
                    check(&mut rig, &mut came, 32);
                }
                rig.assert_nothing_polled();
            }
        }
    }
}

#[test]
fn a_batch_to_the_board_as_large_as_the_ring() {
    for left_out in [0, IN_ORDER] {
        for layout in LAYOUTS {
            for profile in PROFILES {
                let options = RigOptions::instrument(5, profile).layout(layout);
                let options = options.without(left_out).sizes(32, 32);
                let (mut rig, _) = rig(options, Sizes::ETHERNET);
                let mut sent = Frames::new(options.seed, Sizes::ETHERNET);
                for round in 1..=10 {
                    for _ in 0..32 {
                        rig.port.send_with(|into| _ = sent.next(into));
                    }
                    // The host alone, until the ring holds all of them.
                    while !rig.host.pair.as_ref().unwrap().to_board.is_full() {
                        rig.host_turn().unwrap();
                    }
                    assert_eq!(rig.port.waiting(), 0);
                    rig.run_until_idle().unwrap();
                    let took = rig.board.backend().handler().took.number();
                    assert_eq!(took, round * 32);
                }
                rig.assert_nothing_polled();
            }
        }
    }
}
