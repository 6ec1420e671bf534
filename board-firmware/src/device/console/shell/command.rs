//! What can be asked of the board, and the answers, a line at a time.

use core::fmt::{self, Write};

use shared::link::board::MAX_DEVICES;
use shared::region::Rights;

use super::out::Out;
use crate::device::BoardView;

/// A command. Each only looks, but for the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Help,
    Log,
    Status,
    Counters,
    Regions,
    Reboot,
}

impl Command {
    /// Each with its name and what it does.
    const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Help, "help", "this list"),
        (Self::Log, "log", "the log, as far as it is kept"),
        (Self::Status, "status", "board, session and devices"),
        (Self::Counters, "counters", "what the other devices have counted"),
        (Self::Regions, "regions", "the memory that host and board share"),
        (Self::Reboot, "reboot", "restart the board"),
    ];

    /// The command of this name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, name, _)| *name == text)?;
        Some(found.0)
    }
}

/// Where an answer is: the next line, of which device.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Place {
    index: usize,
    device: u16,
}

impl Place {
    fn next_device(&mut self) {
        self.index = 0;
        self.device += 1;
    }
}

/// Writes the next line of an answer; `false`: there is none. The log is the
/// shell's own to print.
pub(super) fn answer(
    command: Command,
    place: &mut Place,
    now: u64,
    board: &dyn BoardView,
    out: &mut Out,
) -> Result<bool, fmt::Error> {
    let index = place.index;
    place.index += 1;
    match command {
        Command::Help => {
            let Some((_, name, about)) = Command::ALL.get(index) else { return Ok(false) };
            write!(out, "{name:<9} {about}\r\n")?;
        }
        Command::Log => return Ok(false),
        Command::Status => return status(index, place, now, board, out),
        Command::Counters => return counters(index, place, board, out),
        Command::Regions => match board.region(index) {
            Some(region) => {
                let kind = if region.base.is_board() { "board" } else { "host" };
                let rights = match region.rights {
                    Rights::READ => "read",
                    Rights::WRITE => "write",
                    _ => "read and write",
                };
                let (id, base, len) = (region.id, region.base.bits(), region.len);
                write!(
                    out,
                    "region {id}: {len:#x} bytes at {base:#x}, {kind} memory, {rights}\r\n"
                )?;
            }
            None if index == 0 => out.write_str("no regions\r\n")?,
            None => return Ok(false),
        },
        Command::Reboot => {
            if index > 0 {
                return Ok(false);
            }
            out.write_str("restart asked for\r\n")?;
        }
    }
    Ok(true)
}

fn status(
    index: usize,
    place: &mut Place,
    now: u64,
    board: &dyn BoardView,
    out: &mut Out,
) -> Result<bool, fmt::Error> {
    let link = board.link_stats();
    match index {
        0 => {
            let about = board.description();
            write!(out, "{}, firmware {}\r\n", about.name, about.firmware)?;
        }
        1 => write!(out, "up {}.{:03} s\r\n", now / 1000, now % 1000)?,
        2 => {
            match board.session() {
                Some(session) => write!(out, "session {:08x}", session.get())?,
                None => out.write_str("no session")?,
            }
            write!(out, ", {} so far, {} refused\r\n", link.sessions, link.refused)?;
        }
        3 => write!(
            out,
            "messages {}, discarded {}, channel faults {}, silent hosts {}\r\n",
            link.messages, link.discarded, link.channel_faults, link.silent_hosts
        )?,
        _ => {
            let there = (place.device..MAX_DEVICES)
                .find_map(|number| Some((number, board.device(number)?)));
            let Some((number, device)) = there else { return Ok(false) };
            place.device = number + 1;
            match device.device_id {
                1 => write!(out, "device {number}: network")?,
                3 => write!(out, "device {number}: console")?,
                other => write!(out, "device {number}: virtio id {other}")?,
            }
            write!(out, ", {}\r\n", device.status)?;
        }
    }
    Ok(true)
}

fn counters(
    mut index: usize,
    place: &mut Place,
    board: &dyn BoardView,
    out: &mut Out,
) -> Result<bool, fmt::Error> {
    while place.device < MAX_DEVICES {
        let number = place.device;
        if let Some((name, value)) = board.counter(number, index) {
            write!(out, "device {number}: {name} {value}\r\n")?;
            return Ok(true);
        }
        place.next_device();
        index = place.index;
        place.index += 1;
    }
    Ok(false)
}
