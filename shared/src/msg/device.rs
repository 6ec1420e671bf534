//! The device endpoint: answers transport messages for one device.

use crate::address::BusAddress;
use crate::fault::PeerFault;
use crate::msg::body::{
    ConfigData, DeviceInfo, FeatureWords, QueueAddresses, Request, Response, ResultCode,
};
use crate::msg::status::{DeviceState, QueueSetup, StatusChange};
use crate::region::{RegionTable, Rights};
use crate::window::Window;
use crate::wire::features::Features;
use crate::wire::msg::CONFIG_DATA_MAX;
use crate::wire::status::DeviceStatus;

/// What a device model says about itself; constant as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModelInfo {
    /// virtio device id (1: network); 0 is "no device".
    pub device_id: u32,
    /// Vendor id.
    pub vendor_id: u32,
    /// Features on offer, the required ones included.
    pub features: Features,
    /// Config space, in bytes, at most 4096.
    pub config_size: u32,
    /// Queues.
    pub queues: u32,
    /// The largest size of each queue.
    pub queue_size: u32,
}

/// The device behind the messages: a network device, a console.
///
/// # Implementation contract
/// Every call returns without waiting. Nothing in a queue is touched before
/// [`Self::activate_queue`] or after [`Self::reset`] returned `true`.
pub trait DeviceModel<W: Window> {
    /// What it is.
    fn info(&self) -> ModelInfo;

    /// Fills `into` from config space at `offset`; the range is inside it.
    fn read_config(&mut self, offset: u32, into: &mut [u8]);

    /// The driver writes config space; the range is inside it. `false`:
    /// rejected, nothing changed.
    fn write_config(&mut self, offset: u32, from: &[u8]) -> bool;

    /// The driver is ready and accepted `features`. Comes before the queues.
    fn driver_ok(&mut self, features: Features);

    /// Begin to run a queue; its parts lie in regions with the right rights.
    /// Look at it without waiting for a doorbell.
    ///
    /// # Errors
    /// A [`PeerFault`] sets DEVICE_NEEDS_RESET.
    fn activate_queue(
        &mut self,
        setup: &QueueSetup,
        regions: &RegionTable<W>,
    ) -> Result<(), PeerFault>;

    /// Stop everything and forget all queues. `true`: nothing is under way any
    /// more, neither DMA nor ring write nor interrupt. `false`: not yet; it
    /// will be called again.
    fn reset(&mut self) -> bool;

    /// The same for one queue.
    fn reset_queue(&mut self, queue: u16) -> bool;
}

/// A change that the driver is to be told with EVENT_CONFIG.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigEvent {
    /// Status.
    pub status: DeviceStatus,
    /// Generation of config space.
    pub generation: u32,
}

/// One device as the board's link drives it; [`VirtioDevice`] is the one
/// implementation, this trait hides its model and its number of queues.
pub trait DeviceEndpoint<W: Window> {
    /// What GET_DEVICE_INFO answers.
    fn info(&self) -> DeviceInfo;
    /// Answers a transport message; `None` for what is not one.
    fn handle(&mut self, request: &Request, regions: &RegionTable<W>) -> Option<Response>;
    /// ROUTE_QUEUE; the caller has checked doorbell and vector.
    fn route(&mut self, queue: u32, doorbell: u32, vector: u32) -> ResultCode;
    /// The event that is due, once.
    fn take_event(&mut self) -> Option<ConfigEvent>;
    /// Begins a reset if there is anything to reset.
    fn begin_reset(&mut self);
    /// Goes on with resets; `true` when none is under way.
    fn drained(&mut self) -> bool;
    /// Whether a queue has a part in `len` bytes from `base`.
    fn touches(&self, base: BusAddress, len: u64) -> bool;
}

/// A device: its model, and the state its driver sees.
#[derive(Debug)]
pub struct VirtioDevice<M, const QUEUES: usize = 8> {
    model: M,
    state: DeviceState<QUEUES>,
    generation: u32,
    event: bool,
    /// The driver has not asked for anything since the last reset.
    clean: bool,
}

