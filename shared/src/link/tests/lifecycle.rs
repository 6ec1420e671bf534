//! Attach, run, detach, and what ends a session.

use super::rig::*;
use crate::link::board::{FaultReport, SessionEvent};
use crate::link::description::Epoch;
use crate::link::host::{LinkEvent, Progress};
use crate::link::refusal::{AttachStep, Reason, Refusal};
use crate::link::words::{LinkLoss, StatusWords};
use crate::wire::features;
use crate::wire::status::DeviceStatus;

fn lost(result: Result<impl std::fmt::Debug, Refusal>) -> (AttachStep, LinkLoss) {
    let refusal = result.expect_err("the session is lost");
    match refusal.reason {
        Reason::Lost(loss) => (refusal.step, loss),
        other => panic!("{other}"),
    }
}

#[test]
fn attach_brings_the_device_up_as_asked() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    let queues = rig.queues();
    let device = rig.board.device.model();
    assert_eq!(device.features, Some(offered()));
    let got: Vec<_> = device.queues.iter().map(|q| (q.queue, q.size, q.device, q.vector)).collect();
    let want: Vec<_> = queues.iter().map(|q| (q.queue, q.size, q.device, q.vector)).collect();
    assert_eq!(got, want);
    assert!(rig.board.device.is_live());
    let facts = rig.host.facts().unwrap();
    assert_eq!((facts.device, facts.config, facts.queue_sizes), (3, &CONFIG[..], &[256; 3][..]));
    assert_eq!(rig.link.regions().count(), 4);
    assert_eq!(rig.link.session(), Some(rig.session));
    assert!(rig.log.contains(&Progress::DeviceUp { device: 3 }));
    // The status page says what the BAR says.
    let page = StatusWords::load(&rig.host_memory);
    assert_eq!((page.boot, page.accepted, page.state), (77, 1000, 3));
    rig.host.guard().unwrap().check().unwrap();
    assert!(rig.rings > 0);
}

#[test]
fn without_a_doorbell_or_a_vector_it_only_takes_longer() {
    let mut rig = Rig::new();
    for _ in 0..3_000 {
        let step = rig.tick().unwrap();
        rig.supply(step.progress).unwrap();
        (rig.doorbell, rig.vector) = (false, false);
        if step.progress == Progress::Running {
            return;
        }
    }
    panic!("never up");
}

#[test]
fn a_running_session_lives_a_day_and_costs_no_bus_reads_beyond_the_heartbeat() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    rig.bar.hook(|_, _, _| {});
    let mut reads = 0;
    let mut now = rig.now;
    let end = now + 24 * 3_600_000;
    let mut steps = 0_u64;
    while now < end {
        now += 50;
        rig.now = now;
        rig.poll_board();
        rig.bar.take_loads();
        let step = rig.host.step(now, false).unwrap();
        assert_eq!(step.progress, Progress::Running);
        assert!(step.come_back_at > now);
        reads += rig.bar.take_loads().len() as u64;
        steps += 1;
    }
    // An interval has 100 ms, two steps: a look at the channel (status,
    // indices), and after 250 ms at the live words, in case the board is
    // another one by now.
    assert!(reads <= steps / 2 * 2 + steps / 5 * 4 + 6, "{reads} reads in {steps} steps");
    assert_eq!(rig.link.stats().sessions, 1);
}

/// Beat and look at the channel fall together, whenever a vector came between.
#[test]
fn an_idle_session_wakes_once_an_interval() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    let interval = u64::from(description().heartbeat.interval_ms);
    for stray in [1, interval / 2, interval - 1] {
        rig.now += stray;
        rig.poll_board();
        let mut next = rig.host.step(rig.now, true).unwrap().come_back_at;
        let (end, mut wakes) = (rig.now + 100 * interval, 0);
        while next < end {
            rig.now = next;
            rig.poll_board();
            next = rig.host.step(rig.now, false).unwrap().come_back_at;
            wakes += 1;
        }
        assert!(wakes <= 101, "{wakes} wake-ups in 100 intervals");
    }
}

#[test]
fn detach_resets_and_leaves_nothing_behind() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    rig.board.device.model_mut().drain = 20;
    assert!(rig.detach());
    assert_eq!(rig.link.session(), None);
    assert_eq!(rig.link.regions().count(), 0);
    assert!(rig.board.device.model().queues.is_empty());
    let ended = SessionEvent::Ended { session: rig.session };
    assert_eq!(rig.board.sessions.last(), Some(&ended));
    // Nothing is written to host memory any more.
    let before = rig.host_memory.stores();
    for _ in 0..5_000 {
        rig.now += 1;
        rig.poll_board();
    }
    assert_eq!(rig.host_memory.stores(), before);
}

