//! The memory of one session: windows and bus addresses of what
//! [`Placement`](super::Placement) placed.

use shared::address::BusAddress;
use shared::virtq::{DriverQueue, DriverSlot, IndirectTables, Parts, RingOptions};
use shared::window::Window;

use super::error::SessionError;
use super::placement::{Area, RingSpots, Spot, USED_AT};
use crate::bridge::BufferArea;
use crate::bus::HostMemory;

/// The driver side of a queue of this session.
pub(super) type Queue<W> = DriverQueue<W, W, W, Box<[DriverSlot]>>;

/// The areas that a session's parts lie in.
#[derive(Debug)]
pub(super) struct SessionMemory<W> {
    pub(super) host_writable: Option<HostMemory<W>>,
    pub(super) host_readable: Option<HostMemory<W>>,
    pub(super) board: HostMemory<W>,
}

/// The three bus addresses that SET_VQUEUE tells the board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RingAddresses {
    pub(super) descriptors: BusAddress,
    pub(super) driver: BusAddress,
    pub(super) device: BusAddress,
}

impl<W: Window> SessionMemory<W> {
    fn area(&self, area: Area) -> Option<&HostMemory<W>> {
        match area {
            Area::HostWritable => self.host_writable.as_ref(),
            Area::HostReadable => self.host_readable.as_ref(),
            Area::Board => Some(&self.board),
        }
    }

    /// The window and the bus address of `spot`.
    pub(super) fn place(&self, spot: Spot) -> Result<(W, BusAddress), SessionError> {
        let placed = self.area(spot.area).and_then(|memory| {
            let window = memory.window.part(spot.offset, spot.len)?;
            Some((window, memory.iova.checked_add(spot.offset)?))
        });
        placed.ok_or(SessionError::Placement(spot))
    }

    /// The buffers in `spot`, each `stride` bytes long.
    pub(super) fn buffers(&self, spot: Spot, stride: u32) -> Result<BufferArea<W>, SessionError> {
        let (window, base) = self.place(spot)?;
        Ok(BufferArea::new(window, base, stride))
    }

    /// The indirect tables in `spot`, of `entries` descriptors each.
    pub(super) fn tables(
        &self,
        spot: Spot,
        entries: u16,
    ) -> Result<IndirectTables<W>, SessionError> {
        let (window, base) = self.place(spot)?;
        Ok(IndirectTables { window, base, entries })
    }

    /// Brings the rings in `spots` to their first state.
    pub(super) fn queue(
        &self,
        spots: &RingSpots,
        options: RingOptions,
    ) -> Result<(Queue<W>, RingAddresses), SessionError> {
        let (descriptors, descriptor_address) = self.place(spots.descriptors)?;
        let (avail, driver_address) = self.place(spots.avail)?;
        let (used, used_base) = self.place(spots.used)?;
        let device_address =
            used_base.checked_add(USED_AT).ok_or(SessionError::Placement(spots.used))?;
        let slots = vec![DriverSlot::default(); usize::from(options.size.get())];
        let parts = Parts { descriptors, avail, avail_at: 0, used, used_at: USED_AT };
        let queue = DriverQueue::new(parts, slots.into_boxed_slice(), options)?;
        let addresses = RingAddresses {
            descriptors: descriptor_address,
            driver: driver_address,
            device: device_address,
        };
        Ok((queue, addresses))
    }
}
