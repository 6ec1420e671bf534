//! A board's network interface, tap or tun, and what netlink sets on it. It stays
//! while boards come and go; its carrier follows the link.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use super::error::DaemonError;
use crate::interface::{Announcements, InterfacePort};
use crate::ip::LinkAddresses;
use crate::net::{MAX_MTU, MIN_MTU, MIN_MTU_IPV6, MtuError, Offloads, check_mtu};
use crate::netlink::Netlink;
use crate::session::Terms;
use crate::tap::{Tap, TapError, TapOptions};

pub use crate::tap::InterfaceMode;

/// What the operator wants the interface to be like.
#[derive(Clone, Debug)]
pub struct InterfaceOptions {
    /// Its name, or a pattern such as `vphys%d`.
    pub name: String,
    /// What it carries.
    pub mode: InterfaceMode,
    /// Whether it stays when the daemon ends; one that stayed is used again.
    pub persistent: bool,
    /// Its MAC address; `None`: the one that the board gives it. A tun
    /// interface has none: there it is the one that the board sees.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes, 68 to 65521.
    pub mtu: u32,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl InterfaceOptions {
    /// A tap of 1500 bytes without addresses.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            mode: InterfaceMode::default(),
            persistent: false,
            mac: None,
            mtu: 1500,
            addresses: Vec::new(),
        }
    }
}

/// The interface. It goes away with the last [`Tap`], unless it is persistent.
#[derive(Debug)]
pub(super) struct Interface {
    tap: Tap,
    options: InterfaceOptions,
    netlink: Netlink,
    announcements: Announcements,
    /// The MAC address that the board knows the host by, in a session.
    mac: Option<[u8; 6]>,
    /// The longest packet that the board takes, in bytes.
    limit: u16,
    /// The MTU that was set last.
    mtu: u16,
}

impl Interface {
    /// Creates the interface with its MTU, down and without carrier.
    pub(super) fn create(options: &InterfaceOptions) -> Result<Self, DaemonError> {
        let mtu = check_mtu(options.mtu, None)?;
        if mtu < MIN_MTU_IPV6 && has_ipv6(&options.addresses) {
            return Err(MtuError::Ipv6 { wanted: options.mtu }.into());
        }
        let mut netlink = Netlink::open()?;
        let tap = open(options)?;
        let options = InterfaceOptions { name: tap.name().to_owned(), ..options.clone() };
        netlink.set_mtu(&options.name, options.mtu)?;
        let announcements = Announcements::default();
        Ok(Self { tap, options, netlink, announcements, mac: None, limit: MAX_MTU, mtu })
    }

    /// What this kernel can leave to a board.
    pub(super) const fn supported(&self) -> Offloads {
        self.tap.supported()
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.options.name
    }

