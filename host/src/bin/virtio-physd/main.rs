//! `virtio-physd`: the daemon that shows boards as network interfaces.

mod care;
mod exit;
mod fleet;
mod log_lines;
mod notify;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use virtio_phys_host::config::Configuration;

use exit::{Failure, Status};

const ABOUT: &str = "Shows intelligent PCIe boards as network interfaces";

/// Shows intelligent PCIe boards as network interfaces.
#[derive(Debug, Parser)]
#[command(name = "virtio-physd", version, about = ABOUT)]
struct Arguments {
    /// The configuration, a TOML file; docs/daemon.md explains its keys.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only check the configuration: what is wrong is said on standard error.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let notes = format!(
        "It runs in the foreground. SIGTERM and SIGINT end it in good order, a second one at \
         once; SIGHUP makes it read the configuration again. It needs CAP_NET_ADMIN, /dev/net/tun \
         and memory that it may lock (ulimit -l). RUST_LOG=debug says more.\n\nExit status:\n{}",
        exit::table()
    );
    let matches = Arguments::command().after_help(notes).get_matches();
    // The same definition has just taken them.
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let status = match run(&arguments) {
        Ok(()) => Status::Asked,
        Err(failure) => {
            // Where nobody can read it, the exit status has to do.
            let mut err = std::io::stderr();
            for line in failure.text.lines() {
                let _ = writeln!(err, "virtio-physd: {line}");
            }
            failure.status
        }
    };
    ExitCode::from(status.code())
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let configuration = Configuration::load(&arguments.config)?;
    if arguments.check {
        let (path, count) = (arguments.config.display(), configuration.boards.len());
        let boards = if count == 1 { "board" } else { "boards" };
        return writeln!(std::io::stdout(), "{path}: good, {count} {boards}").map_err(|error| {
            Failure::new(format_args!("cannot write to standard output: {error}"))
        });
    }
    log_lines::start(configuration.daemon.log);
    care::care(&arguments.config, configuration)
}
