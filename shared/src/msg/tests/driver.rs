use std::collections::HashSet;

use super::channel::pair;
use crate::msg::body::*;
use crate::msg::channel::{Channel, OUR_LAYOUT};
use crate::msg::codec::Frame;
use crate::msg::driver::{DriverEndpoint, Incoming, MAX_IN_FLIGHT, RequestError};
use crate::msg::kind::{Kind, Side};
use crate::window::testing::TestWindow;

/// A driver endpoint and a board that the test plays.
struct Play {
    driver: DriverEndpoint<TestWindow>,
    board: Channel<TestWindow>,
}

impl Play {
    fn new() -> Self {
        let (_, board, driver) = pair(&OUR_LAYOUT);
        Self { driver: DriverEndpoint::new(driver), board }
    }

    fn ask(&mut self, device: u16, deadline: u64) -> u16 {
        self.driver.request(device, Request::GetDeviceStatus, deadline).unwrap()
    }

    fn hear(&mut self) -> Message {
        let mut frame: Frame = [0; 64];
        assert!(self.board.receive(&mut frame).unwrap());
        Message::decode(&frame, Side::Driver).unwrap()
    }

    fn say(&mut self, device: u16, token: u16, response: Response) {
        let message = Message { device, token, body: Body::Response(response) };
        assert!(self.board.send(&message.encode()).unwrap());
    }

    fn poll(&mut self, now: u64) -> Option<Incoming> {
        self.driver.poll(now, &mut 64).unwrap()
    }
}

const STATUS: Response = Response::DeviceStatus { status: 15 };

#[test]
fn an_answer_reaches_its_request_once() {
    let mut play = Play::new();
    let token = play.ask(3, 100);
    let heard = play.hear();
    assert_eq!((heard.device, heard.token), (3, token));
    play.say(3, token, STATUS);
    play.say(3, token, STATUS);
    let answer = Incoming::Answer { token, device: 3, response: STATUS };
    assert_eq!(play.poll(1), Some(answer));
    assert_eq!(play.poll(1), None);
    assert_eq!(play.driver.stats().unmatched, 1);
    assert!(!play.driver.is_waiting());
}

#[test]
fn answers_that_fit_nothing_are_counted() {
    let mut play = Play::new();
    let token = play.ask(3, 100);
    play.say(4, token, STATUS);
    play.say(3, token.wrapping_add(1), STATUS);
    play.say(3, token, Response::SetDeviceStatus { status: 15 });
    play.say(0, token, Response::Pong { data: 0 });
    assert_eq!(play.poll(1), None);
    assert_eq!(play.driver.stats().unmatched, 4);
    play.say(3, token, STATUS);
    assert!(matches!(play.poll(1), Some(Incoming::Answer { .. })));
}

#[test]
fn answers_in_any_order() {
    let mut play = Play::new();
    let tokens: Vec<u16> = (0..4).map(|device| play.ask(device, 100)).collect();
    for device in [2, 0, 3, 1_u16] {
        play.say(device, tokens[usize::from(device)], STATUS);
        let token = tokens[usize::from(device)];
        assert_eq!(play.poll(1), Some(Incoming::Answer { token, device, response: STATUS }));
    }
}

#[test]
fn a_late_answer_finds_nobody_and_its_token_stays_away() {
    let mut play = Play::new();
    let late = play.ask(3, 100);
    assert_eq!(play.poll(99), None);
    let timed_out = Incoming::TimedOut { token: late, kind: Kind::GetDeviceStatus };
    assert_eq!(play.poll(100), Some(timed_out));
    assert_eq!(play.poll(100), None);
    // The token space goes round more than once.
    for _ in 0..70_000 {
        let token = play.ask(3, 1_000);
        assert!(token != late && token != 0);
        play.hear();
        play.say(3, token, STATUS);
        assert!(play.poll(101).is_some());
    }
    play.say(3, late, STATUS);
    assert_eq!(play.poll(102), None);
    assert_eq!(play.driver.stats().unmatched, 1);
}

