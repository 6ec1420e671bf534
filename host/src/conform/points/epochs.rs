//! Versions, epochs, and how sessions begin and end.

use std::time::Duration;

use shared::msg::{Request, Response, ResultCode};
use shared::window::{Barrier, Window};
use shared::wire::control::{board_state, host_page, live};

use crate::bus::BusError;
use crate::conform::device::{ACKNOWLEDGE, DRIVER};
use crate::conform::kit::Kit;
use crate::conform::point::{Checked, Point, Stop, must, seen, skip};
use crate::conform::session::{BOARD, raw, words};

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "epochs-accept",
        section: "8.1",
        rule: "a session epoch with the right boot epoch and version is accepted: state 3, \
               accepted session the host's",
        check: accept,
    },
    Point {
        id: "epochs-version-low",
        section: "8.1",
        rule: "version 0 is refused with result 1 in the refusal words",
        check: |kit| refused(kit, Wrong::Version(0), ResultCode::Version),
    },
    Point {
        id: "epochs-version-high",
        section: "8.1",
        rule: "a version above the window is refused with result 1",
        check: |kit| refused(kit, Wrong::Above, ResultCode::Version),
    },
    Point {
        id: "epochs-version-wide",
        section: "8.1",
        rule: "a version of more than 16 bits is refused with result 1",
        check: |kit| refused(kit, Wrong::Version(0x1_0001), ResultCode::Version),
    },
    Point {
        id: "epochs-boot",
        section: "8.1",
        rule: "another boot epoch than the board's is refused with result 2",
        check: |kit| refused(kit, Wrong::Boot, ResultCode::StaleEpoch),
    },
    Point {
        id: "epochs-refused-once",
        section: "8.1",
        rule: "a session epoch that was refused is not looked at again; a new one is accepted",
        check: refused_once,
    },
    Point {
        id: "epochs-ended-once",
        section: "8.1",
        rule: "the session epoch that ended last is never accepted again",
        check: ended_once,
    },
    Point {
        id: "epochs-all-ones",
        section: "8.1",
        rule: "a session epoch of all ones is no host",
        check: all_ones,
    },
    Point {
        id: "epochs-leave",
        section: "9",
        rule: "when the session epoch becomes 0, devices are reset and drained, then the accepted \
               session is 0 and the state 2",
        check: leave,
    },
    Point {
        id: "epochs-replace",
        section: "9",
        rule: "another session epoch ends the session that runs; its regions are forgotten",
        check: replace,
    },
    Point {
        id: "epochs-replace-reset",
        section: "8.1",
        rule: "a new session finds every device at status 0",
        check: replace_reset,
    },
    Point {
        id: "epochs-silent-host",
        section: "9",
        rule: "a host whose heartbeat stands still for interval x misses loses its session, not \
               before",
        check: silent_host,
    },
    Point {
        id: "epochs-attach-first",
        section: "7",
        rule: "before ATTACH neither transport messages nor other messages of virtio-phys are \
               answered",
        check: attach_first,
    },
    Point {
        id: "epochs-attach-version",
        section: "7",
        rule: "ATTACH with another version than the host page's is answered with 1, and does not \
               attach",
        check: |kit| attach_wrong(kit, 0, ResultCode::Version),
    },
    Point {
        id: "epochs-attach-boot",
        section: "7",
        rule: "ATTACH with another boot epoch is answered with 2, and does not attach",
        check: |kit| attach_wrong(kit, 1, ResultCode::StaleEpoch),
    },
    Point {
        id: "epochs-attach-session",
        section: "7",
        rule: "ATTACH with another session epoch is answered with 2, and does not attach",
        check: |kit| attach_wrong(kit, 2, ResultCode::StaleEpoch),
    },
    Point {
        id: "epochs-attach",
        section: "7",
        rule: "ATTACH with what the host page says is answered with 0 and all three numbers",
        check: |kit| kit.attach(),
    },
    Point {
        id: "epochs-board-reset-stale",
        section: "7",
        rule: "BOARD_RESET for another boot epoch is answered with 2, and the board runs on",
        check: board_reset_stale,
    },
    Point {
        id: "epochs-board-reset",
        section: "7",
        rule: "BOARD_RESET is answered with 0, and the board boots again with another boot epoch \
               and accepted session 0; or with 8",
        check: board_reset,
    },
    Point {
        id: "epochs-reset",
        section: "9",
        rule: "a reset by the bus: the board boots again with another boot epoch, accepted session \
               0, and takes no session epoch from before",
        check: reset,
    },
];

fn accept(kit: &mut Kit<'_>) -> Checked {
    let session = kit.begin()?;
    let (state, accepted) = (kit.live(live::STATE)?, kit.live(live::ACCEPTED)?);
    must(state == board_state::SESSION && accepted == session, || {
        format!("state {state}, accepted session {accepted:#x}, the host's is {session:#x}")
    })
}

/// What is wrong with an offer.
enum Wrong {
    Version(u32),
    Above,
    Boot,
}

