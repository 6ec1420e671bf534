//! The message channel: how it starts, ends, and breaks.

use shared::msg::{Body, Message, Request};
use shared::window::Window;
use shared::wire::amp::{HEAD_INDICES, HEAD_MAGIC, HEAD_STATUS, STATUS_MASK};
use shared::wire::control::live;
use shared::wire::msg::{FRAME_LEN, TYPE};

use crate::conform::kit::Kit;
use crate::conform::point::{Checked, Point, must, seen};
use crate::conform::session::Header;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "channel-run",
        section: "4",
        rule: "the board's queue head shows its magic and goes to run, with tail and head 0",
        check: run,
    },
    Point {
        id: "channel-vector",
        section: "4",
        rule: "vector 0 is raised behind an answer",
        check: vector,
    },
    Point {
        id: "channel-bits",
        section: "5",
        rule: "bits 2 to 7 of a message's type are ignored",
        check: type_bits,
    },
    Point {
        id: "channel-many",
        section: "4",
        rule: "several requests in flight are answered in order, each with its own token",
        check: many,
    },
    Point {
        id: "channel-full",
        section: "4",
        rule: "a board takes a request only when there is room for the answer, and goes on when \
               there is room again",
        check: full,
    },
    Point {
        id: "channel-laps",
        section: "4",
        rule: "elements and indices go around the ring, again and again",
        check: laps,
    },
    Point {
        id: "channel-tail-outside",
        section: "4",
        rule: "a tail outside the ring ends the session",
        check: |kit| broken(kit, |_, head, elements| u32::from(elements) | u32::from(head) << 16),
    },
    Point {
        id: "channel-head-outside",
        section: "4",
        rule: "a head outside the ring ends the session",
        check: |kit| broken(kit, |tail, _, _| u32::from(tail) | 0xFFFE << 16),
    },
    Point {
        id: "channel-tail-back",
        section: "4",
        rule: "a tail that takes back elements which wait ends the session",
        check: tail_back,
    },
    Point {
        id: "channel-head-past",
        section: "4",
        rule: "a head that runs past the sender's tail ends the session",
        check: |kit| {
            broken(kit, |tail, head, elements| {
                u32::from(tail) | u32::from((head + 1) % elements) << 16
            })
        },
    },
    Point {
        id: "channel-shutdown",
        section: "4",
        rule: "a host's end at shutdown ends the session",
        check: |kit| status(kit, u32::from(HEAD_MAGIC) | 3 << 16),
    },
    Point {
        id: "channel-back",
        section: "4",
        rule: "a host's end that goes back to init ends the session",
        check: |kit| status(kit, u32::from(HEAD_MAGIC)),
    },
    Point {
        id: "channel-magic",
        section: "4",
        rule: "a host's queue head that loses its magic ends the session",
        check: |kit| status(kit, 2 << 16),
    },
    Point {
        id: "channel-debuggable",
        section: "4",
        rule: "bit 15 of the status is ignored",
        check: debuggable,
    },
];

fn run(kit: &mut Kit<'_>) -> Checked {
    kit.begin()?;
    let board = kit.board()?;
    let (head, _) = board.layout.device;
    let word: u32 = board.channel.load(head + HEAD_STATUS);
    let indices: u32 = board.channel.load(head + HEAD_INDICES);
    let status = (word >> 16) & u32::from(STATUS_MASK);
    must(word & 0xFFFF == u32::from(HEAD_MAGIC) && status == 2 && indices == 0, || {
        format!("its words are {word:#010x} and {indices:#010x}")
    })
}

fn vector(kit: &mut Kit<'_>) -> Checked {
    kit.begin()?;
    // What came before is none of it.
    kit.fence("nothing")?;
    kit.take_vector(0);
    kit.fence("nothing")?;
    let limit = kit.patience();
    let raised = kit.until(limit, |kit| Ok(kit.take_vector(0).then_some(())))?;
    must(raised.is_some(), || format!("not in {} ms", limit.as_millis()))
}

/// A ping with this token.
fn ping(token: u16) -> [u8; FRAME_LEN] {
    let body = Body::Request(Request::Ping { data: u32::from(token) | 0xA5 << 24 });
    Message { device: 0, token, body }.encode()
}

fn type_bits(kit: &mut Kit<'_>) -> Checked {
    kit.begin()?;
    let token = kit.session()?.fresh_token();
    let mut frame = ping(token);
    frame[TYPE] |= 0xFC;
    kit.send(&frame)?;
    kit.answer_to(&frame).map(|_| ())
}

