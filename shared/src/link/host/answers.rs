//! What the host makes of each answer.

use crate::msg::body::{DeviceInfo, DeviceMap, QueueAddresses, Response, ResultCode};
use crate::msg::kind::Kind;
use crate::window::Window;
use crate::wire::features::{self, Features};
use crate::wire::status::DeviceStatus;

use super::tasks::{ACKNOWLEDGED, DEVICE_NUMBERS, DRIVEN, LIVE, SETTLED, Task};
use super::{
    HostLink, LinkEvent, MAX_CONFIG, MAX_FEATURE_BITS, MAX_QUEUES, Mode, Progress, QueuePlacement,
    Reason, TaskState, timer,
};

/// How often config space may change while it is read.
const CONFIG_RESTARTS: u32 = 3;

impl<W: Window + Clone> HostLink<W> {
    /// What comes after the answer to `task`.
    pub(super) fn answered(
        &mut self,
        now_ms: u64,
        task: Task,
        response: Response,
    ) -> Result<Option<Progress>, Reason> {
        let bad = Reason::BadAnswer(response.kind());
        match (task, response) {
            (Task::Attach, Response::Attach { result, version, boot, session }) => {
                granted(Kind::Attach, result)?;
                let board = self.board.as_ref().ok_or(Reason::OutOfTurn)?;
                let ours = (u32::from(board.version), board.boot.get(), self.options.session.get());
                must((version, boot, session) == ours, bad)?;
                self.task = None;
                self.enter(Mode::NeedRegions, now_ms, None);
            }
            (Task::AddBoardRegion { index }, Response::AddRegion { id, result }) => {
                must(id == u32::from(index), bad)?;
                granted(Kind::AddRegion, result)?;
                self.begin(Task::AddBoardRegion { index: index.saturating_add(1) }, now_ms);
            }
            (Task::AddHostRegion { index }, Response::AddRegion { id, result }) => {
                must(id == self.host_region_id(index), bad)?;
                granted(Kind::AddRegion, result)?;
                // The board posted to the status page before it answered.
                self.status_live |= index == 0 && self.status.is_some();
                self.begin(Task::AddHostRegion { index: index.saturating_add(1) }, now_ms);
            }
            (Task::ListDevices, Response::Devices(map)) => {
                self.devices = device_bits(&map).ok_or(bad)?;
                self.arrived &= !self.devices;
                must(map.next == 0, Reason::DeviceLimits { device: map.next })?;
                must(self.devices != 0, Reason::NoDevice)?;
                self.next_device(now_ms);
            }
            (Task::Info, Response::DeviceInfo(info)) => return self.take_info(now_ms, info),
            (Task::Reset, Response::SetDeviceStatus { status })
            | (Task::ResetLook, Response::DeviceStatus { status }) => {
                return self.reset_answered(now_ms, status);
            }
            (Task::Acknowledge, Response::SetDeviceStatus { status }) => {
                self.same_status(ACKNOWLEDGED, status)?;
                self.begin(Task::Driver, now_ms);
            }
            (Task::Driver, Response::SetDeviceStatus { status }) => {
                self.same_status(DRIVEN, status)?;
                self.begin(Task::Offered, now_ms);
            }
            (Task::Offered, Response::DeviceFeatures(words)) => {
                let count = self.current.info.feature_bits / 32;
                must((words.first, words.count) == (0, count), bad)?;
                // Bits past 63 are nobody's yet: not accepted, so not looked at.
                let offered = words
                    .iter()
                    .filter_map(|(index, word)| Features::NONE.with_block(index, word))
                    .fold(Features::NONE, |all, some| all | some);
                let missing = features::REQUIRED.without(offered);
                let device = self.target;
                must(missing.is_empty(), Reason::FeaturesMissing { device, missing })?;
                self.current.offered = offered;
                self.task = None;
                self.enter(Mode::NeedFeatures, now_ms, None);
            }
            (Task::SetFeatures, Response::DriverFeatures) => self.begin(Task::FeaturesOk, now_ms),
            (Task::FeaturesOk, Response::SetDeviceStatus { status }) => {
                let device = self.target;
                let taken = DeviceStatus::new(status).contains(DeviceStatus::FEATURES_OK);
                must(taken, Reason::FeaturesRefused { device })?;
                self.same_status(SETTLED, status)?;
                self.begin(Task::Config, now_ms);
            }
            (Task::Config, Response::Config { generation, offset, data }) => {
                return self.take_config(now_ms, generation, offset, data.as_slice());
            }
            (Task::QueueSize { queue }, Response::Vqueue { queue: number, largest, addresses }) => {
                must(number == u32::from(queue), bad)?;
                let device = self.target;
                must(largest != 0, Reason::DeviceLimits { device })?;
                // A reset queue shows nothing.
                must(addresses == QueueAddresses::default(), Reason::QueueDiffers { queue })?;
                let slot = self.current.queue_sizes.get_mut(usize::from(queue)).ok_or(bad)?;
                *slot = u16::try_from(largest.min(1 << 15)).unwrap_or(0);
                self.current.sizes_len = usize::from(queue) + 1;
                self.begin(Task::QueueSize { queue: queue.saturating_add(1) }, now_ms);
            }
            (Task::Route { index }, Response::RouteQueue { device, queue, result }) => {
                granted(Kind::RouteQueue, result)?;
                let placement = self.placement(index).ok_or(bad)?;
                let asked = (u32::from(self.target), u32::from(placement.queue));
                must((device, queue) == asked, bad)?;
                self.begin(Task::SetQueue { index }, now_ms);
            }
            (Task::SetQueue { index }, Response::SetVqueue) => {
                self.begin(Task::Verify { index }, now_ms);
            }
            (Task::Verify { index }, Response::Vqueue { queue, addresses: kept, .. }) => {
                let placement = self.placement(index).ok_or(bad)?;
                let same = (queue, kept) == (placement.queue.into(), addresses(&placement));
                must(same, Reason::QueueDiffers { queue: placement.queue })?;
                if self.active.is_some() {
                    let (device, queue) = (self.target, placement.queue);
                    return Ok(self.wish_done(LinkEvent::QueueUp { device, queue }));
                }
                self.begin(Task::Route { index: index.saturating_add(1) }, now_ms);
            }
            (Task::DriverOk, Response::SetDeviceStatus { status }) => {
                self.same_status(LIVE, status)?;
                self.up |= self.device_bit();
                if self.current.accepted.has(features::RING_RESET) {
                    self.ring_reset |= self.device_bit();
                }
                self.task = None;
                self.enter(Mode::SayUp, now_ms, None);
            }
            _ => return self.wish_answered(now_ms, task, response),
        }
        Ok(None)
    }