/// Offers a session that the board has to refuse, and leaves it there.
fn refuse(kit: &mut Kit<'_>, wrong: &Wrong, reason: ResultCode) -> Result<u32, Stop> {
    let boot = kit.live(live::BOOT_EPOCH)?;
    let max = u32::from(kit.board()?.description.versions.max);
    let session = kit.fresh_epoch().get();
    let (version, boot) = match wrong {
        Wrong::Version(version) => (*version, boot),
        Wrong::Above => (max + 1, boot),
        Wrong::Boot => (max, boot ^ 1),
    };
    kit.offer(session, version, boot)?;
    let limit = kit.patience();
    let refused = kit.until(limit, |kit| {
        must(kit.live(live::ACCEPTED)? != session, || "the session was accepted".to_owned())?;
        Ok((kit.live(live::REFUSED)? == session).then_some(()))
    })?;
    must(refused.is_some(), || format!("it is not refused; {}", kit.standing()))?;
    let said = kit.live(live::REFUSAL)?;
    must(said == reason.code(), || format!("it is refused with {said}"))?;
    Ok(session)
}

fn withdraw(kit: &mut Kit<'_>) -> Checked {
    kit.board()?.page.store(host_page::SESSION, 0_u32);
    kit.ring(0);
    Ok(())
}

fn refused(kit: &mut Kit<'_>, wrong: Wrong, reason: ResultCode) -> Checked {
    let outcome = refuse(kit, &wrong, reason);
    withdraw(kit)?;
    outcome.map(|_| ())
}

fn refused_once(kit: &mut Kit<'_>) -> Checked {
    let session = refuse(kit, &Wrong::Above, ResultCode::Version)?;
    // All is right now but for the epoch, which is used up.
    let (boot, max) = (kit.live(live::BOOT_EPOCH)?, kit.board()?.description.versions.max);
    kit.offer(session, max.into(), boot)?;
    let accepted = accepted_later(kit, session)?;
    withdraw(kit)?;
    must(!accepted, || "the refused epoch was accepted".to_owned())?;
    kit.begin().map(|_| ())
}

/// Waits for two beats; whether `session` was accepted meanwhile.
fn accepted_later(kit: &mut Kit<'_>, session: u32) -> Result<bool, Stop> {
    kit.await_beats(2)?;
    Ok(kit.live(live::ACCEPTED)? == session)
}

fn ended_once(kit: &mut Kit<'_>) -> Checked {
    let session = kit.begin()?;
    kit.leave()?;
    let (boot, max) = (kit.live(live::BOOT_EPOCH)?, kit.board()?.description.versions.max);
    kit.offer(session, max.into(), boot)?;
    let accepted = accepted_later(kit, session)?;
    withdraw(kit)?;
    must(!accepted, || "the epoch of the session that ended was accepted again".to_owned())
}

fn all_ones(kit: &mut Kit<'_>) -> Checked {
    let (boot, max) = (kit.live(live::BOOT_EPOCH)?, kit.board()?.description.versions.max);
    kit.offer(u32::MAX, max.into(), boot)?;
    // All ones as accepted or refused session would end here.
    let said =
        kit.await_beats(2).and_then(|()| Ok([kit.live(live::ACCEPTED)?, kit.live(live::REFUSED)?]));
    withdraw(kit)?;
    let [accepted, _] = said?;
    must(accepted == 0, || format!("the accepted session is {accepted:#x}"))
}

fn leave(kit: &mut Kit<'_>) -> Checked {
    kit.share()?;
    let device = kit.any_device()?;
    kit.advance(device, ACKNOWLEDGE)?;
    kit.leave()?;
    let state = kit.live(live::STATE)?;
    must(state == board_state::READY, || format!("the state is {state}"))
}

fn replace(kit: &mut Kit<'_>) -> Checked {
    kit.share()?;
    // As a host that died and came back: no word of farewell.
    kit.session = None;
    kit.card.take_back();
    kit.attach()?;
    let result = kit.remove(BOARD)?;
    must(result == ResultCode::Unknown, || {
        format!("REMOVE_REGION of the last session's region is answered with {}", result.code())
    })
}

fn replace_reset(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let device = kit.any_device()?;
    kit.advance(device, ACKNOWLEDGE)?;
    kit.advance(device, DRIVER)?;
    kit.session = None;
    kit.attach()?;
    let status = kit.status(device)?;
    must(status == 0, || format!("device {} has status {status:#x}", device.number))
}

fn silent_host(kit: &mut Kit<'_>) -> Checked {
    let session = kit.begin()?;
    let limit = kit.silence();
    // Alive for longer than that, so that the beats are what counts.
    let mut kept = kit.until(limit + kit.interval(), |kit| {
        Ok((kit.live(live::ACCEPTED)? != session).then_some(()))
    })?;
    must(kept.take().is_none(), || "a host that beats lost its session".to_owned())?;
    // Without a session the kit does not beat.
    let held = kit.session.take();
    let patience = kit.patience();
    let ended = kit.until(2 * limit + patience, |kit| {
        Ok((kit.live(live::ACCEPTED)? != session).then_some(()))
    })?;
    drop(held);
    withdraw(kit)?;
    must(ended.is_some(), || {
        let ms = (2 * limit + patience).as_millis();
        format!("it still has its session {ms} ms behind its last beat")
    })
}