    /// Its addresses.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.options.addresses.iter().map(|(address, _)| *address).collect()
    }

    /// Gives the interface what the session agreed on, brings it up with its
    /// carrier on, and hands out the worker's end of it; frames wait in its
    /// queue until the worker runs. One that somebody deleted is made again.
    pub(super) fn connect(&mut self, terms: &Terms) -> Result<InterfacePort, DaemonError> {
        let offloads = terms.offloads.and(self.tap.supported());
        match self.tap.set_offloads(offloads) {
            Err(TapError::Gone { name }) => {
                log::warn!("the interface {name} has been deleted, and is made again");
                self.tap = open(&self.options)?;
                self.tap.set_offloads(offloads)?;
            }
            other => other?,
        }
        // Before the addresses: with less than IPv6 needs there can be none of
        // them. A board that takes less than this has no session.
        self.limit = MAX_MTU;
        self.set_mtu(self.mtu_for(&self.options.addresses))?;
        let name = &self.options.name;
        let mac = self.options.mac.or(terms.mac);
        match (mac, self.options.mode) {
            (Some(mac), InterfaceMode::Tap) => self.netlink.set_mac(name, mac)?,
            // A tap has one of its own, and a tun none.
            (None, InterfaceMode::Tap) | (_, InterfaceMode::Tun) => {}
        }
        let link = LinkAddresses::for_board(terms.board.mac);
        let link = LinkAddresses { host: mac.unwrap_or(link.host), ..link };
        // In this order: the kernel notices the carrier of an interface that is
        // up by a timer of up to a second, and drops frames until then.
        self.tap.set_carrier(terms.link_up)?;
        self.netlink.set_up(name)?;
        for &(address, prefix) in &self.options.addresses {
            self.netlink.add_address(name, address, prefix)?;
        }
        self.mac = Some(link.host);
        if self.options.mode == InterfaceMode::Tun {
            // On a tap that is the kernel's to do.
            self.announce();
        }
        Ok(InterfacePort::new(self.tap.try_clone()?, link, self.announcements.clone()))
    }

    /// Tells the board's network where the interface's addresses are.
    pub(super) fn announce(&self) {
        if let Some(mac) = self.mac {
            let addresses = self.options.addresses.iter();
            self.announcements.say(mac, addresses.map(|(address, _)| *address));
        }
    }

    /// Turns the carrier on or off: whether something is at the other end.
    pub(super) fn set_carrier(&self, on: bool) -> Result<(), DaemonError> {
        Ok(self.tap.set_carrier(on)?)
    }

    /// Lowers the MTU to what the board takes, or gives it back what the
    /// operator wants; not below what IPv6 addresses need.
    ///
    /// # Errors
    /// [`MtuError::BoardIpv6`]: it is as low as it goes, and the board takes less.
    pub(super) fn limit_mtu(&mut self, board: u16) -> Result<(), DaemonError> {
        self.limit = board;
        let mtu = self.mtu_for(&self.options.addresses);
        if mtu != self.mtu {
            self.set_mtu(mtu)?;
        }
        if mtu > board { Err(MtuError::BoardIpv6 { limit: board }.into()) } else { Ok(()) }
    }

    /// The MTU with these addresses: the kernel takes IPv6 away from an
    /// interface with less than that needs.
    fn mtu_for(&self, addresses: &[(IpAddr, u8)]) -> u16 {
        let least = if has_ipv6(addresses) { MIN_MTU_IPV6 } else { MIN_MTU };
        let wanted = u16::try_from(self.options.mtu).unwrap_or(MAX_MTU);
        wanted.min(self.limit.max(least))
    }

    fn set_mtu(&mut self, mtu: u16) -> Result<(), DaemonError> {
        self.netlink.set_mtu(&self.options.name, mtu.into())?;
        self.mtu = mtu;
        Ok(())
    }

    /// Changes its addresses to these.
    pub(super) fn set_addresses(
        &mut self,
        addresses: Vec<(IpAddr, u8)>,
    ) -> Result<(), DaemonError> {
        let mtu = self.mtu_for(&addresses);
        if mtu > self.mtu {
            self.set_mtu(mtu)?;
        }
        for &(address, prefix) in &addresses {
            self.netlink.add_address(&self.options.name, address, prefix)?;
        }
        for (address, prefix) in std::mem::replace(&mut self.options.addresses, addresses) {
            if !self.options.addresses.contains(&(address, prefix)) {
                self.netlink.remove_address(&self.options.name, address, prefix)?;
            }
        }
        if mtu < self.mtu { self.set_mtu(mtu) } else { Ok(()) }
    }
}

fn open(options: &InterfaceOptions) -> Result<Tap, TapError> {
    let InterfaceOptions { ref name, mode, persistent, .. } = *options;
    Tap::open(&TapOptions { mode, persistent, ..TapOptions::new(name) })
}

fn has_ipv6(addresses: &[(IpAddr, u8)]) -> bool {
    addresses.iter().any(|(address, _)| address.is_ipv6())
}
