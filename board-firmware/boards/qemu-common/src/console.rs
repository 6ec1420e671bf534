//! The board's own serial line: where log lines, panics and exceptions go.

use core::fmt::{self, Arguments, Write};

use log::{Log, Metadata, Record};

/// A serial line.
pub trait Uart: Sync {
    /// Sends one byte, waiting until there is room for it.
    fn put(&self, byte: u8);
}

/// Lines of text on a serial line, and what `log` writes to.
#[derive(Debug)]
pub struct Console<U> {
    uart: U,
}

struct Lines<'a, U>(&'a U);

impl<U: Uart> Write for Lines<'_, U> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.0.put(b'\r');
            }
            self.0.put(byte);
        }
        Ok(())
    }
}

impl<U: Uart> Console<U> {
    /// Lines on `uart`.
    pub const fn new(uart: U) -> Self {
        Self { uart }
    }

    /// Prints a line.
    pub fn line(&self, text: Arguments<'_>) {
        // The sink never fails; what a value's own formatting says is its affair.
        let _ = writeln!(Lines(&self.uart), "{text}");
    }
}

impl<U: Uart + Send> Log for Console<U> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.line(format_args!("{}: {}", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}