#[test]
fn attach_again_and_again() {
    let mut rig = Rig::new();
    for _ in 0..5 {
        rig.attach().unwrap();
        assert!(rig.detach());
        rig.new_host();
    }
    assert_eq!(rig.link.stats().sessions, 5);
}

#[test]
fn a_new_host_takes_over_from_one_that_vanished() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    rig.board.device.model_mut().drain = 30;
    rig.new_host();
    rig.attach().unwrap();
    let ends = rig.board.sessions.iter().filter(|e| matches!(e, SessionEvent::Ended { .. }));
    assert_eq!(ends.count(), 1);
    assert_eq!(rig.link.session(), Some(rig.session));
}

#[test]
fn pages_that_a_host_scribbled_over_are_whole_again_a_beat_later() {
    let mut rig = Rig::new();
    // All that the board has said of itself, the host's page, and the channel.
    for offset in (0..0x4000_u32).step_by(4) {
        rig.bar.poke(offset.into(), 0x5A5A_5A5A ^ offset);
    }
    rig.now += 100;
    rig.poll_board();
    // The epoch that the noise looks like is refused, and no other is.
    rig.attach().unwrap();
    assert_eq!(rig.link.session(), Some(rig.session));
}

#[test]
fn host_memory_is_left_alone_from_the_moment_that_another_epoch_is_there() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    rig.board.device.model_mut().drain = 1_000;
    rig.bar.poke(0x3000, 5);
    let before = rig.host_memory.stores();
    for _ in 0..500 {
        rig.now += 1;
        rig.poll_board();
    }
    assert_eq!(rig.link.session(), None);
    assert_eq!(rig.host_memory.stores(), before);
    // The accepted session stays until the devices are drained.
    assert_eq!(rig.bar.peek(0xF08), 1000);
}

#[test]
fn nor_is_host_memory_written_when_the_host_comes_back_while_devices_drain() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    rig.board.device.model_mut().drain = 1_000;
    // The host falls silent; its page is still its own.
    for _ in 0..450 {
        rig.now += 1;
        rig.poll_board();
    }
    assert_eq!((rig.link.stats().silent_hosts, rig.link.session()), (1, None));
    // Another one: what lies where the page was is not known.
    rig.bar.poke(0x3000, 5);
    rig.poll_board();
    rig.now += 1;
    rig.poll_board();
    let before = rig.host_memory.stores();
    for _ in 0..1_500 {
        rig.now += 1;
        rig.poll_board();
    }
    assert_eq!(rig.host_memory.stores(), before);
}

#[test]
fn a_reboot_shows_even_if_the_boot_epochs_collide() {
    for boot in [78, 77] {
        let mut rig = Rig::new();
        rig.attach().unwrap();
        rig.run_for(1_000).unwrap();
        rig.reboot(boot);
        // The status page still holds the old words, and so does its beat for a
        // while; the words in the BAR tell, or the channel.
        let from = rig.now;
        let refusal = rig.run_for(2_000).unwrap_err();
        assert_eq!(refusal.step, AttachStep::Running);
        assert!(rig.now - from <= 300, "after {} ms", rig.now - from);
        assert_eq!(rig.link.session(), None);
        assert_eq!(rig.link.stats().sessions, 0, "the old session came back");
        rig.new_host();
        rig.attach().unwrap();
    }
}

#[test]
fn in_a_bar_only_session_the_reboot_shows_in_the_bar() {
    for (boot, loss) in [(78, LinkLoss::Rebooted), (77, LinkLoss::SessionDropped)] {
        let mut description = description();
        description.outbound = None;
        let mut rig = Rig::with(description);
        rig.bar_only = true;
        rig.attach().unwrap();
        assert!(rig.host.guard().unwrap().status.is_none());
        rig.reboot(boot);
        assert_eq!(lost(rig.run_for(1_000)), (AttachStep::Running, loss));
    }
}

#[test]
fn a_silent_board_is_found_out() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    rig.board_runs = false;
    let from = rig.now;
    assert_eq!(lost(rig.run_for(1_000)), (AttachStep::Running, LinkLoss::HeartbeatLost));
    assert!((300..=500).contains(&(rig.now - from)), "{}", rig.now - from);
}

#[test]
fn a_silent_host_is_found_out_and_its_epoch_not_taken_again() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    for _ in 0..2_000 {
        rig.now += 1;
        rig.poll_board();
    }
    assert_eq!(rig.link.session(), None);
    assert_eq!((rig.link.stats().silent_hosts, rig.link.stats().sessions), (1, 1));
    // The host wakes up and sees it.
    let (_, loss) = lost(rig.run_for(200));
    assert_eq!(loss, LinkLoss::SessionDropped);
    rig.new_host();
    rig.attach().unwrap();
}

