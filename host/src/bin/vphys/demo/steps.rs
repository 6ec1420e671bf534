//! The demo, step by step.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use virtio_phys_host::bus::sim::{SimBus, SimOptions};
use virtio_phys_host::daemon::{BoardOptions, InterfaceOptions, Running};
use virtio_phys_host::namespace::enter_namespace;
use virtio_phys_host::session::SessionConfig;

use super::bill::{self, Reading};
use super::emulated_board::{Addresses, EmulatedBoard};
use super::ping::{Pinger, percentile_us};
use super::report::{BothWays, Checked, Report, RoundTrip};
use super::{Options, traffic};

/// Addresses inside the demo's own namespace; nothing else is there.
const HOST_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const BOARD_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
const BOARD_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
const PREFIX_V4: u8 = 24;
const PREFIX_V6: u8 = 64;

const PINGS: u16 = 200;
const ECHO_BYTES: usize = 4 << 20;
const ECHO_DATAGRAMS: u32 = 500;

/// Runs the demo and prints its report.
pub(crate) fn run(options: &Options) -> Result<()> {
    // Before the first thread: a thread cannot change the user namespace.
    enter_namespace()?;
    let bus = SimBus::new(SimOptions::counted())?;
    let board = EmulatedBoard::start(
        &bus,
        Addresses { v4: (BOARD_V4, PREFIX_V4), v6: (BOARD_V6, PREFIX_V6) },
    )?;
    let running = Running::start(
        bus.host(),
        BoardOptions {
            interface: InterfaceOptions {
                name: options.interface.clone(),
                mtu: options.mtu,
                addresses: vec![(IpAddr::V4(HOST_V4), PREFIX_V4), (IpAddr::V6(HOST_V6), PREFIX_V6)],
            },
            session: SessionConfig {
                layout: options.layout.into(),
                feature_mask: options.features,
                mtu: options.mtu,
                ..SessionConfig::default()
            },
        },
    )?;
    bill::label(&bus, &running);
    let outcome = if options.shell {
        shell(options)
    } else {
        measure(options, &bus, &running, &board).and_then(|report| print(options, &report))
    };
    // In the order of a real shutdown: the link first, then the board.
    let stopped = running.stop();
    board.stop();
    outcome?;
    stopped?;
    Ok(())
}

fn print(options: &Options, report: &Report) -> Result<()> {
    if options.json {
        println!("{}", report.json()?);
    } else {
        print!("{}", report.text());
    }
    Ok(())
}

fn measure(
    options: &Options,
    bus: &SimBus,
    running: &Running,
    board: &EmulatedBoard,
) -> Result<Report> {
    let (v4, v6) = (IpAddr::V4(BOARD_V4), IpAddr::V6(BOARD_V6));
    let mut times = Vec::new();
    for address in [v4, v6] {
        let pinger = Pinger::new(address)?;
        // The first one also waits for address resolution.
        pinger.ping(0)?;
        for sequence in 1..=PINGS {
            times.push(pinger.ping(sequence)?);
        }
    }
    let rtt_us = RoundTrip {
        p50: percentile_us(&mut times, 50),
        p99: percentile_us(&mut times, 99),
        v4: u32::from(PINGS),
        v6: u32::from(PINGS),
    };

    let tcp_echo = traffic::echo_tcp(v4, ECHO_BYTES)? + traffic::echo_tcp(v6, ECHO_BYTES)?;
    let udp_echo = traffic::echo_udp(v4, ECHO_DATAGRAMS)? + traffic::echo_udp(v6, ECHO_DATAGRAMS)?;

    let time = Duration::from_secs(options.seconds);
    let discarded = traffic::status(v4, "discard_bytes")?;
    let before = quiet_reading(bus, running, board);
    let down = with_bar(options, "TCP to the board", |tick| traffic::send(v4, time, tick))?;
    let to_board = quiet_reading(bus, running, board).to_board(&before);
    let arrived = traffic::status(v4, "discard_bytes")? - discarded;
    ensure!(
        arrived == down.bytes,
        "{} bytes were sent to the board and it counted {arrived}",
        down.bytes
    );

    let before = quiet_reading(bus, running, board);
    let up = with_bar(options, "TCP to the host", |tick| traffic::receive(v4, time, tick))?;
    let to_host = quiet_reading(bus, running, board).to_host(&before);

    let counters = running.counters();
    Ok(Report {
        ok: true,
        layout: running.terms().layout.to_string(),
        features: running.terms().features.to_string(),
        rtt_us,
        gbit_per_s: BothWays { to_board: down.gbit_per_s(), to_host: up.gbit_per_s() },
        frames: BothWays { to_board: counters.to_board.frames, to_host: counters.to_host.frames },
        bytes_checked: Checked {
            tcp_echo,
            udp_echo,
            udp_lost: 2 * ECHO_DATAGRAMS - udp_echo,
            tcp_to_board: down.bytes,
            tcp_to_host: up.bytes,
        },
        per_packet: BothWays { to_board, to_host },
        completion_polled: counters.to_host.completion_polled + board.counters().service.polled,
    })
}

/// Reads all counters once both sides have come to rest: each publishes its
/// own before it sleeps, and an idle link sleeps after some microseconds.
fn quiet_reading(bus: &SimBus, running: &Running, board: &EmulatedBoard) -> Reading {
    let mut reading = Reading::take(bus, running, board);
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(20));
        let again = Reading::take(bus, running, board);
        if again.moved_nothing_since(&reading) {
            return again;
        }
        reading = again;
    }
    // A connection that is still being closed moves a few frames: they are counted.
    reading
}

/// Runs `work` under a progress bar; none where nobody looks.
fn with_bar<T>(
    options: &Options,
    name: &'static str,
    work: impl FnOnce(&mut dyn FnMut(Duration)) -> Result<T>,
) -> Result<T> {
    let length = options.seconds * 1000;
    let bar = if options.json { ProgressBar::hidden() } else { ProgressBar::new(length) };
    let style = ProgressStyle::with_template("{msg:<18} [{bar:40}] {percent:>3} %")?;
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(name);
    let outcome = work(&mut |elapsed| {
        bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(length));
    });
    bar.finish_and_clear();
    outcome
}

/// A shell inside the namespace.
fn shell(options: &Options) -> Result<()> {
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    println!("The board is at {BOARD_V4} and {BOARD_V6} on {}. Try:", options.interface);
    println!("  ping {BOARD_V4}");
    println!("  curl http://{BOARD_V4}/");
    println!("Leave the shell to end the demo.");
    std::process::Command::new(&shell)
        .status()
        .with_context(|| format!("cannot start {}", shell.display()))?;
    Ok(())
}
