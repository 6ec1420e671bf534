//! `vphys status`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use virtio_phys_host::control_socket::message::{BoardReport, State};
use virtio_phys_host::control_socket::{Answer, Request, ask};

use crate::asking::{Daemon, unexpected};
use crate::output::{print, table, time};

/// Options of `vphys status`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Print one JSON object on one line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let answer = ask(&options.daemon.socket(), &Request::Status)?;
    let Answer::Status { boards } = answer else { return Err(unexpected()) };
    let text = if options.json {
        serde_json::to_string(&serde_json::json!({ "boards": boards }))? + "\n"
    } else {
        text(&boards)
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(boards: &[BoardReport]) -> String {
    if boards.is_empty() {
        return "no boards: the configuration has none\n".to_owned();
    }
    let head = ["BOARD", "INTERFACE", "LINK", "SINCE", "SESSIONS", "FAILURES", "FIRMWARE"];
    let mut rows = vec![head.map(str::to_owned)];
    for board in boards {
        let firmware = board.board.as_ref();
        rows.push([
            board.name.clone(),
            board.interface.clone(),
            board.state.name().to_owned(),
            time(board.since_ms),
            board.sessions.to_string(),
            board.failures.to_string(),
            firmware.map_or_else(|| "-".to_owned(), |it| format!("{} {}", it.name, it.firmware)),
        ]);
    }
    let mut out = table(&rows, [false, false, false, true, true, true, false]);
    for board in boards {
        // An old failure of a link that is up, or will not come again, is history.
        let ails = !matches!(board.state, State::Up | State::NoLink | State::Stopping);
        if let Some(failure) = board.last_failure.as_ref().filter(|_| ails) {
            let next = board
                .retry_in_ms
                .map_or_else(String::new, |ms| format!("; next attempt in {}", time(ms)));
            out.push_str(&format!("{}: {failure}{next}\n", board.name));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use virtio_phys_host::control_socket::message::Identity;

    use super::*;

    #[test]
    fn what_people_read() {
        let up = BoardReport {
            name: "b0".into(),
            interface: "vphys0".into(),
            state: State::Up,
            since_ms: 125_000,
            board: Some(Identity { name: "demo".into(), firmware: "1.2".into() }),
            sessions: 2,
            failures: 1,
            last_failure: Some("the heartbeat stands still".into()),
            retry_in_ms: None,
        };
        let waiting = BoardReport {
            name: "left-card".into(),
            state: State::Waiting,
            since_ms: 1_200,
            board: None,
            retry_in_ms: Some(800),
            last_failure: Some("no control block".into()),
            ..up.clone()
        };
        assert_eq!(
            text(&[up, waiting]),
            "BOARD      INTERFACE  LINK     SINCE  SESSIONS  FAILURES  FIRMWARE\n\
             b0         vphys0     up       2 min         2         1  demo 1.2\n\
             left-card  vphys0     waiting  1.2 s         2         1  -\n\
             left-card: no control block; next attempt in 0.8 s\n"
        );
        assert_eq!(text(&[]), "no boards: the configuration has none\n");
    }
}
