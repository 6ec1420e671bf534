//! The control queue between both ends: commands, config changes, and
//! interrupts that are put off.

use board::device::net::Echo;
use host::bus::sim::Initiator;
use host::net_control::{LONGEST_DELAY_US, Request};
use host::session::Layout;
use shared::wire::features::EVENT_IDX;
use shared::wire::net::feature;
use shared::wire::net_control::{Coalescing, ReceiveSwitch};
use virtio_phys_tests::lockstep::{Failure, Lockstep};
use virtio_phys_tests::rig::frames::{Frames, Sizes};
use virtio_phys_tests::rig::{HOST_MAC, Rig, RigOptions};

use super::load::echo;
use super::{LAYOUTS, PROFILES};

/// A host that has attached, with nothing of its commands under way.
fn attached(options: RigOptions) -> Rig<Echo> {
    let mut rig = Rig::echo(options);
    rig.attach().unwrap();
    assert!(rig.terms().features.has(feature::CTRL_VQ | feature::NOTF_COAL));
    rig.run_until_idle().unwrap();
    rig
}

#[test]
fn commands_reach_the_board_over_every_bus() {
    for profile in PROFILES {
        for (seed, layout) in (0..).zip(LAYOUTS) {
            for left_out in [0, EVENT_IDX] {
                let options = RigOptions::instrument(seed, profile).layout(layout);
                let mut rig = attached(options.without(left_out));
                let switch = ReceiveSwitch::Promiscuous;
                let requests = [
                    Request::Receive { switch, on: false },
                    Request::Vlan { id: 7, wanted: true },
                    Request::MacAddress([2, 0, 0, 0, 0, 77]),
                    Request::Addresses { unicast: vec![HOST_MAC], multicast: vec![] },
                    Request::Offloads(feature::GUEST_CSUM),
                    Request::Receive { switch, on: true },
                ];
                let count = requests.len() as u64;
                for request in requests {
                    rig.host.ask(request).unwrap();
                    rig.run_until_idle().unwrap();
                }
                let counters = rig.board.counters();
                assert_eq!((counters.commands, counters.commands_refused), (count, 0));
                // All at once is no different.
                for id in 0..50 {
                    rig.host.ask(Request::Vlan { id, wanted: true }).unwrap();
                }
                rig.run_until_idle().unwrap();
                assert_eq!(rig.board.counters().commands, count + 50, "{profile:?} {layout}");
                echo(&mut rig, 100, Sizes::ETHERNET);
                rig.idle_for(1_500).unwrap();
                rig.assert_nothing_polled();
                rig.detach().unwrap();
                rig.assert_clean();
            }
        }
    }
}

#[test]
fn the_board_sends_what_the_host_wants() {
    let mut rig = attached(RigOptions::counted());
    echo(&mut rig, 10, Sizes::ETHERNET);
    for (switch, on) in [(ReceiveSwitch::Promiscuous, false), (ReceiveSwitch::NoUnicast, true)] {
        rig.host.ask(Request::Receive { switch, on }).unwrap();
    }
    rig.run_until_idle().unwrap();
    let mut frames = Frames::new(1, Sizes::ETHERNET);
    for _ in 0..10 {
        rig.port.send_with(|into| _ = frames.next(into));
    }
    rig.run_until_idle().unwrap();
    assert_eq!((rig.port.arrived(), rig.board.counters().filtered), (0, 10));
}

#[test]
fn interrupts_that_are_put_off_lose_nothing() {
    for profile in PROFILES {
        for layout in LAYOUTS {
            for seed in 0..6 {
                let left_out = if seed % 3 == 0 { EVENT_IDX } else { 0 };
                let mut options = RigOptions::instrument(seed, profile).layout(layout);
                options = options.without(left_out).sizes(32, 16);
                options.session.coalescing =
                    Some(Coalescing { max_packets: 12, max_usecs: LONGEST_DELAY_US });
                let mut rig = attached(options);
                assert_eq!(rig.board.counters().commands, 2);
                echo(&mut rig, 600, Sizes::ETHERNET);
                rig.idle_for(1_500).unwrap();
                rig.assert_nothing_polled();
                rig.detach().unwrap();
                rig.assert_clean();
            }
        }
    }
}

/// Frames to a host that sleeps, one by one: an interrupt for each eighth.
#[test]
fn one_interrupt_for_eight_frames() -> Result<(), Failure> {
    for layout in LAYOUTS {
        let (alone, together) = (interrupts(layout, 0)?, interrupts(layout, 8)?);
        assert_eq!((alone, together), (800, 100), "{layout}");
    }
    Ok(())
}

fn interrupts(layout: Layout, max_packets: u32) -> Result<u64, Failure> {
    let mut options = RigOptions::counted().layout(layout);
    options.session.coalescing = Some(Coalescing { max_packets, max_usecs: LONGEST_DELAY_US });
    let mut both = Lockstep::with(options)?;
    both.rig.run_until_idle()?;
    both.host_to_sleep()?;
    let interrupts = |both: &Lockstep| both.bill().data(Initiator::BoardCpu).interrupts;
    let before = interrupts(&both);
    for frame in 1..=800 {
        let seen = interrupts(&both);
        both.board().waiting += 1;
        both.board_to_sleep();
        if interrupts(&both) > seen {
            both.host_to_sleep()?;
            assert_eq!(both.port.came, frame);
        }
    }
    Ok(interrupts(&both) - before)
}
