//! A board that is a Linux process: the firmware library over memory and
//! eventfds that it shares with the host by QEMU's ivshmem protocol.
//!
//! With an interface of the kernel behind it (`--behind tap:NAME`), a link has a
//! real kernel at both ends. On a card that runs Linux the same program stands
//! over the endpoint's driver in place of [`bus`].

mod bus;
mod interface;
mod options;
mod process;
mod run;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use host::bus::ivshmem::{IvshmemBoard, IvshmemError, RunningServer, Server, ServerOptions, Step};

use bus::Bus;
use interface::Interface;
use options::{BehindOption, Options};
use process::Signals;
use run::{Behind, run};

/// How long the server may take to greet.
const GREETING: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let options = Options::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format_timestamp(None)
        .init();
    match start(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody can read it, the exit status has to do.
            let _ = writeln!(std::io::stderr(), "virtio-phys-board-linux: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> Result<()> {
    // Before the first thread, so that all inherit it.
    let signals = Signals::block().context("cannot receive signals")?;
    let behind = match &options.behind {
        BehindOption::Echo => Behind::Echo,
        BehindOption::Stack => Behind::Stack(options.stack_addresses()?),
        BehindOption::Interface(mode, name) => {
            Behind::Interface(Interface::create(name, *mode, options.number, &options.addresses)?)
        }
    };
    let server = options.serve.then(|| serve(options)).transpose()?;
    let board = IvshmemBoard::connect(&options.socket, options.vectors - 1, GREETING);
    let board = board.map_err(|error| match error {
        IvshmemError::Silent { step: Step::Peers, .. } => anyhow!(
            "the ivshmem server has fewer vectors than --vectors {}: give both the same number",
            options.vectors
        ),
        other => other.into(),
    })?;
    let bus = Bus { board, vectors: options.vectors, bar_only: options.bar_only };
    let shown = match &behind {
        Behind::Interface(interface) => format!(", behind it the interface {}", interface.name()),
        _ => String::new(),
    };
    // Nobody need read it.
    let _ = writeln!(
        std::io::stderr(),
        "board \"{}\" is at {}{shown}; SIGUSR1 reboots it, Ctrl-C ends it",
        options.name,
        options.socket.display()
    );
    let outcome = run(&bus, &options.name, options.number, &behind, &signals);
    drop(server);
    outcome
}

/// A server in this process, for the time of the board.
fn serve(options: &Options) -> Result<RunningServer> {
    let Some(memory) = options.memory.checked_mul(1 << 20) else {
        bail!("--memory {} is more than there can be", options.memory);
    };
    let vectors = options.vectors;
    let server = ServerOptions { memory, vectors, ..ServerOptions::default() };
    Ok(Server::bind(&options.socket, server)?.start()?)
}
