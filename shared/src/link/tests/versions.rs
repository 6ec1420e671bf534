//! Old boards, new boards, old hosts, new hosts: every pair of windows ends as
//! docs/protocol.md says (section 1, steps 3, B5 and B8).

use super::hostile::{ask, bus, play};
use super::rig::*;
use crate::link::board::SessionEvent;
use crate::link::description::Versions;
use crate::link::host::{HostLink, HostOptions};
use crate::link::refusal::{AttachStep, Reason};
use crate::msg::body::{Request, Response, ResultCode};

const WINDOWS: [(u16, u16); 8] =
    [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3), (1, 0xFFFF), (0xFFFF, 0xFFFF)];

fn window((min, max): (u16, u16)) -> Versions {
    Versions { min, max }
}

fn board(versions: Versions) -> Rig {
    let mut description = description();
    description.versions = versions;
    Rig::with(description)
}

#[test]
fn every_pair_of_windows() {
    for (board_window, host_window) in
        WINDOWS.into_iter().flat_map(|board| WINDOWS.map(|host| (board, host)))
    {
        let (theirs, ours) = (window(board_window), window(host_window));
        let mut rig = board(theirs);
        let options = HostOptions { versions: ours, ..options(1000) };
        rig.host = HostLink::new(rig.bar.clone(), options);
        let common: Vec<u16> = (theirs.min..=theirs.max)
            .filter(|version| (ours.min..=ours.max).contains(version))
            .collect();
        match common.last() {
            Some(&version) => {
                rig.attach().unwrap();
                assert_eq!(rig.host.version(), Some(version), "{theirs:?} {ours:?}");
                let started = SessionEvent::Started { session: rig.session, version };
                assert_eq!(rig.board.sessions, [started]);
                assert!(rig.detach());
            }
            None => {
                let refusal = rig.attach().unwrap_err();
                assert_eq!(refusal.step, AttachStep::ChooseVersion, "{theirs:?} {ours:?}");
                assert_eq!(refusal.reason, Reason::Versions { board: theirs, host: ours });
                let text = refusal.to_string();
                assert!(text.contains(&format!("versions {} to {},", theirs.min, theirs.max)));
                assert!(text.contains(&format!("host {} to {};", ours.min, ours.max)));
                // The board was not bothered, and a host that it knows may come.
                assert_eq!((rig.bar.peek(0x3000), rig.board.sessions.len()), (0, 0));
                let options = HostOptions { versions: theirs, ..super::rig::options(1001) };
                rig.host = HostLink::new(rig.bar.clone(), options);
                rig.attach().unwrap();
            }
        }
    }
}

/// B5: whatever the host read, what it wrote has to be in the board's window.
#[test]
fn a_host_whose_page_says_another_version() {
    for board_window in WINDOWS {
        let versions = window(board_window);
        for said in [0, 1, 2, 3, 4, 0xFFFF, 0x1_0000, 0x1_0001, u32::MAX] {
            let mut rig = board(versions);
            let mut channel = play(&mut rig, said);
            rig.poll_board();
            let inside = (u32::from(versions.min)..=u32::from(versions.max)).contains(&said);
            if inside {
                assert_eq!(rig.bar.peek(0xF08), 4242, "{versions:?}, {said}");
            } else {
                let refused = (rig.bar.peek(0xF08), rig.bar.peek(0xF10), rig.bar.peek(0xF14));
                assert_eq!(refused, (0, 4242, ResultCode::Version.code()), "{versions:?}, {said}");
                assert_eq!((rig.link.stats().refused, rig.link.stats().sessions), (1, 0));
                continue;
            }
            // B8: and ATTACH has to say the same.
            for _ in 0..5 {
                rig.now += 1;
                rig.poll_board();
                channel.poll().unwrap();
            }
            for other in [0, said - 1, said + 1, u32::MAX] {
                let request = Request::Attach { version: other, boot: 77, session: 4242 };
                let answer = ask(&mut rig, &mut channel, &bus(request));
                let Some(Response::Attach { result, version, .. }) = answer else {
                    panic!("{answer:?}")
                };
                assert_eq!((result, version), (ResultCode::Version, other));
                // It is not attached: nothing else is answered.
                let request = Request::BoardReset { boot: 77 };
                assert_eq!(ask(&mut rig, &mut channel, &bus(request)), None);
            }
            let request = Request::Attach { version: said, boot: 77, session: 4242 };
            let answer = ask(&mut rig, &mut channel, &bus(request));
            assert!(matches!(answer, Some(Response::Attach { result: ResultCode::Ok, .. })));
        }
    }
}

/// A board that changes its mind between control block and host page.
#[test]
fn a_board_whose_window_is_not_what_it_published() {
    let mut rig = board(window((1, 1)));
    let wider = board(window((1, 2)));
    // Its block says 1 to 2, the board itself knows 1 only.
    for word in (0..0x140).step_by(4) {
        rig.bar.poke(word, wider.bar.peek(word));
    }
    let options = HostOptions { versions: window((1, 2)), ..options(1000) };
    rig.host = HostLink::new(rig.bar.clone(), options);
    let refusal = rig.attach().unwrap_err();
    assert_eq!(refusal.step, AttachStep::AwaitAcceptance);
    assert_eq!(refusal.reason, Reason::SessionRefused(ResultCode::Version));
}
