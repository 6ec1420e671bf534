//! What the caller decides: regions, features, queues.

use crate::region::{MAX_REGIONS, REGION_GRANULE, Rights};
use crate::window::Window;
use crate::wire::features::{self, Features};

use super::super::refusal::RegionFault;
#[cfg(doc)]
use super::Progress;
use super::tasks::Task;
use super::{HostLink, HostRegion, MAX_QUEUES, Mode, QueuePlacement, Reason, Refusal};

impl<W: Window + Clone> HostLink<W> {
    /// Answers [`Progress::NeedRegions`]: the host's regions, the first one
    /// device-writable with the status page at its start, and the window on
    /// that page. Empty and `None` for a BAR-only session.
    ///
    /// # Errors
    /// What is wrong with them, or [`Reason::OutOfTurn`].
    pub fn supply_regions(
        &mut self,
        regions: &[HostRegion],
        status: Option<W>,
    ) -> Result<(), Refusal> {
        self.in_turn(Mode::NeedRegions)?;
        if let Some((index, why)) = self.region_faults(regions, status.is_some()) {
            return Err(self.refuse_now(Reason::Region { index, why }));
        }
        for (slot, region) in self.host_regions.iter_mut().zip(regions) {
            *slot = Some(*region);
        }
        self.status = status;
        let now_ms = self.mode_since_ms;
        self.begin(Task::AddBoardRegion { index: 0 }, now_ms);
        Ok(())
    }

    fn in_turn(&self, mode: Mode) -> Result<(), Refusal> {
        if self.mode == mode { Ok(()) } else { Err(self.refuse_now(Reason::OutOfTurn)) }
    }

    /// The first thing that is wrong with the host's regions, if any.
    fn region_faults(&self, regions: &[HostRegion], status: bool) -> Option<(usize, RegionFault)> {
        let outbound = self.description().and_then(|board| board.outbound);
        let boards = self.board_regions().count();
        let mut windows = 0_u64;
        for (index, region) in regions.iter().enumerate() {
            let fault = |why: RegionFault| Some((index, why));
            let last = region.base.checked_add(region.len.saturating_sub(1));
            let Some(outbound) = outbound else { return fault(RegionFault::BarOnly) };
            if boards + regions.len() > MAX_REGIONS {
                return fault(RegionFault::TooMany);
            }
            if region.len == 0
                || !region.len.is_multiple_of(REGION_GRANULE)
                || !region.base.bits().is_multiple_of(REGION_GRANULE)
            {
                return fault(RegionFault::Unaligned);
            }
            let Some(last) = last.filter(|_| !region.base.is_board()) else {
                return fault(RegionFault::Wraps);
            };
            let clash = regions.iter().take(index).any(|other| {
                let other_last = other.base.checked_add(other.len.saturating_sub(1));
                other_last.is_some_and(|other_last| other.base <= last && region.base <= other_last)
            });
            if clash {
                return fault(RegionFault::Overlaps);
            }
            match outbound.windows_for(region.base.bits(), region.len) {
                Some(more) => windows = windows.saturating_add(more),
                None => {
                    let address_bits = outbound.address_bits;
                    return fault(RegionFault::OutOfReach { address_bits });
                }
            }
            if windows > u64::from(outbound.windows) {
                return fault(RegionFault::TooFewWindows { windows: outbound.windows });
            }
            if index == 0 && !(status && region.rights.contains(Rights::WRITE)) {
                return fault(RegionFault::StatusPage);
            }
        }
        (regions.is_empty() && status).then_some((0, RegionFault::StatusPage))
    }

    /// Answers [`Progress::NeedFeatures`]: the features to accept.
    ///
    /// # Errors
    /// If they are not a subset of those offered, or lack a required one.
    pub fn supply_features(&mut self, accepted: Features) -> Result<(), Refusal> {
        self.in_turn(Mode::NeedFeatures)?;
        let device = self.current.device;
        let wrong = accepted.without(self.current.offered) | features::REQUIRED.without(accepted);
        if !wrong.is_empty() {
            return Err(self.refuse_now(Reason::FeatureChoice { device, wrong }));
        }
        self.current.accepted = accepted;
        let now_ms = self.mode_since_ms;
        self.begin(Task::SetFeatures, now_ms);
        Ok(())
    }

    /// Answers [`Progress::NeedQueues`]: the queues to set up, by rising
    /// number; their rings are initialised. At most 64.
    ///
    /// # Errors
    /// If one of them cannot be.
    pub fn supply_queues(&mut self, queues: &[QueuePlacement]) -> Result<(), Refusal> {
        self.in_turn(Mode::NeedQueues)?;
        let mut least = 0_u32;
        for placement in queues {
            let number = usize::from(placement.queue);
            let sizes = self.current.queue_sizes.get(..self.current.sizes_len).unwrap_or(&[]);
            let size = u32::from(placement.size);
            let good = u32::from(placement.queue) >= least
                && sizes.get(number).is_some_and(|largest| size <= u32::from(*largest))
                && self.can_be_notified(placement);
            if !good {
                let queue = placement.queue;
                return Err(self.refuse_now(Reason::Placement { queue }));
            }
            least = u32::from(placement.queue) + 1;
        }
        self.current.queues = [None; MAX_QUEUES];
        for (slot, placement) in self.current.queues.iter_mut().zip(queues) {
            *slot = Some(*placement);
        }
        let now_ms = self.mode_since_ms;
        let first = if queues.is_empty() { Task::DriverOk } else { Task::Route { index: 0 } };
        self.begin(first, now_ms);
        Ok(())
    }

    /// Answers [`Progress::NeedFeatures`] or [`Progress::NeedQueues`]: leave
    /// this device alone (it is reset) and go on with the next.
    ///
    /// # Errors
    /// [`Reason::OutOfTurn`].
    pub fn decline_device(&mut self) -> Result<(), Refusal> {
        if self.mode != Mode::NeedQueues {
            self.in_turn(Mode::NeedFeatures)?;
        }
        self.current.declined = true;
        let now_ms = self.mode_since_ms;
        self.begin(Task::Reset, now_ms);
        Ok(())
    }

    /// Whether a queue's doorbell and vector exist, and are not the channel's.
    pub(super) fn can_be_notified(&self, placement: &QueuePlacement) -> bool {
        self.description().is_some_and(|board| {
            (1..board.doorbell.count).contains(&placement.doorbell)
                && (1..board.vectors).contains(&placement.vector)
        })
    }
}
