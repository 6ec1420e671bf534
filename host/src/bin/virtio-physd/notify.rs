//! Tells systemd how it goes (sd_notify(3)): a datagram to the socket that it
//! names. Without one nobody is told.

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// Changes of the status are told this far apart: a board can bring them about
/// as fast as it sends messages.
const APART: Duration = Duration::from_secs(1);

/// Whom to tell, and what they know.
#[derive(Debug)]
pub(crate) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    status: Told,
}

/// The status that was told, and one that is still to be.
#[derive(Debug, Default)]
struct Told {
    last: Option<(String, Instant)>,
    next: Option<String>,
}

impl Told {
    /// It was told with something else.
    fn told(&mut self, status: &str, now: Instant) {
        *self = Self { last: Some((status.to_owned(), now)), next: None };
    }

    /// `status` is to be told, unless it is known.
    fn want(&mut self, status: String) {
        let known = self.last.as_ref().is_some_and(|(last, _)| *last == status);
        self.next = (!known).then_some(status);
    }

    /// When there is something to tell.
    fn due(&self) -> Option<Instant> {
        self.next.as_ref()?;
        self.last.as_ref().map(|(_, at)| *at + APART)
    }

    /// What is to be told at `now`; it counts as told.
    fn take(&mut self, now: Instant) -> Option<String> {
        if self.due().is_some_and(|due| now < due) {
            return None;
        }
        let status = self.next.take()?;
        self.told(&status, now);
        Some(status)
    }
}

impl Notifier {
    /// What `NOTIFY_SOCKET` names.
    pub(crate) fn from_environment() -> Self {
        let to = env::var("NOTIFY_SOCKET").ok().and_then(|name| Self::open(&name));
        Self { to, status: Told::default() }
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
        if let Some((socket, address)) = &self.to {
            // It may not listen: that is its affair.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }

    /// All that the configuration says is there, or goes on in the background.
    pub(crate) fn ready(&mut self, status: &str, now: Instant) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
        self.status.told(status, now);
    }

    /// Something may have changed: it is told soon if it has.
    pub(crate) fn status(&mut self, status: String) {
        self.status.want(status);
    }

    /// When to call [`Notifier::tell_if_due`].
    pub(crate) fn due(&self) -> Option<Instant> {
        self.status.due()
    }

    /// Tells the status if it is time to.
    pub(crate) fn tell_if_due(&mut self, now: Instant) {
        if let Some(status) = self.status.take(now) {
            self.tell(&format!("STATUS={status}"));
        }
    }

    /// The configuration is read again; [`Notifier::ready`] ends that.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok();
        let micros = now.map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end has begun: this is the last that is told.
    pub(crate) fn stopping(&mut self) {
        self.tell("STOPPING=1\nSTATUS=Letting go of the boards");
        self.to = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_when_it_changed_and_once_a_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut told = Told::default();
        told.told("1 board, not up", at(0));
        told.want("1 board, not up".into());
        assert_eq!((told.due(), told.take(at(5000))), (None, None));
        // The first change after a quiet time is told at once.
        told.want("1 board, up".into());
        assert_eq!(told.take(at(5000)).as_deref(), Some("1 board, up"));
        // A thousand in a second: the last one, when the second is over.
        for change in 0..1000 {
            let text = if change % 2 == 0 { "1 board, not up" } else { "1 board, up" };
            told.want(text.into());
            assert_eq!(told.take(at(5000 + change)), None);
        }
        // It is as it was again.
        assert_eq!((told.due(), told.take(at(6000))), (None, None));
        told.want("1 board, up".into());
        told.want("1 board, not up".into());
        assert_eq!(told.take(at(6001)).as_deref(), Some("1 board, not up"));
        told.want("1 board, up".into());
        assert_eq!((told.due(), told.take(at(7000))), (Some(at(7001)), None));
        assert_eq!(told.take(at(7001)).as_deref(), Some("1 board, up"));
        assert_eq!(told.take(at(9000)), None);
    }
}
