//! Frames in and out of an interface.

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
            let Some(frame) = self.read_bounced(0, room)? else { return Ok(None) };
            into.write(offset, frame);
            return Ok(u32::try_from(frame.len()).ok());
        };
        Ok(self.read(&mut [], &range)?.and_then(|len| u32::try_from(len).ok()))
    }

    fn receive_private(&mut self, into: &mut [u8]) -> Result<Option<u32>, PortError> {
        Ok(self.read_private(into)?.and_then(|len| u32::try_from(len).ok()))
    }

    fn bounced(&self) -> u64 {
        self.counters.bounced
    }

    fn send(&mut self, head: &[u8], rest: &[Located<'_, W>]) -> Result<Sent, PortError> {
        self.write([head, &[]], rest)
    }
}

fn range<'a, W: KernelMemory>(piece: &Located<'a, W>) -> Option<KernelRange<'a>> {
    piece.window.kernel_range(piece.offset, usize::try_from(piece.len).ok()?)
}

impl Tap {
    /// Reads one frame, its first bytes into `head` and the rest into `into`;
    /// returns its length. `None`: none waits.
    pub(crate) fn read(
        &mut self,
        head: &mut [u8],
        into: &KernelRange<'_>,
    ) -> Result<Option<usize>, PortError> {
        let file = self.file.as_fd();
        let room = head.len() + into.len();
        receive(room, &mut self.counters.oversized, |spill| read_into(file, head, into, spill))
    }

    /// Reads one frame into private memory and returns its length.
    pub(crate) fn read_private(&mut self, into: &mut [u8]) -> Result<Option<usize>, PortError> {
        receive_private(&self.file, into, &mut self.counters.oversized)
    }

    /// Reads one frame into memory of its own, and returns that up to the
    /// frame's end; the frame begins at byte `at`, `room` is for both.
    pub(crate) fn read_bounced(
        &mut self,
        at: usize,
        room: usize,
    ) -> Result<Option<&mut [u8]>, PortError> {
        let room = room.min(self.bounce.len());
        let place = self.bounce.get_mut(at..room).unwrap_or(&mut []);
        let received = receive_private(&self.file, place, &mut self.counters.oversized)?;
        Ok(received.and_then(|len| {
            self.counters.bounced += 1;
            self.bounce.get_mut(..at + len)
        }))
    }

    /// Writes one frame: both parts of `head`, then the pieces of `rest`.
    pub(crate) fn write<W: KernelMemory>(
        &mut self,
        head: [&[u8]; 2],
        rest: &[Located<'_, W>],
    ) -> Result<Sent, PortError> {
        let total = head.iter().map(|part| part.len() as u64).sum::<u64>()
            + rest.iter().map(|piece| u64::from(piece.len)).sum::<u64>();
        let direct = rest.len() <= MAX_PIECES && rest.iter().all(|piece| range(piece).is_some());
        let written = if direct {
            write_from(self.file.as_fd(), head, rest.iter().filter_map(range))
        } else {
            self.send_bounced(head, rest)
        };
        self.outcome(written, total)
    }

    /// Gathers a frame in private memory and sends it from there.
    fn send_bounced<W: KernelMemory>(
        &mut self,
        head: [&[u8]; 2],
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
        let [first, second] = head.map(IoSlice::new);
        (&self.file).write_vectored(&[first, second, IoSlice::new(rest)])
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
) -> Result<Option<usize>, PortError> {
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
) -> Result<Option<usize>, PortError> {
    let mut spill = [0; 1];
    for _ in 0..MAX_OVERSIZED {
        let error = match read(&mut spill) {
            Ok(len) if len <= room => return Ok(Some(len)),
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
