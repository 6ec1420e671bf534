//! Stack: an IP stack of the board's own behind the interface.
//!
//! smoltcp answers ARP, neighbour discovery and both pings; on top lie UDP and
//! TCP echo (port 7), discard (9), chargen (19) and a status page (80).
//!
//! Guarantee: nothing that the host sends reaches smoltcp before its
//! checksums were checked or the virtio-net header said that they are partial,
//! that is that the frame never left the host's memory. Connections are a fixed
//! number of sockets over the caller's memory; a host that lets them stand
//! loses them after [`IDLE_TIMEOUT`].
//!
//! Offloads: large TCP frames are taken whole (HOST_TSO), and made over IPv4
//! (GUEST_TSO4). smoltcp 0.14 drops what it would have to segment over IPv6,
//! so there it sends single segments. USO is not offered.

mod checks;
mod page;
mod phy;
mod services;
#[cfg(test)]
mod tests;

use core::fmt;

use shared::wire::net::{NetHeader, feature};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr};

use self::phy::Phy;
use self::services::Services;
use super::backend::{FrameSink, Negotiated, NetBackend, Packet};
use super::checksum::ETHERNET_HEADER;
use crate::device::Wake;

pub use self::services::{SOCKETS, UDP_PACKETS};
pub use smoltcp::iface::SocketStorage;
pub use smoltcp::socket::udp::PacketMetadata;

/// A connection on which the host says nothing for this long is given up.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Egress rounds in one poll; each sends at most one packet a socket.
const EGRESS_ROUNDS: usize = 16;

/// Who the board is on this interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackConfig<'b> {
    /// The board's own MAC address. The IPv6 link-local address follows from it.
    pub mac: [u8; 6],
    /// IPv4 address and prefix length.
    pub ipv4: Option<([u8; 4], u8)>,
    /// A second IPv6 address (unique local or global) and prefix length.
    pub ipv6: Option<([u8; 16], u8)>,
    /// For port and sequence numbers: different at each boot.
    pub seed: u64,
    /// What the status page calls the board.
    pub name: &'b str,
}

/// The memory of a [`Stack`], from the caller, for its whole life.
#[derive(Debug)]
pub struct StackMemory<'b> {
    /// Places for the sockets.
    pub sockets: &'b mut [SocketStorage<'b>; SOCKETS],
    /// Places for UDP packets, in and out.
    pub packets: &'b mut [PacketMetadata; 2 * UDP_PACKETS],
    /// Bytes of all socket buffers: at least [`Stack::LEAST_BYTES`], shared out
    /// evenly among the bulk services. 64 KiB a buffer or more is what a
    /// gigabit wants; [`Stack::BULK_BUFFERS`] of them.
    pub bytes: &'b mut [u8],
}

/// Why a stack cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StackError {
    /// The MAC address is zero or not unicast.
    Mac,
    /// An address is not unicast, or its prefix is too long.
    Address,
    /// [`StackMemory::bytes`] is too short.
    Memory {
        /// Bytes brought.
        found: usize,
        /// Bytes needed.
        needed: usize,
    },
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Mac => f.write_str("the board's MAC address is not a unicast address"),
            Self::Address => f.write_str("an IP address is not unicast or its prefix too long"),
            Self::Memory { found, needed } => {
                write!(f, "{found} bytes of socket buffers where at least {needed} are needed")
            }
        }
    }
}

impl core::error::Error for StackError {}

/// The IPv6 link-local address that belongs to a MAC address (RFC 4291 §2.5.1).
#[must_use]
pub const fn link_local(mac: [u8; 6]) -> [u8; 16] {
    let [a, b, c, d, e, f] = mac;
    [0xFE, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xFF, 0xFE, d, e, f]
}

/// An IP stack as the backend of a virtio-net device.
pub struct Stack<'b> {
    mac: EthernetAddress,
    addresses: [Option<IpCidr>; 3],
    seed: u64,
    sockets: SocketSet<'b>,
    services: Services<'b>,
    // smoltcp takes the device's capabilities once: made anew with each change.
    interface: Option<Interface>,
    capabilities: DeviceCapabilities,
    negotiated: Negotiated,
}

impl fmt::Debug for Stack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("mac", &self.mac).field("addresses", &self.addresses).finish()
    }
}

impl<'b> Stack<'b> {
    /// Socket buffers that share out [`StackMemory::bytes`].
    pub const BULK_BUFFERS: usize = services::BULK_BUFFERS;

    /// The least length of [`StackMemory::bytes`].
    pub const LEAST_BYTES: usize = services::LEAST_BYTES;

    /// A stack that answers as `config` says once a driver has started it.
    ///
    /// # Errors
    /// [`StackError`] if the configuration or the memory does not do.
    pub fn new(config: &StackConfig<'b>, memory: StackMemory<'b>) -> Result<Self, StackError> {
        let mac = EthernetAddress(config.mac);
        if !mac.is_unicast() || config.mac == [0; 6] {
            return Err(StackError::Mac);
        }
        let ipv4 = config.ipv4.map(|(octets, prefix)| ipv4_cidr(octets, prefix)).transpose()?;
        let ipv6 = config.ipv6.map(|(octets, prefix)| ipv6_cidr(octets, prefix)).transpose()?;
        let local = ipv6_cidr(link_local(config.mac), 64)?;
        let found = memory.bytes.len();
        if found < Self::LEAST_BYTES {
            return Err(StackError::Memory { found, needed: Self::LEAST_BYTES });
        }
        let mut sockets = SocketSet::new(memory.sockets.as_mut_slice());
        let services = Services::new(&mut sockets, memory.packets, memory.bytes, config.name);
        Ok(Self {
            mac,
            addresses: [ipv4, Some(local), ipv6],
            seed: config.seed,
            sockets,
            services,
            interface: None,
            capabilities: DeviceCapabilities::default(),
            negotiated: Negotiated::NONE,
        })
    }

