//! The board's own shell: its log as it comes, and a few commands.
//!
//! Guarantee: what is typed changes nothing on the board, but for `reboot`. The
//! shell needs no more memory than it has, whatever is typed or logged, and
//! nothing that the board does waits for it.

mod command;
mod line;
mod out;

use core::fmt::Write;

use self::command::{Command, Place, answer};
use self::line::{ECHO_MAX, Key, Line};
use self::out::Out;
use super::backend::ConsoleBackend;
use super::log::{LINE_MAX, Log, LogLine, LogReader};
use crate::device::BoardView;

/// What it shows when it waits for a command.
const PROMPT: &[u8] = b"> ";

/// To the start of the line, and clears it.
const ERASE: &[u8] = b"\r\x1b[K";

/// A shell with the board's log. The trace's events become lines of the log.
#[derive(Debug)]
pub struct Shell<'b> {
    log: Log<'b>,
    /// How far the log was printed as it came.
    told: LogReader,
    /// Events of the trace that are in the log.
    seen: u64,
    out: Out,
    line: Line,
    /// Prompt and line are on the screen: keys may be echoed.
    prompted: bool,
    running: Option<Running>,
    reboot: bool,
    now: u64,
}

/// A command that still has something to say.
#[derive(Clone, Copy, Debug)]
enum Running {
    Command { command: Command, place: Place },
    Log(LogReader),
    Unknown,
}

impl<'b> Shell<'b> {
    /// A shell with this log.
    #[must_use]
    pub const fn new(log: Log<'b>) -> Self {
        Self {
            log,
            told: LogReader::new(),
            seen: 0,
            out: Out::new(),
            line: Line::new(),
            prompted: false,
            running: None,
            reboot: false,
            now: 0,
        }
    }

    /// The log, for the board's own lines.
    pub const fn log(&mut self) -> &mut Log<'b> {
        &mut self.log
    }

    /// Makes the next output, into an empty buffer. `false`: there is none.
    fn make_output(&mut self, board: &dyn BoardView) -> bool {
        match self.running {
            Some(running) => {
                self.running = self.go_on(running, board);
                true
            }
            None => {
                let mut text = [0; LINE_MAX];
                let found = self.log.read(&mut self.told, &mut text);
                if let Some(found) = found {
                    if self.prompted {
                        self.out.push(ERASE);
                    }
                    self.prompted = false;
                    self.log_line(found, &text);
                    true
                } else if !self.prompted {
                    self.prompted = true;
                    self.out.push(PROMPT);
                    self.out.push(self.line.text().as_bytes());
                    true
                } else {
                    false
                }
            }
        }
    }

    /// Says the next line of a command; `None`: that was all.
    fn go_on(&mut self, running: Running, board: &dyn BoardView) -> Option<Running> {
        match running {
            Running::Command { command, mut place } => {
                // The buffer cuts what does not fit, and never fails.
                let more = answer(command, &mut place, self.now, board, &mut self.out);
                if more.is_ok_and(|more| more) {
                    return Some(Running::Command { command, place });
                }
            }
            Running::Log(mut reader) => {
                let mut text = [0; LINE_MAX];
                if let Some(found) = self.log.read(&mut reader, &mut text) {
                    self.log_line(found, &text);
                    return Some(Running::Log(reader));
                }
            }
            Running::Unknown => {
                let _ = write!(self.out, "{}: no such command; try help\r\n", self.line.text());
            }
        }
        self.line.clear();
        None
    }

    fn log_line(&mut self, found: LogLine, text: &[u8]) {
        match found {
            LogLine::Line(len) => self.out.push(text.get(..len).unwrap_or_default()),
            LogLine::Lost(lines) => {
                let _ = write!(self.out, "({lines} lines lost)");
            }
        }
        self.out.push(b"\r\n");
    }

    /// A line is complete.
    fn enter(&mut self) {
        self.prompted = false;
        let text = self.line.text().trim_ascii();
        self.running = match Command::parse(text) {
            Some(Command::Log) => Some(Running::Log(self.log.oldest())),
            Some(command) => {
                self.reboot |= command == Command::Reboot;
                Some(Running::Command { command, place: Place::default() })
            }
            None if text.is_empty() => {
                self.line.clear();
                None
            }
            None => Some(Running::Unknown),
        };
    }
}

impl ConsoleBackend for Shell<'_> {
    fn start(&mut self) {
        self.out.clear();
        self.line.clear();
        self.running = None;
        self.prompted = false;
    }

    fn poll(&mut self, now: u64, board: &dyn BoardView) {
        self.now = now;
        let trace = board.trace();
        if trace.total() == self.seen {
            return;
        }
        let kept: u64 = trace.iter().map(|entry| u64::from(entry.times)).sum();
        let mut position = trace.total().saturating_sub(kept);
        if position > self.seen {
            self.log.line(now, format_args!("({} events lost)", position - self.seen));
        }
        for entry in trace.iter() {
            let end = position.saturating_add(entry.times.into());
            match end.saturating_sub(position.max(self.seen)) {
                0 => {}
                1 => self.log.line(entry.at, format_args!("{}", entry.event)),
                times => {
                    self.log.line(entry.at, format_args!("{} ({times} times)", entry.event));
                }
            }
            position = end;
        }
        self.seen = trace.total();
    }

    fn wants_input(&self) -> bool {
        self.prompted && self.out.room() >= ECHO_MAX
    }

    fn input(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        for byte in bytes {
            if !self.wants_input() {
                break;
            }
            taken += 1;
            match self.line.key(*byte, &mut self.out) {
                Key::Edited => {}
                Key::Enter => self.enter(),
                Key::Cancelled => self.prompted = false,
            }
        }
        taken
    }

    fn output(&mut self, board: &dyn BoardView, into: &mut [u8]) -> usize {
        let mut made = 0;
        while let Some(rest) = into.get_mut(made..).filter(|rest| !rest.is_empty()) {
            if self.out.is_empty() && !self.make_output(board) {
                break;
            }
            made += self.out.take(rest);
        }
        made
    }

    fn take_reboot(&mut self) -> bool {
        core::mem::take(&mut self.reboot)
    }
}
