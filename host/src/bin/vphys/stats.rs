//! `vphys stats`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use virtio_phys_host::control_socket::message::{StatsReport, WATCH_MS};
use virtio_phys_host::control_socket::{Answer, Asking, Request};

use crate::asking::{Daemon, unexpected};
use crate::output::{print, table};

/// Rows of a watch between two headings.
const PAGE: usize = 20;

/// Options of `vphys stats`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Print JSON: one object on one line, with --watch one each time.
    #[arg(long)]
    json: bool,
    /// Print the rates again and again, until interrupted.
    #[arg(long)]
    watch: bool,
    /// Seconds between two answers of a watch, from 0.1 to 3600.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    #[command(flatten)]
    daemon: Daemon,
}

fn interval(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("choose a number from 0.1 to 3600".to_owned()),
    }
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let ms = u64::try_from(options.interval.as_millis()).unwrap_or(u64::MAX);
    let ms = ms.clamp(*WATCH_MS.start(), *WATCH_MS.end());
    let watch_ms = options.watch.then_some(ms);
    let mut asking = Asking::begin(&options.daemon.socket(), &Request::Stats { watch_ms })?;
    let mut before: Option<Vec<StatsReport>> = None;
    let mut row = 0;
    loop {
        let Answer::Stats { boards } = asking.answer()? else { return Err(unexpected()) };
        let text = if options.json {
            serde_json::to_string(&serde_json::json!({ "boards": boards }))? + "\n"
        } else if !options.watch {
            boards.iter().map(totals).collect::<Result<Vec<_>>>()?.join("\n")
        } else if let Some(before) = &before {
            let head = row % PAGE == 0;
            row += boards.len().max(1);
            rates(before, &boards, options.interval, head)
        } else {
            String::new()
        };
        let read = print(&text)?;
        if !options.watch || !read {
            return Ok(ExitCode::SUCCESS);
        }
        before = Some(boards);
    }
}

/// Each counter by its name in messages.
fn counters(of: &impl Serialize) -> Result<Vec<(String, u64)>> {
    let value = serde_json::to_value(of).context("the counters cannot be listed")?;
    let Value::Object(map) = value else { return Ok(Vec::new()) };
    let number = |(name, value): (String, Value)| value.as_u64().map(|value| (name, value));
    let mut all: Vec<_> = map.into_iter().filter_map(number).collect();
    // What is asked for most comes first.
    all.sort_by_key(|(name, _)| (name != "frames", name != "bytes"));
    Ok(all)
}

/// All counters of a board.
fn totals(board: &StatsReport) -> Result<String> {
    let down = counters(&board.counters.to_board)?;
    let up = counters(&board.counters.to_host)?;
    let mut rows = vec![[
        format!("{} ({})", board.name, board.interface),
        "to the board".to_owned(),
        "to the host".to_owned(),
    ]];
    let find = |counters: &[(String, u64)], wanted: &str| {
        let found = counters.iter().find(|(name, _)| name == wanted);
        found.map_or_else(String::new, |(_, value)| value.to_string())
    };
    let only_up = up.iter().filter(|(name, _)| !down.iter().any(|(other, _)| other == name));
    for (name, _) in down.iter().chain(only_up) {
        let label = format!("  {}", name.replace('_', " "));
        rows.push([label, find(&down, name), find(&up, name)]);
    }
    Ok(table(&rows, [false, true, true]))
}

/// What has moved since `before`, a row a board.
fn rates(before: &[StatsReport], boards: &[StatsReport], interval: Duration, head: bool) -> String {
    let names = boards.iter().map(|board| board.name.chars().count());
    let width = names.max().unwrap_or(0).max(5);
    let mut out = String::new();
    if head {
        out.push_str(&format!(
            "{:<width$}  {:>12}  {:>12}  {:>12}  {:>12}\n",
            "BOARD", "to board/s", "Mbit/s", "to host/s", "Mbit/s"
        ));
    }
    for board in boards {
        let Some(old) = before.iter().find(|old| old.name == board.name) else { continue };
        // Counts since the daemon began: another daemon begins anew.
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 / interval.as_secs_f64();
        let (new, old) = (&board.counters, &old.counters);
        out.push_str(&format!(
            "{:<width$}  {:>12.0}  {:>12.3}  {:>12.0}  {:>12.3}\n",
            board.name,
            rate(new.to_board.frames, old.to_board.frames),
            rate(new.to_board.bytes, old.to_board.bytes) * 8.0 / 1e6,
            rate(new.to_host.frames, old.to_host.frames),
            rate(new.to_host.bytes, old.to_host.bytes) * 8.0 / 1e6,
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use virtio_phys_host::bridge::BridgeCounters;

    use super::*;

    fn board(frames: u64) -> StatsReport {
        let mut counters = BridgeCounters::default();
        counters.to_board.frames = frames;
        counters.to_board.bytes = frames * 125_000;
        counters.to_host.completion_polled = 7;
        StatsReport { name: "b0".into(), interface: "vphys0".into(), counters }
    }

    #[test]
    fn every_counter_is_in_the_table() {
        let text = totals(&board(3)).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>().join(" "),
            "b0 (vphys0) to the board to the host"
        );
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["frames", "3", "0"]);
        assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["bytes", "375000", "0"]);
        let polled = lines.iter().find(|line| line.contains("completion polled")).unwrap();
        // Which has no counterpart towards the board.
        assert_eq!(polled.split_whitespace().collect::<Vec<_>>(), ["completion", "polled", "7"]);
        let width = lines[1].len();
        assert!(lines.iter().all(|line| line.len() <= width), "{text}");
    }

    #[test]
    fn rates_are_per_second() {
        let text = rates(&[board(0)], &[board(8)], Duration::from_secs(2), true);
        let rows: Vec<Vec<_>> = text.lines().map(|row| row.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["b0", "4", "4.000", "0", "0.000"]);
        // Another daemon's counters are smaller.
        let text = rates(&[board(8)], &[board(0)], Duration::from_secs(2), false);
        assert!(text.starts_with("b0 ") && text.contains(" 0.000"), "{text}");
    }
}
