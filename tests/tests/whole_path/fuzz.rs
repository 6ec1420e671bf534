//! Random lies: a few flipped bits in what one end reads of rings and frames.
//! Nothing is asked of the outcome but that there is one, in bounded time and
//! without a panic, and that the next session is as good as new.

use std::collections::BTreeMap;

use board::device::net::Echo;
use host::bridge::BridgeError;
use host::bus::sim::{Access, AccessKind, Fault, Initiator, Plane};
use host::session::SessionError;
use shared::link::Reason;
use shared::wire::features::{EVENT_IDX, IN_ORDER};
use virtio_phys_tests::rig::frames::{Frames, Sizes};
use virtio_phys_tests::rig::{QueuePort, Random, Rig, RigError, RigOptions};

use super::load::echo;
use super::{LAYOUTS, PROFILES};

const SIZES: Sizes = Sizes { short_one_in: 2, large_one_in: 20, ..Sizes::PLAIN };

/// Flips up to three bits in each of up to three reads of `victim`.
fn flips(victim: Initiator, seed: u64) -> impl FnMut(&Access) -> Option<Fault> + Send {
    let mut random = Random::new(seed);
    let mut left = 1 + random.below(3);
    let mut wait = random.below(200);
    move |access| {
        let read = matches!(access.kind, AccessKind::Load | AccessKind::PayloadLoad);
        let mine = read && access.initiator == victim && access.plane != Plane::Link;
        if !mine || left == 0 {
            return None;
        }
        if wait > 0 {
            wait -= 1;
            return None;
        }
        left -= 1;
        wait = random.below(60);
        // Of half of them only low bits: numbers that are nearly right.
        let width = if random.below(2) == 0 { 4 } else { 8 * access.len.min(8) };
        let bits = (0..=random.below(3)).fold(0, |bits, _| bits ^ 1 << random.below(width));
        Some(Fault::Flip(bits))
    }
}

/// A host whose descriptors name its own status page as a buffer.
const SCRIBBLED: &str = "SessionOver";

fn name(outcome: &Result<(), RigError>) -> String {
    match outcome {
        Ok(()) => "nothing".into(),
        Err(RigError::Bridge(BridgeError::Peer(fault))) => {
            let text = format!("{fault:?}");
            text.split(' ').next().unwrap_or_default().into()
        }
        Err(RigError::Bridge(BridgeError::Stalled { .. })) => "Stalled".into(),
        Err(RigError::Session(SessionError::NeedsReset)) => "NeedsReset".into(),
        // Whichever thread looks first.
        Err(RigError::Bridge(BridgeError::SessionOver(_))) => SCRIBBLED.into(),
        Err(RigError::Session(SessionError::Link(over)))
            if matches!(over.reason, Reason::Lost(_)) =>
        {
            SCRIBBLED.into()
        }
        Err(other) => panic!("not an end for a lie in the rings: {other:?}"),
    }
}

fn one_run(rig: &mut Rig<Echo>, victim: Initiator, seed: u64) -> String {
    rig.attach().unwrap();
    let mut frames = Frames::new(seed, SIZES);
    rig.bus.set_faults(Some(Box::new(flips(victim, seed)))).unwrap();
    let mut outcome = Ok(());
    for _ in 0..6 {
        for _ in 0..10 {
            rig.port.send_with(|into| _ = frames.next(into));
        }
        outcome = outcome.and_then(|()| rig.run_until_idle());
    }
    // Long enough to notice a board that holds frames for ever.
    let outcome = outcome.and_then(|()| rig.idle_for(6_500));
    let arrived = rig.port.arrived();
    assert!(arrived <= 60 + 3, "{arrived} frames of 60");
    rig.bus.set_faults(None).unwrap();
    let outcome = name(&outcome);
    if outcome == SCRIBBLED {
        // It has lost sight of the board, and has it reset.
        rig.host.pair = None;
        rig.host.session.abandon();
        rig.reboot(Echo::verbatim(), 0xB007);
    } else {
        rig.detach().unwrap();
        if rig.board.stats().polled > 0 {
            // A lie at the look before a sleep. The counter knows no sessions.
            rig.reboot(Echo::verbatim(), 0xB007);
        }
    }
    rig.assert_clean();
    rig.port = QueuePort::default();
    rig.next_session().unwrap();
    rig.attach().unwrap();
    echo(rig, 30, SIZES);
    rig.detach().unwrap();
    rig.assert_clean();
    outcome
}

fn runs(victim: Initiator) -> BTreeMap<String, u32> {
    let mut outcomes = BTreeMap::new();
    for (number, layout) in (0..).zip(LAYOUTS) {
        for left_out in [0, IN_ORDER, EVENT_IDX] {
            for seed in 0..60 {
                let seed = 1000 * number + seed;
                let profile = PROFILES[usize::try_from(seed % 3).unwrap()];
                let options = RigOptions::instrument(seed, profile).layout(layout);
                let mut rig = Rig::echo(options.without(left_out).mtu(9004).sizes(64, 32));
                *outcomes.entry(one_run(&mut rig, victim, seed)).or_insert(0) += 1;
            }
        }
    }
    outcomes
}

#[test]
fn a_host_that_reads_flipped_bits() {
    let outcomes = runs(Initiator::HostCpu);
    for fault in ["nothing", "UsedIndexAhead", "UsedId", "UsedLength"] {
        assert!(outcomes.contains_key(fault), "never {fault}: {outcomes:?}");
    }
}

#[test]
fn a_board_that_reads_flipped_bits() {
    let outcomes = runs(Initiator::BoardCpu);
    for fault in ["nothing", "NeedsReset"] {
        assert!(outcomes.contains_key(fault), "never {fault}: {outcomes:?}");
    }
}