#[test]
fn too_many_late_answers_end_the_session() {
    let mut play = Play::new();
    let mut tokens = HashSet::new();
    for at in 0..MAX_IN_FLIGHT as u64 {
        assert!(tokens.insert(play.ask(3, at)));
        play.hear();
        assert!(matches!(play.poll(at), Some(Incoming::TimedOut { .. })));
    }
    let refused = play.driver.request(3, Request::GetDeviceStatus, 1);
    assert_eq!(refused, Err(RequestError::TooManyLate));
}

#[test]
fn only_so_many_in_flight() {
    let mut play = Play::new();
    for device in 0..16 {
        play.ask(device, 100);
    }
    let refused = play.driver.request(0, Request::Ping { data: 1 }, 100);
    assert_eq!(refused, Err(RequestError::Full));
    assert_eq!((play.driver.take_sent(), play.driver.take_sent()), (16, 0));
    assert_eq!(play.driver.next_deadline_ms(), Some(100));
}

/// Row 22: 10^5 messages, no more than the budget at a time, nothing grows.
#[test]
fn a_flood_of_pings_and_events() {
    let mut play = Play::new();
    let ping = Message { device: 0, token: 9, body: Body::Request(Request::Ping { data: 5 }) };
    let mut handled = 0_u64;
    for round in 0..100_000_u64 / 40 {
        for _ in 0..40 {
            assert!(play.board.send(&ping.encode()).unwrap());
        }
        let mut budget = 16;
        assert_eq!(play.driver.poll(round, &mut budget).unwrap(), None);
        assert_eq!(budget, 0, "the budget is kept");
        let mut rest = 64;
        assert_eq!(play.driver.poll(round, &mut rest).unwrap(), None);
        assert_eq!(rest, 40);
        for _ in 0..40 {
            assert_eq!(play.hear().body, Body::Response(Response::Pong { data: 5 }));
            handled += 1;
        }
    }
    assert_eq!(handled, 100_000);
}

#[test]
fn malformed_messages_are_counted_and_cost_budget() {
    let mut play = Play::new();
    for byte in 0..50 {
        assert!(play.board.send(&[byte; 64]).unwrap());
    }
    let mut budget = 64;
    assert_eq!(play.driver.poll(0, &mut budget).unwrap(), None);
    assert_eq!((budget, play.driver.stats().malformed), (14, 50));
    // A board asks for nothing but PING.
    let asks =
        Message { device: 0, token: 9, body: Body::Request(Request::BoardReset { boot: 1 }) };
    assert!(play.board.send(&asks.encode()).unwrap());
    assert_eq!(play.poll(0), None);
    assert_eq!(play.driver.stats().malformed, 51);
}

#[test]
fn a_flood_of_events_holds_up_no_deadline() {
    let mut play = Play::new();
    let token = play.ask(3, 100);
    let event = Message { device: 0, token: 0, body: Body::Event(Event::Used { queue: 0 }) };
    let flood = |play: &mut Play| while play.board.send(&event.encode()).unwrap() {};
    // What came before the deadline was passed is still taken: it may be the answer.
    flood(&mut play);
    let mut taken = 0;
    loop {
        flood(&mut play);
        match play.poll(100) {
            Some(Incoming::Event { .. }) => taken += 1,
            Some(Incoming::TimedOut { token: late, .. }) if late == token => break,
            other => panic!("{other:?}"),
        }
        assert!(taken <= 60, "the deadline is held up");
    }
    assert!(taken >= 59, "{taken}");
}

#[test]
fn an_answer_that_waits_behind_a_full_ring_is_still_taken() {
    let mut play = Play::new();
    let token = play.ask(3, 100);
    let event = Message { device: 0, token: 0, body: Body::Event(Event::Used { queue: 0 }) };
    for _ in 0..58 {
        assert!(play.board.send(&event.encode()).unwrap());
    }
    play.say(3, token, STATUS);
    for _ in 0..58 {
        assert!(matches!(play.poll(100), Some(Incoming::Event { .. })));
        // It goes on behind the answer, too.
        assert!(play.board.send(&event.encode()).unwrap());
    }
    assert!(matches!(play.poll(100), Some(Incoming::Answer { .. })));
}
