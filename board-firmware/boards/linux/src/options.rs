//! The command line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use board::program::Addresses;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use host::tap::InterfaceMode;

/// A board that is a process: shared memory and eventfds for a bus.
///
/// It runs the firmware library on an ivshmem server (`vphys ivshmem-server`, or
/// with --serve its own). A daemon whose configuration has a board with
/// `bus = "ivshmem"` and this socket attaches to it.
///
/// SIGUSR1 reboots the board; SIGTERM or Ctrl-C ends it.
///
/// Exit status: 0 if a signal ended it, 1 if it could not start or its server
/// or interface went away, 2 if the command line is wrong.
#[derive(Clone, Debug, Parser)]
#[command(name = "virtio-phys-board-linux", version)]
pub(crate) struct Options {
    /// The ivshmem server's socket.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: PathBuf,
    /// Serve that socket itself. One that nobody serves any more is replaced.
    #[arg(long)]
    pub(crate) serve: bool,
    /// What lies behind its network device: an IP stack with ping, TCP and UDP services; an echo;
    /// or an interface of this machine's kernel.
    #[arg(long, value_name = "stack|echo|tap:NAME|tun:NAME", default_value = "stack")]
    pub(crate) behind: BehindOption,
    /// The board's name, up to 32 printable ASCII characters.
    #[arg(long, default_value = "linux board", value_parser = label)]
    pub(crate) name: String,
    /// Its addresses on the link with their prefix lengths: the stack's, one of IPv4 and one of
    /// IPv6, or the interface's. [default: the stack's 10.77.0.2/24 and fd77::2/64]
    #[arg(long = "address", value_name = "ADDRESS/LENGTH", value_parser = address)]
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// Tells the MAC addresses of several boards apart.
    #[arg(long, value_name = "0..255", default_value_t = 0x79)]
    pub(crate) number: u8,
    /// A board that cannot reach host memory.
    #[arg(long)]
    pub(crate) bar_only: bool,
    /// Vectors of each peer, as the server has it.
    #[arg(
        long,
        value_name = "2..32",
        default_value_t = 4,
        value_parser = RangedU64ValueParser::<u16>::new().range(2..=32)
    )]
    pub(crate) vectors: u16,
    /// With --serve: shared memory in MiB, a power of two.
    #[arg(long, value_name = "MIB", default_value_t = 128, requires = "serve")]
    pub(crate) memory: u64,
}

/// What is to lie behind the network device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BehindOption {
    Stack,
    Echo,
    Interface(InterfaceMode, String),
}

impl FromStr for BehindOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let interface = |mode, name: &str| match name {
            "" => Err("an interface needs a name, such as tap:board0".to_owned()),
            name => Ok(Self::Interface(mode, name.to_owned())),
        };
        match text.split_once(':') {
            None if text == "stack" => Ok(Self::Stack),
            None if text == "echo" => Ok(Self::Echo),
            Some(("tap", name)) => interface(InterfaceMode::Tap, name),
            Some(("tun", name)) => interface(InterfaceMode::Tun, name),
            _ => Err("choose stack, echo, tap:NAME or tun:NAME".to_owned()),
        }
    }
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
    /// The stack's addresses: one of each kind.
    pub(crate) fn stack_addresses(&self) -> Result<Addresses> {
        let default = [
            (IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), 24),
            (IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2)), 64),
        ];
        let given = if self.addresses.is_empty() { &default[..] } else { &self.addresses };
        let (mut v4, mut v6) = (None, None);
        for (address, prefix) in given {
            let before = match address {
                IpAddr::V4(address) => v4.replace((address.octets(), *prefix)).is_some(),
                IpAddr::V6(address) => v6.replace((address.octets(), *prefix)).is_some(),
            };
            if before {
                bail!(
                    "--address {address}/{prefix} is the second of its kind: the stack takes one"
                );
            }
        }
        // Addresses that nobody on the link asks for.
        let (nobody4, nobody6) =
            (Ipv4Addr::new(169, 254, 77, 2), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x77, 2));
        Ok(Addresses {
            v4: v4.unwrap_or((nobody4.octets(), 16)),
            v6: v6.unwrap_or((nobody6.octets(), 64)),
        })
    }
}
