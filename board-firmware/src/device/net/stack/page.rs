//! The status page: `name: number` lines, plain text over HTTP/1.0.

use core::fmt::Write;

use smoltcp::socket::tcp;

use crate::trace::NetCounters;

/// Longest answer, in bytes, its header included.
pub(super) const LONGEST: usize = 2048;

/// Bytes kept for the header.
const HEADER: usize = 256;

/// An answer being written.
#[derive(Debug)]
pub(super) struct Page {
    body: [u8; LONGEST - HEADER],
    len: usize,
    found: bool,
    head_only: bool,
}

/// Text into a slice; what does not fit is left out.
struct Text<'a> {
    into: &'a mut [u8],
    len: &'a mut usize,
}

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let end = self.len.saturating_add(text.len());
        let place = self.into.get_mut(*self.len..end).ok_or(core::fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        *self.len = end;
        Ok(())
    }
}

impl Page {
    /// The answer to a GET or HEAD (`found`), or to something else.
    pub(super) fn new(found: bool, head_only: bool, name: &str) -> Self {
        let mut page = Self { body: [0; LONGEST - HEADER], len: 0, found, head_only };
        let _ = writeln!(page.text(), "board: {name}");
        page
    }

    fn text(&mut self) -> Text<'_> {
        Text { into: &mut self.body, len: &mut self.len }
    }

    /// Adds one line.
    pub(super) fn line(&mut self, name: &str, value: u64) {
        let _ = writeln!(self.text(), "{name}: {value}");
    }

    /// Adds all counters.
    pub(super) fn counters(&mut self, counters: &NetCounters) {
        for (name, value) in counters.named() {
            self.line(name, value);
        }
    }

    /// Sends it. The socket's send buffer is empty and has [`LONGEST`] bytes.
    pub(super) fn send(&self, socket: &mut tcp::Socket<'_>) -> Result<(), tcp::SendError> {
        let body = self.body.get(..self.len).unwrap_or(&[]);
        let status = if self.found { "200 OK" } else { "405 Method Not Allowed" };
        let mut header = [0; HEADER];
        let mut len = 0;
        let _ = write!(
            Text { into: &mut header, len: &mut len },
            "HTTP/1.0 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        socket.send_slice(header.get(..len).unwrap_or(&[]))?;
        if !self.head_only {
            socket.send_slice(body)?;
        }
        Ok(())
    }
}
