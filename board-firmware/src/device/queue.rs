//! A device's queue: set up, in use, and the ways in which it stops.

use shared::address::BusAddress;
use shared::fault::PeerFault;
use shared::msg::status::QueueSetup;
use shared::region::{RegionTable, Rights};
use shared::virtq::{
    Chain, CompleteError, DeviceQueue, DeviceSlot, Parts, RingOptions, SleepFlush, UsedEntry,
};
use shared::window::Window;
use shared::wire::features::{EVENT_IDX, Features, IN_ORDER, INDIRECT_DESC};
use shared::wire::virtq::DESCRIPTOR_SIZE;

use super::pacing::Pacing;
use super::transfer::Mover;
use super::{Clock, Stop};
use crate::dma::DmaEngine;
use crate::support::BoardSupport;

/// A ring with all parts in windows of one kind.
pub(crate) type Ring<'b, W> = DeviceQueue<W, W, W, &'b mut [DeviceSlot]>;

#[expect(clippy::cast_possible_truncation, reason = "16 bytes")]
const DESCRIPTOR_LEN: u32 = DESCRIPTOR_SIZE as u32;

/// Which way a queue's payload goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Payload {
    /// To the host: the engine posts it, before its buffers are announced.
    ToHost,
    /// To the board.
    ToBoard,
}

/// A queue in use.
#[derive(Debug)]
pub(crate) struct Queue<'b, W> {
    pub(crate) ring: Ring<'b, W>,
    vector: u16,
    /// Buffers completed since the last publish.
    completed: u32,
    /// Packets among them, where the device counts packets.
    packets: u32,
    /// When their interrupt is raised.
    pub(crate) pacing: Pacing,
    payload: Payload,
    stopped: Option<Stop>,
}

impl<'b, W: Window> Queue<'b, W> {
    /// A queue whose interrupts go to `vector`.
    pub(crate) fn new(ring: Ring<'b, W>, vector: u16, payload: Payload) -> Self {
        Self {
            ring,
            vector,
            completed: 0,
            packets: 0,
            pacing: Pacing::default(),
            payload,
            stopped: None,
        }
    }

    /// Whether it still runs.
    pub(crate) const fn runs(&self) -> bool {
        self.stopped.is_none()
    }

    /// Stops it for good. `true`: it was running.
    pub(crate) fn stop(&mut self, stop: Stop) -> bool {
        if let Stop::Peer(fault) = stop {
            self.ring.break_with(fault);
        }
        let ran = self.runs();
        self.stopped.get_or_insert(stop);
        ran
    }

    /// Pops the next buffer; its indirect table, if it has one, is looked up
    /// as its payload will be.
    pub(crate) fn pop<S, E>(
        &mut self,
        chain: &mut Chain,
        mover: &mut Mover<'_, S, E>,
    ) -> Result<Option<u16>, PeerFault>
    where
        S: BoardSupport<Window = W>,
        E: DmaEngine<W>,
    {
        let Mover { support, regions, .. } = mover;
        let find = |address, len| regions.resolve(address, len, Rights::READ);
        // Only what is read: a table may be as long as the largest queue.
        let see = |window: &W, at| support.invalidate(window, at, DESCRIPTOR_LEN);
        self.ring.pop_with_tables(chain, find, see)
    }

    /// Completes a buffer.
    pub(crate) fn complete(
        &mut self,
        head: u16,
        written: u32,
        entry: UsedEntry,
    ) -> Result<(), PeerFault> {
        match self.ring.complete(head, written, entry) {
            Ok(()) => {
                self.completed = self.completed.saturating_add(1);
                Ok(())
            }
            Err(CompleteError::Broken(fault)) => Err(fault),
            // Both would be ours: every head is completed once, in the order popped.
            Err(CompleteError::NotInFlight { head } | CompleteError::OutOfOrder { head, .. }) => {
                debug_assert!(false, "completed out of turn");
                Err(PeerFault::HeadInFlight { head })
            }
        }
    }

    /// The buffers completed last make up a packet.
    pub(crate) const fn packet(&mut self) {
        self.packets = self.packets.saturating_add(1);
    }

    /// Publishes what was completed, behind its payload, and raises the
    /// interrupt at once if one is wanted. Returns the interrupts raised, 0 or 1.
    pub(crate) fn publish<S, E>(&mut self, mover: &mut Mover<'_, S, E>) -> Result<u64, Stop>
    where
        S: BoardSupport<Window = W>,
        E: DmaEngine<W>,
    {
        self.publish_paced(mover, Clock::default())
    }

    /// The same, with the interrupt put off as [`Self::pacing`] allows.
    pub(crate) fn publish_paced<S, E>(
        &mut self,
        mover: &mut Mover<'_, S, E>,
        clock: Clock,
    ) -> Result<u64, Stop>
    where
        S: BoardSupport<Window = W>,
        E: DmaEngine<W>,
    {
        if self.completed == 0 || !self.runs() {
            return Ok(0);
        }
        if self.payload == Payload::ToHost {
            mover.finish().map_err(Stop::Dma)?;
        }
        self.completed = 0;
        let packets = core::mem::take(&mut self.packets);
        let wanted = self.ring.publish();
        let raise = self.pacing.published(packets, wanted, clock);
        if raise {
            mover.support.raise(self.vector);
        }
        Ok(u64::from(raise))
    }

    /// Raises the interrupt that was put off if it is due. Returns the
    /// interrupts raised, 0 or 1.
    pub(crate) fn raise_due(&mut self, support: &mut impl BoardSupport, clock: Clock) -> u64 {
        // A queue that stopped completes nothing more to wait for.
        let raise = self.pacing.take_due(clock) || (!self.runs() && self.pacing.take());
        if raise {
            support.raise(self.vector);
        }
        u64::from(raise)
    }

    /// The records, for a later set-up.
    pub(crate) fn into_slots(self) -> &'b mut [DeviceSlot] {
        self.ring.into_parts().1
    }
}

