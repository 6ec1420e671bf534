//! The kernel's bridge, and what is on it.

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use super::{Attempt, Netlink, NetlinkCause, NetlinkError, failed};

impl Netlink {
    /// Whether there is an interface `name`.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn exists(&mut self, name: &str) -> Result<bool, NetlinkError> {
        match self.link(name) {
            Ok(_) => Ok(true),
            Err(NetlinkError { cause: NetlinkCause::NoInterface, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Creates a bridge, down and with nothing on it.
    ///
    /// # Errors
    /// [`NetlinkError`]; [`NetlinkCause::Exists`] where the name is taken.
    pub fn add_bridge(&mut self, name: &str) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let kind = LinkInfo::Kind(InfoKind::Bridge);
        message.attributes.push(LinkAttribute::LinkInfo(vec![kind]));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.ask(RouteNetlinkMessage::NewLink(message), flags)
            .map_err(|cause| failed(name, &Attempt::AddBridge, cause))?;
        Ok(())
    }

    /// Puts `name` on `bridge`. A tun interface cannot be: it has no Ethernet.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn add_to_bridge(&mut self, name: &str, bridge: &str) -> Result<(), NetlinkError> {
        let index = self.link(bridge)?.index;
        let attempt = Attempt::AddToBridge(bridge.to_owned());
        self.change(name, LinkAttribute::Controller(index), attempt)
    }
}
