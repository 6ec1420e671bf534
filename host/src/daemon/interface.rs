//! A board's network interface: the tap and what netlink sets on it.

use std::net::IpAddr;

use super::error::DaemonError;
use crate::net::{MIN_MTU_IPV6, MtuError, Offloads, check_mtu};
use crate::netlink::Netlink;
use crate::session::Terms;
use crate::tap::{Tap, TapOptions};

/// What the operator wants the interface to be like.
#[derive(Clone, Debug)]
pub struct InterfaceOptions {
    /// Its name, or a pattern such as `vphys%d`.
    pub name: String,
    /// MTU in bytes, 68 to 65521.
    pub mtu: u32,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// The interface. It goes away with the last [`Tap`].
#[derive(Debug)]
pub(super) struct Interface {
    tap: Option<Tap>,
    name: String,
    addresses: Vec<(IpAddr, u8)>,
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
        let name = tap.name().to_owned();
        netlink.set_mtu(&name, options.mtu)?;
        Ok(Self { tap: Some(tap), name, addresses: options.addresses.clone(), netlink })
    }

    /// What this kernel can leave to a board.
    pub(super) fn supported(&self) -> Offloads {
        self.tap.as_ref().map_or(Offloads::NONE, Tap::supported)
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Gives the interface what the session agreed on, and brings it up with
    /// its carrier on; frames wait in its queue until the worker runs.
    pub(super) fn configure(&mut self, terms: &Terms) -> Result<(), DaemonError> {
        if let Some(tap) = &self.tap {
            tap.set_offloads(terms.offloads.and(tap.supported()))?;
        }
        if let Some(mac) = terms.mac {
            self.netlink.set_mac(&self.name, mac)?;
        }
        // In this order: the kernel notices the carrier of an interface that is
        // up by a timer of up to a second, and drops frames until then.
        if let Some(tap) = &self.tap {
            tap.set_carrier(true)?;
        }
        self.netlink.set_up(&self.name)?;
        for &(address, prefix) in &self.addresses {
            self.netlink.add_address(&self.name, address, prefix)?;
        }
        Ok(())
    }

    /// Hands the tap to the worker, once.
    pub(super) fn take_port(&mut self) -> Option<Tap> {
        self.tap.take()
    }
}
