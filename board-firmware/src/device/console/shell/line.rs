//! The line that is being typed.

use super::out::Out;

/// Characters of a line at most; more are refused with a bell.
pub(super) const TYPED_MAX: usize = 72;

/// Bytes that one key echoes at most.
pub(super) const ECHO_MAX: usize = 4;

/// What a key did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    /// The line goes on.
    Edited,
    /// The line is complete.
    Enter,
    /// The line was given up.
    Cancelled,
}

/// Where in an escape sequence of the terminal (an arrow, a function key) it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Escape {
    None,
    /// Behind ESC.
    Begun,
    /// Behind ESC and a bracket: until a letter or tilde.
    Inside,
}

/// Keys to a line: printable ASCII, backspace, Enter, Ctrl-C. Others do nothing.
#[derive(Debug)]
pub(super) struct Line {
    bytes: [u8; TYPED_MAX],
    len: usize,
    escape: Escape,
    /// The last key was a carriage return: a line feed behind it is the same key.
    returned: bool,
}

impl Line {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; TYPED_MAX], len: 0, escape: Escape::None, returned: false }
    }

    pub(super) const fn clear(&mut self) {
        self.len = 0;
        self.escape = Escape::None;
    }

    /// What was typed. Only ASCII gets in, so it is always text.
    pub(super) fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Takes a key, and echoes at most [`ECHO_MAX`] bytes.
    pub(super) fn key(&mut self, byte: u8, out: &mut Out) -> Key {
        let returned = core::mem::replace(&mut self.returned, byte == b'\r');
        match self.escape {
            Escape::None => {}
            Escape::Begun => {
                let inside = matches!(byte, b'[' | b'O');
                self.escape = if inside { Escape::Inside } else { Escape::None };
                return Key::Edited;
            }
            Escape::Inside => {
                if matches!(byte, b'@'..=b'~') {
                    self.escape = Escape::None;
                }
                return Key::Edited;
            }
        }
        match byte {
            b'\n' if returned => {}
            b'\r' | b'\n' => {
                out.push(b"\r\n");
                return Key::Enter;
            }
            0x03 => {
                out.push(b"^C\r\n");
                self.len = 0;
                return Key::Cancelled;
            }
            0x08 | 0x7F => {
                if let Some(len) = self.len.checked_sub(1) {
                    self.len = len;
                    out.push(b"\x08 \x08");
                }
            }
            0x1B => self.escape = Escape::Begun,
            b' '..=b'~' => match self.bytes.get_mut(self.len) {
                Some(place) => {
                    *place = byte;
                    self.len += 1;
                    out.push(&[byte]);
                }
                None => out.push(b"\x07"),
            },
            _ => {}
        }
        Key::Edited
    }
}
