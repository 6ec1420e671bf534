//! The host's end of the board's console: what the control thread does for it,
//! with a screen that a test reads and a keyboard that it types on.

use std::collections::VecDeque;
use std::io;

use host::bus::sim::{SimDoorbell, SimWindow};
use host::console::{Console, ConsoleError, Moved, Terminal};

use super::bus::RigBus;

/// What the console is seen on.
#[derive(Debug, Default)]
pub struct Screen {
    /// What the board has shown so far.
    pub shown: Vec<u8>,
    /// What was typed and not sent yet.
    pub typed: VecDeque<u8>,
    /// It takes nothing.
    pub stuck: bool,
}

impl Screen {
    /// What was shown, as text; what is no text is marked.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown).into()
    }
}

impl Terminal for Screen {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = into.len().min(self.typed.len());
        for (place, byte) in into.iter_mut().zip(self.typed.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stuck {
            return Ok(0);
        }
        self.shown.extend(bytes);
        Ok(bytes.len())
    }

    fn forget_typed(&mut self) -> io::Result<()> {
        self.typed.clear();
        Ok(())
    }
}

/// The console of a session, if it has one.
#[derive(Debug, Default)]
pub struct HostConsole {
    /// What it is seen on.
    pub screen: Screen,
    /// Consoles that came up.
    pub ups: u32,
    /// Why the last one is of no use any more.
    pub failed: Option<ConsoleError>,
    console: Option<(u16, Console<SimWindow, SimDoorbell>)>,
    asleep: bool,
}

impl HostConsole {
    /// Whether there is one now.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.console.is_some()
    }

    pub(super) fn up(&mut self, link: host::session::ConsoleLink<RigBus>) {
        self.console = Some((link.device, Console::new(link.to_host, link.to_board)));
        self.asleep = false;
        self.ups += 1;
    }

    /// The board has announced something in a slow queue.
    pub(super) const fn wake(&mut self) {
        self.asleep = false;
    }

    /// The device is gone; `true`: it was the console.
    pub(super) fn removed(&mut self, device: u16) -> bool {
        self.console.take_if(|(console, _)| *console == device).is_some()
    }

    pub(super) fn wakes_at(&self) -> u64 {
        self.console.as_ref().and_then(|(_, console)| console.wake_at()).unwrap_or(u64::MAX)
    }

    /// One turn; `false`: it sleeps.
    pub(super) fn turn(&mut self, now: u64) -> bool {
        let Some((_, console)) = &mut self.console else { return false };
        let wants = console.wants();
        let typed = wants.readable && !self.screen.typed.is_empty();
        let room = wants.writable && !self.screen.stuck;
        let due = console.wake_at().is_some_and(|at| now >= at);
        if self.asleep && !(typed || room || due) {
            return false;
        }
        self.asleep = false;
        let mut serve = || -> Result<(), ConsoleError> {
            if console.step(now, &mut self.screen)? == Moved::default() {
                self.asleep = console.arm()?;
            }
            Ok(())
        };
        if let Err(error) = serve() {
            (self.failed, self.console) = (Some(error), None);
        }
        true
    }
}
