//! `vphys features`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use virtio_phys_host::control_socket::message::FeatureReport;
use virtio_phys_host::control_socket::{Answer, Request, ask};

use crate::asking::{Daemon, unexpected};
use crate::output::{print, table};

/// Options of `vphys features`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The board's name in the configuration.
    board: String,
    /// Print one JSON object on one line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let request = Request::Features { board: options.board.clone() };
    let Answer::Features(report) = ask(&options.daemon.socket(), &request)? else {
        return Err(unexpected());
    };
    let text = if options.json { serde_json::to_string(&report)? + "\n" } else { text(&report) };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(report: &FeatureReport) -> String {
    let mut rows = vec![["FEATURE", "OFFERED", "MASKED", "NEGOTIATED"].map(str::to_owned)];
    // What is negotiated was offered; a daemon that says otherwise is shown as it is.
    let more = report.negotiated.iter().filter(|name| !report.offered.contains(name));
    let yes = |names: &[String], name: &String| {
        let word = if names.contains(name) { "yes" } else { "-" };
        word.to_owned()
    };
    for name in report.offered.iter().chain(more) {
        rows.push([
            name.clone(),
            yes(&report.offered, name),
            yes(&report.masked, name),
            yes(&report.negotiated, name),
        ]);
    }
    table(&rows, [false; 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_a_feature() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let report = FeatureReport {
            board: "b0".into(),
            offered: names(&["VERSION_1", "EVENT_IDX"]),
            masked: names(&["EVENT_IDX"]),
            negotiated: names(&["VERSION_1"]),
        };
        assert_eq!(
            text(&report),
            "FEATURE    OFFERED  MASKED  NEGOTIATED\n\
             VERSION_1  yes      -       yes\n\
             EVENT_IDX  yes      yes     -\n"
        );
    }
}
