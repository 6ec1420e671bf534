//! Frames in and out of a tap.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsFd;

use nix::libc;
use shared::region::Located;

use super::Tap;
use crate::bus::KernelMemory;
use crate::net::{DropCause, FramePort, PortError, Sent};
use crate::raw::{KernelRange, MAX_PIECES, read_into, write_from};

/// Frames that one call drops at most because they do not fit.
const MAX_OVERSIZED: u32 = 64;

impl<W: KernelMemory> FramePort<W> for Tap {
    fn receive(&mut self, into: &W, offset: u64, capacity: u32) -> Result<Option<u32>, PortError> {
        let room = usize::try_from(capacity).unwrap_or(usize::MAX);
        let Some(range) = into.kernel_range(offset, room) else {
            return self.receive_bounced(into, offset, room);
        };
        let file = self.file.as_fd();
        receive(room, &mut self.counters.oversized, |spill| read_into(file, &range, spill))
    }

    fn receive_private(&mut self, into: &mut [u8]) -> Result<Option<u32>, PortError> {
        receive_private(&self.file, into, &mut self.counters.oversized)
    }

    fn bounced(&self) -> u64 {
        self.counters.bounced
    }

    fn send(&mut self, head: &[u8], rest: &[Located<'_, W>]) -> Result<Sent, PortError> {
        let total = rest.iter().map(|piece| u64::from(piece.len)).sum::<u64>() + head.len() as u64;
        let direct = rest.len() <= MAX_PIECES && rest.iter().all(|piece| range(piece).is_some());
        let written = if direct {
            write_from(self.file.as_fd(), head, rest.iter().filter_map(range))
        } else {
            self.send_bounced(head, rest)
        };
        self.outcome(written, total)
    }
}

fn range<'a, W: KernelMemory>(piece: &Located<'a, W>) -> Option<KernelRange<'a>> {
    piece.window.kernel_range(piece.offset, usize::try_from(piece.len).ok()?)
}

impl Tap {
    /// Receives into private memory and copies from there.
    fn receive_bounced<W: KernelMemory>(
        &mut self,
        into: &W,
        offset: u64,
        room: usize,
    ) -> Result<Option<u32>, PortError> {
        let room = room.min(self.bounce.len());
        let bounce = self.bounce.get_mut(..room).unwrap_or(&mut []);
        let received = receive_private(&self.file, bounce, &mut self.counters.oversized)?;
        if let Some(frame) = received.and_then(|len| bounce.get(..usize::try_from(len).ok()?)) {
            into.write(offset, frame);
            self.counters.bounced += 1;
        }
        Ok(received)
    }

    /// Gathers a frame in private memory and sends it from there.
    fn send_bounced<W: KernelMemory>(
        &mut self,
        head: &[u8],
        rest: &[Located<'_, W>],
    ) -> io::Result<usize> {
        let mut used = 0;
        for piece in rest {
            let len = usize::try_from(piece.len).unwrap_or(usize::MAX);
            let place = self.bounce.get_mut(used..).and_then(|left| left.get_mut(..len));
            let place = place.ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
            piece.window.read(piece.offset, place);
            used += len;
        }
        self.counters.bounced += 1;
        let rest = self.bounce.get(..used).unwrap_or(&[]);
        (&self.file).write_vectored(&[IoSlice::new(head), IoSlice::new(rest)])
    }

    /// What a write's result means, counted.
    fn outcome(&mut self, written: io::Result<usize>, total: u64) -> Result<Sent, PortError> {
        let error = match written {
            Ok(written) if written as u64 == total => return Ok(Sent::Whole),
            Ok(_) => io::Error::from_raw_os_error(libc::EMSGSIZE),
            Err(error) => error,
        };
        let (counter, cause) = match error.raw_os_error() {
            Some(libc::EINVAL) => (&mut self.counters.refused, DropCause::Refused),
            Some(libc::EMSGSIZE) => (&mut self.counters.short, DropCause::Short),
            Some(libc::EIO) => (&mut self.counters.down, DropCause::Down),
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => {
                (&mut self.counters.full, DropCause::Full)
            }
            _ => return Err(port_error("cannot write to", error)),
        };
        *counter += 1;
        Ok(Sent::Dropped(cause))
    }
}

fn receive_private(
    mut file: &File,
    into: &mut [u8],
    oversized: &mut u64,
) -> Result<Option<u32>, PortError> {
    receive(into.len(), oversized, |spill| {
        file.read_vectored(&mut [IoSliceMut::new(into), IoSliceMut::new(spill)])
    })
}

/// Reads one frame that fits `room` bytes. The kernel cuts a frame without a
/// word where there is no room; one byte of spill tells.
fn receive(
    room: usize,
    oversized: &mut u64,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> Result<Option<u32>, PortError> {
    let mut spill = [0; 1];
    for _ in 0..MAX_OVERSIZED {
        let error = match read(&mut spill) {
            Ok(len) if len <= room => return Ok(u32::try_from(len).ok()),
            Ok(_) => {
                *oversized += 1;
                continue;
            }
            Err(error) => error,
        };
        return match error.raw_os_error() {
            // EIO: the interface is down; nothing will come.
            Some(libc::EAGAIN | libc::EINTR | libc::EIO) => Ok(None),
            _ => Err(port_error("cannot read from", error)),
        };
    }
    Ok(None)
}

fn port_error(what: &'static str, error: io::Error) -> PortError {
    match error.raw_os_error() {
        Some(libc::EBADFD | libc::ENODEV) => PortError::Gone,
        _ => PortError::System { what, error },
    }
}
