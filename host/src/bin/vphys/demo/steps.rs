//! The demo, step by step.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use virtio_phys_host::bus::Bus;
use virtio_phys_host::bus::ivshmem::{IvshmemBus, IvshmemOptions};
use virtio_phys_host::bus::metered::MeteredBus;
use virtio_phys_host::bus::sim::{SimBus, SimOptions};
use virtio_phys_host::daemon::{
    Board, BoardOptions, DaemonError, InterfaceOptions, Stations, WorkerOptions,
};
use virtio_phys_host::namespace::enter_namespace;
use virtio_phys_host::session::{SessionConfig, Terms};
use virtio_phys_host::signals::EndSignals;
use virtio_phys_host::tap::InterfaceMode;

use super::bill::{self, Instruments, Reading};
use super::pair;
use super::pair_report::PairReport;
use super::ping::{Pinger, percentile_us};
use super::progress::Progress;
use super::report::{BothWays, Checked, Failure, Report, RoundTrip};
use super::watch::{Ended, Watch, attached_while};
use super::{Options, shell, traffic};
use crate::emulated_board::{Addresses, Behind, EmulatedBoard, Setup};
use crate::qemu::QemuBoard;

/// Addresses inside the demo's own namespace; nothing else is there.
const HOST_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const BOARD_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
const BOARD_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
const PREFIX_V4: u8 = 24;
const PREFIX_V6: u8 = 64;
pub(super) const ADDRESSES: Addresses =
    Addresses { v4: (BOARD_V4, PREFIX_V4), v6: (BOARD_V6, PREFIX_V6) };

/// How long firmware in QEMU may take from its start to the first session.
const BOOTED_WITHIN: Duration = Duration::from_secs(30);

const PINGS: u16 = 200;
const ECHO_BYTES: usize = 4 << 20;
const ECHO_DATAGRAMS: u32 = 500;

/// IPv6 and UDP headers; the board puts no fragments together.
const DATAGRAM_HEADERS: u32 = 48;
/// The board keeps two datagrams of this size.
const LONGEST_DATAGRAM: u32 = 9000;

/// What the demo ends with where nothing went wrong.
enum Done {
    Measured(Box<Report>),
    Pair(Box<PairReport>),
    Shell(ExitCode),
}

/// Runs the demo and prints its report.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let outcome = perform(options);
    match outcome {
        Ok(Done::Measured(report)) => {
            print(&if options.json { report.json()? } else { report.text() })?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Done::Pair(report)) => {
            print(&if options.json { report.json()? } else { report.text() })?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Done::Shell(status)) => Ok(status),
        Err(error) => {
            if options.json {
                // What it says goes to standard error all the same.
                let _ = print(&Failure::new(&error).json()?);
            }
            Err(error)
        }
    }
}

/// Standard output may be closed or full, which is no bug of ours.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

fn perform(options: &Options) -> Result<Done> {
    options.check()?;
    let progress = Progress::new(options.json);
    // Both before the first thread: one alone cannot change the user namespace.
    progress.step(
        "namespace",
        || Ok(enter_namespace()?),
        |()| "a network of the demo's own, which ends with it".to_owned(),
    )?;
    let signals = EndSignals::block().context("cannot receive signals")?;
    if options.boards > 1 {
        return pair::perform(options, progress, &signals).map(|report| Done::Pair(report.into()));
    }
    if let Some(machine) = options.board {
        let mut board = QemuBoard::start(machine, options.firmware.as_deref())?;
        let bus = MeteredBus::new(IvshmemBus::new(IvshmemOptions::new(board.socket())));
        let meter = bus.meter();
        let start = Instant::now();
        let booting = || {
            board.check()?;
            ensure!(
                start.elapsed() < BOOTED_WITHIN,
                "the firmware did not serve within {} s of QEMU's start: is it one for {}?",
                BOOTED_WITHIN.as_secs(),
                machine.name()
            );
            Ok(true)
        };
        return with_board(options, progress, &signals, bus, Instruments::Host(&meter), booting);
    }
    let bus = SimBus::new(SimOptions::counted())?;
    let setup = Setup {
        name: "emulated board".to_owned(),
        number: 0x79,
        addresses: ADDRESSES,
        behind: Behind::Stack,
        fault: options.board_fault,
    };
    let board = EmulatedBoard::start(&bus, setup)?;
    let instruments = Instruments::Both(&bus, &board);
    let outcome = with_board(options, progress, &signals, bus.host(), instruments, || Ok(false));
    // In the order of a real shutdown: the link has ended, now the board.
    board.stop();
    outcome
}

