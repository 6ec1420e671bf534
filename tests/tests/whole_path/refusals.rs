//! Attaches that are refused: typed errors, each with what to do, and nothing
//! left behind.

use board::device::net::Echo;
use host::bus::sim::Profile;
use host::session::{Layout, SessionError};
use shared::link::{AttachStep, Reason, Versions};
use shared::wire::features::VERSION_1;
use virtio_phys_tests::rig::{Rig, RigOptions};

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
    let text = "an MTU of 1500 is more than the board takes: choose 68 to 1400";
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
    let board = Versions { min: 2, max: 3 };
    options.board.versions = board;
    let error = refused(options);
    let SessionError::Link(refusal) = &error else { panic!("{error:?}") };
    assert_eq!(refusal.step, AttachStep::ChooseVersion);
    assert_eq!(refusal.reason, Reason::Versions { board, host: Versions::OURS });
    let text = "step 3 (choose the protocol version): the board speaks protocol versions 2 to 3, \
                this host 1 to 1; update the older side";
    assert_eq!(error.to_string(), text);
}
