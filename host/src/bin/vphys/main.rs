//! `vphys`: the command line of virtio-phys.

mod board;
mod demo;
mod emulated_board;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

const ABOUT: &str = "Virtio over PCIe: intelligent boards as network interfaces";

/// Virtio over PCIe: intelligent boards as network interfaces.
#[derive(Debug, Parser)]
#[command(name = "vphys", version, about = ABOUT)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring up a simulated board as a real network interface and run traffic over it.
    ///
    /// The board runs the firmware library with its IP stack, on a simulated PCIe
    /// bus; the interface is a tap of this machine's kernel. The demo pings the
    /// board, has bytes echoed, sends and receives TCP, and prints what each frame
    /// cost on the bus.
    ///
    /// Needs no root: all of it happens in a user and network namespace of its
    /// own, which is gone when the demo ends. Needs /dev/net/tun.
    ///
    /// Exit status: 0 only if every step worked and every byte came back or was
    /// accounted for; 128 + N after signal N; with --shell the shell's.
    Demo(demo::Options),
    /// Run an emulated board as a process of its own, for a daemon to attach to.
    ///
    /// The board runs the firmware library with its IP stack; its memory and its
    /// doorbells are shared by QEMU's ivshmem protocol over the socket. A daemon
    /// whose configuration has a board with `bus = "ivshmem"` and this socket
    /// attaches to it. SIGUSR1 reboots the board; SIGTERM or Ctrl-C ends it.
    Board(board::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The daemon would say that it tries again; the demo says what was wrong, and ends.
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("warn,virtio_phys_host::daemon=error"),
    )
    .format_timestamp(None)
    .init();
    let outcome: anyhow::Result<ExitCode> = match arguments.command {
        Command::Demo(options) => demo::run(&options),
        Command::Board(options) => board::run(&options),
    };
    outcome.unwrap_or_else(|error| {
        // Where nobody can read it, the exit status has to do.
        let _ = writeln!(std::io::stderr(), "vphys: {error:#}");
        if let Some(status) = demo::signal_status(&error) {
            return status;
        }
        ExitCode::FAILURE
    })
}