impl<M, const QUEUES: usize> VirtioDevice<M, QUEUES> {
    /// A device with this model, after reset.
    pub fn new<W: Window>(model: M) -> Self
    where
        M: DeviceModel<W>,
    {
        let offered = model.info().features;
        Self { model, state: DeviceState::new(offered), generation: 0, event: false, clean: true }
    }

    /// The model.
    pub const fn model(&self) -> &M {
        &self.model
    }

    /// The model, to run its queues.
    pub const fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    /// Status, features and queues.
    pub const fn state(&self) -> &DeviceState<QUEUES> {
        &self.state
    }

    /// Whether the queues may run.
    pub const fn is_live(&self) -> bool {
        self.state.is_live()
    }

    /// The model met a fault: DEVICE_NEEDS_RESET, and EVENT_CONFIG follows.
    pub fn fail(&mut self) {
        self.event |= self.state.fail();
    }

    /// The model changed its config space: new generation, and EVENT_CONFIG
    /// follows once the driver is ready.
    pub const fn config_changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.event = true;
    }

    /// The driver changed config space, by a command in a queue: new
    /// generation, and no event, since it knows.
    pub const fn config_adjusted(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    fn queue_numbers() -> impl Iterator<Item = u16> {
        (0_u16..).take(QUEUES)
    }

    fn activate<W: Window>(&mut self, setup: &QueueSetup, regions: &RegionTable<W>)
    where
        M: DeviceModel<W>,
    {
        match self.model.activate_queue(setup, regions) {
            Ok(()) => self.state.activated(setup.queue),
            Err(_) => self.fail(),
        }
    }

    fn progress<W: Window>(&mut self)
    where
        M: DeviceModel<W>,
    {
        if self.state.is_resetting() {
            if self.model.reset() {
                self.state.reset_done();
                self.event = false;
                self.clean = true;
            }
            return;
        }
        for queue in Self::queue_numbers() {
            if self.state.is_queue_resetting(queue) && self.model.reset_queue(queue) {
                self.state.queue_reset_done(queue);
            }
        }
    }

    fn set_status<W: Window>(&mut self, status: DeviceStatus, regions: &RegionTable<W>)
    where
        M: DeviceModel<W>,
    {
        match self.state.set_status(status) {
            StatusChange::None => {}
            StatusChange::BeginReset => self.progress(),
            StatusChange::DriverOk => {
                self.model.driver_ok(self.state.accepted());
                for queue in Self::queue_numbers() {
                    if let Some(setup) = self.state.queue(queue) {
                        self.activate(&setup, regions);
                    }
                }
            }
        }
    }

    fn get_config<W: Window>(&mut self, offset: u32, count: u32) -> Response
    where
        M: DeviceModel<W>,
    {
        let mut bytes = [0; CONFIG_DATA_MAX];
        let inside = offset
            .checked_add(count)
            .is_some_and(|end| end <= self.model.info().config_size && !self.state.is_resetting());
        let len = usize::try_from(count).unwrap_or(usize::MAX);
        let data = match bytes.get_mut(..len) {
            Some(into) if inside => {
                self.model.read_config(offset, into);
                ConfigData::new(into)
            }
            _ => None,
        };
        let data = data.unwrap_or_else(ConfigData::empty);
        Response::Config { generation: self.generation, offset, data }
    }

    fn set_config<W: Window>(&mut self, generation: u32, offset: u32, data: &ConfigData) -> Response
    where
        M: DeviceModel<W>,
    {
        let from = data.as_slice();
        let inside =
            u64::from(offset) + from.len() as u64 <= u64::from(self.model.info().config_size);
        let good = inside && generation == self.generation && !self.state.is_resetting();
        let data = if good && self.model.write_config(offset, from) {
            self.generation = self.generation.wrapping_add(1);
            *data
        } else {
            ConfigData::empty()
        };
        Response::SetConfig { generation: self.generation, offset, data }
    }

    fn set_queue<W: Window>(
        &mut self,
        queue: u32,
        addresses: &QueueAddresses,
        regions: &RegionTable<W>,
    ) where
        M: DeviceModel<W>,
    {
        let info = self.model.info();
        if queue >= info.queues {
            return;
        }
        let Some(setup) = self.state.check_queue(queue, addresses, info.queue_size) else { return };
        let reachable = setup.parts().iter().zip([Rights::READ, Rights::READ, Rights::WRITE]).all(
            |((address, len), need)| {
                u32::try_from(*len).is_ok_and(|len| regions.resolve(*address, len, need).is_ok())
            },
        );
        if reachable && self.state.take_queue(&setup) {
            self.activate(&setup, regions);
        }
    }
}

