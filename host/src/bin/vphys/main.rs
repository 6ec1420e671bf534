//! `vphys`: the command line of virtio-phys.

mod asking;
#[cfg(feature = "emulated-board")]
mod board;
mod conform;
#[cfg(feature = "emulated-board")]
mod demo;
#[cfg(feature = "emulated-board")]
mod emulated_board;
mod features;
mod ivshmem_server;
mod output;
#[cfg(feature = "emulated-board")]
mod qemu;
mod reset;
mod stats;
mod status;

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
    #[cfg(feature = "emulated-board")]
    Demo(demo::Options),
    #[cfg(feature = "emulated-board")]
    /// Run an emulated board as a process of its own, for a daemon to attach to.
    ///
    /// The board runs the firmware library with its IP stack; its memory and its
    /// doorbells are shared by QEMU's ivshmem protocol over the socket. A daemon
    /// whose configuration has a board with `bus = "ivshmem"` and this socket
    /// attaches to it. SIGUSR1 reboots the board; SIGTERM or Ctrl-C ends it.
    Board(board::Options),
    /// Serve the memory and the vectors that one board and one host share.
    ///
    /// Speaks the ivshmem protocol of QEMU 2.5 and later. The board may be
    /// firmware in QEMU:
    ///
    ///   -chardev socket,id=b0,path=PATH -device ivshmem-doorbell,chardev=b0,vectors=N
    ///
    /// with the N of --vectors, or any other client of the protocol; the host is
    /// a daemon whose configuration has a board with `bus = "ivshmem"` and this
    /// socket. Each board has a server of its own: all that its peers share, they
    /// share with each other. Only the user who started the server may connect.
    ///
    /// Peers come and go as they like, each time under another number. SIGTERM or
    /// Ctrl-C ends the server and removes its socket.
    ///
    /// Exit status: 0 if a signal ended it, 1 if it could not start, 2 if the
    /// command line is wrong.
    IvshmemServer(ivshmem_server::Options),
    /// Check a board against the protocol, point by point.
    ///
    /// Plays the host: control block, messages and every refusal, regions, queues,
    /// frames both ways, and everything malformed that a board has to withstand.
    /// Each point names the section of docs/protocol.md that it stands on. No
    /// daemon may be attached to the board meanwhile.
    ///
    /// Exit status: 0 only if nothing failed, 1 if something did, 2 for a usage error.
    Conform(conform::Options),
    /// How the daemon's boards are: link, sessions, last failure.
    Status(status::Options),
    /// The counters of the daemon's boards.
    Stats(stats::Options),
    /// What a board offers, what the configuration takes away, what is used.
    Features(features::Options),
    /// Have a board reset; its link comes back by itself.
    Reset(reset::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The daemon would say that it tries again; the demo says what was wrong, and ends.
    // A server says who comes and goes.
    let said = match arguments.command {
        Command::IvshmemServer(_) => "warn,virtio_phys_host::bus::ivshmem::server=info",
        _ => "warn,virtio_phys_host::daemon=error",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(said))
        .format_timestamp(None)
        .init();
    let outcome: anyhow::Result<ExitCode> = match arguments.command {
        #[cfg(feature = "emulated-board")]
        Command::Demo(options) => demo::run(&options),
        #[cfg(feature = "emulated-board")]
        Command::Board(options) => board::run(&options),
        Command::IvshmemServer(options) => ivshmem_server::run(&options),
        Command::Conform(options) => conform::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Stats(options) => stats::run(&options),
        Command::Features(options) => features::run(&options),
        Command::Reset(options) => reset::run(&options),
    };
    outcome.unwrap_or_else(|error| {
        // Where nobody can read it, the exit status has to do.
        let _ = writeln!(std::io::stderr(), "vphys: {error:#}");
        #[cfg(feature = "emulated-board")]
        if let Some(status) = demo::signal_status(&error) {
            return status;
        }
        ExitCode::FAILURE
    })
}
