//! What ends, and what a host can do to put that off.

use super::*;
use crate::service::LAST_STEPS;

impl Session {
    /// Asks for a reboot, and is told that it comes.
    fn reboot_granted(&mut self) {
        self.link.reset_board().unwrap();
        for _ in 0..100 {
            if let Progress::Event(LinkEvent::BoardReset { granted }) = self.step() {
                assert!(granted);
                return;
            }
        }
        panic!("no answer");
    }

    /// A frame there and back: the board is awake.
    fn exchange(&mut self) {
        self.offer();
        self.send(&frame_of(100, 1));
        self.ring(2);
        assert_eq!(self.board.step(self.now), Next::Again);
        assert!(self.received().is_some());
        while self.queues[1].take().unwrap().is_some() {}
    }
}

#[test]
fn a_board_reboots_when_it_has_nothing_else_to_do() {
    let mut session = Session::attach();
    assert!(!session.board.reboot_due());
    session.exchange();
    session.reboot_granted();
    session.settle();
    assert!(session.board.reboot_due());
}

#[test]
fn a_host_that_keeps_the_board_busy_does_not_put_its_reboot_off() {
    let mut session = Session::attach();
    for _ in 0..2 * LAST_STEPS {
        session.exchange();
        assert!(!session.board.reboot_due(), "nobody has asked");
    }
    session.link.reset_board().unwrap();
    let mut granted = false;
    for _ in 0..=LAST_STEPS {
        session.exchange();
        let step = session.link.step(session.now, true).unwrap();
        if step.ring > 0 {
            session.ring(0);
        }
        session.now += 1;
        granted |= matches!(step.progress, Progress::Event(LinkEvent::BoardReset { .. }));
    }
    assert!(granted && !session.board.reboot_due(), "the answer was to go out");
    session.exchange();
    session.exchange();
    assert!(session.board.reboot_due());
}

/// The host takes accepted session 0 for leave to use its memory again.
#[test]
fn the_engine_is_drained_when_a_session_ends() {
    let mut session = Session::attach();
    session.exchange();
    assert_eq!(session.board.dma().drains, 0);
    session.link.detach(session.now);
    while session.board.link().session().is_some() {
        session.step();
    }
    session.settle();
    assert_eq!(session.board.dma().drains, 1);
}
