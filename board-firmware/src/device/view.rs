//! What a device may know of the board around it: for a shell, or for a
//! device's own decisions. Nothing can be changed through it.

use shared::address::BusAddress;
use shared::link::{BoardDescription, BoardLinkStats, Epoch};
use shared::region::Rights;
use shared::wire::status::DeviceStatus;

use crate::trace::Trace;

/// A region of the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegionView {
    /// Its number.
    pub id: u8,
    /// First bus address.
    pub base: BusAddress,
    /// Bytes.
    pub len: u64,
    /// What the board may do with it.
    pub rights: Rights,
}

/// A device of the board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceView {
    /// virtio device id (1: network, 3: console).
    pub device_id: u32,
    /// The status that its driver sees.
    pub status: DeviceStatus,
}

/// The board as one of its devices sees it. The service implements it.
pub trait BoardView {
    /// What the control block says.
    fn description(&self) -> &BoardDescription;

    /// The session that is being served, if any.
    fn session(&self) -> Option<Epoch>;

    /// What the link has counted.
    fn link_stats(&self) -> &BoardLinkStats;

    /// What happened so far.
    fn trace(&self) -> &Trace;

    /// A region of the session: 0 up, in the order of their bus addresses.
    fn region(&self, index: usize) -> Option<RegionView>;

    /// A device that is there, by number. The one that asks does not see itself.
    fn device(&self, number: u16) -> Option<DeviceView>;

    /// A counter of such a device, with its name: 0 up.
    fn counter(&self, device: u16, index: usize) -> Option<(&'static str, u64)>;
}