#[test]
fn a_dead_bus_is_link_lost_at_any_moment() {
    let total = {
        let mut rig = Rig::new();
        rig.attach().unwrap();
        rig.now
    };
    for at in 0..=total + 5 {
        let mut rig = Rig::new();
        let result = (|| {
            for _ in 0..at {
                let step = rig.tick()?;
                rig.supply(step.progress)?;
            }
            rig.bar.set_dead(true);
            rig.host_memory.set_dead(true);
            rig.board_runs = false;
            for _ in 0..12_000 {
                let step = rig.tick()?;
                rig.supply(step.progress)?;
            }
            Ok(())
        })();
        assert_eq!(lost(result).1, LinkLoss::AllOnes, "dead after {at} ms");
        // And the detach says that it was not clean.
        let written = rig.host.description().is_some();
        rig.host.detach(rig.now);
        let done = rig.until(10_000, |p| matches!(p, Progress::Detached { .. })).unwrap();
        assert_eq!(done, Progress::Detached { clean: !written });
    }
}

#[test]
fn events_reach_the_host() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    rig.board.device.model_mut().config[0] = 9;
    rig.board.device.config_changed();
    rig.announce(7, true);
    let fault = crate::fault::PeerFault::UsedId { id: 1 };
    rig.link.report_fault(FaultReport { device: 3, queue: 1, fault });
    rig.link.report_fault(FaultReport { device: 3, queue: 1, fault });
    let events = rig.run_for(20).unwrap();
    assert!(matches!(events[0], LinkEvent::Config { device: 3, .. }), "{events:?}");
    assert_eq!(events[1], LinkEvent::Device { device: 7, state: 1 });
    let told = LinkEvent::Fault { code: fault.code(), device: 3, queue: 1, count: 2 };
    assert_eq!(events[2..], [told]);
    rig.host.refresh_config(3).unwrap();
    assert_eq!(rig.run_for(20).unwrap(), [LinkEvent::ConfigRead { device: 3 }]);
    assert_eq!(rig.host.facts().unwrap().config[0], 9);
    rig.board.device.fail();
    assert_eq!(rig.run_for(20).unwrap(), [LinkEvent::NeedsReset { device: 3 }]);
    assert!(rig.board.device.state().status().contains(DeviceStatus::DEVICE_NEEDS_RESET));
    assert!(rig.detach());
}

#[test]
fn devices_come_up_one_after_the_other_and_one_may_be_declined() {
    let mut rig = Rig::new();
    rig.board.second = Some(device());
    let mut declined = false;
    for _ in 0..1_000 {
        let step = rig.tick().unwrap();
        match step.progress {
            Progress::NeedFeatures { device: 3 } => {
                rig.host.decline_device().unwrap();
                declined = true;
            }
            Progress::Running => break,
            other => rig.supply(other).unwrap(),
        }
    }
    assert!(declined && !rig.board.device.is_live());
    assert!(rig.board.second.as_ref().unwrap().is_live());
    assert!(rig.detach());
}

#[test]
fn detach_at_any_moment_ends_cleanly() {
    let total = {
        let mut rig = Rig::new();
        rig.attach().unwrap();
        rig.now
    };
    for at in 0..=total {
        let mut rig = Rig::new();
        for _ in 0..at {
            let step = rig.tick().unwrap();
            rig.supply(step.progress).unwrap();
        }
        assert!(rig.detach(), "after {at} ms");
        for _ in 0..10 {
            rig.now += 1;
            rig.poll_board();
        }
        assert_eq!(rig.link.session(), None);
        rig.new_host();
        rig.attach().unwrap();
    }
}

#[test]
fn a_board_that_never_drains_makes_an_unclean_detach_in_time() {
    let mut rig = Rig::new();
    rig.attach().unwrap();
    rig.board.device.model_mut().drain = u32::MAX;
    let from = rig.now;
    assert!(!rig.detach());
    assert!(rig.now - from <= 5_100, "{}", rig.now - from);
}

#[test]
fn required_features_only_is_enough() {
    let mut rig = Rig::new();
    for _ in 0..1_000 {
        let step = rig.tick().unwrap();
        match step.progress {
            Progress::NeedFeatures { .. } => rig.host.supply_features(features::REQUIRED).unwrap(),
            Progress::Running => return,
            other => rig.supply(other).unwrap(),
        }
    }
    panic!("never up");
}

#[test]
fn epochs_are_never_0_nor_all_ones() {
    assert_eq!(Epoch::new(0).or(Epoch::new(u32::MAX)), None);
    for start in [1, u32::MAX - 1, 5] {
        let next = Epoch::new(start).unwrap().next();
        assert!(next.get() != 0 && next.get() != u32::MAX && next.get() != start);
    }
}
