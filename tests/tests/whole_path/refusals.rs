//! Attaches that are refused and boards that stop answering: typed errors,
//! each with what to do, and nothing left behind.

use board::device::net::Echo;
use host::bridge::BridgeError;
use host::bus::sim::{Access, Fault, Initiator, Profile};
use host::session::{Layout, SessionError};
use shared::fault::PeerFault;
use shared::link::{AttachStep, LinkLoss, Reason, Refusal, Versions};
use shared::wire::features::VERSION_1;
use shared::wire::net::NetHeader;
use virtio_phys_tests::rig::frames::Sizes;
use virtio_phys_tests::rig::{QueuePort, Rig, RigError, RigOptions};

use super::load::echo;
use super::{LAYOUTS, PROFILES};

fn options() -> RigOptions {
    RigOptions::instrument(9, Profile::Adversarial)
}

/// Attaches in vain, and gives the error back.
fn refused(options: RigOptions) -> SessionError {
    let mut rig = Rig::echo(options);
    let error = rig.attach().expect_err("an attach that is refused");
    rig.assert_nothing_shared();
    error
}

#[test]
fn an_mtu_that_the_board_does_not_take() {
    let mut options = options().mtu(1500);
    options.board.mtu = 1400;
    let error = refused(options);
    assert!(matches!(error, SessionError::Mtu(_)), "{error:?}");
    let text = "an MTU of 1500 is more than the board takes: choose 68 to 1400, or leave the MTU \
                out to use the board's";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_mask_without_what_every_session_needs() {
    let error = Rig::try_new(options().without(VERSION_1), Echo::verbatim())
        .expect_err("a mask that leaves nothing");
    assert!(matches!(error, SessionError::FeatureMask { .. }), "{error:?}");
    let text = "the feature mask leaves nothing to run with: it takes away VERSION_1, which every \
                session needs; set bits 0x100000000 in it";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_board_that_cannot_reach_the_host() {
    for layout in [Layout::Split, Layout::AllHost] {
        let mut options = options().layout(Layout::BarOnly);
        options.session.layout = layout;
        let error = refused(options);
        assert!(matches!(error, SessionError::NoReach { .. }), "{error:?}");
        let text = format!(
            "the board cannot reach host memory, which layout {layout} needs; choose layout bar-only"
        );
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_board_of_another_protocol_version() {
    let mut options = options();
    options.board.versions = Versions { min: 2, max: 3 };
    let error = refused(options);
    let SessionError::Link(refusal) = &error else { panic!("{error:?}") };
    assert_eq!(refusal.step, AttachStep::ChooseVersion);
    assert_eq!(refusal.reason, Reason::Versions { min: 2, max: 3 });
    let text = "step 3 (choose the protocol version): the board speaks protocol versions 2 to 3, \
                this host 1 to 1; update the older side";
    assert_eq!(error.to_string(), text);
}

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
                        "the bus answers all ones; the card is gone or switched off",
                    ),
                    Layout::Split | Layout::AllHost => (
                        ended_with(&ended, AttachStep::Running, Reason::Lost(LinkLoss::AllOnes)),
                        "step 20 (run): the bus answers all ones; the card is gone or switched off",
                    ),
                };
                assert!(expected, "{layout}: {ended:?}");
                assert_eq!(ended.to_string(), text);
                // Interval times misses, and an interval to notice.
                assert!(rig.now - since <= 250 * 9, "{layout}: {} ms", rig.now - since);
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