/// A queue's place in its device: its records, in use or not.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "no allocator, and most are in use")]
pub(crate) enum Place<'b, W> {
    Idle(&'b mut [DeviceSlot]),
    Used(Queue<'b, W>),
}

impl<'b, W: Window> Place<'b, W> {
    pub(crate) fn queue(&mut self) -> Option<&mut Queue<'b, W>> {
        match self {
            Self::Used(queue) if queue.runs() => Some(queue),
            _ => None,
        }
    }

    /// The queue if it is in use, stopped or not.
    pub(crate) const fn used(&mut self) -> Option<&mut Queue<'b, W>> {
        match self {
            Self::Used(queue) => Some(queue),
            Self::Idle(_) => None,
        }
    }

    /// When its interrupt that was put off falls due, if one was.
    pub(crate) fn due_us(&self) -> Option<u64> {
        match self {
            Self::Used(queue) => queue.pacing.due_us(),
            Self::Idle(_) => None,
        }
    }

    /// Puts the records back, whatever was there.
    pub(crate) fn free(&mut self) {
        *self = Self::Idle(match core::mem::replace(self, Self::Idle(&mut [])) {
            Self::Idle(slots) => slots,
            Self::Used(queue) => queue.into_slots(),
        });
    }

    /// Takes up the queue that the driver has set up.
    ///
    /// # Errors
    /// Why it cannot run; the records are free again then.
    pub(crate) fn open(
        &mut self,
        setup: &QueueSetup,
        payload: Payload,
        regions: &RegionTable<W>,
        features: Features,
    ) -> Result<(), PeerFault>
    where
        W: Clone,
    {
        let impossible = PeerFault::QueueSetup { queue: u32::from(setup.queue) };
        let vector = u16::try_from(setup.vector).map_err(|_| impossible)?;
        self.free();
        let Self::Idle(slots) = self else { return Err(impossible) };
        match ring(setup, regions, core::mem::take(slots), features) {
            Ok(ring) => {
                *self = Self::Used(Queue::new(ring, vector, payload));
                Ok(())
            }
            Err((fault, slots)) => {
                *self = Self::Idle(slots);
                Err(fault)
            }
        }
    }
}

/// The window of a ring part, from the last address aligned to 8 on, and
/// where in it the part begins.
fn part<W: Window>(
    regions: &RegionTable<W>,
    (address, len): (BusAddress, u64),
    need: Rights,
) -> Result<Option<(W, u64)>, PeerFault> {
    // The longest part, the used ring of the largest queue, has 256 KiB.
    let located = regions.resolve(address, u32::try_from(len).unwrap_or(u32::MAX), need)?;
    let inside = located.offset % 8;
    let window = located.window.part(located.offset - inside, inside + len);
    Ok(window.map(|window| (window, inside)))
}

/// Makes the ring of a queue that the driver has set up.
fn ring<'b, W: Window>(
    setup: &QueueSetup,
    regions: &RegionTable<W>,
    slots: &'b mut [DeviceSlot],
    features: Features,
) -> Result<Ring<'b, W>, (PeerFault, &'b mut [DeviceSlot])> {
    let impossible = PeerFault::QueueSetup { queue: u32::from(setup.queue) };
    let [descriptors, driver, device] = setup.parts();
    let make = || {
        // SET_VQUEUE takes descriptors at multiples of 16 only, the rings at those of 4.
        let (Some((descriptors, 0)), Some((avail, avail_at)), Some((used, used_at))) = (
            part(regions, descriptors, Rights::READ)?,
            part(regions, driver, Rights::READ)?,
            part(regions, device, Rights::WRITE)?,
        ) else {
            return Err(impossible);
        };
        // Our event word lies in the used ring, what we look at in the avail ring.
        let split = setup.driver.is_board() && !setup.device.is_board();
        let options = RingOptions {
            size: setup.size,
            in_order: features.has(IN_ORDER),
            event_idx: features.has(EVENT_IDX),
            indirect: features.has(INDIRECT_DESC),
            sleep_flush: if split { SleepFlush::ReadBack } else { SleepFlush::LookFlushes },
            // A host's doorbell is a posted write behind its ring writes.
            publish_flush: false,
        };
        Ok((Parts { descriptors, avail, avail_at, used, used_at }, options))
    };
    match make() {
        Ok((parts, options)) if slots.len() >= usize::from(options.size.get()) => {
            // Records are long enough, and `part` gave the parts their length.
            Ring::new(parts, slots, options).map_err(|_| (impossible, [].as_mut_slice()))
        }
        Ok(_) => Err((impossible, slots)),
        Err(fault) => Err((fault, slots)),
    }
}
