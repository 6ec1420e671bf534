//! Network interfaces through the kernel's route netlink: up and down, MTU,
//! MAC and IP addresses. Synchronous, with a bounded wait; no shelling out.
//!
//! Not for the data path, and not for watching: each call is one question and
//! one answer.

mod bridge;
mod error;

#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use error::{Attempt, NetlinkCause, NetlinkError};

/// Longest wait for an answer. The kernel answers at once, but another
/// process may hold its configuration lock.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Room for an answer: an interface's state has a few KiB.
const ANSWER_LEN: usize = 64 * 1024;

/// An interface's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its number, as long as it exists.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it has been brought up.
    pub up: bool,
    /// Whether it has a carrier and is up.
    pub carrier: bool,
    /// MTU, in bytes.
    pub mtu: u32,
    /// MAC address, where it has one of 6 bytes.
    pub mac: Option<[u8; 6]>,
}

/// A connection to the kernel's network configuration.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

type Message = NetlinkMessage<RouteNetlinkMessage>;

impl Netlink {
    /// Opens it, for the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_non_blocking(true)?;
            Ok(Self { socket, sequence: 0 })
        };
        open().map_err(|error| failed("", &Attempt::Open, NetlinkCause::System(error)))
    }

    /// The state of interface `name`.
    ///
    /// # Errors
    /// [`NetlinkError`], as for all that follow: with the interface's name and
    /// what was attempted.
    pub fn link(&mut self, name: &str) -> Result<Link, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answer = self
            .ask(RouteNetlinkMessage::GetLink(message), 0)
            .map_err(|cause| failed(name, &Attempt::Read, cause))?;
        match answer {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(read_link(&link)),
            _ => {
                let cause = NetlinkCause::Answer("no interface in it".to_owned());
                Err(failed(name, &Attempt::Read, cause))
            }
        }
    }

    /// Brings `name` up.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn set_up(&mut self, name: &str) -> Result<(), NetlinkError> {
        self.set_flag(name, LinkFlags::Up, Attempt::Up)
    }

    /// Takes `name` down.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn set_down(&mut self, name: &str) -> Result<(), NetlinkError> {
        self.set_flag(name, LinkFlags::empty(), Attempt::Down)
    }

    /// Sets the MTU of `name`, in bytes.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), NetlinkError> {
        self.change(name, LinkAttribute::Mtu(mtu), Attempt::Mtu(mtu))
    }

    /// Sets the MAC address of `name`.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn set_mac(&mut self, name: &str, mac: [u8; 6]) -> Result<(), NetlinkError> {
        self.change(name, LinkAttribute::Address(mac.to_vec()), Attempt::Mac(mac))
    }

    /// Stops `name` from making an IPv6 link-local address of its own when it
    /// comes up.
    ///
    /// # Errors
    /// [`NetlinkError`]; also where the kernel has no IPv6.
    pub fn no_automatic_address(&mut self, name: &str) -> Result<(), NetlinkError> {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
        self.change(name, spec, Attempt::AddressGeneration)
    }

    /// Adds an address to `name`; nothing is wrong if it is there. IPv6 addresses are usable at once (without
    /// duplicate address detection: nobody else is on the link).
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn add_address(
        &mut self,
        name: &str,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), NetlinkError> {
        let attempt = Attempt::Address(address, prefix);
        let mut message = self.address_message(name, address, prefix)?;
        if address.is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        match self.ask(RouteNetlinkMessage::NewAddress(message), flags) {
            Ok(_) | Err(NetlinkCause::Exists) => Ok(()),
            Err(cause) => Err(failed(name, &attempt, cause)),
        }
    }

    /// Removes an address from `name`; nothing is wrong if it is not there.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn remove_address(
        &mut self,
        name: &str,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), NetlinkError> {
        let attempt = Attempt::RemoveAddress(address, prefix);
        let message = self.address_message(name, address, prefix)?;
        match self.ask(RouteNetlinkMessage::DelAddress(message), NLM_F_ACK) {
            Ok(_) => Ok(()),
            Err(NetlinkCause::System(error))
                if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) =>
            {
                Ok(())
            }
            Err(cause) => Err(failed(name, &attempt, cause)),
        }
    }

    /// What names an address of `name` in a request.
    fn address_message(
        &mut self,
        name: &str,
        address: IpAddr,
        prefix: u8,
    ) -> Result<AddressMessage, NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = self.link(name)?.index;
        message.header.prefix_len = prefix;
        message.header.scope = AddressScope::Universe;
        message.header.family = match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.attributes = vec![AddressAttribute::Address(address)];
        if address.is_ipv4() {
            message.attributes.push(AddressAttribute::Local(address));
        }
        Ok(message)
    }

    /// Deletes interface `name`.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn delete(&mut self, name: &str) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.ask(RouteNetlinkMessage::DelLink(message), NLM_F_ACK)
            .map_err(|cause| failed(name, &Attempt::Delete, cause))?;
        Ok(())
    }

    /// Brings the namespace's loopback interface up.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn loopback_up(&mut self) -> Result<(), NetlinkError> {
        self.set_up("lo")
    }

    fn set_flag(
        &mut self,
        name: &str,
        flags: LinkFlags,
        attempt: Attempt,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.flags = flags;
        message.header.change_mask = LinkFlags::Up;
        self.set(name, message, &attempt)
    }

    fn change(
        &mut self,
        name: &str,
        attribute: LinkAttribute,
        attempt: Attempt,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(attribute);
        self.set(name, message, &attempt)
    }

    fn set(
        &mut self,
        name: &str,
        mut message: LinkMessage,
        attempt: &Attempt,
    ) -> Result<(), NetlinkError> {
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK)
            .map_err(|cause| failed(name, attempt, cause))?;
        Ok(())
    }

    /// Sends one request and waits for its answer: `None` is "done".
    fn ask(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkCause> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = Message::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(NetlinkCause::System)?;

        let deadline = Instant::now() + ANSWER_TIME;
        loop {
            self.wait(deadline)?;
            let mut answer = Vec::with_capacity(ANSWER_LEN);
            let sender = match self.socket.recv_from(&mut answer, 0) {
                Ok((_, sender)) => sender,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(NetlinkCause::System(error)),
            };
            // Other processes may write to this socket; the kernel is 0.
            if sender.port_number() != 0 {
                continue;
            }
            if let Some(outcome) = self.outcome(&answer) {
                return outcome;
            }
        }
    }

    /// The answer to the last request in a datagram, if it has one.
    fn outcome(
        &self,
        mut datagram: &[u8],
    ) -> Option<Result<Option<RouteNetlinkMessage>, NetlinkCause>> {
        while !datagram.is_empty() {
            let message = match Message::deserialize(datagram) {
                Ok(message) => message,
                Err(error) => return Some(Err(NetlinkCause::Answer(error.to_string()))),
            };
            if message.header.sequence_number == self.sequence {
                return Some(match message.payload {
                    NetlinkPayload::Error(error) => match error.code {
                        None => Ok(None),
                        Some(code) => Err(NetlinkCause::from_errno(code.get().saturating_neg())),
                    },
                    NetlinkPayload::InnerMessage(inner) => Ok(Some(inner)),
                    _ => Ok(None),
                });
            }
            let len = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            datagram = datagram.get(len.next_multiple_of(4).max(4)..).unwrap_or(&[]);
        }
        None
    }

    /// Waits until something can be received.
    fn wait(&self, deadline: Instant) -> Result<(), NetlinkCause> {
        let socket = self.socket.as_fd();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], left) {
                Ok(0) => return Err(NetlinkCause::Timeout),
                Ok(_) => return Ok(()),
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(NetlinkCause::System(errno.into())),
            }
        }
    }
}

fn read_link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let up = flags.contains(LinkFlags::Up);
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up,
        carrier: up && flags.contains(LinkFlags::LowerUp),
        mtu: 0,
        mac: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    link
}

fn failed(interface: &str, attempt: &Attempt, cause: NetlinkCause) -> NetlinkError {
    NetlinkError { interface: interface.to_owned(), attempt: attempt.clone(), cause }
}
