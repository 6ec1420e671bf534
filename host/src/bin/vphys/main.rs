//! `vphys`: the command line of virtio-phys.

mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Virtio over PCIe: boards as network interfaces.
#[derive(Debug, Parser)]
#[command(name = "vphys", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring up a simulated board as a real tap interface and run traffic over it.
    ///
    /// Needs no root: it makes a user and network namespace of its own, and
    /// leaves nothing behind.
    Demo(demo::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format_timestamp(None)
        .init();
    let outcome: anyhow::Result<()> = match arguments.command {
        Command::Demo(options) => demo::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vphys: {error:#}");
            ExitCode::FAILURE
        }
    }
}
