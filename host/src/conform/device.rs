//! What a driver does with a device: numbers, status, features, config, queues.

use shared::address::BusAddress;
use shared::msg::body::DeviceInfo;
use shared::msg::{DeviceMap, FeatureWords, QueueAddresses, Request, Response, ResultCode};
use shared::wire::features::Features;
use shared::wire::status::DeviceStatus;

use super::kit::Kit;
use super::point::{Checked, Stop, must, seen, skip};

/// Numbers that a device may have (docs/protocol.md, "Messages").
pub(super) const NUMBERS: u16 = 64;

/// A device that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device {
    pub(super) number: u16,
    pub(super) info: DeviceInfo,
}

/// The status bits that a driver sets one after the other.
pub(super) const ACKNOWLEDGE: u32 = DeviceStatus::ACKNOWLEDGE.bits();
pub(super) const DRIVER: u32 = ACKNOWLEDGE | DeviceStatus::DRIVER.bits();
pub(super) const FEATURES_OK: u32 = DRIVER | DeviceStatus::FEATURES_OK.bits();
pub(super) const DRIVER_OK: u32 = FEATURES_OK | DeviceStatus::DRIVER_OK.bits();
pub(super) const NEEDS_RESET: u32 = DeviceStatus::DEVICE_NEEDS_RESET.bits();

