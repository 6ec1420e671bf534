//! What the caller asks for while the session runs: kept in a short queue, done
//! one after the other, each ended by a [`LinkEvent`].

use crate::msg::body::{ConfigData, Response, ResultCode};
use crate::msg::kind::Kind;
use crate::window::Window;

use super::answers::{granted, must};
use super::tasks::{Task, bit};
use super::{
    AttachStep, Current, HostLink, LinkEvent, MAX_CONFIG, Mode, Progress, QueuePlacement, Reason,
    Refusal,
};
use crate::link::refusal::RegionFault;

/// Wishes that wait at most.
pub const MAX_WISHES: usize = 8;

/// Something that the caller wishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    ReadConfig { device: u16 },
    WriteConfig { device: u16, generation: u32, offset: u32, data: ConfigData },
    ResetQueue { device: u16, queue: u16 },
    SetUpQueue { device: u16, placement: QueuePlacement },
    ResetDevice { device: u16 },
    ResetBoard,
    RemoveRegion { number: u8 },
}

impl Wish {
    /// The device that it is about.
    pub(super) const fn device(&self) -> Option<u16> {
        match *self {
            Self::ReadConfig { device }
            | Self::WriteConfig { device, .. }
            | Self::ResetQueue { device, .. }
            | Self::SetUpQueue { device, .. }
            | Self::ResetDevice { device } => Some(device),
            Self::ResetBoard | Self::RemoveRegion { .. } => None,
        }
    }
}

/// The wishes that wait, oldest first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    slots: [Option<Wish>; MAX_WISHES],
}

impl Wishes {
    fn push(&mut self, wish: Wish) -> bool {
        match self.slots.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => {
                *slot = Some(wish);
                true
            }
            None => false,
        }
    }

    fn pop(&mut self) -> Option<Wish> {
        let first = self.slots.first_mut()?.take();
        self.slots.rotate_left(1);
        first
    }

    fn has(&self, wish: Wish) -> bool {
        self.slots.contains(&Some(wish))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.first().is_none_or(Option::is_none)
    }

    /// Drops what is about `device`.
    pub(super) fn forget(&mut self, device: u16) {
        let mut kept = Self::default();
        for wish in self.slots.iter().flatten().filter(|wish| wish.device() != Some(device)) {
            let _ = kept.push(*wish);
        }
        *self = kept;
    }
}

impl<W: Window + Clone> HostLink<W> {
    /// While the session runs: read a device's config space again;
    /// [`LinkEvent::ConfigRead`] says when it is there.
    ///
    /// As for all that is asked of a running session: step the link after it.
    ///
    /// # Errors
    /// [`Reason::OutOfTurn`] while no session runs, [`Reason::DeviceNotUp`],
    /// [`Reason::Busy`] while too many wishes wait.
    pub fn refresh_config(&mut self, device: u16) -> Result<(), Refusal> {
        self.wish(Wish::ReadConfig { device })
    }

    /// Writes `data`, 1 to 44 bytes, at `offset` of a device's config space,
    /// under the generation that was read last.
    /// [`LinkEvent::ConfigWritten`] says whether the device took it; if it did
    /// not, read the config again first.
    ///
    /// # Errors
    /// As [`Self::refresh_config`], or [`Reason::ConfigWrite`].
    pub fn write_config(&mut self, device: u16, offset: u32, data: &[u8]) -> Result<(), Refusal> {
        let inside = usize::try_from(offset)
            .ok()
            .and_then(|offset| offset.checked_add(data.len()))
            .is_some_and(|end| end <= MAX_CONFIG);
        let data = ConfigData::new(data).filter(|data| inside && !data.as_slice().is_empty());
        let data = data.ok_or_else(|| self.unasked(Reason::ConfigWrite { device }))?;
        let generation = self.generations.get(usize::from(device)).copied().unwrap_or(0);
        self.wish(Wish::WriteConfig { device, generation, offset, data })
    }

    /// Resets one queue (VIRTIO_F_RING_RESET) and waits until the device has
    /// let go of it: then [`LinkEvent::QueueReset`], and rings and buffers are
    /// the caller's again.
    ///
    /// # Errors
    /// As [`Self::refresh_config`], or [`Reason::NoRingReset`].
    pub fn reset_queue(&mut self, device: u16, queue: u16) -> Result<(), Refusal> {
        if self.up & !self.ring_reset & bit(device) != 0 {
            return Err(self.unasked(Reason::NoRingReset { device }));
        }
        self.wish(Wish::ResetQueue { device, queue })
    }

    /// Sets a queue up that was reset; its rings are initialised. Then
    /// [`LinkEvent::QueueUp`]: ring its doorbell.
    ///
    /// # Errors
    /// As [`Self::refresh_config`], or [`Reason::Placement`].
    pub fn set_up_queue(&mut self, device: u16, placement: QueuePlacement) -> Result<(), Refusal> {
        if !self.can_be_notified(&placement) {
            return Err(self.unasked(Reason::Placement { queue: placement.queue }));
        }
        self.wish(Wish::SetUpQueue { device, placement })
    }

    /// Resets one device and leaves it alone until it goes and comes back.
    /// [`LinkEvent::DeviceReset`] says when it has let go of its queues.
    ///
    /// # Errors
    /// As [`Self::refresh_config`].
    pub fn reset_device(&mut self, device: u16) -> Result<(), Refusal> {
        self.wish(Wish::ResetDevice { device })
    }