impl<W: Window, M: DeviceModel<W>, const QUEUES: usize> DeviceEndpoint<W>
    for VirtioDevice<M, QUEUES>
{
    fn info(&self) -> DeviceInfo {
        let info = self.model.info();
        let queues = info.queues.min(u32::try_from(QUEUES).unwrap_or(u32::MAX));
        DeviceInfo {
            device_id: info.device_id,
            vendor_id: info.vendor_id,
            feature_bits: 64,
            config_size: info.config_size,
            queues,
            admin_start: 0,
            admin_count: 0,
        }
    }

    fn handle(&mut self, request: &Request, regions: &RegionTable<W>) -> Option<Response> {
        self.clean = false;
        self.progress();
        Some(match *request {
            Request::GetDeviceInfo => Response::DeviceInfo(DeviceEndpoint::<W>::info(self)),
            Request::GetDeviceFeatures { first, count } => {
                Response::DeviceFeatures(FeatureWords::of(self.state.offered(), first, count))
            }
            Request::SetDriverFeatures(words) => {
                self.state.set_features(&words);
                Response::DriverFeatures
            }
            Request::GetConfig { offset, count } => self.get_config(offset, count),
            Request::SetConfig { generation, offset, data } => {
                self.set_config(generation, offset, &data)
            }
            Request::GetDeviceStatus => {
                Response::DeviceStatus { status: self.state.status().bits() }
            }
            Request::SetDeviceStatus { status } => {
                self.set_status(DeviceStatus::new(status), regions);
                Response::SetDeviceStatus { status: self.state.status().bits() }
            }
            Request::GetVqueue { queue } => {
                let info = self.model.info();
                let there = queue < DeviceEndpoint::<W>::info(self).queues;
                let largest = if there { info.queue_size } else { 0 };
                Response::Vqueue { queue, largest, addresses: self.state.addresses(queue) }
            }
            Request::SetVqueue { queue, addresses } => {
                self.set_queue(queue, &addresses, regions);
                Response::SetVqueue
            }
            Request::ResetVqueue { queue } => {
                if self.state.reset_queue(queue) {
                    self.progress();
                }
                Response::ResetVqueue
            }
            Request::GetShm { index } => Response::Shm { index, len: 0, address: 0 },
            Request::GetDevices { .. }
            | Request::Ping { .. }
            | Request::Attach { .. }
            | Request::AddRegion(_)
            | Request::RemoveRegion { .. }
            | Request::RouteQueue { .. }
            | Request::BoardReset { .. } => return None,
        })
    }

    fn route(&mut self, queue: u32, doorbell: u32, vector: u32) -> ResultCode {
        if queue >= self.model.info().queues {
            return ResultCode::Unknown;
        }
        self.state.route(queue, doorbell, vector).err().unwrap_or(ResultCode::Ok)
    }

    fn take_event(&mut self) -> Option<ConfigEvent> {
        // VirtIO 1.3 §2.1.2: no config change notification before DRIVER_OK.
        let ready = self.state.status().contains(DeviceStatus::DRIVER_OK);
        if !self.event || !ready || self.state.is_resetting() {
            return None;
        }
        self.event = false;
        Some(ConfigEvent { status: self.state.status(), generation: self.generation })
    }

    fn begin_reset(&mut self) {
        if !self.clean {
            self.state.begin_reset();
        }
    }

    fn drained(&mut self) -> bool {
        self.progress();
        let queues = Self::queue_numbers().any(|queue| self.state.is_queue_resetting(queue));
        !self.state.is_resetting() && !queues
    }

    fn touches(&self, base: BusAddress, len: u64) -> bool {
        self.state.touches(base, len)
    }
}