    /// Makes the interface for what was negotiated.
    fn open(&mut self, now: u64, negotiated: Negotiated) {
        self.negotiated = negotiated;
        self.capabilities = capabilities(&negotiated);
        let mut config = Config::new(self.mac.into());
        config.random_seed = self.seed ^ now;
        let mut silent = Phy::silent(&self.capabilities);
        let mut interface = Interface::new(config, &mut silent, instant(now));
        interface.update_ip_addrs(|list| {
            for address in self.addresses.iter().flatten() {
                // As many places as `addresses` has, by the crate's feature.
                let _ = list.push(*address);
            }
        });
        self.interface = Some(interface);
    }

    /// Bytes that the discard service has taken since the board started.
    #[must_use]
    pub const fn discarded(&self) -> u64 {
        self.services.discarded()
    }
}

fn ipv4_cidr([a, b, c, d]: [u8; 4], prefix: u8) -> Result<IpCidr, StackError> {
    let address = Ipv4Address::new(a, b, c, d);
    if prefix > 32
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_loopback()
    {
        return Err(StackError::Address);
    }
    Ok(IpCidr::Ipv4(Ipv4Cidr::new(address, prefix)))
}

fn ipv6_cidr(octets: [u8; 16], prefix: u8) -> Result<IpCidr, StackError> {
    let address = Ipv6Address::from(octets);
    if prefix > 128 || address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(StackError::Address);
    }
    Ok(IpCidr::Ipv6(Ipv6Cidr::new(address, prefix)))
}

/// What smoltcp is told of the device.
fn capabilities(negotiated: &Negotiated) -> DeviceCapabilities {
    let mut checksum = ChecksumCapabilities::default();
    // TCP and UDP are checked before smoltcp sees them (`checks`), so that a
    // frame with a partial checksum passes.
    let transport = if negotiated.has(feature::GUEST_CSUM) { Checksum::None } else { Checksum::Tx };
    checksum.tcp = transport;
    checksum.udp = transport;

    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ethernet;
    let whole = usize::from(negotiated.mtu) + ETHERNET_HEADER;
    capabilities.max_transmission_unit = whole.min(negotiated.room);
    capabilities.checksum = checksum;
    if negotiated.has(feature::GUEST_CSUM | feature::GUEST_TSO4) {
        // An IP packet of 64 KiB less one byte, or what the buffer holds.
        let largest = negotiated.room.min(usize::from(u16::MAX) + ETHERNET_HEADER);
        if largest > whole {
            capabilities.segmentation.tcpv4 = core::num::NonZeroUsize::new(largest);
        }
    }
    capabilities
}

/// smoltcp's time.
fn instant(now: u64) -> Instant {
    Instant::from_millis(i64::try_from(now).unwrap_or(i64::MAX))
}

impl NetBackend for Stack<'_> {
    fn features(&self) -> u64 {
        feature::CSUM
            | feature::GUEST_CSUM
            | feature::HOST_TSO4
            | feature::HOST_TSO6
            | feature::HOST_ECN
            | feature::GUEST_TSO4
    }

    fn start(&mut self, now: u64, negotiated: Negotiated) {
        self.open(now, negotiated);
        self.services.restart(&mut self.sockets);
    }

    // Connections stay: they are the sockets'. Neighbours are asked for anew.
    fn renegotiated(&mut self, now: u64, negotiated: Negotiated) {
        self.open(now, negotiated);
    }

    fn frame<S: FrameSink>(
        &mut self,
        now: u64,
        header: &NetHeader,
        packet: &mut Packet<'_>,
        sink: &mut S,
    ) {
        let Some(interface) = &mut self.interface else { return };
        let frame = packet.frame();
        if let Err(refused) = checks::check(header, frame, &self.addresses) {
            let counters = sink.counters();
            match refused {
                checks::Refused::Checksum => counters.dropped_checksum += 1,
                checks::Refused::Malformed => counters.dropped_header += 1,
                checks::Refused::NotForUs => counters.ignored += 1,
            }
            return;
        }
        let mut phy = Phy::new(&self.capabilities, self.negotiated, frame, sink);
        interface.poll_ingress_single(instant(now), &mut phy, &mut self.sockets);
    }

    fn poll<S: FrameSink>(&mut self, now: u64, sink: &mut S) -> Wake {
        let Some(interface) = &mut self.interface else { return Wake::Idle };
        let at = instant(now);
        interface.poll_maintenance(at);
        for _ in 0..EGRESS_ROUNDS {
            let served = self.services.serve(now, &mut self.sockets, sink.counters());
            let mut phy = Phy::new(&self.capabilities, self.negotiated, &[], sink);
            let sent = interface.poll_egress(at, &mut phy, &mut self.sockets);
            if !served && sent == smoltcp::iface::PollResult::None {
                let socket = match interface.poll_at(at, &self.sockets) {
                    Some(due) if due <= at => Wake::Again,
                    Some(due) => Wake::At(u64::try_from(due.total_millis()).unwrap_or(u64::MAX)),
                    None => Wake::Idle,
                };
                let wake = socket.sooner(self.services.wake());
                // What waits for room in the driver's buffers waits for those.
                return if wake == Wake::Again && !sink.ready() { Wake::Idle } else { wake };
            }
        }
        Wake::Again
    }
}