    fn same_status(&self, wanted: DeviceStatus, found: u32) -> Result<(), Reason> {
        let found = DeviceStatus::new(found);
        must(found == wanted, Reason::Status { device: self.target, wanted, found })
    }

    fn take_info(&mut self, now_ms: u64, info: DeviceInfo) -> Result<Option<Progress>, Reason> {
        let device = self.target;
        let again = self.active.is_some();
        if info.device_id == 0 {
            must(!again, Reason::BadAnswer(Kind::GetDeviceInfo))?;
            // Listed, but inactive.
            self.next_device(now_ms);
            return Ok(None);
        }
        let within = info.feature_bits.is_multiple_of(32)
            && info.feature_bits <= MAX_FEATURE_BITS
            && usize::try_from(info.config_size).is_ok_and(|size| size <= MAX_CONFIG)
            && usize::try_from(info.queues).is_ok_and(|queues| queues <= MAX_QUEUES);
        must(within, Reason::DeviceLimits { device })?;
        self.current.info = info;
        if !again {
            self.touched |= self.device_bit();
            self.begin(Task::Reset, now_ms);
        } else if self.config_size() == 0 {
            return Ok(self.wish_done(LinkEvent::ConfigRead { device }));
        } else {
            self.begin(Task::Config, now_ms);
        }
        Ok(None)
    }

