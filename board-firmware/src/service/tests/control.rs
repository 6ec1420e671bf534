//! Config changes and interrupts that are put off, through the whole board.

use shared::wire::net::{STATUS_ANNOUNCE, STATUS_LINK_UP};
use shared::wire::net_control::{ACK_OK, COMMAND_MAX, Coalescing, Command};

use super::*;
use crate::device::net::MtuSet;

const CONTROLLED: u64 = RING
    | feature::CTRL_VQ
    | feature::CTRL_MAC_ADDR
    | feature::GUEST_ANNOUNCE
    | feature::STATUS
    | feature::NOTF_COAL;

impl Session {
    /// Puts a command into the control queue; the board wanted a doorbell or not.
    fn put(&mut self, command: Command<'_>) -> bool {
        let mut bytes = [0; COMMAND_MAX];
        let len = command.encode(&mut bytes).unwrap();
        let head = u64::from(self.queues[2].next_head().unwrap());
        let (read, written) = (HALF + 0x8_0000 + head * 512, 0x8_0000 + head * 512);
        self.wires.host.write(read, &bytes[..len]);
        self.wires.host.write(written, &[0xEE]);
        let segment = |at, len, writable| Segment {
            address: IOVA.checked_add(at).unwrap(),
            len: u32::try_from(len).unwrap(),
            writable,
        };
        self.queues[2].add(&[segment(read, len, false), segment(written, 1, true)]).unwrap();
        self.queues[2].publish()
    }

    fn acknowledged(&mut self) -> Option<u8> {
        let done = self.queues[2].take().unwrap()?;
        let mut ack = [0];
        self.wires.host.read(0x8_0000 + u64::from(done.head) * 512, &mut ack);
        Some(ack[0])
    }

    fn command(&mut self, command: Command<'_>) -> u8 {
        if self.put(command) {
            self.ring(2);
        }
        self.settle();
        self.acknowledged().expect("an answer")
    }

    /// Steps both ends until the link says something, a second at most.
    fn event(&mut self) -> Option<LinkEvent> {
        (0..1000).find_map(|_| match self.step() {
            Progress::Event(event) => Some(event),
            _ => None,
        })
    }

    /// The config space as a host that was told reads it.
    fn read_config(&mut self) -> NetConfig {
        self.link.refresh_config(0).unwrap();
        assert!(matches!(self.event(), Some(LinkEvent::ConfigRead { device: 0 })));
        NetConfig::decode(self.link.facts().unwrap().config).unwrap()
    }

    fn net(&mut self) -> &mut NetDevice<'static, Memory, Echo> {
        self.board.device(0).unwrap()
    }
}

#[test]
fn the_host_is_told_of_the_link_and_of_an_announcement() {
    let mut session = Session::attach_with(CONTROLLED);
    for (up, status) in [(false, 0), (true, STATUS_LINK_UP)] {
        session.net().set_link(up);
        assert!(matches!(session.event(), Some(LinkEvent::Config { device: 0, .. })));
        assert_eq!(session.read_config().status, status);
    }
    assert!(session.net().announce());
    assert!(matches!(session.event(), Some(LinkEvent::Config { device: 0, .. })));
    assert_eq!(session.read_config().status, STATUS_LINK_UP | STATUS_ANNOUNCE);
    assert_eq!(session.command(Command::AnnounceAck), ACK_OK);
    // The driver knows what it changed: no event, and yet another content.
    assert_eq!(session.event().map(|event| format!("{event:?}")), None);
    assert_eq!(session.read_config().status, STATUS_LINK_UP);
    assert_eq!(session.command(Command::MacAddress([2; 6])), ACK_OK);
    assert_eq!(session.read_config().mac, [2; 6]);
}

#[test]
fn another_mtu_holds_for_the_next_host() {
    let mut session = Session::attach_with(CONTROLLED);
    assert_eq!(session.net().set_mtu(1280), Ok(MtuSet::AfterReset));
    assert_eq!(session.event().map(|event| format!("{event:?}")), None);
    session.link.detach(session.now);
    assert!((0..100).any(|_| matches!(session.step(), Progress::Detached { clean: true })));
    let Session { wires, board, now, .. } = session;
    let mut session = Session::attach_to(wires, board, now, 10, CONTROLLED);
    assert_eq!(session.config.unwrap().mtu, 1280);
    assert_eq!(session.net().set_mtu(1400), Ok(MtuSet::AfterReset));
}

