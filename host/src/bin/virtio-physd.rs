//! `virtio-physd`: the daemon that shows a board as a network interface.
//!
//! The only bus so far is the simulated one, whose slot is empty here: the
//! board of `vphys demo` is not part of the daemon. What it is good for today
//! is to see the daemon's own start-up and its refusals.

use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use virtio_phys_host::bus::sim::{SimBus, SimOptions};
use virtio_phys_host::daemon::{Board, BoardOptions, InterfaceOptions, WorkerOptions};
use virtio_phys_host::session::{FeatureMask, Layout, SessionConfig};
use virtio_phys_host::signals::EndSignals;

const ABOUT: &str = "Shows an intelligent PCIe board as a network interface";

/// Shows an intelligent PCIe board as a network interface.
#[derive(Debug, Parser)]
#[command(
    name = "virtio-physd",
    version,
    about = ABOUT,
    after_help = "It runs in the foreground until SIGTERM, SIGINT or SIGHUP, which detach the \
        board and remove the interface. It needs CAP_NET_ADMIN, /dev/net/tun and memory that it \
        may lock (ulimit -l). RUST_LOG=debug says more."
)]
struct Arguments {
    /// The bus that the board is on.
    #[arg(long, value_enum)]
    bus: BusOption,
    /// Name of the interface, or a pattern such as vphys%d.
    #[arg(long, value_name = "NAME", default_value = "vphys%d")]
    interface: String,
    /// The interface's MTU in bytes, from 68 to 65521.
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    mtu: u32,
    /// An address of the interface with its prefix length, such as
    /// 10.0.0.1/24; several may be given.
    #[arg(long = "address", value_name = "ADDRESS/LENGTH", value_parser = address)]
    addresses: Vec<(IpAddr, u8)>,
    /// Feature bits that may be negotiated, in hexadecimal.
    #[arg(long, value_name = "MASK", default_value_t = FeatureMask::ALL)]
    features: FeatureMask,
    /// Everything in board memory, for boards that cannot reach host memory.
    #[arg(long)]
    bar_only: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BusOption {
    /// An empty simulated slot: the daemon looks for a board and says that
    /// there is none.
    Sim,
}

fn address(text: &str) -> Result<(IpAddr, u8), String> {
    let (address, prefix) = text.split_once('/').ok_or("an address needs a prefix length: A/N")?;
    let address: IpAddr = address.parse().map_err(|error| format!("{address}: {error}"))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    match prefix.parse() {
        Ok(prefix) if prefix <= longest => Ok((address, prefix)),
        _ => Err(format!("prefix length {prefix} is not a number from 0 to {longest}")),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_timestamp(None)
        .init();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody can read it, the exit status has to do.
            let _ = writeln!(std::io::stderr(), "virtio-physd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    // Before the first thread, so that all inherit it.
    let signals = EndSignals::block().context("cannot receive signals")?;
    let BusOption::Sim = arguments.bus;
    let bus = SimBus::new(SimOptions::counted())?;
    let layout = if arguments.bar_only { Layout::BarOnly } else { Layout::Split };
    let options = BoardOptions {
        name: "board".to_owned(),
        interface: InterfaceOptions {
            mtu: arguments.mtu,
            addresses: arguments.addresses,
            ..InterfaceOptions::new(&arguments.interface)
        },
        session: SessionConfig {
            layout,
            mtu: arguments.mtu,
            feature_mask: arguments.features.0,
            ..SessionConfig::default()
        },
        worker: WorkerOptions::default(),
    };
    let board = Board::start(bus.host(), options)?;
    let interface = board.status().interface;
    log::info!("{interface}: looking for a board");
    if let Some(signal) = wait(&signals, board.ended())? {
        log::info!("{interface}: ended by {signal}");
    }
    board.stop()?;
    Ok(())
}

/// Waits for `event` or a signal: the signal, if it was one.
fn wait(signals: &EndSignals, event: BorrowedFd<'_>) -> Result<Option<Signal>> {
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(event, PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(errno) => return Err(errno).context("cannot wait for events"),
        }
        if let Some(signal) = signals.arrived() {
            return Ok(Some(signal));
        }
        if fds[1].any().unwrap_or(false) {
            return Ok(None);
        }
    }
}
