//! The supervisor over an empty slot, and over a bus that cannot even say so.

use super::*;
use crate::bus::BusError;
use crate::bus::sim::{SimBus, SimHostPort, SimOptions};

const DAY: u64 = 24 * 3_600_000;

fn slot() -> SimBus {
    SimBus::new(SimOptions { bar_len: 1 << 20, ..SimOptions::counted() }).unwrap()
}

fn supervisor(config: SessionConfig) -> Supervisor<SimHostPort> {
    Supervisor::new(slot().host(), config, 7)
}

/// Steps from `now` on, as time has it, until something is told.
fn next_event(
    supervisor: &mut Supervisor<SimHostPort>,
    now: &mut u64,
) -> Option<Supervised<SimHostPort>> {
    for _ in 0..100_000 {
        let step = supervisor.step(*now);
        if step.event.is_some() {
            return step.event;
        }
        if step.wait_until == u64::MAX {
            return None;
        }
        *now = step.wait_until.max(*now);
    }
    panic!("nothing happens any more at {now} ms");
}

#[test]
fn an_empty_slot_is_looked_at_all_day() {
    let (mut supervisor, mut now) = (supervisor(SessionConfig::default()), 0);
    let mut attempts = 0;
    let mut longest = 0;
    while now < DAY {
        let Some(Supervised::Ended(why)) = next_event(&mut supervisor, &mut now) else {
            panic!("no board, and no failure")
        };
        assert!(why.to_string().contains("no control block"), "{why}");
        supervisor.released(now);
        let wait = supervisor.next_attempt().unwrap() - now;
        longest = longest.max(wait);
        attempts += 1;
    }
    // 10 s of looking and 30 to 37.5 s of waiting each, the first few sooner.
    assert!((1_800..=2_200).contains(&attempts), "{attempts}");
    assert!((30_000..=37_500).contains(&longest), "{longest}");
    assert_eq!(supervisor.sessions(), 0);
}

#[test]
fn settings_that_cannot_be_are_tried_again_as_well() {
    let wrong = SessionConfig { mtu: 1, ..SessionConfig::default() };
    let (mut supervisor, mut now) = (supervisor(wrong), 0);
    for _ in 0..3 {
        let event = next_event(&mut supervisor, &mut now);
        assert!(matches!(event, Some(Supervised::Ended(Ended::Session(SessionError::Mtu(_))))));
        supervisor.released(now);
    }
    // They may have been mended meanwhile.
    supervisor.set_config(SessionConfig::default());
    let Some(Supervised::Ended(why)) = next_event(&mut supervisor, &mut now) else { panic!() };
    assert!(why.to_string().contains("no control block"), "{why}");
}

#[test]
fn nothing_goes_on_before_everything_is_released() {
    let (mut supervisor, mut now) = (supervisor(SessionConfig::default()), 0);
    assert!(matches!(next_event(&mut supervisor, &mut now), Some(Supervised::Ended(_))));
    for later in [now, now + DAY] {
        let step = supervisor.step(later);
        assert!(step.event.is_none() && step.wait_until == u64::MAX);
        assert_eq!(supervisor.next_attempt(), None);
    }
}

#[test]
fn it_stops_whatever_it_is_at() {
    // Attaching, over, releasing, waiting, and twice.
    for turns in 0..4 {
        let (mut supervisor, mut now) = (supervisor(SessionConfig::default()), 0);
        if turns > 0 {
            assert!(supervisor.step(now).event.is_none());
        }
        if turns > 1 {
            assert!(matches!(next_event(&mut supervisor, &mut now), Some(Supervised::Ended(_))));
        }
        if turns > 2 {
            supervisor.released(now);
        }
        supervisor.stop(now);
        supervisor.stop(now);
        let event = next_event(&mut supervisor, &mut now);
        assert!(matches!(event, Some(Supervised::Stopped(Ok(())))), "after {turns} turns");
        assert!(next_event(&mut supervisor, &mut now).is_none());
    }
}

#[test]
fn a_reset_that_is_asked_for_does_not_wait_for_the_longest_back_off() {
    let (mut supervisor, mut now) = (supervisor(SessionConfig::default()), 0);
    for _ in 0..12 {
        assert!(matches!(next_event(&mut supervisor, &mut now), Some(Supervised::Ended(_))));
        supervisor.released(now);
    }
    assert!(supervisor.next_attempt().unwrap() - now >= 30_000);
    supervisor.reset_board(now).unwrap();
    assert!(supervisor.next_attempt().unwrap() - now <= 125);
    // And in the middle of an attempt it ends that one.
    let _ = supervisor.step(now + 200);
    let _ = supervisor.step(now + 200);
    supervisor.reset_board(now + 200).unwrap();
    let event = supervisor.step(now + 200).event;
    assert!(matches!(event, Some(Supervised::Ended(Ended::ResetAsked))));
}

#[test]
fn where_the_bus_cannot_reset_the_next_attempt_comes_soon_all_the_same() {
    let bus = slot();
    let (mut supervisor, mut now) = (Supervisor::new(bus.host(), SessionConfig::default(), 7), 0);
    bus.unplug_board();
    for _ in 0..12 {
        assert!(matches!(next_event(&mut supervisor, &mut now), Some(Supervised::Ended(_))));
        supervisor.released(now);
    }
    assert!(supervisor.next_attempt().unwrap() - now >= 30_000);
    let refused = supervisor.reset_board(now);
    assert!(matches!(refused, Err(SessionError::Bus(BusError::Gone))), "{refused:?}");
    assert!(supervisor.next_attempt().unwrap() - now <= 125);
}
