//! Log lines on standard error: `<N>` in front where that is the journal's,
//! the level's name elsewhere. No time: whoever keeps the log has it.

use std::io::Write;
use std::os::fd::AsFd;
use std::{env, fmt};

use env_logger::{Builder, Env};
use log::{Level, LevelFilter};
use nix::sys::stat::fstat;

/// Starts to log. `RUST_LOG` wins over `level`.
pub(crate) fn start(level: LevelFilter) {
    let journal = is_journal();
    let mut builder = match env::var_os("RUST_LOG") {
        Some(_) => Builder::from_env(Env::default()),
        // The bound is `log`'s own then, which can change.
        None => {
            let mut builder = Builder::new();
            builder.filter_level(LevelFilter::Trace);
            builder
        }
    };
    builder.format(move |out, record| {
        let text = lines(record.level(), record.args(), journal);
        out.write_all(text.as_bytes())
    });
    builder.init();
    change(level);
}

/// Changes the level, unless `RUST_LOG` says it.
pub(crate) fn change(level: LevelFilter) {
    if env::var_os("RUST_LOG").is_none() {
        log::set_max_level(level);
    }
}

/// Whether standard error is the journal: it says which file that is.
fn is_journal() -> bool {
    let Ok(named) = env::var("JOURNAL_STREAM") else { return false };
    fstat(std::io::stderr().as_fd())
        .is_ok_and(|file| named == format!("{}:{}", file.st_dev, file.st_ino))
}

/// One record: each of its lines has its level, and nothing in it moves a
/// terminal's cursor.
fn lines(level: Level, text: &fmt::Arguments<'_>, journal: bool) -> String {
    let prefix = match (journal, level) {
        (true, Level::Error) => "<3>",
        (true, Level::Warn) => "<4>",
        (true, Level::Info) => "<6>",
        (true, Level::Debug | Level::Trace) => "<7>",
        (false, Level::Error) => "ERROR ",
        (false, Level::Warn) => "WARN  ",
        (false, Level::Info) => "INFO  ",
        (false, Level::Debug) => "DEBUG ",
        (false, Level::Trace) => "TRACE ",
    };
    let text = text.to_string();
    let mut out = String::with_capacity(prefix.len() + text.len() + 1);
    for line in text.split('\n') {
        out.push_str(prefix);
        for character in line.chars() {
            if character.is_control() {
                out.extend(character.escape_debug());
            } else {
                out.push(character);
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_level() {
        let text = lines(Level::Warn, &format_args!("b0: one\nb0: two"), true);
        assert_eq!(text, "<4>b0: one\n<4>b0: two\n");
        let text = lines(Level::Info, &format_args!("b0: \x1b[2Jup"), false);
        assert_eq!(text, "INFO  b0: \\u{1b}[2Jup\n");
    }
}
