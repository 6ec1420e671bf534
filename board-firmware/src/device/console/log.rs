//! The board's log: the last lines, in memory of a fixed size.

use core::fmt::{self, Write};

/// Bytes of a line at most, with its time; what is longer is cut.
pub const LINE_MAX: usize = 120;

/// A ring of lines. When it is full the oldest line goes.
#[derive(Debug)]
pub struct Log<'b> {
    bytes: &'b mut [u8],
    /// Bytes written since the start: of the oldest line that is kept, and in all.
    start: u64,
    end: u64,
    /// Lines written since the start: the number of the oldest that is kept,
    /// and in all.
    first: u64,
    lines: u64,
}

/// How far somebody has read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LogReader {
    at: u64,
    line: u64,
}

impl LogReader {
    /// From the very first line on.
    #[must_use]
    pub const fn new() -> Self {
        Self { at: 0, line: 0 }
    }
}

/// What a reader finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLine {
    /// A line of so many bytes.
    Line(usize),
    /// So many lines went before they were read.
    Lost(u64),
}

impl<'b> Log<'b> {
    /// An empty log in this memory: 2 KiB hold some forty lines. In less than
    /// [`LINE_MAX`] bytes lines are cut shorter.
    #[must_use]
    pub const fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, start: 0, end: 0, first: 0, lines: 0 }
    }

    /// Adds a line with its time, in milliseconds of the service's time.
    /// Control characters become dots, so that a line stays one.
    pub fn line(&mut self, now: u64, text: fmt::Arguments<'_>) {
        let room = LINE_MAX.min(self.bytes.len()).saturating_sub(1);
        let mut line = LineWriter { log: self, room };
        // A line that is cut is no error.
        let _ = write!(line, "[{:>5}.{:03}] ", now / 1000, now % 1000);
        let _ = line.write_fmt(text);
        self.push(b'\n');
        self.lines = self.lines.saturating_add(1);
        if self.bytes.is_empty() {
            self.first = self.lines;
        }
    }

    /// A reader of what is kept.
    #[must_use]
    pub const fn oldest(&self) -> LogReader {
        LogReader { at: self.start, line: self.first }
    }

    /// Lines written so far, those that went included.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// The next line for a reader, without its end; `None`: it has read all.
    pub fn read(&self, reader: &mut LogReader, into: &mut [u8; LINE_MAX]) -> Option<LogLine> {
        if reader.line < self.first {
            let lost = self.first - reader.line;
            *reader = self.oldest();
            return Some(LogLine::Lost(lost));
        }
        if reader.line >= self.lines {
            return None;
        }
        let mut len = 0;
        for at in reader.at..self.end {
            let byte = self.place(at).and_then(|place| self.bytes.get(place)).copied();
            match (byte, into.get_mut(len)) {
                (Some(b'\n') | None, _) | (_, None) => break,
                (Some(byte), Some(place)) => *place = byte,
            }
            len += 1;
        }
        reader.at = reader.at.saturating_add(len as u64 + 1);
        reader.line += 1;
        Some(LogLine::Line(len))
    }

    fn place(&self, at: u64) -> Option<usize> {
        usize::try_from(at.checked_rem(self.bytes.len() as u64)?).ok()
    }

    fn push(&mut self, byte: u8) {
        if self.end - self.start >= self.bytes.len() as u64 {
            self.drop_oldest();
        }
        let Some(place) = self.place(self.end).and_then(|place| self.bytes.get_mut(place)) else {
            return;
        };
        *place = byte;
        self.end += 1;
    }

    fn drop_oldest(&mut self) {
        while self.start < self.end {
            let byte = self.place(self.start).and_then(|place| self.bytes.get(place)).copied();
            self.start += 1;
            if byte == Some(b'\n') {
                self.first = self.first.saturating_add(1);
                return;
            }
        }
    }
}

/// Writes one line, as far as there is room.
struct LineWriter<'a, 'b> {
    log: &'a mut Log<'b>,
    room: usize,
}

impl Write for LineWriter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.room = self.room.checked_sub(1).ok_or(fmt::Error)?;
            self.log.push(if byte < b' ' || byte == 0x7F { b'.' } else { byte });
        }
        Ok(())
    }
}
