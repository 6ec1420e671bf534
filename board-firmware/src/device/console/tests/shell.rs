//! What a user sees.

use shared::address::BusAddress;
use shared::fault::PeerFault;
use shared::link::Epoch;
use shared::region::Rights;
use shared::wire::status::DeviceStatus;

use crate::device::console::{Log, Shell};
use crate::device::{DeviceView, RegionView};
use crate::rig::{ConsoleRig, leak};
use crate::trace::{Event, TRACE_LEN};

const ERASE: &str = "\r\x1b[K";

/// A shell that has said all it had to.
fn ready() -> ConsoleRig<Shell<'static>> {
    let mut rig = ConsoleRig::shell(2048);
    assert_eq!(rig.screen(), "> ");
    rig
}

#[test]
fn log_lines_arrive_byte_for_byte() {
    for len in [1, 2, 63, 64, 65, 256] {
        let mut rig = ConsoleRig::shell(2048);
        rig.view.trace.record(3, Event::Boot { epoch: 0x1234 });
        rig.view.trace.record(1005, Event::Attached { session: 7 });
        rig.device.backend().log().line(9, format_args!("a line of the board's own"));
        let first = "[    0.009] a line of the board's own\r\n[    0.003] boot 00001234\r\n\
                     [    1.005] host attached, session 00000007\r\n> ";
        assert_eq!(rig.screen_in(len), first);

        // What comes later pushes the prompt down, and what was typed with it.
        rig.send(b"sta");
        assert_eq!(rig.screen_in(len), "sta");
        let fault = PeerFault::AddressUnmapped { address: 0x77 };
        rig.view.trace.record(2000, Event::QueueFault { device: 0, queue: 1, fault });
        let line = format!("{ERASE}[    2.000] device 0 queue 1 stopped: {fault}\r\n> sta");
        assert_eq!(rig.screen_in(len), line);
    }
}

#[test]
fn events_that_repeat_are_one_line() {
    let mut rig = ready();
    for at in 10..15 {
        rig.view.trace.record(at, Event::ResetAsked);
    }
    assert_eq!(rig.screen(), format!("{ERASE}[    0.014] restart asked for (5 times)\r\n> "));
    rig.view.trace.record(20, Event::ResetAsked);
    assert_eq!(rig.screen(), format!("{ERASE}[    0.020] restart asked for\r\n> "));
}

#[test]
fn events_that_fell_out_of_the_trace_are_counted() {
    let mut rig = ready();
    for device in 0..u16::try_from(TRACE_LEN).unwrap() + 3 {
        rig.view.trace.record(5, Event::DeviceCame { device });
    }
    let screen = rig.screen();
    assert!(screen.contains("[    0.000] (3 events lost)\r\n"), "{screen}");
    assert!(screen.contains("device 3 is there"), "{screen}");
    assert!(!screen.contains("device 2 is there"), "{screen}");
}

/// Nobody reads: the oldest lines go, the newest stay, and the reader learns
/// how many are missing.
#[test]
fn a_log_that_nobody_reads_loses_its_oldest_lines() {
    let mut rig = ConsoleRig::shell(512);
    for number in 0..1000 {
        rig.device.backend().log().line(0, format_args!("line {number:04}"));
        rig.run();
    }
    let screen = rig.screen();
    // 22 bytes each: 23 lines in the log, and what was on its way before.
    let lost = screen.lines().find(|line| line.contains("lost")).unwrap();
    let kept: Vec<_> = screen.lines().filter(|line| line.contains("] line ")).collect();
    let lost: usize = lost.split(['(', ' ']).find_map(|word| word.parse().ok()).unwrap();
    assert_eq!(lost + kept.len(), 1000, "{screen}");
    assert_eq!(*kept.last().unwrap(), "[    0.000] line 0999");
    assert_eq!(rig.keys("log\r").lines().count(), 25);
}

#[test]
fn a_new_driver_gets_a_fresh_prompt_and_the_rest_of_the_log() {
    use shared::msg::device::DeviceModel;
    let mut rig = ready();
    rig.keys("half a com");
    rig.device.backend().log().line(1, format_args!("while nobody was there"));
    rig.device.reset();
    rig.run();
    let mut rig = rig.again();
    assert_eq!(rig.screen(), "[    0.001] while nobody was there\r\n> ");
}

#[test]
fn help_names_every_command_and_each_answers() {
    let mut rig = ready();
    let help = rig.keys("help\r");
    let names: Vec<_> =
        help.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["help", "log", "status", "counters", "regions", "reboot", ">"]);
    for name in &names[..6] {
        let answer = rig.keys(&format!("{name}\r"));
        assert!(answer.starts_with(&format!("{name}\r\n")), "{answer:?}");
        assert!(answer.ends_with("> "), "{answer:?}");
        assert!(!answer.contains("no such command"), "{answer:?}");
    }
    assert_eq!(rig.keys("  help  \r"), help.replace("help\r\n", "  help  \r\n"));
}