    /// Asks the board to boot again. If [`LinkEvent::BoardReset`] says that it
    /// will, the session ends by itself.
    ///
    /// # Errors
    /// As [`Self::refresh_config`].
    pub fn reset_board(&mut self) -> Result<(), Refusal> {
        self.wish(Wish::ResetBoard)
    }

    /// Takes the host region with this place in the list back, asking again
    /// while the board is busy with it. After [`LinkEvent::RegionRemoved`] it
    /// may be unmapped. The first one, with the status page, stays as long as
    /// the session.
    ///
    /// # Errors
    /// As [`Self::refresh_config`], or [`Reason::Region`].
    pub fn remove_region(&mut self, number: u8) -> Result<(), Refusal> {
        let index = usize::from(number);
        if index == 0 || self.host_regions.get(index).copied().flatten().is_none() {
            return Err(self.unasked(Reason::Region { index, why: RegionFault::NotToRemove }));
        }
        self.wish(Wish::RemoveRegion { number })
    }

    const fn unasked(&self, reason: Reason) -> Refusal {
        Refusal { step: AttachStep::Running, reason }
    }

    fn wish(&mut self, wish: Wish) -> Result<(), Refusal> {
        let ending = matches!(self.mode, Mode::Resetting | Mode::Leaving | Mode::Over { .. });
        if !self.started || ending {
            return Err(self.refuse_now(Reason::OutOfTurn));
        }
        if let Some(device) = wish.device().filter(|device| self.up & bit(*device) == 0) {
            return Err(self.unasked(Reason::DeviceNotUp { device }));
        }
        // One that waits reads all that has changed until it begins.
        let is_read = matches!(wish, Wish::ReadConfig { .. });
        if !(is_read && self.wishes.has(wish) || self.wishes.push(wish)) {
            return Err(self.unasked(Reason::Busy));
        }
        Ok(())
    }

    /// Begins the next wish. `false`: there is none.
    pub(super) fn begin_wish(&mut self, now_ms: u64) -> bool {
        let Some(wish) = self.wishes.pop() else { return false };
        self.active = Some(wish);
        self.target = wish.device().unwrap_or(0);
        let task = match wish {
            Wish::ReadConfig { device } => {
                if self.current.device == device {
                    (self.current.config_len, self.current.restarts) = (0, 0);
                } else {
                    self.current = Current::new(device);
                }
                Task::Info
            }
            Wish::WriteConfig { .. } => Task::WriteConfig,
            Wish::ResetQueue { queue, .. } => Task::ResetQueue { queue },
            Wish::SetUpQueue { .. } => Task::Route { index: 0 },
            Wish::ResetDevice { .. } => Task::Reset,
            Wish::ResetBoard => Task::ResetBoard,
            Wish::RemoveRegion { number } => Task::RemoveRegion { number },
        };
        self.begin(task, now_ms);
        true
    }

    /// The wish has ended with `event`.
    pub(super) const fn wish_done(&mut self, event: LinkEvent) -> Option<Progress> {
        self.task = None;
        self.active = None;
        Some(Progress::Event(event))
    }

    /// What comes after an answer to a wish.
    pub(super) fn wish_answered(
        &mut self,
        now_ms: u64,
        task: Task,
        response: Response,
    ) -> Result<Option<Progress>, Reason> {
        let bad = Reason::BadAnswer(response.kind());
        let device = self.target;
        match (task, response) {
            (Task::ResetQueue { queue }, Response::ResetVqueue) => {
                self.begin(Task::ResetQueueLook { queue }, now_ms);
                Ok(None)
            }
            (Task::ResetQueueLook { queue }, Response::Vqueue { queue: number, addresses, .. }) => {
                must(number == u32::from(queue), bad)?;
                if addresses.size != 0 {
                    self.look_again(now_ms, task)?;
                    return Ok(None);
                }
                Ok(self.wish_done(LinkEvent::QueueReset { device, queue }))
            }
            (Task::WriteConfig, Response::SetConfig { generation, offset, data }) => {
                let Some(Wish::WriteConfig { offset: ours, data: wanted, .. }) = self.active else {
                    return Err(bad);
                };
                let accepted = !data.as_slice().is_empty();
                must(offset == ours && (!accepted || data == wanted), bad)?;
                if let (true, Some(slot)) =
                    (accepted, self.generations.get_mut(usize::from(device)))
                {
                    // Nobody else changed it in between, or it was not accepted.
                    *slot = generation;
                }
                Ok(self.wish_done(LinkEvent::ConfigWritten { device, accepted }))
            }
            (Task::ResetBoard, Response::BoardReset { result }) => {
                let granted = result == ResultCode::Ok;
                Ok(self.wish_done(LinkEvent::BoardReset { granted }))
            }
            (
                Task::RemoveRegion { number } | Task::RemoveRegionAgain { number },
                Response::RemoveRegion { id, result },
            ) => {
                must(id == self.host_region_id(number), bad)?;
                if result == ResultCode::Busy {
                    self.look_again(now_ms, Task::RemoveRegionAgain { number })?;
                    return Ok(None);
                }
                granted(Kind::RemoveRegion, result)?;
                if let Some(slot) = self.host_regions.get_mut(usize::from(number)) {
                    *slot = None;
                }
                Ok(self.wish_done(LinkEvent::RegionRemoved { number }))
            }
            _ => Err(bad),
        }
    }
}
