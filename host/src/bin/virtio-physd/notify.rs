//! Tells systemd how it goes (sd_notify(3)): a datagram to the socket that it
//! names. Without one nobody is told.

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::time::{ClockId, clock_gettime};

/// Where to tell.
#[derive(Debug)]
pub(crate) struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// What `NOTIFY_SOCKET` names.
    pub(crate) fn from_environment() -> Self {
        Self(env::var("NOTIFY_SOCKET").ok().and_then(|name| Self::open(&name)))
    }

    fn open(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok()?,
            None => SocketAddr::from_pathname(name).ok()?,
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some((socket, address))
    }

    fn tell(&self, text: &str) {
        if let Self(Some((socket, address))) = self {
            // It may not listen: that is its affair.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }

    /// All that the configuration says is there, or goes on in the background.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// Something has changed.
    pub(crate) fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// The configuration is read again; [`Notifier::ready`] ends that.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok();
        let micros = now.map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Letting go of the boards");
    }
}
