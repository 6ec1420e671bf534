//! The board's boots, one after the other.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use board::device::Wake;
use board::device::net::FrameHandler;
use board::device::net::stack::Stack;
use board::program::{self, Addresses, HEARTBEAT, Memory, Order, Setup, boot, boot_behind};
use shared::link::{Epoch, Versions};
use shared::wire::net::NetHeader;

use crate::bus::Bus;
use crate::interface::Interface;
use crate::process::{Off, Process, Signals};

/// Bytes of each of the stack's large socket buffers.
const SOCKET_BUFFER: usize = 512 << 10;

/// What lies behind the network device.
#[derive(Debug)]
pub(crate) enum Behind {
    Echo,
    Stack(Addresses),
    Interface(Interface),
}

/// This board has no code of its own that frames could go to.
enum Nobody {}

impl FrameHandler for Nobody {
    fn take(&mut self, _now: u64, _header: &NetHeader, _frame: &[u8]) {}

    fn give(&mut self, _now: u64, _into: &mut [u8]) -> Option<(NetHeader, usize)> {
        match *self {}
    }

    fn next(&self, _now: u64) -> Wake {
        match *self {}
    }
}

/// Runs the board, boot after boot, until a signal ends it.
///
/// # Errors
/// Server or interface went away, or what was asked for does not go together.
pub(crate) fn run(
    bus: &Bus,
    name: &str,
    number: u8,
    behind: &Behind,
    signals: &Signals,
) -> Result<()> {
    // Another one with each start of the process, and counted up from there.
    let seed = RandomState::new().hash_one(0);
    let mut epoch = Epoch::from_random(u32::try_from(seed >> 32).unwrap_or(1));
    let mut memory = Box::new(Memory::new());
    let mut sockets = match behind {
        Behind::Stack(_) => vec![0; Stack::LEAST_BYTES + Stack::BULK_BUFFERS * SOCKET_BUFFER],
        _ => Vec::new(),
    };
    let firmware = env!("CARGO_PKG_VERSION");
    let setup = Setup { name, firmware, number, versions: Versions::OURS, heartbeat: HEARTBEAT };
    let interface = match behind {
        Behind::Interface(interface) => Some(interface),
        _ => None,
    };
    let around =
        Process { start: Instant::now(), board: &bus.board, signals, interface, off: None };
    let mut around = around;
    loop {
        let (memory, around) = (memory.as_mut(), &mut around);
        let order = match behind {
            Behind::Echo => {
                let echo = program::Behind::<Nobody>::Echo;
                boot_behind(bus, &setup, epoch, memory, echo, around)
            }
            Behind::Stack(addresses) => {
                let stack = program::Behind::<Nobody>::Stack(*addresses, &mut sockets);
                boot_behind(bus, &setup, epoch, memory, stack, around)
            }
            Behind::Interface(interface) => {
                let backend = interface.backend()?;
                boot(bus, &setup, epoch, memory, backend, around)
            }
        };
        if order.context("the board cannot boot")? == Order::Off {
            break;
        }
        log::info!("the board reboots");
        epoch = epoch.next();
    }
    match around.off {
        None | Some(Off::Asked) => Ok(()),
        Some(Off::ServerGone) => bail!(
            "the ivshmem server has ended, and the board with it: start it again, then the board"
        ),
        Some(Off::InterfaceGone) => bail!(
            "the board's interface cannot be used any more (the reason is above): start the \
             board again"
        ),
    }
}
