//! The tun interface as a port: headers go on and come off here, and the
//! responder's answers go out between the kernel's packets.

use std::os::fd::{AsFd, BorrowedFd};

use shared::region::Located;
use shared::wire::net::{FLAG_NEEDS_CSUM, HEADER_LEN, NetHeader};

use super::ethernet::{ETHERNET, FRONT, LinkAddresses, add_front, shallower};
use super::reply::{LONGEST_REPLY, Reply};
use super::responder::{IpCounters, Responder, Verdict};
use crate::bus::KernelMemory;
use crate::net::{DropCause, FramePort, PortError, Sent};
use crate::tap::Tap;

/// Bytes of the longer of the two fixed IP headers, IPv6's.
const IP_HEADER: usize = 40;

/// Bytes of a frame to the board that pass through private memory: all
/// headers that this port reads or writes.
const HEAD: usize = FRONT + IP_HEADER;

/// Packets of no IP version that one call drops at most.
const MAX_FOREIGN: u32 = 64;

/// Ethernet frames in and out of an interface that carries IP packets
/// ([`InterfaceMode::Tun`](crate::tap::InterfaceMode::Tun)).
///
/// Neither way is the payload copied more often than on a [`Tap`]: the kernel
/// puts a packet where it belongs behind the headers, and takes it from there.
#[derive(Debug)]
pub struct IpPort {
    tap: Tap,
    responder: Responder,
}

impl IpPort {
    /// A port over `tap`, which is a tun interface, for a session whose ends
    /// have these addresses.
    #[must_use]
    pub fn new(tap: Tap, link: LinkAddresses) -> Self {
        Self { tap, responder: Responder::new(link) }
    }

    /// The interface.
    #[must_use]
    pub const fn interface(&self) -> &Tap {
        &self.tap
    }

    /// The link's addresses.
    #[must_use]
    pub const fn link(&self) -> &LinkAddresses {
        self.responder.link()
    }

    /// The board's end has another address from now on; answers that wait go
    /// to who asked.
    pub const fn set_board(&mut self, board: [u8; 6]) {
        self.responder.set_board(board);
    }

    /// Sends a frame of ours to the board, before the kernel's next packet.
    pub fn enqueue(&mut self, reply: Reply) {
        self.responder.enqueue(reply);
    }

    /// The counters so far.
    #[must_use]
    pub const fn counters(&self) -> IpCounters {
        self.responder.counters()
    }

    /// The next answer with its header, if it fits.
    fn next_reply(&mut self, room: usize) -> Option<([u8; HEADER_LEN + LONGEST_REPLY], usize)> {
        let reply = self.responder.next_reply()?;
        let mut frame = [0; HEADER_LEN + LONGEST_REPLY];
        let len = HEADER_LEN + reply.as_bytes().len();
        let place = frame.get_mut(HEADER_LEN..len).filter(|_| len <= room);
        let Some(place) = place else {
            self.responder.count_lost();
            return None;
        };
        place.copy_from_slice(reply.as_bytes());
        Some((frame, len))
    }
}

impl<W: KernelMemory> FramePort<W> for IpPort {
    fn receive(&mut self, into: &W, offset: u64, capacity: u32) -> Result<Option<u32>, PortError> {
        let room = usize::try_from(capacity).unwrap_or(usize::MAX);
        if let Some((reply, len)) = self.next_reply(room) {
            into.write(offset, reply.get(..len).unwrap_or(&[]));
            return Ok(u32::try_from(len).ok());
        }
        for _ in 0..MAX_FOREIGN {
            let mut head = [0; HEAD];
            let behind = room.checked_sub(HEAD);
            let behind = behind.and_then(|len| into.kernel_range(offset + HEAD as u64, len));
            let (front, len) = if let Some(behind) = behind {
                // The packet's first bytes to private memory, the rest in place.
                let place = head.get_mut(ETHERNET..).unwrap_or(&mut []);
                let Some(len) = self.tap.read(place, &behind)? else { return Ok(None) };
                let len = ETHERNET + len;
                (head.get_mut(..len.min(HEAD)).unwrap_or(&mut []), len)
            } else {
                let Some(frame) = self.tap.read_bounced(ETHERNET, room)? else { return Ok(None) };
                let len = frame.len();
                (frame, len)
            };
            if add_front(front, self.responder.link()).is_some() {
                into.write(offset, front);
                return Ok(u32::try_from(len).ok());
            }
            self.responder.count_not_ip();
        }
        Ok(None)
    }

    fn receive_private(&mut self, into: &mut [u8]) -> Result<Option<u32>, PortError> {
        if let Some((reply, len)) = self.next_reply(into.len()) {
            for (place, byte) in into.iter_mut().zip(reply.iter().take(len)) {
                *place = *byte;
            }
            return Ok(u32::try_from(len).ok());
        }
        for _ in 0..MAX_FOREIGN {
            let place = into.get_mut(ETHERNET..).unwrap_or(&mut []);
            let Some(len) = self.tap.read_private(place)? else { return Ok(None) };
            let len = ETHERNET + len;
            let frame = into.get_mut(..len).unwrap_or(&mut []);
            if add_front(frame, self.responder.link()).is_some() {
                return Ok(u32::try_from(len).ok());
            }
            self.responder.count_not_ip();
        }
        Ok(None)
    }

    fn send(&mut self, head: &[u8], rest: &[Located<'_, W>]) -> Result<Sent, PortError> {
        let dropped = Sent::Dropped(DropCause::Refused);
        let Some(header) = NetHeader::decode(head) else { return Ok(dropped) };
        let partial = header.flags & FLAG_NEEDS_CSUM != 0;
        match self.responder.judge(head.get(HEADER_LEN..).unwrap_or(&[]), partial) {
            Verdict::Packet => {}
            Verdict::Taken => return Ok(Sent::Whole),
            Verdict::Dropped => return Ok(dropped),
        }
        let (Some(header), Some(packet)) = (shallower(header), head.get(FRONT..)) else {
            return Ok(dropped);
        };
        self.tap.write([&header.encode(), packet], rest)
    }

    fn bounced(&self) -> u64 {
        self.tap.counters().bounced
    }
}

impl AsFd for IpPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }
}