#[test]
fn a_command_whose_doorbell_is_lost_is_found_and_counted() {
    let mut session = Session::attach_with(CONTROLLED);
    session.settle();
    for _ in 0..5 {
        assert!(session.put(Command::AnnounceAck), "asleep without its doorbell armed");
        session.ring(2);
        session.settle();
        assert_eq!(session.acknowledged(), Some(ACK_OK));
    }
    session.pass(2000);
    assert_eq!(session.board.stats().polled, 0);
    assert!(session.put(Command::AnnounceAck));
    session.pass(1200);
    assert_eq!((session.acknowledged(), session.board.stats().polled), (Some(ACK_OK), 1));
}

/// A board that tells microseconds, asleep whenever it may.
struct Fine {
    session: Session,
    now_us: u64,
}

impl Fine {
    fn new(max_packets: u32, max_usecs: u32) -> Self {
        let mut session = Session::attach_with(CONTROLLED);
        let limits = Coalescing { max_packets, max_usecs };
        assert_eq!(session.command(Command::CoalesceReceive(limits)), ACK_OK);
        session.offer();
        assert!(session.queues[0].arm().unwrap());
        let now_us = session.now * 1000;
        session.wires.raised.borrow_mut().clear();
        Self { session, now_us }
    }

    /// Steps the board until it sleeps; until when it does.
    fn settle(&mut self) -> u64 {
        (0..100)
            .find_map(|_| match self.session.board.step_at(self.now_us) {
                Next::Sleep { until } => Some(until),
                Next::Again => None,
            })
            .expect("asleep")
    }

    /// Sleeps as long as the board says, until it raises the receiveq's
    /// interrupt, once; when that was. Its link has timers of its own.
    fn sleep_until_raised(&mut self) -> u64 {
        for _ in 0..20 {
            self.now_us = self.settle();
            self.settle();
            match self.raised() {
                0 => {}
                1 => return self.now_us,
                more => panic!("raised {more} times"),
            }
        }
        panic!("never raised");
    }

    fn send(&mut self) {
        let _ = self.session.send(&frame_of(100, 1));
        self.session.ring(2);
    }

    /// Interrupts of the receiveq.
    fn raised(&self) -> usize {
        let all = self.session.wires.raised.replace(Vec::new());
        all.into_iter().filter(|vector| *vector == 1).count()
    }
}

#[test]
fn a_board_that_sleeps_wakes_for_the_interrupt_that_it_put_off() {
    let mut fine = Fine::new(1000, 150);
    for round in 0..50 {
        let start = fine.now_us;
        fine.send();
        fine.settle();
        assert_eq!(fine.raised(), 0, "round {round}");
        // A frame in between changes nothing about the first one's time.
        fine.now_us += 100;
        fine.send();
        fine.settle();
        assert_eq!(fine.raised(), 0, "round {round}");
        assert_eq!(fine.sleep_until_raised(), start + 150);
        while fine.session.received().is_some() {}
        while fine.session.queues[1].take().unwrap().is_some() {}
        fine.session.offer();
        assert!(fine.session.queues[0].arm().unwrap());
        fine.now_us += 1000;
        fine.session.now = fine.now_us / 1000;
        fine.session.link.step(fine.session.now, false).unwrap();
        fine.settle();
    }
    assert_eq!(fine.session.board.stats().polled, 0);
}

#[test]
fn a_board_of_milliseconds_keeps_the_bounds_too() {
    // The link's own timers wake it at other times each round.
    for round in 0..12 {
        let mut fine = Fine::new(1000, 8000);
        for _ in 0..500 + round {
            fine.session.step();
        }
        let start = fine.session.now;
        fine.send();
        // The step behind the last look of the link asks for another one.
        fine.session.settle();
        fine.session.now += 1;
        let raised = (0..20).find_map(|_| {
            let until = fine.session.settle();
            let raised = fine.raised() > 0;
            let now = std::mem::replace(&mut fine.session.now, until);
            raised.then_some(now)
        });
        // The clock may be a tick behind, and the wait a tick late.
        assert_eq!(raised, Some(start + 7), "round {round}");
    }
}

#[test]
fn nothing_put_off_outlives_its_session() {
    let mut fine = Fine::new(1000, 40_000);
    fine.send();
    fine.settle();
    let mut session = fine.session;
    session.link.detach(session.now);
    assert!((0..100).any(|_| matches!(session.step(), Progress::Detached { clean: true })));
    session.wires.raised.borrow_mut().clear();
    for _ in 0..200 {
        session.board.step(session.now);
        session.now += 1;
    }
    assert!(session.wires.raised.borrow().is_empty());
}
