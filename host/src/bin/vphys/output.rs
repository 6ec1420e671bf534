//! What the commands print: tables of aligned columns, without colour.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

/// Prints to standard output; `false` if nobody reads it any more, which is
/// no error: they have seen what they wanted.
pub(crate) fn print(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// Rows of cells, each column as wide as its widest cell. `numbers` says which
/// columns are set to the right.
pub(crate) fn table<const N: usize>(rows: &[[String; N]], numbers: [bool; N]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), number) in row.iter().zip(widths).zip(numbers) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            if number {
                line.push_str(&format!("{cell:>width$}"));
            } else {
                line.push_str(&format!("{cell:<width$}"));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A time for people.
pub(crate) fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..10 => format!("{}.{} s", seconds, ms % 1000 / 100),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{minutes} min"),
        7200..172_800 => format!("{hours} h"),
        _ => format!("{days} d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let rows = [row("BOARD", "N"), row("b\u{e9}", "100"), row("", "")];
        assert_eq!(table(&rows, [false, true]), "BOARD    N\nb\u{e9}     100\n\n");
    }

    #[test]
    fn times() {
        for (ms, text) in [
            (0, "0.0 s"),
            (9_999, "9.9 s"),
            (10_000, "10 s"),
            (119_999, "119 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (u64::MAX, "213503982334 d"),
        ] {
            assert_eq!(time(ms), text);
        }
    }
}
