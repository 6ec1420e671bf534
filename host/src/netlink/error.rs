//! Why the kernel's network configuration could not be read or changed.

use std::net::IpAddr;
use std::{fmt, io};

use nix::libc;

/// What was attempted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// Opening the netlink socket.
    Open,
    /// Reading the interface's state.
    Read,
    /// Bringing the interface up.
    Up,
    /// Taking the interface down.
    Down,
    /// Setting its MTU, in bytes.
    Mtu(u32),
    /// Setting its MAC address.
    Mac([u8; 6]),
    /// Adding an address with its prefix length.
    Address(IpAddr, u8),
    /// Removing one.
    RemoveAddress(IpAddr, u8),
    /// Setting how it makes IPv6 addresses of its own.
    AddressGeneration,
    /// Deleting the interface.
    Delete,
    /// Creating it, as a bridge.
    AddBridge,
    /// Putting it on a bridge of this name.
    AddToBridge(String),
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open a netlink socket"),
            Self::Read => f.write_str("read the state"),
            Self::Up => f.write_str("bring the interface up"),
            Self::Down => f.write_str("take the interface down"),
            Self::Mtu(mtu) => write!(f, "set the MTU to {mtu}"),
            Self::Mac([a, b, c, d, e, g]) => {
                write!(f, "set the MAC address to {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            Self::Address(address, prefix) => write!(f, "add the address {address}/{prefix}"),
            Self::RemoveAddress(address, prefix) => {
                write!(f, "remove the address {address}/{prefix}")
            }
            Self::AddressGeneration => f.write_str("turn automatic IPv6 addresses off"),
            Self::Delete => f.write_str("delete the interface"),
            Self::AddBridge => f.write_str("create the bridge"),
            Self::AddToBridge(bridge) => write!(f, "put it on the bridge {bridge}"),
        }
    }
}

/// The kernel's network configuration could not be read or changed.
#[derive(Debug)]
pub struct NetlinkError {
    /// The interface concerned; empty for the socket itself.
    pub interface: String,
    /// What was attempted.
    pub attempt: Attempt,
    /// Why it failed.
    pub cause: NetlinkCause,
}

/// Why a request failed.
#[derive(Debug)]
pub enum NetlinkCause {
    /// There is no such interface.
    NoInterface,
    /// CAP_NET_ADMIN is missing.
    NotPermitted,
    /// It is there already.
    Exists,
    /// The kernel did not answer in time.
    Timeout,
    /// The kernel's answer could not be read.
    Answer(String),
    /// Another error of the operating system.
    System(io::Error),
}

impl NetlinkCause {
    pub(super) fn from_errno(errno: i32) -> Self {
        match errno {
            libc::ENODEV => Self::NoInterface,
            libc::EPERM | libc::EACCES => Self::NotPermitted,
            libc::EEXIST => Self::Exists,
            _ => Self::System(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.interface.is_empty() {
            write!(f, "cannot {}: ", self.attempt)?;
        } else {
            write!(f, "{}: cannot {}: ", self.interface, self.attempt)?;
        }
        match &self.cause {
            NetlinkCause::NoInterface => f.write_str("there is no such interface"),
            NetlinkCause::NotPermitted => f.write_str(
                "no permission: this needs CAP_NET_ADMIN; run as root or give the capability",
            ),
            NetlinkCause::Exists => f.write_str("it is there already"),
            NetlinkCause::Timeout => f.write_str("the kernel does not answer"),
            NetlinkCause::Answer(reason) => write!(
                f,
                "the kernel's answer cannot be read: {reason} (a bug, of this program or the \
                 kernel)"
            ),
            NetlinkCause::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NetlinkError {}