fn attach_first(kit: &mut Kit<'_>) -> Checked {
    kit.begin()?;
    let token = kit.session()?.fresh_token();
    for (name, frame) in [
        ("GET_DEVICE_INFO before ATTACH", raw(0, 0x02, 0, token, 8, &[])),
        ("SET_DEVICE_STATUS before ATTACH", raw(0, 0x08, 0, token, 12, &words(&[1]))),
        ("REMOVE_REGION before ATTACH", raw(2, 0x82, 0, token, 16, &words(&[0, 0]))),
        ("ROUTE_QUEUE before ATTACH", raw(2, 0x83, 0, token, 24, &words(&[0, 0, 1, 1]))),
        ("BOARD_RESET before ATTACH", raw(2, 0x84, 0, token, 16, &words(&[1, 0]))),
    ] {
        kit.ignored(&frame, name)?;
    }
    Ok(())
}

fn attach_wrong(kit: &mut Kit<'_>, which: usize, reason: ResultCode) -> Checked {
    let session = kit.begin()?;
    let boot = kit.live(live::BOOT_EPOCH)?;
    let mut fields = [kit.board()?.description.versions.max.into(), boot, session];
    fields[which] = if which == 0 { fields[0] + 1 } else { fields[which] ^ 1 };
    let [version, boot, session] = fields;
    let (result, _) = kit.attach_with(version, boot, session)?;
    must(result == reason, || format!("it is answered with {}", result.code()))?;
    let token = kit.session()?.fresh_token();
    kit.ignored(&raw(0, 0x07, 0, token, 8, &[]), "GET_DEVICE_STATUS behind a refused ATTACH")
}

fn board_reset_stale(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let boot = kit.live(live::BOOT_EPOCH)?;
    match kit.ask(0, Request::BoardReset { boot: boot ^ 1 })? {
        Response::BoardReset { result: ResultCode::StaleEpoch } => {}
        other => return seen(format!("it is answered with {other:?}")),
    }
    kit.fence("BOARD_RESET for another boot epoch")?;
    let now = kit.live(live::BOOT_EPOCH)?;
    must(now == boot, || "the board booted again".to_owned())
}

/// Waits for another boot epoch than `before`, with accepted session 0.
fn rebooted(kit: &mut Kit<'_>, before: u32, limit: Duration) -> Checked {
    kit.session = None;
    let live_window = kit.board()?.live.clone();
    let booted = kit.until(limit, |_| {
        let boot: u32 = live_window.load(live::BOOT_EPOCH);
        // All ones and 0 are what a board shows on its way.
        Ok((![0, u32::MAX, before].contains(&boot)).then_some(()))
    })?;
    must(booted.is_some(), || {
        format!("the boot epoch is still {before:#x} after {} ms", limit.as_millis())
    })?;
    let accepted: u32 = live_window.load(live::ACCEPTED);
    kit.forget();
    must(accepted == 0, || format!("the accepted session is {accepted:#x} behind the boot"))?;
    kit.board().map(|_| ())
}

fn board_reset(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    let boot = kit.live(live::BOOT_EPOCH)?;
    match kit.ask(0, Request::BoardReset { boot })? {
        Response::BoardReset { result: ResultCode::Ok } => {}
        Response::BoardReset { result: ResultCode::NotAllowed } => {
            return skip("this board does not reboot when it is asked (result 8)");
        }
        other => return seen(format!("it is answered with {other:?}")),
    }
    // "5 s from when it was asked", and what a slow board says of itself.
    let limit = Duration::from_secs(5) + kit.patience();
    rebooted(kit, boot, limit)?;
    kit.begin().map(|_| ())
}

fn reset(kit: &mut Kit<'_>) -> Checked {
    let session = kit.begin()?;
    let boot = kit.live(live::BOOT_EPOCH)?;
    match kit.card.restart() {
        Ok(()) => {}
        // It was asked, and may have had no time yet.
        Err(BusError::NotReset { .. }) => {}
        Err(error) => return skip(format!("this bus cannot reset the board: {error}")),
    }
    let limit = Duration::from_secs(5) + kit.patience();
    rebooted(kit, boot, limit)?;
    let page = kit.board()?.page.clone();
    let left: u32 = page.load(host_page::SESSION);
    if left == session {
        // What was there before this boot is not for it.
        let boot = kit.live(live::BOOT_EPOCH)?;
        page.store(host_page::BOOT_EPOCH, boot);
        page.barrier(Barrier::Full);
        kit.ring(0);
        let accepted = accepted_later(kit, session)?;
        must(!accepted, || "a session epoch from before the boot was accepted".to_owned())?;
    }
    kit.begin().map(|_| ())
}