/// `booting` is asked when an attach has failed: whether the board may still
/// be on its way.
fn with_board<B: Bus + Send + 'static>(
    options: &Options,
    progress: Progress,
    signals: &EndSignals,
    bus: B,
    instruments: Instruments<'_>,
    booting: impl FnMut() -> Result<bool>,
) -> Result<Done> {
    let mut interface = String::new();
    let (link, terms) = progress.step(
        "attach",
        || {
            let addresses =
                vec![(IpAddr::V4(HOST_V4), PREFIX_V4), (IpAddr::V6(HOST_V6), PREFIX_V6)];
            let link = Board::start(bus, board_options(options, addresses))?;
            interface = link.status().interface;
            let terms = attached_while(&link, signals, booting)?;
            Ok((link, terms))
        },
        |(link, terms)| {
            format!(
                "{} ({HOST_V4}, {HOST_V6}) to board \"{}\" ({BOARD_V4}, {BOARD_V6})",
                link.status().interface,
                terms.board.name,
            )
        },
    )?;
    instruments.label(&terms);
    let watch = Watch::new(signals, std::slice::from_ref(&link));
    let outcome = if options.shell {
        print(&welcome(&interface)).and_then(|()| shell::run(signals, watch)).map(Done::Shell)
    } else {
        Measurement { options, progress, watch, instruments, link: &link, terms: &terms }
            .run()
            .map(|report| Done::Measured(Box::new(report)))
    };
    settled(outcome, link.stop())
}

/// What came of it, with its links stopped.
pub(super) fn settled<T>(outcome: Result<T>, stopped: Result<(), DaemonError>) -> Result<T> {
    match (outcome, stopped) {
        (Ok(done), Ok(())) => Ok(done),
        (Ok(_), Err(error)) => Err(error.into()),
        (Err(error), Ok(())) => Err(error),
        // A link that was lost cannot be let go of: why it was lost says more.
        (Err(error), Err(also)) if error.is::<Ended>() => {
            log::warn!("{also}");
            Err(error)
        }
        (Err(error), Err(also)) => Err(anyhow!(also).context(format!("{error:#}"))),
    }
}

pub(super) fn board_options(options: &Options, addresses: Vec<(IpAddr, u8)>) -> BoardOptions {
    BoardOptions {
        name: "demo".to_owned(),
        interface: InterfaceOptions {
            mode: options.mode.into(),
            mtu: options.mtu,
            addresses,
            ..InterfaceOptions::new(&options.interface)
        },
        worker: WorkerOptions::default(),
        console: None,
        stations: Stations::default(),
        session: SessionConfig {
            layout: options.layout.into(),
            feature_mask: options.features.0,
            mtu: options.mtu,
            ..SessionConfig::default()
        },
    }
}

fn welcome(interface: &str) -> String {
    format!(
        "The board is at {BOARD_V4} and {BOARD_V6} behind {interface}; nothing else is. Try:\n  \
         ping {BOARD_V4}\n  \
         curl http://{BOARD_V4}/      its status page; http://[{BOARD_V6}]/ as well\n\
         TCP and UDP port 7 echo; TCP port 9 takes everything, port 19 sends without end.\n\
         Leave the shell (exit) to end the demo.\n"
    )
}

/// The steps that the report is made of.
struct Measurement<'a> {
    options: &'a Options,
    progress: Progress,
    watch: Watch<'a>,
    instruments: Instruments<'a>,
    link: &'a Board,
    terms: &'a Terms,
}

