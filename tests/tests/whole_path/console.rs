//! The board's console beside its network device: every byte arrives, and
//! whatever becomes of it, no frame is lost.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use board::device::net::Echo;
use board::support::BoardSupport;
use host::bus::sim::{Access, AccessKind, Fault, Initiator, Plane, Profile};
use host::console::{ConsoleError, Terminal};
use host::pty::Pty;
use host::session::Layout;
use shared::wire::net::feature::CTRL_VQ;
use virtio_phys_tests::rig::frames::{Frames, Sizes};
use virtio_phys_tests::rig::{Random, Rig, RigOptions};

use super::load::echo;
use super::{LAYOUTS, PROFILES};

/// Steps that something on the screen may take.
const PATIENCE: u64 = 500_000;

/// Steps until the screen's text ends like this.
fn await_end(rig: &mut Rig<Echo>, end: &str) {
    let done = |rig: &mut Rig<Echo>| rig.host.console.screen.shown.ends_with(end.as_bytes());
    rig.run_until(PATIENCE, done).unwrap();
}

/// The prompt alone, behind a line's end: the shell has said all that it had to.
const READY: &str = "\n> ";

/// What the shell says to a command.
fn ask(rig: &mut Rig<Echo>, command: &str) -> String {
    rig.host.console.screen.shown.clear();
    rig.host.console.screen.typed.extend(format!("{command}\r").as_bytes());
    let begins = format!("{command}\r\n");
    let done = |rig: &mut Rig<Echo>| {
        let text = rig.host.console.screen.text();
        text.contains(&begins) && text.ends_with(READY)
    };
    rig.run_until(PATIENCE, done).unwrap();
    rig.host.console.screen.text()
}

fn attach(options: RigOptions) -> Rig<Echo> {
    let mut rig = Rig::echo(options.console());
    rig.attach().unwrap();
    await_end(&mut rig, READY);
    rig
}

/// So many frames there and back.
fn frames(rig: &mut Rig<Echo>, count: u64) {
    let mut sent = Frames::new(rig.options.seed, Sizes::ETHERNET);
    let mut came = sent.clone();
    let (mut scratch, mut waited) = (Vec::new(), 0);
    while came.number() < count {
        if sent.number() < count && rig.port.waiting() < 8 {
            rig.port.send_with(|into| _ = sent.next(into));
        }
        rig.step().unwrap();
        waited += 1;
        while let Some(frame) = rig.port.take() {
            came.check(&frame, &mut scratch);
            rig.port.recycle(frame);
            waited = 0;
        }
        assert!(waited < PATIENCE, "frame {} does not come back: {rig:?}", came.number());
    }
}

#[test]
fn log_and_shell_reach_the_host_byte_for_byte() {
    for profile in PROFILES {
        for layout in LAYOUTS {
            for seed in 0..4 {
                let mut rig = attach(RigOptions::instrument(seed, profile).layout(layout));
                let trace = rig.board.service.trace();
                let line =
                    |at: u64, text: &str| format!("[{:>5}.{:03}] {text}\r\n", at / 1000, at % 1000);
                let log: String =
                    trace.iter().map(|entry| line(entry.at, &entry.event.to_string())).collect();
                assert!(log.contains("host attached"), "{log}");
                assert_eq!(rig.host.console.screen.text(), format!("{log}> "));

                let help = ask(&mut rig, "help");
                assert!(help.starts_with("help\r\nhelp      this list\r\n"), "{help}");
                assert!(help.ends_with("reboot    restart the board\r\n> "), "{help}");

                // Frames and keys at once.
                rig.host.console.screen.shown.clear();
                rig.host.console.screen.typed.extend(b"status\rregions\r");
                echo(&mut rig, 200, Sizes::ETHERNET);
                await_end(&mut rig, READY);
                let text = rig.host.console.screen.text();
                assert!(text.contains("device 0: network, "), "{text}");
                assert!(text.contains("region 0: "), "{text}");
                rig.detach().unwrap();
                rig.assert_clean();
            }
        }
    }
}

#[test]
fn a_log_is_kept_for_the_next_host() {
    let mut rig = attach(RigOptions::instrument(7, Profile::Adversarial));
    rig.detach().unwrap();
    let now = rig.now;
    rig.board.shell().log().line(now, format_args!("nobody is there"));
    rig.next_session().unwrap();
    rig.attach().unwrap();
    await_end(&mut rig, READY);
    let text = rig.host.console.screen.text();
    let left = text.find("host gone").unwrap();
    let alone = text.find("nobody is there").unwrap();
    let came = text.find("host attached").unwrap();
    assert!(left < came && alone < came, "{text}");
}

