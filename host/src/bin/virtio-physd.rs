//! `virtio-physd`: the daemon that shows a board as a network interface.
//!
//! The only bus so far is the simulated one, whose slot is empty here: the
//! board of `vphys demo` is not part of the daemon. What it is good for today
//! is to see the daemon's own start-up and its refusals.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsFd;
use virtio_phys_host::bus::sim::{SimBus, SimOptions};
use virtio_phys_host::daemon::{BoardOptions, InterfaceOptions, Running};
use virtio_phys_host::session::{Layout, SessionConfig};

/// Shows an intelligent PCIe board as a network interface.
#[derive(Debug, Parser)]
#[command(name = "virtio-physd", version, about)]
struct Arguments {
    /// The bus that the board is on. `sim` is an empty simulated slot.
    #[arg(long, value_enum)]
    bus: BusOption,
    /// Name of the interface, or a pattern such as `vphys%d`.
    #[arg(long, default_value = "vphys%d")]
    interface: String,
    /// The interface's MTU in bytes.
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// An address of the interface with its prefix length, such as 10.0.0.1/24.
    #[arg(long = "address", value_parser = address)]
    addresses: Vec<(IpAddr, u8)>,
    /// Everything in board memory, for boards that cannot reach host memory.
    #[arg(long)]
    bar_only: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BusOption {
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
            eprintln!("virtio-physd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    // Blocked before the first thread, so that all inherit it.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("cannot block signals")?;
    let signals =
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).context("cannot receive signals")?;

    let BusOption::Sim = arguments.bus;
    let bus = SimBus::new(SimOptions::counted())?;
    let layout = if arguments.bar_only { Layout::BarOnly } else { Layout::Split };
    let options = BoardOptions {
        interface: InterfaceOptions {
            name: arguments.interface,
            mtu: arguments.mtu,
            addresses: arguments.addresses,
        },
        session: SessionConfig { layout, mtu: arguments.mtu, ..SessionConfig::default() },
    };
    let running = Running::start(bus.host(), options)?;
    let terms = running.terms();
    log::info!("board {} is up: {}", terms.board.name, terms.features);
    let mut fds = [
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        PollFd::new(running.ended(), PollFlags::POLLIN),
    ];
    // Either ends the daemon; an error of poll itself does as well.
    let _ = poll(&mut fds, PollTimeout::NONE);
    running.stop()?;
    Ok(())
}
