//! `vphys reset`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use virtio_phys_host::control_socket::{Answer, Request, ask};

use crate::asking::{Daemon, unexpected};
use crate::output::print;

/// Options of `vphys reset`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The board's name in the configuration.
    board: String,
    #[command(flatten)]
    daemon: Daemon,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let request = Request::Reset { board: options.board.clone() };
    let Answer::ResetAsked = ask(&options.daemon.socket(), &request)? else {
        return Err(unexpected());
    };
    let text = format!("{}: reset asked for; `vphys status` shows its link\n", options.board);
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