impl Measurement<'_> {
    fn run(self) -> Result<Report> {
        let (watch, time) = (self.watch, self.options.seconds);
        let board = IpAddr::V4(BOARD_V4);
        let rtt_us = self.progress.step(
            "ping",
            || self.ping(),
            |times| format!("{} over IPv4, {} over IPv6, each answered", times.v4, times.v6),
        )?;
        let (tcp_echo, udp_echo) = self.progress.step(
            "echo",
            || self.echo(),
            |(tcp, udp)| {
                format!("{tcp} bytes over TCP and {udp} UDP datagrams came back unchanged")
            },
        )?;
        let told = |flow: &(traffic::Flow, _, _)| {
            let (flow, ..) = flow;
            format!(
                "{} bytes in {:.2} s, all accounted for",
                flow.bytes,
                flow.elapsed.as_secs_f64()
            )
        };
        let (down, frames_to_board, to_board) = self.progress.timed(
            "TCP to the board",
            time,
            |tick| {
                let discarded = traffic::status(watch, board, "discard_bytes")?;
                let before = self.quiet_reading()?;
                let flow = traffic::send(watch, board, time, tick)?;
                let after = self.quiet_reading()?;
                let arrived =
                    traffic::status(watch, board, "discard_bytes")?.wrapping_sub(discarded);
                ensure!(
                    arrived == flow.bytes,
                    "{} bytes were sent to the board and it counted {arrived}",
                    flow.bytes
                );
                let (frames, _) = after.frames_since(&before);
                Ok((flow, frames, after.to_board(&before)))
            },
            told,
        )?;
        let (up, frames_to_host, to_host) = self.progress.timed(
            "TCP to the host",
            time,
            |tick| {
                let before = self.quiet_reading()?;
                let flow = traffic::receive(watch, board, time, tick)?;
                let after = self.quiet_reading()?;
                let (_, frames) = after.frames_since(&before);
                Ok((flow, frames, after.to_host(&before)))
            },
            told,
        )?;
        let host = self.link.status().counters;
        let terms = self.terms;
        Ok(Report {
            ok: true,
            layout: terms.layout.to_string(),
            mode: InterfaceMode::from(self.options.mode).to_string(),
            features: terms.features.to_string(),
            mtu: self.options.mtu,
            rtt_us,
            gbit_per_s: BothWays { to_board: down.gbit_per_s(), to_host: up.gbit_per_s() },
            frames: BothWays { to_board: frames_to_board, to_host: frames_to_host },
            bytes_checked: Checked {
                tcp_echo,
                udp_echo,
                udp_lost: 0,
                tcp_to_board: down.bytes,
                tcp_to_host: up.bytes,
            },
            per_packet: BothWays { to_board, to_host },
            board_counted: matches!(self.instruments, Instruments::Both(..)),
            completion_polled: host.to_host.completion_polled + self.instruments.board_polled(),
        })
    }

    fn ping(&self) -> Result<RoundTrip> {
        let mut times = Vec::new();
        for address in [IpAddr::V4(BOARD_V4), IpAddr::V6(BOARD_V6)] {
            let pinger = Pinger::new(self.watch, address)?;
            pinger.first()?;
            for sequence in 1..=PINGS {
                times.push(pinger.ping(sequence)?);
            }
        }
        Ok(RoundTrip {
            p50: percentile_us(&mut times, 50),
            p99: percentile_us(&mut times, 99),
            v4: u32::from(PINGS),
            v6: u32::from(PINGS),
        })
    }

    /// Bytes over TCP and datagrams over UDP that came back.
    fn echo(&self) -> Result<(u64, u32)> {
        let longest = usize::try_from(self.options.mtu.min(LONGEST_DATAGRAM) - DATAGRAM_HEADERS)?;
        let (mut tcp, mut udp) = (0, 0);
        for address in [IpAddr::V4(BOARD_V4), IpAddr::V6(BOARD_V6)] {
            tcp += traffic::echo_tcp(self.watch, address, ECHO_BYTES)?;
            udp += traffic::echo_udp(self.watch, address, ECHO_DATAGRAMS, longest)?;
        }
        // One at a time, on a link that drops nothing.
        let sent = 2 * ECHO_DATAGRAMS;
        ensure!(udp == sent, "UDP echo: {udp} of {sent} datagrams came back");
        Ok((tcp, udp))
    }

    fn quiet_reading(&self) -> Result<Reading> {
        bill::quiet(self.watch, self.instruments, self.link)
    }
}
