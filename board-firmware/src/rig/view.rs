//! A board to look at, as a test describes it.

use shared::link::{
    BoardDescription, BoardLinkStats, BoardRegions, DoorbellDescription, Epoch, Heartbeat, Label,
    Versions,
};
use shared::raw::StoreWidth;

use crate::device::{BoardView, DeviceView, RegionView};
use crate::trace::Trace;

/// Another device, and its counters.
pub(crate) type OtherDevice = (DeviceView, Vec<(&'static str, u64)>);

/// What a device is shown of the board around it.
#[derive(Debug)]
pub(crate) struct FakeView {
    pub(crate) description: BoardDescription,
    pub(crate) session: Option<Epoch>,
    pub(crate) link: BoardLinkStats,
    pub(crate) trace: Trace,
    pub(crate) regions: Vec<RegionView>,
    /// By number.
    pub(crate) devices: Vec<Option<OtherDevice>>,
}

impl FakeView {
    /// A board with nothing but the device that looks.
    pub(crate) fn new() -> Self {
        Self {
            description: BoardDescription {
                name: Label::new("test board"),
                firmware: Label::new("1.2.3"),
                mac: [2, 0, 0, 0, 0, 2],
                versions: Versions::OURS,
                interrupts_unordered: false,
                dma_engine: false,
                vectors: 3,
                widest_store: StoreWidth::Bits64,
                heartbeat: Heartbeat { interval_ms: 100, misses: 3 },
                doorbell: DoorbellDescription {
                    bar: 2,
                    offset: 0,
                    stride: 4,
                    count: 3,
                    value: 1,
                    step: 0,
                },
                outbound: None,
                regions: BoardRegions::new(),
            },
            session: None,
            link: BoardLinkStats::default(),
            trace: Trace::new(),
            regions: Vec::new(),
            devices: Vec::new(),
        }
    }
}

impl BoardView for FakeView {
    fn description(&self) -> &BoardDescription {
        &self.description
    }

    fn session(&self) -> Option<Epoch> {
        self.session
    }

    fn link_stats(&self) -> &BoardLinkStats {
        &self.link
    }

    fn trace(&self) -> &Trace {
        &self.trace
    }

    fn region(&self, index: usize) -> Option<RegionView> {
        self.regions.get(index).copied()
    }

    fn device(&self, number: u16) -> Option<DeviceView> {
        let (device, _) = self.devices.get(usize::from(number))?.as_ref()?;
        Some(*device)
    }

    fn counter(&self, device: u16, index: usize) -> Option<(&'static str, u64)> {
        let (_, counters) = self.devices.get(usize::from(device))?.as_ref()?;
        counters.get(index).copied()
    }
}
