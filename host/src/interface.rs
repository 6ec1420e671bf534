//! The interface that a board is seen by, in either mode, as the port of a
//! queue pair.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shared::region::Located;
use shared::wire::net::HEADER_LEN;

use crate::bus::KernelMemory;
use crate::ip::{IpCounters, IpPort, LONGEST_REPLY, LinkAddresses, Reply, announcement};
use crate::net::{FramePort, PortError, Sent};
use crate::tap::{InterfaceMode, Tap, TapCounters};

/// Announcements that wait for the data path, at most: those of a board that
/// asks all the time replace each other.
const MOST_WAITING: usize = 16;

/// "These addresses are at the host", from the control thread to the board.
#[derive(Clone, Debug, Default)]
pub struct Announcements(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    some: AtomicBool,
    frames: Mutex<Vec<Reply>>,
}

impl Announcements {
    /// Tells the board, before the next frame, that `addresses` are at the MAC
    /// address `host`. The data thread finds it when it looks next.
    pub fn say(&self, host: [u8; 6], addresses: impl IntoIterator<Item = IpAddr>) {
        let frames = addresses.into_iter().map(|address| announcement(host, address));
        let mut waiting = self.0.frames.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = frames.take(MOST_WAITING).collect();
        self.0.some.store(!waiting.is_empty(), Ordering::Release);
    }

    /// The next one with its virtio-net header, and its length.
    fn next(&self) -> Option<([u8; HEADER_LEN + LONGEST_REPLY], usize)> {
        if !self.0.some.load(Ordering::Acquire) {
            return None;
        }
        let mut waiting = self.0.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = waiting.pop();
        self.0.some.store(!waiting.is_empty(), Ordering::Release);
        let reply = reply?;
        let mut frame = [0; HEADER_LEN + LONGEST_REPLY];
        let len = HEADER_LEN + reply.as_bytes().len();
        frame.get_mut(HEADER_LEN..len)?.copy_from_slice(reply.as_bytes());
        Some((frame, len))
    }
}

/// The data end of an interface, for one session.
#[derive(Debug)]
pub struct InterfacePort {
    kernel: Kernel,
    announcements: Announcements,
}

/// What the kernel gives and takes.
#[derive(Debug)]
enum Kernel {
    /// Ethernet frames, as the kernel has them.
    Tap(Tap),
    /// IP packets: Ethernet is made up here.
    Tun(IpPort),
}

impl InterfacePort {
    /// The data end of `tap` for a session whose ends have these addresses,
    /// which also carries `announcements`.
    #[must_use]
    pub fn new(tap: Tap, link: LinkAddresses, announcements: Announcements) -> Self {
        let kernel = match tap.mode() {
            InterfaceMode::Tap => Kernel::Tap(tap),
            InterfaceMode::Tun => Kernel::Tun(IpPort::new(tap, link)),
        };
        Self { kernel, announcements }
    }

    /// The counters of the kernel's side.
    #[must_use]
    pub const fn counters(&self) -> TapCounters {
        match &self.kernel {
            Kernel::Tap(tap) => tap.counters(),
            Kernel::Tun(port) => port.interface().counters(),
        }
    }

    /// The counters of what stands in for Ethernet; `None` on a tap.
    #[must_use]
    pub const fn ip_counters(&self) -> Option<IpCounters> {
        match &self.kernel {
            Kernel::Tap(_) => None,
            Kernel::Tun(port) => Some(port.counters()),
        }
    }
}

impl<W: KernelMemory> FramePort<W> for InterfacePort {
    fn receive(&mut self, into: &W, offset: u64, capacity: u32) -> Result<Option<u32>, PortError> {
        if let Some((frame, len)) = self.announcements.next()
            && usize::try_from(capacity).is_ok_and(|capacity| len <= capacity)
        {
            into.write(offset, frame.get(..len.next_multiple_of(4)).unwrap_or(&frame));
            return Ok(u32::try_from(len).ok());
        }
        match &mut self.kernel {
            Kernel::Tap(tap) => tap.receive(into, offset, capacity),
            Kernel::Tun(port) => port.receive(into, offset, capacity),
        }
    }

    fn receive_private(&mut self, into: &mut [u8]) -> Result<Option<u32>, PortError> {
        if let Some((frame, len)) = self.announcements.next()
            && let (Some(place), Some(frame)) = (into.get_mut(..len), frame.get(..len))
        {
            place.copy_from_slice(frame);
            return Ok(u32::try_from(len).ok());
        }
        match &mut self.kernel {
            Kernel::Tap(tap) => FramePort::<W>::receive_private(tap, into),
            Kernel::Tun(port) => FramePort::<W>::receive_private(port, into),
        }
    }

    fn send(&mut self, head: &[u8], rest: &[Located<'_, W>]) -> Result<Sent, PortError> {
        match &mut self.kernel {
            Kernel::Tap(tap) => tap.send(head, rest),
            Kernel::Tun(port) => port.send(head, rest),
        }
    }

    fn bounced(&self) -> u64 {
        self.counters().bounced
    }
}

impl AsFd for InterfacePort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kernel {
            Kernel::Tap(tap) => tap.as_fd(),
            Kernel::Tun(port) => port.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_go_out_once_and_do_not_pile_up() {
        let said = Announcements::default();
        assert!(said.next().is_none());
        let (host, v4) = ([2, 0, 0, 0, 0, 1], IpAddr::from([10, 0, 0, 1]));
        let v6: IpAddr = "fd00::1".parse().unwrap();
        // A board that asks for it without end.
        for _ in 0..1000 {
            said.say(host, [v4, v6]);
        }
        let mut frames: Vec<_> = std::iter::from_fn(|| said.next()).collect();
        frames.sort_by_key(|(_, len)| *len);
        for ((frame, len), address) in frames.iter().zip([v4, v6]) {
            assert!(frame[..HEADER_LEN].iter().all(|byte| *byte == 0));
            assert_eq!(&frame[HEADER_LEN..*len], announcement(host, address).as_bytes());
        }
        assert_eq!(frames.len(), 2);
        said.say(host, std::iter::repeat_n(v4, 1000));
        assert_eq!(std::iter::from_fn(|| said.next()).count(), MOST_WAITING);
    }
}
