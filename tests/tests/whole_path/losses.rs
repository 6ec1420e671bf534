//! A board or a host that goes away: noticed in time, said in so many words,
//! and nothing left behind.

use board::device::net::Echo;
use board::trace::Event;
use host::bridge::BridgeError;
use host::bus::sim::{Access, AccessKind, Fault, Initiator, Plane, Profile};
use host::bus::{Bus, BusError};
use host::session::{Layout, SessionError};
use shared::fault::PeerFault;
use shared::link::{AttachStep, LinkLoss, Reason, Refusal};
use shared::wire::net::NetHeader;
use virtio_phys_tests::rig::frames::Sizes;
use virtio_phys_tests::rig::{QueuePort, Rig, RigError, RigOptions};

use super::load::echo;
use super::{LAYOUTS, PROFILES};

/// Interval times misses, and an interval to notice.
const NOTICED: u64 = 250 * 9;

fn ended_with(error: &RigError, step: AttachStep, reason: Reason) -> bool {
    let expected = Refusal { step, reason };
    matches!(error, RigError::Session(SessionError::Link(refusal)) if *refusal == expected)
}

/// A board that is switched off while nothing moves, and while frames do.
#[test]
fn a_board_that_goes_away() {
    for profile in PROFILES {
        for layout in LAYOUTS {
            for frames in [0, 20] {
                let mut rig = Rig::echo(RigOptions::instrument(4, profile).layout(layout));
                rig.attach().unwrap();
                echo(&mut rig, 200, Sizes::ETHERNET);
                for _ in 0..frames {
                    rig.port.send(&NetHeader::default(), &[0x55; 100]);
                }
                let since = rig.now;
                rig.bus.kill_board();
                let ended = rig.run_until(1_000_000, |_| false).expect_err("the session ends");
                // Whoever looks across the bus first: in bar-only the data path.
                let (expected, text) = match layout {
                    Layout::BarOnly => (
                        matches!(ended, RigError::Bridge(BridgeError::Peer(PeerFault::LinkLost))),
                        "the bus answers all ones; the card is gone or switched off, put it back",
                    ),
                    Layout::Split | Layout::AllHost => (
                        ended_with(&ended, AttachStep::Running, Reason::Lost(LinkLoss::AllOnes)),
                        "step 20 (run): the bus answers all ones; the card is gone or switched off, put it back",
                    ),
                };
                assert!(expected, "{layout}: {ended:?}");
                assert_eq!(ended.to_string(), text);
                assert!(rig.now - since <= NOTICED, "{layout}: {} ms", rig.now - since);
                rig.host.session.abandon();
                rig.assert_nothing_shared();
            }
        }
    }
}

/// A board that dies at the host's k-th access, wherever that is in attach,
/// traffic and detach: whatever the host says, it says it in time, and the
/// next attach to the board that came back works.
#[test]
fn a_board_that_goes_away_at_any_access() {
    for layout in LAYOUTS {
        for k in (0..2_000).step_by(13).chain(0..40) {
            let mut rig = Rig::echo(RigOptions::instrument(k, Profile::Eager).layout(layout));
            rig.bus
                .set_faults(Some(Box::new(move |access: &Access| {
                    let now = access.initiator == Initiator::HostCpu && access.nth == k;
                    now.then_some(Fault::KillBoard)
                })))
                .unwrap();
            let outcome = rig.attach().map_err(RigError::Session).and_then(|()| {
                for _ in 0..20 {
                    rig.port.send(&NetHeader::default(), &[0x55; 100]);
                }
                rig.run_until_idle()?;
                rig.idle_for(3_000)
            });
            assert!(outcome.is_err(), "{layout}, access {k}: the host has not noticed");
            rig.host.pair = None;
            rig.host.session.abandon();
            rig.assert_nothing_shared();
            rig.bus.set_faults(None).unwrap();
            rig.bus.revive_board();
            rig.reboot(Echo::verbatim(), 0xB007);
            rig.next_session().unwrap();
            rig.attach().unwrap();
            rig.port = QueuePort::default();
            echo(&mut rig, 20, Sizes::ETHERNET);
            rig.detach().unwrap();
            rig.assert_clean();
        }
    }
}

/// A card that is pulled out while frames move, and put back: while it is away
/// nobody answers, not even a reset; then it boots and carries frames again.
#[test]
fn a_board_that_is_pulled_out_and_put_back() {
    let instruments = PROFILES.map(|profile| RigOptions::instrument(6, profile));
    for options in instruments.into_iter().chain([RigOptions::counted()]) {
        for layout in LAYOUTS {
            let mut rig = Rig::echo(options.layout(layout));
            rig.attach().unwrap();
            for epoch in 1..4 {
                echo(&mut rig, 100, Sizes::ETHERNET);
                for _ in 0..20 {
                    rig.port.send(&NetHeader::default(), &[0x55; 100]);
                }
                rig.bus.unplug_board();
                rig.run_until(1_000_000, |_| false).expect_err("the session ends");
                rig.host.pair = None;
                rig.host.session.abandon();
                assert_eq!(rig.bus.shared_bytes(), 0);
                assert!(matches!(rig.bus.host().reset(), Err(BusError::Gone)));
                rig.next_session().unwrap();
                let refused = rig.attach().unwrap_err();
                let lost = Reason::Lost(LinkLoss::AllOnes);
                assert!(
                    ended_with(&RigError::Session(refused), AttachStep::ReadBlock, lost),
                    "{layout}"
                );

                rig.bus.replug_board();
                rig.reboot(Echo::verbatim(), epoch);
                rig.port = QueuePort::default();
                rig.next_session().unwrap();
                rig.attach().unwrap();
            }
            echo(&mut rig, 100, Sizes::ETHERNET);
            rig.detach().unwrap();
            rig.assert_clean();
        }
    }
}