/// The console comes and goes a hundred times while frames flow; the network
/// device neither loses one nor notices.
#[test]
fn a_console_that_comes_and_goes_costs_no_frame() {
    for (seed, profile) in (0..).zip(PROFILES) {
        for layout in LAYOUTS {
            let mut rig = attach(RigOptions::instrument(seed, profile).layout(layout));
            let mut random = Random::new(seed);
            let mut sent = Frames::new(seed, Sizes::ETHERNET);
            let mut came = sent.clone();
            let mut scratch = Vec::new();
            for round in 1..=100 {
                for present in [false, true] {
                    rig.board.set_console(present);
                    let there = |rig: &mut Rig<Echo>| {
                        rig.host.console.is_up() == present
                            && (!present || rig.host.console.ups == round + 1)
                    };
                    rig.host.console.screen.typed.extend(b"status\r");
                    let batch = sent.number() + 1 + random.below(20);
                    let mut waited = 0;
                    while came.number() < batch || !there(&mut rig) {
                        if sent.number() < batch && rig.port.waiting() < 8 {
                            rig.port.send_with(|into| _ = sent.next(into));
                        }
                        rig.step().unwrap();
                        while let Some(frame) = rig.port.take() {
                            came.check(&frame, &mut scratch);
                            rig.port.recycle(frame);
                        }
                        waited += 1;
                        assert!(waited < PATIENCE, "round {round}: {rig:?}");
                    }
                }
            }
            assert_eq!(rig.host.console.ups, 101);
            assert!(rig.host.console.failed.is_none());
            // The last of them works.
            rig.host.console.screen.typed.extend(b"\x03");
            rig.run_until_idle().unwrap();
            assert!(ask(&mut rig, "status").contains("device 0: network"));
            rig.detach().unwrap();
            rig.assert_clean();
        }
    }
}

/// A log that never ends: the host shows what it can and frames go on.
#[test]
fn a_board_that_never_stops_talking_delays_no_frame_for_long() {
    for stuck in [false, true] {
        let mut rig = attach(RigOptions::instrument(3, Profile::Lazy));
        rig.host.console.screen.stuck = stuck;
        let mut sent = Frames::new(3, Sizes::ETHERNET);
        let mut came = sent.clone();
        let (mut scratch, mut waited, mut number) = (Vec::new(), 0, 0_u64);
        while came.number() < 500 {
            if sent.number() < 500 && rig.port.waiting() == 0 {
                rig.port.send_with(|into| _ = sent.next(into));
            }
            let now = rig.now;
            rig.board.shell().log().line(now, format_args!("line {number}"));
            rig.board.kick();
            number += 1;
            rig.step().unwrap();
            while let Some(frame) = rig.port.take() {
                came.check(&frame, &mut scratch);
                rig.port.recycle(frame);
                waited = 0;
            }
            waited += 1;
            assert!(waited < 20_000, "{rig:?}");
        }
        rig.host.console.screen.stuck = false;
        // The newest line is never lost.
        await_end(&mut rig, &format!("line {}\r\n> ", number - 1));
        let text = rig.host.console.screen.text();
        assert!(!stuck || text.contains("lines lost)"), "{}", text.len());
        rig.detach().unwrap();
        rig.assert_clean();
    }
}

