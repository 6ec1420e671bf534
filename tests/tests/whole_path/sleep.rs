//! Rule R4 with the real code at both ends: nobody sleeps over a frame, a sleep
//! costs one bus read, and who is awake is not disturbed.

use board::device::net::{NetBackend, Port};
use host::bus::sim::Initiator;
use host::session::Layout;
use shared::wire::features::EVENT_IDX;
use virtio_phys_tests::rig::frames::{Frames, Sizes};
use virtio_phys_tests::rig::{Rig, RigOptions};

use super::load::{Streams, Traffic, echo};
use super::{LAYOUTS, PROFILES};

/// Both ends asleep, then a frame: the far end wakes, by the interrupt or the
/// doorbell and not by a timer.
#[test]
fn a_sleeper_is_woken_by_every_frame() {
    for profile in PROFILES {
        for layout in LAYOUTS {
            for seed in 0..24 {
                let left_out = if seed % 3 == 0 { EVENT_IDX } else { 0 };
                let spin = u32::try_from(seed % 5).unwrap();
                let options = RigOptions::instrument(seed, profile).layout(layout);
                let options = options.without(left_out).sizes(16, 16).spin(spin, spin);
                let sizes = Sizes::ETHERNET;
                let mut rig = Rig::new(options, Port::new(Streams::new(seed, sizes), 0));
                rig.attach().unwrap();
                rig.run_until_idle().unwrap();
                one_by_one(&mut rig, seed);
                rig.idle_for(1_500).unwrap();
                rig.assert_nothing_polled();
            }
        }
    }
}

/// Frames one by one or in pairs, down and up, each from sleep.
fn one_by_one(rig: &mut Rig<Port<Streams>>, seed: u64) {
    let sizes = Sizes::ETHERNET;
    let (mut sent, mut came) = (Frames::new(seed, sizes), Frames::new(!seed, sizes));
    let mut scratch = Vec::new();
    for round in 0..60 {
        let at = rig.now;
        let (down, up) = (round % 3, round % 4 / 2);
        for _ in 0..down {
            rig.port.send_with(|into| _ = sent.next(into));
        }
        rig.board.backend().handler().quota = up;
        if up > 0 {
            rig.board.kick();
        }
        rig.run_until_idle().unwrap();
        assert_eq!(rig.board.backend().handler().took.number(), sent.number());
        for _ in 0..up {
            came.check(&rig.port.take().expect("a frame"), &mut scratch);
        }
        // Everything had arrived before time was moved on: no timer did it.
        assert_eq!(rig.port.arrived(), 0);
        assert!(down + up == 0 || rig.now <= at + 10, "{} ms", rig.now - at);
    }
}

/// An idle link: each sleep is one read across the bus in layout split. In the
/// others one side's looks cross the bus anyway and the other reads nothing.
#[test]
fn a_sleep_costs_one_bus_read() {
    for profile in PROFILES {
        for layout in LAYOUTS {
            for left_out in [0, EVENT_IDX] {
                let options = RigOptions::instrument(2, profile).layout(layout);
                let mut rig = Rig::echo(options.without(left_out));
                rig.attach().unwrap();
                echo(&mut rig, 300, Sizes::ETHERNET);
                let before = (rig.bill(), rig.host.sleep_attempts, rig.board.stats().sleeps);
                let flushes = rig.host.counters().to_host.sleep_flushes;
                rig.idle_for(10_000).unwrap();
                let bill = rig.bill() - before.0;
                let host = rig.host.sleep_attempts - before.1;
                let board = rig.board.stats().sleeps - before.2;
                assert!(host >= 10 && board >= 10, "{host} and {board} sleeps in ten seconds");
                let reads = |who| bill.data(who).bus_reads();
                let (host_reads, board_reads) =
                    (reads(Initiator::HostCpu), reads(Initiator::BoardCpu));
                let flushed = rig.host.counters().to_host.sleep_flushes - flushes;
                match layout {
                    Layout::Split => {
                        assert_eq!((host_reads, board_reads), (host, board), "{profile:?}");
                        assert_eq!(flushed, host);
                    }
                    // What it looks at lies in its own memory, and the other
                    // end's look is the flush.
                    Layout::BarOnly => assert_eq!((flushed, board_reads), (0, 0)),
                    Layout::AllHost => assert_eq!((flushed, host_reads), (0, 0)),
                }
                rig.assert_nothing_polled();
            }
        }
    }
}

fn awake(layout: Layout, left_out: u64, seed: u64) -> RigOptions {
    let profile = PROFILES[usize::try_from(seed % 3).unwrap()];
    let options = RigOptions::instrument(seed, profile).layout(layout).without(left_out);
    options.sizes(64, 64).spin(u32::MAX, u32::MAX)
}

/// Doorbells and interrupts of the data path so far.
fn notifications<B: NetBackend>(rig: &Rig<B>) -> (u64, u64) {
    let of = |who| rig.bill().data(who);
    (of(Initiator::HostCpu).doorbells, of(Initiator::BoardCpu).interrupts)
}

/// Both ends poll: once each has said so, nobody notifies anybody, however
/// often the indices wrap.
#[test]
fn who_is_awake_is_not_notified() {
    for (seed, layout) in (0..).zip(LAYOUTS) {
        for left_out in [0, EVENT_IDX] {
            let sizes = Sizes { from: 60, to: 200, ..Sizes::PLAIN };
            let options = awake(layout, left_out, seed);
            let mut rig = Rig::new(options, Port::new(Streams::new(seed, sizes), 0));
            rig.attach().unwrap();
            let mut traffic = Traffic::new(seed, sizes);
            traffic.run(&mut rig, 2_000);
            let warm = notifications(&rig);
            traffic.run(&mut rig, 140_000);
            assert_eq!(notifications(&rig), warm, "{layout}, {left_out:#x}");
            assert_eq!((rig.host.sleeps, rig.board.stats().sleeps), (0, 0));
        }
    }
}