impl Kit<'_> {
    /// GET_DEVICES for one range.
    pub(super) fn map(&mut self, first: u16, count: u16) -> Result<DeviceMap, Stop> {
        match self.ask(0, Request::GetDevices { first, count })? {
            Response::Devices(map) => Ok(map),
            other => seen(format!("GET_DEVICES was answered with {other:?}")),
        }
    }

    /// The numbers of all devices.
    pub(super) fn numbers(&mut self) -> Result<Vec<u16>, Stop> {
        let map = self.map(0, NUMBERS)?;
        must(map.first == 0 && map.count == NUMBERS && map.bits.as_slice().len() == 8, || {
            format!("GET_DEVICES of 0 to 63 was answered with {map:?}")
        })?;
        let bits = map.bits.as_slice();
        Ok((0..NUMBERS).filter(|n| bits[usize::from(n / 8)] >> (n % 8) & 1 == 1).collect())
    }

    /// GET_DEVICE_INFO.
    pub(super) fn info(&mut self, number: u16) -> Result<DeviceInfo, Stop> {
        match self.ask(number, Request::GetDeviceInfo)? {
            Response::DeviceInfo(info) => Ok(info),
            other => seen(format!("GET_DEVICE_INFO was answered with {other:?}")),
        }
    }

    /// The first device of this kind.
    pub(super) fn find_device(&mut self, id: u32, name: &str) -> Result<Device, Stop> {
        for number in self.numbers()? {
            let info = self.info(number)?;
            if info.device_id == id {
                return Ok(Device { number, info });
            }
        }
        skip(format!("the board has no {name} device"))
    }

    /// The first device, of whatever kind.
    pub(super) fn any_device(&mut self) -> Result<Device, Stop> {
        match self.numbers()?.first() {
            Some(number) => Ok(Device { number: *number, info: self.info(*number)? }),
            None => skip("the board has no device"),
        }
    }

    /// SET_DEVICE_STATUS: the status that resulted.
    pub(super) fn set_status(&mut self, device: Device, status: u32) -> Result<u32, Stop> {
        match self.ask(device.number, Request::SetDeviceStatus { status })? {
            Response::SetDeviceStatus { status } => Ok(status),
            other => seen(format!("SET_DEVICE_STATUS was answered with {other:?}")),
        }
    }

    /// GET_DEVICE_STATUS.
    pub(super) fn status(&mut self, device: Device) -> Result<u32, Stop> {
        match self.ask(device.number, Request::GetDeviceStatus)? {
            Response::DeviceStatus { status } => Ok(status),
            other => seen(format!("GET_DEVICE_STATUS was answered with {other:?}")),
        }
    }

    /// Resets a device: status 0 until it is read as 0 (step 11).
    pub(super) fn reset_device(&mut self, device: Device) -> Checked {
        let limit = self.patience();
        let mut last = 0;
        let reset = self.until(limit, |kit| {
            last = kit.set_status(device, 0)?;
            Ok((last == 0).then_some(()))
        })?;
        must(reset.is_some(), || {
            format!(
                "device {} still has status {} {} ms behind its reset",
                device.number,
                DeviceStatus::new(last),
                limit.as_millis()
            )
        })
    }

    /// Sets a status that the device has to take.
    pub(super) fn advance(&mut self, device: Device, status: u32) -> Checked {
        let now = self.set_status(device, status)?;
        must(now == status, || {
            let (asked, now) = (DeviceStatus::new(status), DeviceStatus::new(now));
            format!("device {} answers status {now} to {asked}", device.number)
        })
    }

    /// GET_DEVICE_FEATURES: words 0 and 1.
    pub(super) fn offered(&mut self, device: Device) -> Result<u64, Stop> {
        match self.ask(device.number, Request::GetDeviceFeatures { first: 0, count: 2 })? {
            Response::DeviceFeatures(FeatureWords { first: 0, count: 2, words }) => {
                Ok(u64::from(words[0]) | u64::from(words[1]) << 32)
            }
            other => seen(format!("GET_DEVICE_FEATURES of words 0 and 1 gave {other:?}")),
        }
    }

    /// SET_DRIVER_FEATURES: words 0 and 1.
    pub(super) fn accept(&mut self, device: Device, features: u64) -> Checked {
        let words = FeatureWords::of(Features::new(features), 0, 2);
        match self.ask(device.number, Request::SetDriverFeatures(words))? {
            Response::DriverFeatures => Ok(()),
            other => seen(format!("SET_DRIVER_FEATURES was answered with {other:?}")),
        }
    }

    /// Reset, ACKNOWLEDGE, DRIVER, these features, and FEATURES_OK: the status
    /// that resulted.
    pub(super) fn negotiate(&mut self, device: Device, features: u64) -> Result<u32, Stop> {
        self.reset_device(device)?;
        self.advance(device, ACKNOWLEDGE)?;
        self.advance(device, DRIVER)?;
        self.accept(device, features)?;
        self.set_status(device, FEATURES_OK)
    }

    /// GET_CONFIG: generation and data.
    pub(super) fn config(
        &mut self,
        device: Device,
        offset: u32,
        count: u32,
    ) -> Result<(u32, Vec<u8>), Stop> {
        match self.ask(device.number, Request::GetConfig { offset, count })? {
            Response::Config { generation, offset: said, data } if said == offset => {
                Ok((generation, data.as_slice().to_vec()))
            }
            other => seen(format!("GET_CONFIG at {offset} was answered with {other:?}")),
        }
    }

    /// ROUTE_QUEUE.
    pub(super) fn route(
        &mut self,
        device: u32,
        queue: u32,
        doorbell: u32,
        vector: u32,
    ) -> Result<ResultCode, Stop> {
        match self.ask(0, Request::RouteQueue { device, queue, doorbell, vector })? {
            Response::RouteQueue { device: d, queue: q, result } if (d, q) == (device, queue) => {
                Ok(result)
            }
            other => seen(format!("ROUTE_QUEUE was answered with {other:?}")),
        }
    }

    /// The doorbell and vector that the kit gives to `queue`, or the last there are.
    pub(super) fn notifications(&mut self, queue: u32) -> Result<(u32, u32), Stop> {
        let description = &self.board()?.description;
        let (doorbells, vectors) = (description.doorbell.count, description.vectors);
        if doorbells < 2 || vectors < 2 {
            return skip("the board has no doorbell and vector for a queue");
        }
        Ok(((queue + 1).min(doorbells - 1).min(3), (queue + 1).min(vectors - 1).min(3)))
    }

    /// ROUTE_QUEUE with the kit's doorbell and vector.
    pub(super) fn route_well(&mut self, device: Device, queue: u32) -> Checked {
        let (doorbell, vector) = self.notifications(queue)?;
        let result = self.route(device.number.into(), queue, doorbell, vector)?;
        must(result == ResultCode::Ok, || {
            format!("ROUTE_QUEUE of queue {queue} was answered with {}", result.code())
        })
    }

    /// GET_VQUEUE: the largest size, and what is set.
    pub(super) fn queue(
        &mut self,
        device: Device,
        queue: u32,
    ) -> Result<(u32, QueueAddresses), Stop> {
        match self.ask(device.number, Request::GetVqueue { queue })? {
            Response::Vqueue { queue: said, largest, addresses } if said == queue => {
                Ok((largest, addresses))
            }
            other => seen(format!("GET_VQUEUE of queue {queue} was answered with {other:?}")),
        }
    }

    /// SET_VQUEUE.
    pub(super) fn set_queue(
        &mut self,
        device: Device,
        queue: u32,
        addresses: QueueAddresses,
    ) -> Checked {
        match self.ask(device.number, Request::SetVqueue { queue, addresses })? {
            Response::SetVqueue => Ok(()),
            other => seen(format!("SET_VQUEUE was answered with {other:?}")),
        }
    }

    /// RESET_VQUEUE until the queue shows size 0.
    pub(super) fn reset_queue(&mut self, device: Device, queue: u32) -> Checked {
        let limit = self.patience();
        match self.ask(device.number, Request::ResetVqueue { queue })? {
            Response::ResetVqueue => {}
            other => return seen(format!("RESET_VQUEUE was answered with {other:?}")),
        }
        let reset = self.until(limit, |kit| {
            let (_, addresses) = kit.queue(device, queue)?;
            Ok((addresses.size == 0).then_some(()))
        })?;
        must(reset.is_some(), || {
            format!("queue {queue} still is set up {} ms behind RESET_VQUEUE", limit.as_millis())
        })
    }
}

/// A queue's addresses from plain numbers.
pub(super) const fn addresses(size: u32, parts: [u64; 3]) -> QueueAddresses {
    let [descriptors, driver, device] = parts;
    QueueAddresses {
        size,
        descriptors: BusAddress::new(descriptors),
        driver: BusAddress::new(driver),
        device: BusAddress::new(device),
    }
}