    fn reset_answered(&mut self, now_ms: u64, status: u32) -> Result<Option<Progress>, Reason> {
        if status != 0 {
            self.look_again(now_ms, Task::ResetLook)?;
            return Ok(None);
        }
        if self.mode == Mode::Resetting {
            self.touched &= !self.device_bit();
            self.next_reset(now_ms);
            return Ok(None);
        }
        if let Some(reason) = self.refused.take() {
            return Ok(
                self.left_alone(now_ms, |device| LinkEvent::DeviceRefused { device, reason })
            );
        }
        if self.active.is_some() {
            return Ok(self.left_alone(now_ms, |device| LinkEvent::DeviceReset { device }));
        }
        if self.current.declined {
            self.touched &= !self.device_bit();
            self.alone |= self.device_bit();
            self.next_device(now_ms);
        } else {
            self.begin(Task::Acknowledge, now_ms);
        }
        Ok(None)
    }

    /// What was begun is not done: `task` asks again, while its time lasts.
    pub(super) fn look_again(&mut self, now_ms: u64, task: Task) -> Result<(), Reason> {
        let late = now_ms >= self.wait_deadline_ms;
        must(!late, Reason::Timeout { after_ms: timer::RESET })?;
        let not_before_ms = now_ms.saturating_add(timer::RESET_LOOK);
        self.task = Some((task, TaskState::ToSend { not_before_ms }));
        Ok(())
    }

    fn take_config(
        &mut self,
        now_ms: u64,
        generation: u32,
        offset: u32,
        data: &[u8],
    ) -> Result<Option<Progress>, Reason> {
        let bad = Reason::BadAnswer(Kind::GetConfig);
        let at = self.current.config_len;
        let asked = self.config_piece().ok_or(bad)?;
        let fits = u32::try_from(at) == Ok(offset) && u32::try_from(data.len()) == Ok(asked);
        must(fits, bad)?;
        if at != 0 && generation != self.current.generation {
            self.current.restarts += 1;
            let device = self.target;
            must(self.current.restarts <= CONFIG_RESTARTS, Reason::ConfigUnstable { device })?;
            self.current.config_len = 0;
            self.begin(Task::Config, now_ms);
            return Ok(None);
        }
        self.current.generation = generation;
        let into = self.current.config.get_mut(at..at + data.len()).ok_or(bad)?;
        into.copy_from_slice(data);
        self.current.config_len = at + data.len();
        if self.current.config_len >= self.config_size() {
            let device = self.target;
            if let Some(slot) = self.generations.get_mut(usize::from(device)) {
                *slot = generation;
            }
            if self.active.is_some() {
                return Ok(self.wish_done(LinkEvent::ConfigRead { device }));
            }
        }
        self.begin(Task::Config, now_ms);
        Ok(None)
    }
}

pub(super) fn must(good: bool, reason: Reason) -> Result<(), Reason> {
    if good { Ok(()) } else { Err(reason) }
}

pub(super) fn granted(kind: Kind, result: ResultCode) -> Result<(), Reason> {
    must(result == ResultCode::Ok, Reason::Result(kind, result))
}

/// What SET_VQUEUE says of a placement.
pub(super) fn addresses(placement: &QueuePlacement) -> QueueAddresses {
    QueueAddresses {
        size: placement.size.into(),
        descriptors: placement.descriptors,
        driver: placement.driver,
        device: placement.device,
    }
}

/// The devices 0 to 63 of an answer; `None` if it is not what was asked.
fn device_bits(map: &DeviceMap) -> Option<u64> {
    let bits: &[u8; 8] = map.bits.as_slice().first_chunk()?;
    ((map.first, map.count) == (0, DEVICE_NUMBERS)).then(|| u64::from_le_bytes(*bits))
}