/// Takes the answers to pings `from` up to `to`, in order.
fn pongs(kit: &mut Kit<'_>, tokens: std::ops::Range<u16>) -> Checked {
    for token in tokens {
        let limit = kit.patience();
        let Some(frame) = kit.until(limit, Kit::take_frame)? else {
            return seen(format!("ping {token} is not answered; {}", kit.standing()));
        };
        let header = Header::of(&frame);
        let right = ping(token)[8..12] == frame[8..12];
        must(header.token == token && right, || {
            format!(
                "ping {token} is answered with token {} and {:02x?}",
                header.token,
                &frame[8..12]
            )
        })?;
    }
    Ok(())
}

fn many(kit: &mut Kit<'_>) -> Checked {
    kit.begin()?;
    let elements = kit.session()?.channel.elements();
    let count = elements.min(8);
    for token in 1..count {
        kit.send(&ping(token))?;
    }
    pongs(kit, 1..count)
}

fn full(kit: &mut Kit<'_>) -> Checked {
    kit.begin()?;
    let room = kit.session()?.channel.elements() - 1;
    // As many as both rings hold, and none taken.
    let mut sent = 0;
    for token in 1..=2 * room {
        let limit = kit.patience();
        let went = kit.until(limit, |kit| match kit.session()?.channel.send(&ping(token)) {
            Ok(sent) => Ok(sent.then_some(())),
            Err(fault) => seen(format!("the channel broke: {fault}")),
        })?;
        kit.ring(0);
        if went.is_none() {
            break;
        }
        sent = token;
    }
    must(sent == 2 * room, || {
        format!("the board took {sent} requests, its ring and the host's hold {}", 2 * room)
    })?;
    // The answers fill its ring; what has no room for one stays in ours.
    let board = kit.board()?;
    let (head, _) = board.layout.device;
    let word: u32 = board.channel.load(head + HEAD_INDICES);
    must(word & 0xFFFF <= u32::from(room), || format!("its tail is {:#x}", word & 0xFFFF))?;
    pongs(kit, 1..2 * room + 1)?;
    kit.fence("a full ring")
}

fn laps(kit: &mut Kit<'_>) -> Checked {
    kit.begin()?;
    let elements = kit.session()?.channel.elements();
    for token in 1..=elements.saturating_mul(2).min(300) + 1 {
        let frame = ping(token);
        kit.send(&frame)?;
        pongs(kit, token..token + 1)?;
    }
    Ok(())
}

/// Waits for the session's end; the channel is not looked at any more.
fn ends(kit: &mut Kit<'_>) -> Checked {
    let epoch = kit.session()?.epoch;
    kit.ring(0);
    let limit = kit.patience();
    let ended = kit.until(limit, |kit| Ok((kit.live(live::ACCEPTED)? != epoch).then_some(())))?;
    must(ended.is_some(), || {
        format!("it still is the accepted session after {} ms", limit.as_millis())
    })?;
    let board = kit.board()?;
    let (head, _) = board.layout.device;
    let word: u32 = board.channel.load(head + HEAD_STATUS);
    let status = (word >> 16) & u32::from(STATUS_MASK);
    must(status == 3, || format!("the board's end of the channel has status {status}"))?;
    kit.leave()?;
    kit.begin().map(|_| ())
}

/// Breaks the indices: from tail, head and elements to the word that is written.
fn broken(kit: &mut Kit<'_>, word: impl Fn(u16, u16, u16) -> u32) -> Checked {
    kit.begin()?;
    kit.fence("nothing")?;
    let board = kit.board()?;
    let elements = board.layout.elements;
    let (head, _) = board.layout.driver;
    // One ping went out, and its answer was taken.
    board.channel.store(head + HEAD_INDICES, word(1, 1, elements));
    ends(kit)
}

fn tail_back(kit: &mut Kit<'_>) -> Checked {
    kit.begin()?;
    let room = kit.session()?.channel.elements() - 1;
    // As many as both rings hold: the last of them wait in ours.
    for token in 1..=2 * room {
        kit.send(&ping(token))?;
    }
    kit.await_beats(2)?;
    let board = kit.board()?;
    let (head, _) = board.layout.driver;
    let tail = (2 * room - 1) % (room + 1);
    board.channel.store(head + HEAD_INDICES, u32::from(tail));
    ends(kit)
}

/// Writes the status word of the host's queue head.
fn status(kit: &mut Kit<'_>, word: u32) -> Checked {
    kit.begin()?;
    let board = kit.board()?;
    let (head, _) = board.layout.driver;
    board.channel.store(head + HEAD_STATUS, word);
    ends(kit)
}

fn debuggable(kit: &mut Kit<'_>) -> Checked {
    kit.begin()?;
    let board = kit.board()?;
    let (head, _) = board.layout.driver;
    board.channel.store(head + HEAD_STATUS, u32::from(HEAD_MAGIC) | 0x8002 << 16);
    kit.fence("a status with bit 15")
}
