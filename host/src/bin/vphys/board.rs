//! `vphys board`: the emulated board as a process of its own.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use board::program::{Order, Surroundings};
use clap::Args;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use virtio_phys_host::bus::ivshmem::{IvshmemBoard, Server, ServerOptions};
use virtio_phys_host::signals::EndSignals;

use crate::emulated_board::{Addresses, Behind, Clock, IvshmemPort, Setup, run as run_board};

/// How long a server in this process may take to greet.
const GREETING: Duration = Duration::from_secs(10);

/// Options of `vphys board`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The socket that the daemon's configuration names. A dead board's is replaced.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// What lies behind its network device.
    #[arg(long, value_enum, default_value_t = Behind::Stack)]
    behind: Behind,
    /// The board's name, up to 32 printable ASCII characters.
    #[arg(long, default_value = "emulated board", value_parser = label)]
    name: String,
    /// Its addresses on the link with their prefix lengths: one of IPv4, one of IPv6.
    #[arg(
        long = "address",
        value_name = "ADDRESS/LENGTH",
        default_values = ["10.77.0.2/24", "fd77::2/64"],
        value_parser = address
    )]
    addresses: Vec<(IpAddr, u8)>,
    /// Tells the MAC addresses of several boards apart.
    #[arg(long, value_name = "0..255", default_value_t = 0x79)]
    number: u8,
    /// Shared memory in MiB, a power of two: half of it is the board's, half the host's.
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    memory: u64,
    /// A board that cannot reach host memory.
    #[arg(long)]
    bar_only: bool,
}

fn label(text: &str) -> Result<String, String> {
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if printable && (1..=32).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("choose 1 to 32 printable ASCII characters".to_owned())
    }
}

fn address(text: &str) -> Result<(IpAddr, u8), String> {
    let (address, prefix) = text.split_once('/').ok_or("a prefix length is missing: A/N")?;
    let address: IpAddr = address.parse().map_err(|error| format!("{address}: {error}"))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    match prefix.parse() {
        Ok(prefix) if prefix <= longest => Ok((address, prefix)),
        _ => Err(format!("prefix length {prefix} is not a number from 0 to {longest}")),
    }
}

impl Options {
    fn addresses(&self) -> Result<Addresses> {
        let (mut v4, mut v6) = (None, None);
        for (address, prefix) in &self.addresses {
            let before = match address {
                IpAddr::V4(address) => v4.replace((*address, *prefix)).is_some(),
                IpAddr::V6(address) => v6.replace((*address, *prefix)).is_some(),
            };
            if before {
                bail!(
                    "--address {address}/{prefix} is the second of its kind: the board takes one"
                );
            }
        }
        Ok(Addresses {
            // Addresses that nobody on the link asks for.
            v4: v4.unwrap_or((Ipv4Addr::new(169, 254, 77, 2), 16)),
            v6: v6.unwrap_or((Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x77, 2), 64)),
        })
    }
}

/// Runs the board until a signal ends it.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let addresses = options.addresses()?;
    // Both before the first thread, so that all inherit it.
    let end = EndSignals::block().context("cannot receive signals")?;
    let reboot = reboot_signal().context("cannot receive signals")?;
    let Some(memory) = options.memory.checked_mul(1 << 20) else {
        bail!("--memory {} is more than there can be", options.memory);
    };
    let server =
        Server::bind(&options.socket, ServerOptions { memory, ..ServerOptions::default() })?;
    let doorbells = ServerOptions::default().vectors - 1;
    let server = server.start()?;
    let ivshmem = IvshmemBoard::connect(&options.socket, doorbells, GREETING)?;
    let port = IvshmemPort { board: ivshmem, bar_only: options.bar_only };
    let setup = Setup {
        name: options.name.clone(),
        number: options.number,
        addresses,
        behind: options.behind.clone(),
        fault: None,
    };
    // Nobody need read it.
    let _ = writeln!(
        std::io::stderr(),
        "board \"{}\" is at {}; SIGUSR1 reboots it, Ctrl-C ends it",
        setup.name,
        options.socket.display()
    );
    let mut around = Process { clock: Clock::new(), board: &port.board, end, reboot };
    let outcome = run_board(&port, &setup, &mut around);
    if !port.board.is_connected() {
        bail!("the ivshmem server of this board has ended (a bug; its message is above)");
    }
    drop(server);
    outcome.map(|()| ExitCode::SUCCESS)
}

fn reboot_signal() -> std::io::Result<SignalFd> {
    let set: SigSet = [Signal::SIGUSR1].into_iter().collect();
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// What reaches the board from outside.
struct Process<'a> {
    clock: Clock,
    board: &'a IvshmemBoard,
    end: EndSignals,
    reboot: SignalFd,
}

impl Surroundings for Process<'_> {
    fn now_us(&mut self) -> u64 {
        self.clock.now_us()
    }

    fn pause(&mut self, until_us: u64) -> Order {
        if !self.board.is_connected() {
            return Order::Off;
        }
        let mut fds = [self.end.as_fd(), self.reboot.as_fd(), self.board.fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let _ = self.clock.wait(&mut fds, until_us);
        if self.end.arrived().is_some() {
            Order::Off
        } else if matches!(self.reboot.read_signal(), Ok(Some(_))) {
            Order::Reboot
        } else {
            Order::Go
        }
    }
}
