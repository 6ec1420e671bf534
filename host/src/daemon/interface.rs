//! A board's network interface: the tap and what netlink sets on it. It stays
//! while boards come and go; its carrier follows the link.

use std::net::IpAddr;

use super::error::DaemonError;
use crate::net::{MIN_MTU_IPV6, MtuError, Offloads, check_mtu};
use crate::netlink::{Netlink, NetlinkCause};
use crate::session::Terms;
use crate::tap::{Tap, TapOptions};

/// What the interface carries.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum InterfaceMode {
    /// Ethernet frames.
    #[default]
    Tap,
}

/// What the operator wants the interface to be like.
#[derive(Clone, Debug)]
pub struct InterfaceOptions {
    /// Its name, or a pattern such as `vphys%d`.
    pub name: String,
    /// What it carries.
    pub mode: InterfaceMode,
    /// Its MAC address; `None`: the one that the board gives it.
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
            mac: None,
            mtu: 1500,
            addresses: Vec::new(),
        }
    }
}

/// The interface. It goes away with the last [`Tap`].
#[derive(Debug)]
pub(super) struct Interface {
    tap: Tap,
    options: InterfaceOptions,
    netlink: Netlink,
}

impl Interface {
    /// Creates the interface with its MTU, down and without carrier.
    pub(super) fn create(options: &InterfaceOptions) -> Result<Self, DaemonError> {
        let mtu = check_mtu(options.mtu, None)?;
        if mtu < MIN_MTU_IPV6 && options.addresses.iter().any(|(address, _)| address.is_ipv6()) {
            return Err(MtuError::Ipv6 { wanted: options.mtu }.into());
        }
        let mut netlink = Netlink::open()?;
        let tap = Tap::open(&TapOptions::new(&options.name))?;
        let options = InterfaceOptions { name: tap.name().to_owned(), ..options.clone() };
        netlink.set_mtu(&options.name, options.mtu)?;
        Ok(Self { tap, options, netlink })
    }

    /// What this kernel can leave to a board.
    pub(super) const fn supported(&self) -> Offloads {
        self.tap.supported()
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.options.name
    }

    /// Gives the interface what the session agreed on, brings it up with its
    /// carrier on, and hands out the worker's end of it; frames wait in its
    /// queue until the worker runs.
    pub(super) fn connect(&mut self, terms: &Terms) -> Result<Tap, DaemonError> {
        let name = &self.options.name;
        self.tap.set_offloads(terms.offloads.and(self.tap.supported()))?;
        if let Some(mac) = self.options.mac.or(terms.mac) {
            self.netlink.set_mac(name, mac)?;
        }
        // In this order: the kernel notices the carrier of an interface that is
        // up by a timer of up to a second, and drops frames until then.
        self.tap.set_carrier(true)?;
        self.netlink.set_up(name)?;
        for &(address, prefix) in &self.options.addresses {
            match self.netlink.add_address(name, address, prefix) {
                Err(error) if matches!(error.cause, NetlinkCause::Exists) => {}
                result => result?,
            }
        }
        Ok(self.tap.try_clone()?)
    }

    /// Turns the carrier off: nothing is at the other end.
    pub(super) fn disconnect(&self) -> Result<(), DaemonError> {
        Ok(self.tap.set_carrier(false)?)
    }

    /// Changes its addresses to these.
    pub(super) fn set_addresses(
        &mut self,
        addresses: Vec<(IpAddr, u8)>,
    ) -> Result<(), DaemonError> {
        for &(address, prefix) in &addresses {
            match self.netlink.add_address(&self.options.name, address, prefix) {
                Err(error) if matches!(error.cause, NetlinkCause::Exists) => {}
                result => result?,
            }
        }
        for (address, prefix) in std::mem::replace(&mut self.options.addresses, addresses) {
            if !self.options.addresses.contains(&(address, prefix)) {
                self.netlink.remove_address(&self.options.name, address, prefix)?;
            }
        }
        Ok(())
    }
}
