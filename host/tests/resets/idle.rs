//! What a link costs that has nothing to carry.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use virtio_phys_host::namespace::in_namespace;

use crate::has_tun;
use crate::process::{Program, until};
use crate::stage::Stage;
use crate::stream::Stream;
use crate::taken::Taken;

/// What is measured, and the part of it that is 0.0 % when it is rounded.
const WINDOW: Duration = Duration::from_secs(10);
const NOTHING: Duration = Duration::from_millis(5);

/// How often each thread of an idle daemon or board looks in a window.
const LOOKS: u32 = 20;

/// A wake-up of theirs may cost as much as so many of a thread that does
/// nothing at all: on a slow machine this is more than [`NOTHING`].
const WORK: u32 = 3;

/// A board that is dead is measured between two attempts, which come every 30 s
/// in the end. That takes its time: a shorter window, and its part.
const PAUSE: Duration = Duration::from_secs(2);
const NOTHING_IN_A_PAUSE: Duration = Duration::from_millis(1);

/// What daemon and board take in `window`, and what one wake-up costs here and
/// now of a thread that does nothing.
fn taken(stages: &[Stage], window: Duration) -> (Vec<[Taken; 2]>, Duration) {
    let now = || -> Vec<[Taken; 2]> {
        let by = |program: &Option<Program>| program.as_ref().map(Taken::by).unwrap_or_default();
        stages.iter().map(|stage| [by(&stage.daemon), by(&stage.board)]).collect()
    };
    let before = now();
    let own = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let bare = own();
    for _ in 0..LOOKS {
        sleep(window / LOOKS);
    }
    let bare = (own() - bare) / LOOKS;
    let both = now().into_iter().zip(before);
    let taken = both.map(|(now, before)| [now[0].since(before[0]), now[1].since(before[1])]);
    (taken.collect(), bare)
}

/// With links that are up and nothing to carry, neither daemon nor board does
/// anything: a tap, a tun, and a console at a terminal.
#[test]
fn an_idle_link_takes_no_processor_time() {
    in_namespace("idle::an_idle_link_takes_no_processor_time", || {
        if !has_tun() {
            return;
        }
        let stages: Vec<_> = (0..)
            .zip(["", "mode = \"tun\"", "console = \"FOLDER/console\""])
            .map(|(number, keys)| up(number, keys))
            .collect();
        // The kernel's own questions for neighbours and routers are over after
        // some seconds: what counts is a window in which no frame moved, nor
        // shortly before. What a wake-up costs depends on who else uses the
        // machine. So each process gets several windows, and one has to do.
        let mut idle = [[false; 2]; 3];
        for _ in 0..12 {
            let moved: Vec<_> = stages.iter().map(frames).collect();
            let (taken, bare) = taken(&stages, WINDOW);
            println!("{taken:?}, a bare wake-up {bare:?}");
            let most = |looks| (looks, NOTHING.max(bare * WORK * looks));
            let few = |taken: Taken, (looks, time)| {
                taken.sleeps <= u64::from(looks) && taken.time <= time
            };
            for (((stage, moved), [daemon, board]), idle) in
                stages.iter().zip(moved).zip(taken).zip(&mut idle)
            {
                if frames(stage) == moved {
                    // Two threads of a daemon and one of a board look twice a second.
                    idle[0] |= few(daemon, most(2 * LOOKS + 4));
                    idle[1] |= few(board, most(LOOKS + 2));
                }
            }
            if idle == [[true; 2]; 3] {
                return;
            }
        }
        panic!("of each stage, whether daemon and board are idle: {idle:?}");
    });
}

/// The frames that the daemon has moved.
fn frames(stage: &Stage) -> String {
    let stats = stage.ask(&["stats"]);
    stats.lines().find(|line| line.trim_start().starts_with("frames")).unwrap().to_owned()
}

/// A daemon whose board is dead takes nothing between two attempts: one board
/// stands still, one is gone.
#[test]
fn a_dead_board_takes_no_processor_time() {
    in_namespace("idle::a_dead_board_takes_no_processor_time", || {
        if !has_tun() {
            return;
        }
        let mut stages = [up(0, ""), up(1, "")];
        stages[0].signal_board(Signal::SIGSTOP);
        stages[1].kill_board();
        let pauses = || {
            let longer = |stage: &Stage| {
                let status = stage.status();
                let long = 2 * PAUSE.as_millis();
                let pause = status["retry_in_ms"].as_u64().map(u128::from);
                status["state"] == "waiting" && pause > Some(long)
            };
            stages.iter().all(longer)
        };
        // As above: several pauses, of which one has to do. Asking how long one
        // lasts may still be cleared away in it, or it may have been over early.
        let mut idle = [false; 2];
        for _ in 0..12 {
            until("a long pause of both", pauses);
            let (taken, bare) = taken(&stages, PAUSE);
            println!("{taken:?}, a bare wake-up {bare:?}");
            let paused = stages.iter().all(|stage| stage.status()["state"] == "waiting");
            for ([daemon, board], idle) in taken.iter().zip(&mut idle) {
                let most = NOTHING_IN_A_PAUSE.max(bare * WORK * 4);
                *idle |= paused && daemon.time <= most && daemon.sleeps <= 4;
                assert_eq!(*board, Taken::default());
            }
            if idle == [true; 2] {
                return;
            }
        }
        panic!("of each stage, whether its daemon is idle: {idle:?}");
    });
}

/// A stage with a link that carries frames.
fn up(number: u8, keys: &str) -> Stage {
    let mut stage = Stage::new(number, keys);
    stage.start_board();
    stage.start_daemon();
    stage.up(1);
    Stream::new(number).flows(10);
    stage
}
