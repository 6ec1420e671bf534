//! The board's heartbeat, whatever else it has to do.

use std::time::Instant;

use shared::window::Window;
use shared::wire::control::{host_page, live};

use crate::conform::kit::Kit;
use crate::conform::point::{Checked, Point, must, seen};
use crate::conform::session::raw;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "heartbeat-beats",
        section: "3.2",
        rule: "without a session the heartbeat counts up within interval x misses, and skips 0 and \
               all ones",
        check: |kit| {
            kit.board()?;
            beats(kit, |_| Ok(()))
        },
    },
    Point {
        id: "heartbeat-pace",
        section: "3.2",
        rule: "it counts up by one an interval, not faster",
        check: pace,
    },
    Point {
        id: "heartbeat-session",
        section: "3.2",
        rule: "it goes on in a session",
        check: |kit| {
            kit.share()?;
            beats(kit, |kit| kit.fence("nothing"))
        },
    },
    Point {
        id: "heartbeat-doorbells",
        section: "9",
        rule: "it goes on under a storm of doorbells",
        check: doorbells,
    },
    Point {
        id: "heartbeat-messages",
        section: "9",
        rule: "it goes on under a flood of messages: a wake-up handles at most 64",
        check: messages,
    },
    Point {
        id: "heartbeat-full",
        section: "9",
        rule: "it goes on while the host takes no answers",
        check: full,
    },
    Point {
        id: "heartbeat-scribbled",
        section: "3",
        rule: "it goes on when the host writes nonsense all over its own page and queue",
        check: scribbled,
    },
];

/// Beats that are waited for.
const BEATS: u32 = 3;

/// Waits for some beats, each in its time, doing something in between.
fn beats(kit: &mut Kit<'_>, mut between: impl FnMut(&mut Kit<'_>) -> Checked) -> Checked {
    let mut last = kit.live(live::HEARTBEAT)?;
    let limit = kit.silence() + kit.interval();
    for beat in 0..BEATS {
        let next = kit.until(limit, |kit| {
            between(kit)?;
            let now = kit.live(live::HEARTBEAT)?;
            Ok((now != last).then_some(now))
        })?;
        let Some(now) = next else {
            let ms = limit.as_millis();
            return seen(format!("behind {beat} beats it stays at {last:#x} for {ms} ms"));
        };
        must(now != 0, || "it is 0".to_owned())?;
        last = now;
    }
    Ok(())
}

fn pace(kit: &mut Kit<'_>) -> Checked {
    // Time first: what passes between the two is to the board's credit.
    let start = Instant::now();
    let first = kit.live(live::HEARTBEAT)?;
    beats(kit, |_| Ok(()))?;
    let counted = kit.live(live::HEARTBEAT)?.wrapping_sub(first);
    let passed = start.elapsed();
    // Twice as fast may be jitter; what is faster is no heartbeat.
    let most = 2 * (passed.as_millis() / kit.interval().as_millis().max(1)) + 2;
    must(u128::from(counted) <= most, || {
        format!("it went up by {counted} in {} ms", passed.as_millis())
    })
}

fn doorbells(kit: &mut Kit<'_>) -> Checked {
    kit.share()?;
    beats(kit, |kit| {
        for index in (0..4).cycle().take(256) {
            kit.ring(index);
        }
        Ok(())
    })?;
    kit.fence("a storm of doorbells")
}

fn messages(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let frame = raw(2, 0x7E, 0, 1, 64, &[0; 56]);
    beats(kit, |kit| {
        for _ in 0..256 {
            kit.send(&frame)?;
        }
        Ok(())
    })?;
    kit.fence("a flood of messages")
}

fn full(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let room = kit.session()?.channel.elements() - 1;
    for token in 1..=2 * room {
        kit.send(&raw(2, 0x03, 0, token, 12, &[0; 4]))?;
    }
    beats(kit, |_| Ok(()))?;
    for token in 1..=2 * room {
        let limit = kit.patience();
        match kit.until(limit, Kit::take_frame)? {
            Some(_) => {}
            None => return seen(format!("{} of {} answers came", token - 1, 2 * room)),
        }
    }
    Ok(())
}

fn scribbled(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let board = kit.board()?;
    let (head, elements) = board.layout.driver;
    let (page, channel) = (board.page.clone(), board.channel.clone());
    let mut word = 0x9E37_79B9_u32;
    let outcome = beats(kit, |_| {
        for at in (host_page::VERSION..page.len().min(256)).step_by(4) {
            word = word.rotate_left(5).wrapping_mul(0x85EB_CA6B);
            page.store(at, word);
        }
        for at in [head, head + 4].into_iter().chain((elements..elements + 256).step_by(4)) {
            word = word.rotate_left(5).wrapping_mul(0x85EB_CA6B);
            channel.store(at, word);
        }
        Ok(())
    });
    page.store(host_page::SESSION, 0_u32);
    kit.ring(0);
    kit.session = None;
    outcome?;
    kit.await_accepted(0)?;
    kit.begin().map(|_| ())
}
