//! The board as one of its devices sees it.

use shared::link::{BoardDescription, BoardLink, BoardLinkStats, Epoch};
use shared::msg::device::VirtioDevice;
use shared::window::Window;

use super::DEVICE_QUEUES;
use crate::device::{BoardDevice, BoardView, DeviceView, RegionView};
use crate::trace::Trace;

/// All but the device that looks, which is at work.
pub(super) struct View<'a, W, M> {
    pub(super) link: &'a BoardLink<W>,
    pub(super) trace: &'a Trace,
    /// The devices before the one that looks, and those behind it.
    pub(super) before: &'a [VirtioDevice<M, DEVICE_QUEUES>],
    pub(super) behind: &'a [VirtioDevice<M, DEVICE_QUEUES>],
    /// Which of all devices are there.
    pub(super) present: &'a [bool],
}

impl<W, M> View<'_, W, M> {
    fn other(&self, number: u16) -> Option<&VirtioDevice<M, DEVICE_QUEUES>> {
        let number = usize::from(number);
        if !*self.present.get(number)? {
            return None;
        }
        match number.checked_sub(self.before.len()) {
            None => self.before.get(number),
            Some(0) => None,
            Some(place) => self.behind.get(place - 1),
        }
    }
}

impl<W: Window + Clone, M: BoardDevice<W>> BoardView for View<'_, W, M> {
    fn description(&self) -> &BoardDescription {
        self.link.description()
    }

    fn session(&self) -> Option<Epoch> {
        self.link.session()
    }

    fn link_stats(&self) -> &BoardLinkStats {
        self.link.stats()
    }

    fn trace(&self) -> &Trace {
        self.trace
    }

    fn region(&self, index: usize) -> Option<RegionView> {
        let region = self.link.regions().iter().nth(index)?;
        let (id, base, rights) = (region.id, region.base, region.rights);
        Some(RegionView { id, base, len: region.window.len(), rights })
    }

    fn device(&self, number: u16) -> Option<DeviceView> {
        let device = self.other(number)?;
        let device_id = device.model().info().device_id;
        Some(DeviceView { device_id, status: device.state().status() })
    }

    fn counter(&self, device: u16, index: usize) -> Option<(&'static str, u64)> {
        self.other(device)?.model().counter(index)
    }
}