/// The board's console writes rubbish into its own rings. That ends the console
/// and nothing else.
#[test]
fn a_hostile_console_cannot_hurt_the_network_device() {
    let mut ended = 0;
    for layout in [Layout::Split, Layout::BarOnly] {
        for seed in 0..24 {
            // A control queue would be lied to as well, and that is the network device's.
            let options = RigOptions::instrument(seed, Profile::Adversarial).without(CTRL_VQ);
            let mut rig = attach(options.layout(layout));
            let (mut random, lies) = (Random::new(seed), Arc::new(AtomicU32::new(0)));
            let count = Arc::clone(&lies);
            rig.bus
                .set_faults(Some(Box::new(move |access: &Access| {
                    // All rings but those for frames.
                    let theirs = access.kind == AccessKind::Load && access.plane == Plane::Data;
                    if !theirs || access.initiator != Initiator::HostCpu {
                        return None;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    Some(Fault::Flip(1 << random.below(32)))
                })))
                .expect("an instrument");
            rig.host.console.screen.typed.extend(b"help\r");
            // A doorbell that the lies have cost may be found missing by time.
            frames(&mut rig, 300);
            rig.run_until(PATIENCE, |_| lies.load(Ordering::Relaxed) > 0).unwrap();
            rig.bus.set_faults(None).expect("an instrument");
            if let Some(error) = rig.host.console.failed.take() {
                assert!(matches!(error, ConsoleError::Peer(_)), "{error}");
                ended += 1;
            }
            rig.detach().unwrap();
            rig.assert_clean();
            rig.next_session().unwrap();
            rig.attach().unwrap();
            await_end(&mut rig, READY);
        }
    }
    assert!(ended > 10, "{ended} consoles ended");
}

/// The host writes rubbish into the console's rings, as the board sees it: the
/// board asks for a reset of its console, gets it, and frames go on.
#[test]
fn a_console_that_asks_for_a_reset_is_left_alone() {
    for seed in 0..8 {
        let options = RigOptions::instrument(seed, Profile::Adversarial).without(CTRL_VQ);
        let mut rig = attach(options);
        let mut random = Random::new(seed);
        rig.bus
            .set_faults(Some(Box::new(move |access: &Access| {
                let slow = access.kind == AccessKind::Load && access.plane == Plane::Data;
                let board = slow && access.initiator == Initiator::BoardCpu;
                board.then(|| Fault::Flip(1 << random.below(32)))
            })))
            .expect("an instrument");
        rig.host.console.screen.typed.extend(b"help\r");
        rig.run_until(PATIENCE, |rig| !rig.host.console.is_up()).unwrap();
        rig.bus.set_faults(None).expect("an instrument");
        frames(&mut rig, 300);
        assert!(!rig.host.console.is_up());
        rig.detach().unwrap();
        rig.assert_clean();
    }
}

/// A board that never stops interrupting for its console is looked at by time.
#[test]
fn a_storm_of_the_consoles_interrupts_is_not_listened_to() {
    let mut rig = attach(RigOptions::instrument(11, Profile::Eager));
    let mut raised = 0;
    while rig.host.session.slow_interrupt().is_some() {
        rig.board.service.support().raise(3);
        rig.step().unwrap();
        raised += 1;
        assert!(raised < 100_000, "a storm is listened to for ever");
    }
    assert!(ask(&mut rig, "status").contains("device 0: network"));
    frames(&mut rig, 300);
    rig.detach().unwrap();
    rig.assert_clean();
}

/// The same with the kernel's own terminal at the host's end: a user opens it,
/// reads the log, types a command and reads the answer.
#[test]
fn a_user_at_a_terminal_is_answered() {
    let link = std::env::temp_dir().join(format!("vphys-console-{}", std::process::id()));
    let mut pty = Pty::open(&link).unwrap();
    let mut rig = attach(RigOptions::instrument(5, Profile::Lazy));
    let mut user = OpenOptions::new().read(true).write(true).open(&link).unwrap();
    let mut read = |count: usize| {
        let mut bytes = vec![0; count];
        user.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let shown = std::mem::take(&mut rig.host.console.screen.shown);
    assert_eq!(pty.write(&shown).unwrap(), shown.len());
    assert!(read(shown.len()).contains("host attached, session"));

    let mut typist = OpenOptions::new().write(true).open(&link).unwrap();
    typist.write_all(b"status\r").unwrap();
    let (start, mut typed) = (Instant::now(), Vec::<u8>::new());
    while typed.len() < 7 {
        let mut bytes = [0; 16];
        let count = pty.read(&mut bytes).unwrap();
        typed.extend(&bytes[..count]);
        assert!(start.elapsed() < Duration::from_secs(10), "{typed:?}");
        std::thread::yield_now();
    }
    rig.host.console.screen.typed.extend(typed);
    await_end(&mut rig, READY);
    let shown = std::mem::take(&mut rig.host.console.screen.shown);
    assert_eq!(pty.write(&shown).unwrap(), shown.len());
    let answer = read(shown.len());
    assert!(answer.starts_with("status\r\nrig, firmware test\r\nup "), "{answer}");
    assert!(answer.contains("device 0: network, "), "{answer}");
}