#[test]
fn an_unknown_command_is_said_to_be_one() {
    let mut rig = ready();
    assert_eq!(rig.keys("halt\r"), "halt\r\nhalt: no such command; try help\r\n> ");
    assert_eq!(rig.keys("\r"), "\r\n> ");
    assert_eq!(rig.keys("log more\r"), "log more\r\nlog more: no such command; try help\r\n> ");
}

#[test]
fn status_tells_board_session_and_devices() {
    let mut rig = ready();
    rig.now = 61_007;
    rig.view.session = Epoch::new(0xABCD);
    rig.view.link.sessions = 3;
    rig.view.link.messages = 250;
    let view = |device_id, status| Some((DeviceView { device_id, status }, vec![]));
    let running = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER | DeviceStatus::DRIVER_OK;
    rig.view.devices = vec![view(1, running), None, view(3, DeviceStatus::RESET)];
    let expected = format!(
        "status\r\ntest board, firmware 1.2.3\r\nup 61.007 s\r\n\
         session 0000abcd, 3 so far, 0 refused\r\n\
         messages 250, discarded 0, channel faults 0, silent hosts 0\r\n\
         device 0: network, {running}\r\ndevice 2: console, {}\r\n> ",
        DeviceStatus::RESET
    );
    assert_eq!(rig.keys("status\r"), expected);
    rig.view.session = None;
    assert!(rig.keys("status\r").contains("no session, 3 so far"));
}

#[test]
fn counters_and_regions_are_listed_whole() {
    let mut rig = ready();
    assert_eq!(rig.keys("counters\r"), "counters\r\n> ");
    assert_eq!(rig.keys("regions\r"), "regions\r\nno regions\r\n> ");
    let view = DeviceView { device_id: 1, status: DeviceStatus::RESET };
    rig.view.devices = vec![
        Some((view, vec![("a", 1), ("b", u64::MAX)])),
        None,
        Some((view, vec![])),
        Some((view, vec![("c", 0)])),
    ];
    let host = BusAddress::new(0x10_0000);
    let board = BusAddress::board(0x4000);
    rig.view.regions = vec![
        RegionView { id: 1, base: host, len: 4096, rights: Rights::WRITE },
        RegionView { id: 0, base: board, len: 8192, rights: Rights::READ_WRITE },
    ];
    assert_eq!(
        rig.keys("counters\r"),
        "counters\r\ndevice 0: a 1\r\ndevice 0: b 18446744073709551615\r\ndevice 3: c 0\r\n> "
    );
    assert_eq!(
        rig.keys("regions\r"),
        "regions\r\nregion 1: 0x1000 bytes at 0x100000, host memory, write\r\n\
         region 0: 0x2000 bytes at 0x8000000000004000, board memory, read and write\r\n> "
    );
}

#[test]
fn reboot_asks_the_board_once() {
    let mut rig = ready();
    rig.keys("status\r");
    assert!(!rig.reboot);
    assert_eq!(rig.keys("reboot\r"), "reboot\r\nrestart asked for\r\n> ");
    assert!(core::mem::take(&mut rig.reboot));
    rig.run();
    assert!(!rig.reboot, "asked again");
}

#[test]
fn a_line_can_be_edited() {
    let mut rig = ready();
    // Backspace takes back what is there and no more.
    assert_eq!(rig.keys("ab\x7f\x08\x08c"), "ab\x08 \x08\x08 \x08c");
    assert_eq!(rig.keys("\x03"), "^C\r\n> ");
    assert_eq!(rig.keys("\r"), "\r\n> ");
    // Arrows, function keys and other bytes leave no trace.
    assert_eq!(rig.keys("he\x1b[Al\x1b[1;5C\x1bOPp\0\x1bx\u{e9}\t\r").lines().next(), Some("help"));
    // The three ways in which a line ends.
    assert_eq!(rig.keys("\r\n"), "\r\n> ");
    assert_eq!(rig.keys("\n"), "\r\n> ");
    assert_eq!(rig.keys("\r\r"), "\r\n> \r\n> ");
    // A line that is too long.
    let long = "x".repeat(80);
    assert_eq!(rig.keys(&long), format!("{}{}", "x".repeat(72), "\x07".repeat(8)));
    let answer = rig.keys("\r");
    let expected = format!("\r\n{}: no such command; try help\r\n> ", "x".repeat(72));
    assert_eq!(answer, expected);
}

#[test]
fn keys_typed_ahead_wait_for_the_answer() {
    let mut rig = ready();
    let together = rig.keys("help\rstatus\rregions\r");
    let mut other = ready();
    let apart = ["help\r", "status\r", "regions\r"].map(|keys| other.keys(keys)).concat();
    assert_eq!(together, apart);
}

#[test]
fn a_console_fits_into_a_small_board() {
    use crate::device::console::ConsoleDevice;
    use crate::rig::Memory;
    use shared::virtq::DeviceSlot;
    let log = 2048;
    let slots = 2 * 8 * size_of::<DeviceSlot>();
    let whole = size_of::<ConsoleDevice<'_, Memory, Shell<'_>>>() + log + slots;
    assert!(whole <= 4096, "{whole} bytes");
    let _ = Shell::new(Log::new(leak(0)));
}