/// A rig that has carried frames.
fn rig(profile: Profile, layout: Layout, seed: u64) -> Rig<Echo> {
    let mut rig = Rig::echo(RigOptions::instrument(seed, profile).layout(layout));
    rig.attach().unwrap();
    echo(&mut rig, 100, Sizes::ETHERNET);
    rig
}

/// After the board was reset or rebooted, all is as on the first day.
fn begin_anew(rig: &mut Rig<Echo>) {
    rig.bus.set_faults(None).unwrap();
    rig.host.pair = None;
    rig.host.session.abandon();
    rig.assert_nothing_shared();
    rig.reboot(Echo::verbatim(), 0xB007);
    rig.port = QueuePort::default();
    rig.next_session().unwrap();
    rig.attach().unwrap();
    echo(rig, 50, Sizes::ETHERNET);
    rig.detach().unwrap();
    rig.assert_clean();
}

/// A board whose firmware hangs: its memory answers, its heart stands still.
#[test]
fn a_board_that_hangs() {
    for profile in PROFILES {
        for layout in LAYOUTS {
            let mut rig = rig(profile, layout, 3);
            let since = rig.now;
            rig.board_hangs = true;
            for _ in 0..100 {
                rig.port.send(&NetHeader::default(), &[0x55; 100]);
            }
            let ended = rig.run_until(1_000_000, |_| false).expect_err("the session ends");
            let lost = Reason::Lost(LinkLoss::HeartbeatLost);
            assert!(ended_with(&ended, AttachStep::Running, lost), "{layout}: {ended:?}");
            let text = "step 20 (run): the board's heartbeat stands still; reset it";
            assert_eq!(ended.to_string(), text);
            assert!(rig.now - since <= NOTICED, "{layout}: {} ms", rig.now - since);
            rig.board_hangs = false;
            begin_anew(&mut rig);
        }
    }
}

/// A board whose heart beats on while its data path stands still.
#[test]
fn a_board_that_returns_no_frames() {
    for profile in PROFILES {
        for layout in LAYOUTS {
            let mut rig = rig(profile, layout, 5);
            rig.bus
                .set_faults(Some(Box::new(|access: &Access| {
                    let stores = matches!(access.kind, AccessKind::Store | AccessKind::Interrupt);
                    let board = access.initiator == Initiator::BoardCpu;
                    (stores && board && access.plane == Plane::ToBoard).then_some(Fault::Drop)
                })))
                .unwrap();
            for _ in 0..100 {
                rig.port.send(&NetHeader::default(), &[0x55; 100]);
            }
            let since = rig.now;
            let ended = rig.run_until(1_000_000, |_| false).expect_err("the session ends");
            let RigError::Bridge(BridgeError::Stalled { for_ms }) = &ended else {
                panic!("{layout}: {ended:?}")
            };
            assert!((5_000..7_000).contains(for_ms) && rig.now - since < 7_000, "{for_ms}");
            let text = format!(
                "the board has returned no frame for {for_ms} ms though it holds some; \
                 it hangs, reset it"
            );
            assert_eq!(ended.to_string(), text);
            begin_anew(&mut rig);
        }
    }
}

/// A board that boots again while frames move.
#[test]
fn a_board_that_reboots() {
    for profile in PROFILES {
        for layout in LAYOUTS {
            let mut rig = rig(profile, layout, 7);
            for _ in 0..30 {
                rig.port.send(&NetHeader::default(), &[0x55; 100]);
            }
            for _ in 0..20 {
                rig.step().unwrap();
            }
            rig.reboot(Echo::verbatim(), 0x0DD);
            let ended = rig.run_until(1_000_000, |_| false).expect_err("the session ends");
            let text = ended.to_string();
            let over = match &ended {
                RigError::Session(SessionError::Link(refusal)) => {
                    let how = matches!(
                        refusal.reason,
                        Reason::Lost(_) | Reason::Fault(PeerFault::ChannelClosed { .. })
                    );
                    assert!(how, "{layout}: {text}");
                    true
                }
                RigError::Bridge(BridgeError::SessionOver(_)) => true,
                _ => false,
            };
            assert!(over, "{layout}: {text}");
            begin_anew(&mut rig);
        }
    }
}

/// A host whose process is gone: the board lets go of its memory by itself,
/// and takes the next host.
#[test]
fn a_host_that_goes_away() {
    for profile in PROFILES {
        for layout in LAYOUTS {
            let mut rig = rig(profile, layout, 9);
            for _ in 0..30 {
                rig.port.send(&NetHeader::default(), &[0x55; 100]);
            }
            for _ in 0..20 {
                rig.step().unwrap();
            }
            assert!(!rig.board.service.support().open_regions().is_empty());
            rig.host_hangs = true;
            rig.idle_for(NOTICED).unwrap();
            assert!(rig.board.service.support().open_regions().is_empty(), "{layout}");
            let left = |event: Event| matches!(event, Event::Detached { session: 1 });
            assert!(rig.board.service.trace().iter().any(|entry| left(entry.event)));
            // What the kernel does when a process ends.
            rig.host.session.abandon();
            rig.host_hangs = false;
            begin_anew(&mut rig);
        }
    }
}
