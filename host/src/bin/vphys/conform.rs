//! `vphys conform`: the conformance kit against a board.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};
use virtio_phys_host::bus::ivshmem::{IvshmemBus, IvshmemOptions};
use virtio_phys_host::conform::{self, Answers, Finding, Outcome, Report, groups};

use crate::output::{print, table};

/// How long a server of shared memory may take to answer, and a board to boot
/// again when it is asked to: nobody repeats what a busy machine made fail.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options of `vphys conform`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The bus that the board is on.
    #[arg(long, value_enum, required_unless_present = "list")]
    bus: Option<BusKind>,
    /// The socket of an ivshmem server.
    #[arg(long, value_name = "PATH", required_if_eq("bus", "ivshmem"))]
    socket: Option<PathBuf>,
    /// Only groups or points whose name begins with this (see --list).
    #[arg(long, value_name = "SECTION", value_parser = section)]
    only: Option<String>,
    /// What answers frames behind the network device: `echo`, or an IPv4
    /// address that answers ARP and ping. Left out, the kit finds out.
    #[arg(long, value_name = "echo|ADDRESS", value_parser = answers)]
    answers: Option<Answers>,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
    /// List the points and run none.
    #[arg(long)]
    list: bool,
}

/// The buses that the kit plays the host on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum BusKind {
    /// A simulated bus, with an emulated board of this program's own.
    #[cfg(feature = "emulated-board")]
    Sim,
    /// Shared memory and doorbells of an ivshmem server.
    Ivshmem,
}

fn section(text: &str) -> Result<String, String> {
    let mut points = groups().iter().flat_map(|group| group.points);
    match points.any(|point| point.id.starts_with(text)) {
        true => Ok(text.to_owned()),
        false => Err("no point's name begins with it; `vphys conform --list` has them all".into()),
    }
}

fn answers(text: &str) -> Result<Answers, String> {
    match text {
        "echo" => Ok(Answers::Echo),
        address => address
            .parse::<Ipv4Addr>()
            .map(Answers::Address)
            .map_err(|_| "neither `echo` nor an IPv4 address".to_owned()),
    }
}

/// Runs the points: 0 only if none failed, else 1.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        return list();
    }
    let start = Instant::now();
    let report = match options.bus {
        #[cfg(feature = "emulated-board")]
        Some(BusKind::Sim) => sim(options)?,
        _ => {
            let path = options.socket.clone().unwrap_or_default();
            let mut bus = IvshmemBus::connect(IvshmemOptions { path, patience: PATIENCE })?;
            kit(&mut bus, options)
        }
    };
    let [_, failed, _] = report.counts();
    if options.json {
        let mut text = serde_json::to_string_pretty(&report)?;
        text.push('\n');
        print(&text)?;
    } else {
        print(&summary(&report, start))?;
    }
    Ok(if failed == 0 && !report.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(feature = "emulated-board")]
fn sim(options: &Options) -> Result<Report> {
    use std::net::Ipv6Addr;

    use virtio_phys_host::bus::sim::{SimBus, SimOptions};

    use crate::emulated_board::{Addresses, Behind, EmulatedBoard, Setup};

    let bus = SimBus::new(SimOptions::counted())?;
    let v6 = (Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2), 64);
    let setup = Setup {
        name: "emulated board".to_owned(),
        number: 0x79,
        addresses: Addresses { v4: (conform::COMMON_ADDRESS, 24), v6 },
        behind: Behind::Stack,
        fault: None,
    };
    let board = EmulatedBoard::start(&bus, setup)?;
    let report = kit(&mut bus.host(), options);
    board.stop();
    Ok(report)
}

/// The kit, which says each point as it is done.
fn kit<B: virtio_phys_host::bus::Bus>(bus: &mut B, options: &Options) -> Report {
    let told = conform::Options {
        only: options.only.clone(),
        answers: options.answers.unwrap_or_default(),
    };
    let quiet = options.json;
    conform::run(bus, &told, |finding| {
        if !quiet {
            // Who has gone misses the rest; the exit status still tells.
            let _ = std::io::stdout().write_all(line(finding).as_bytes());
        }
    })
}

/// What became of a point, for people.
fn line(finding: &Finding) -> String {
    let Finding { id, section, rule, outcome } = finding;
    match outcome {
        Outcome::Pass => format!("pass  {id}  ({section})\n"),
        Outcome::Fail(seen) => {
            format!("FAIL  {id}  ({section})\n      seen: {seen}\n      rule: {rule}\n")
        }
        Outcome::Skipped(why) => format!("skip  {id}  ({section})\n      {why}\n"),
    }
}

fn summary(report: &Report, start: Instant) -> String {
    let [passed, failed, skipped] = report.counts();
    let mut rows = vec![["GROUP", "PASSED", "FAILED", "SKIPPED"].map(str::to_owned)];
    for group in groups() {
        let findings = report
            .findings
            .iter()
            .filter(|finding| group.points.iter().any(|point| point.id == finding.id))
            .cloned()
            .collect::<Vec<_>>();
        if !findings.is_empty() {
            let [p, f, s] =
                Report { board: None, findings }.counts().map(|count| count.to_string());
            rows.push([group.name.to_owned(), p, f, s]);
        }
    }
    let board = report.board.as_deref().unwrap_or("no board");
    let mut text = format!("\n{}\n", table(&rows, [false, true, true, true]));
    text += &format!(
        "{board}: {passed} passed, {failed} failed, {skipped} skipped, in {:.1} s\n",
        start.elapsed().as_secs_f64()
    );
    for finding in &report.findings {
        if matches!(finding.outcome, Outcome::Fail(_)) {
            text += &format!("failed: {} ({})\n", finding.id, finding.section);
        }
    }
    text
}

fn list() -> Result<ExitCode> {
    let mut text = String::new();
    for group in groups() {
        text += &format!("{}: {}\n", group.name, group.about);
        for point in group.points {
            text += &format!("  {}  ({})\n      {}\n", point.id, point.section, point.rule);
        }
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
