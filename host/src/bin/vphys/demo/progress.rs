//! What the demo says while it works: on standard error, so that standard
//! output has the result alone. With --json nothing.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Tells the steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    quiet: bool,
}

impl Progress {
    pub(crate) const fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Does `work`, which says at its end what came of it.
    pub(crate) fn step<T>(
        self,
        name: &str,
        work: impl FnOnce() -> Result<T>,
        told: impl FnOnce(&T) -> String,
    ) -> Result<T> {
        self.say(format_args!("{name:<16} "));
        self.end(work(), told)
    }

    /// The same under a progress bar for `work` that takes `time`.
    pub(crate) fn timed<T>(
        self,
        name: &'static str,
        time: Duration,
        work: impl FnOnce(&mut dyn FnMut(Duration)) -> Result<T>,
        told: impl FnOnce(&T) -> String,
    ) -> Result<T> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let bar = if self.quiet { ProgressBar::hidden() } else { ProgressBar::new(millis(time)) };
        let style = ProgressStyle::with_template("{msg:<16} [{bar:40}] {percent:>3} %")?;
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(name);
        // No terminal, no bar: then the name comes first as well.
        if bar.is_hidden() {
            self.say(format_args!("{name:<16} "));
        }
        let outcome = work(&mut |elapsed| bar.set_position(millis(elapsed)));
        let hidden = bar.is_hidden();
        bar.finish_and_clear();
        if !hidden {
            self.say(format_args!("{name:<16} "));
        }
        self.end(outcome, told)
    }

    fn end<T>(self, outcome: Result<T>, told: impl FnOnce(&T) -> String) -> Result<T> {
        match &outcome {
            Ok(value) => self.say(format_args!("{}\n", told(value))),
            Err(_) => self.say(format_args!("failed\n")),
        }
        outcome
    }

    /// A terminal that is gone is no reason to stop.
    fn say(self, text: std::fmt::Arguments<'_>) {
        if !self.quiet {
            let mut out = std::io::stderr().lock();
            let _ = out.write_fmt(text).and_then(|()| out.flush());
        }
    }
}
