//! The interface that a board is seen by, in either mode, as the port of a
//! queue pair.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use shared::region::Located;

use crate::bus::KernelMemory;
use crate::ip::{IpCounters, IpPort, LinkAddresses, announcement};
use crate::net::{FramePort, PortError, Sent};
use crate::tap::{InterfaceMode, Tap, TapCounters};

/// The data end of an interface, for one session.
#[derive(Debug)]
pub enum InterfacePort {
    /// Ethernet frames, as the kernel has them.
    Tap(Tap),
    /// IP packets: Ethernet is made up here.
    Tun(IpPort),
}

impl InterfacePort {
    /// The data end of `tap` for a session whose ends have these addresses.
    #[must_use]
    pub fn new(tap: Tap, link: LinkAddresses) -> Self {
        match tap.mode() {
            InterfaceMode::Tap => Self::Tap(tap),
            InterfaceMode::Tun => Self::Tun(IpPort::new(tap, link)),
        }
    }

    /// Tells the board that `addresses` are at the host. On a tap that is the
    /// kernel's to do.
    pub fn announce(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        if let Self::Tun(port) = self {
            let host = port.link().host;
            for address in addresses {
                port.enqueue(announcement(host, address));
            }
        }
    }

    /// The counters of the kernel's side.
    #[must_use]
    pub const fn counters(&self) -> TapCounters {
        match self {
            Self::Tap(tap) => tap.counters(),
            Self::Tun(port) => port.interface().counters(),
        }
    }

    /// The counters of what stands in for Ethernet; `None` on a tap.
    #[must_use]
    pub const fn ip_counters(&self) -> Option<IpCounters> {
        match self {
            Self::Tap(_) => None,
            Self::Tun(port) => Some(port.counters()),
        }
    }
}

impl<W: KernelMemory> FramePort<W> for InterfacePort {
    fn receive(&mut self, into: &W, offset: u64, capacity: u32) -> Result<Option<u32>, PortError> {
        match self {
            Self::Tap(tap) => tap.receive(into, offset, capacity),
            Self::Tun(port) => port.receive(into, offset, capacity),
        }
    }

    fn receive_private(&mut self, into: &mut [u8]) -> Result<Option<u32>, PortError> {
        match self {
            Self::Tap(tap) => FramePort::<W>::receive_private(tap, into),
            Self::Tun(port) => FramePort::<W>::receive_private(port, into),
        }
    }

    fn send(&mut self, head: &[u8], rest: &[Located<'_, W>]) -> Result<Sent, PortError> {
        match self {
            Self::Tap(tap) => tap.send(head, rest),
            Self::Tun(port) => port.send(head, rest),
        }
    }

    fn bounced(&self) -> u64 {
        self.counters().bounced
    }
}

impl AsFd for InterfacePort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tap(tap) => tap.as_fd(),
            Self::Tun(port) => port.as_fd(),
        }
    }
}
