//! What the host asks of the board, one request at a time (steps 7 to 19, and
//! the resets of step 21), and what it makes of each answer.

use crate::msg::body::{
    DeviceInfo, DeviceMap, FeatureWords, QueueAddresses, RegionKind, RegionMessage, Request,
    Response, ResultCode,
};
use crate::msg::driver::Incoming;
use crate::msg::kind::Kind;
use crate::window::Window;
use crate::wire::control::{host_page, host_state};
use crate::wire::features::{self, Features};
use crate::wire::msg::CONFIG_DATA_MAX;
use crate::wire::status::DeviceStatus;

use super::{
    AttachStep, Current, HostLink, LinkEvent, MAX_CONFIG, MAX_FEATURE_BITS, MAX_QUEUES, Mode,
    Progress, QueuePlacement, Reason, TaskState, fault_reason, request_reason, timer,
};

/// Devices that GET_DEVICES is asked for.
const DEVICE_NUMBERS: u16 = 64;
/// How often config space may change while it is read.
const CONFIG_RESTARTS: u32 = 3;

/// One request to the board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Task {
    Attach,
    AddBoardRegion { index: u8 },
    AddHostRegion { index: u8 },
    ListDevices,
    Info,
    Reset,
    ResetLook,
    Acknowledge,
    Driver,
    Offered,
    SetFeatures,
    FeaturesOk,
    Config,
    QueueSize { queue: u16 },
    Route { index: u8 },
    SetQueue { index: u8 },
    Verify { index: u8 },
    DriverOk,
}

impl Task {
    /// The document's number for it.
    pub(super) const fn step(self) -> AttachStep {
        match self {
            Self::Attach => AttachStep::Attach,
            Self::AddBoardRegion { .. } | Self::AddHostRegion { .. } => AttachStep::AddRegions,
            Self::ListDevices => AttachStep::ListDevices,
            Self::Info => AttachStep::DeviceInfo,
            Self::Reset | Self::ResetLook | Self::Acknowledge | Self::Driver => {
                AttachStep::ResetDevice
            }
            Self::Offered | Self::SetFeatures => AttachStep::Features,
            Self::FeaturesOk => AttachStep::FeaturesOk,
            Self::Config => AttachStep::Config,
            Self::QueueSize { .. } => AttachStep::QueueSizes,
            Self::Route { .. } => AttachStep::RouteQueue,
            Self::SetQueue { .. } => AttachStep::SetQueue,
            Self::Verify { .. } => AttachStep::VerifyQueue,
            Self::DriverOk => AttachStep::DriverOk,
        }
    }
}

/// The status after each of the driver's writes.
const ACKNOWLEDGED: DeviceStatus = DeviceStatus::ACKNOWLEDGE;
const DRIVEN: DeviceStatus = DeviceStatus::new(ACKNOWLEDGED.bits() | DeviceStatus::DRIVER.bits());
const SETTLED: DeviceStatus = DeviceStatus::new(DRIVEN.bits() | DeviceStatus::FEATURES_OK.bits());
const LIVE: DeviceStatus = DeviceStatus::new(SETTLED.bits() | DeviceStatus::DRIVER_OK.bits());

impl<W: Window + Clone> HostLink<W> {
    /// Goes on with `task`, or with what comes after it where there is nothing to do.
    pub(super) fn begin(&mut self, task: Task, now_ms: u64) {
        let nothing_left = match task {
            Task::AddBoardRegion { index } => self
                .board_regions()
                .nth(index.into())
                .is_none()
                .then_some(Task::AddHostRegion { index: 0 }),
            Task::AddHostRegion { index } => {
                let region = self.host_regions.get(usize::from(index)).copied().flatten();
                region.is_none().then_some(Task::ListDevices)
            }
            Task::Config if self.current.config_len >= self.config_size() => {
                Some(Task::QueueSize { queue: 0 })
            }
            Task::Route { index } => self.placement(index).is_none().then_some(Task::DriverOk),
            _ => None,
        };
        match nothing_left {
            // Two hops at most: regions of the board, of the host, devices.
            Some(Task::AddHostRegion { index }) => {
                self.begin(Task::AddHostRegion { index }, now_ms)
            }
            Some(Task::QueueSize { queue }) => self.begin(Task::QueueSize { queue }, now_ms),
            Some(other) => self.set_task(other, now_ms),
            None => match task {
                Task::QueueSize { queue } if u32::from(queue) >= self.current.info.queues => {
                    self.task = None;
                    self.enter(Mode::NeedQueues, now_ms, None);
                }
                task => self.set_task(task, now_ms),
            },
        }
    }

    fn set_task(&mut self, task: Task, now_ms: u64) {
        self.task = Some((task, TaskState::ToSend { not_before_ms: 0 }));
        if !matches!(self.mode, Mode::Running | Mode::Resetting) {
            self.enter(Mode::Tasks, now_ms, None);
        }
    }

    fn config_size(&self) -> usize {
        usize::try_from(self.current.info.config_size).unwrap_or(MAX_CONFIG).min(MAX_CONFIG)
    }

    fn placement(&self, index: u8) -> Option<QueuePlacement> {
        self.current.queues.get(usize::from(index)).copied().flatten()
    }

    fn device_bit(&self) -> u64 {
        1_u64.checked_shl(self.current.device.into()).unwrap_or(0)
    }

    /// Goes on with the next device of the list, or runs.
    pub(super) fn next_device(&mut self, now_ms: u64) {
        self.task = None;
        match u16::try_from(self.devices.trailing_zeros()) {
            Ok(device) if device < DEVICE_NUMBERS => {
                self.devices &= self.devices.wrapping_sub(1);
                self.current = Current::new(device);
                self.begin(Task::Info, now_ms);
            }
            _ => {
                if let Some(board) = &self.board {
                    board.host_page.store(host_page::STATE, host_state::RUNNING);
                }
                self.next_look_ms = now_ms;
                self.enter(Mode::Running, now_ms, None);
            }
        }
    }

    /// Detach: resets the next device that was touched, or signs off.
    pub(super) fn next_reset(&mut self, now_ms: u64) {
        match u16::try_from(self.touched.trailing_zeros()) {
            Ok(device) if device < DEVICE_NUMBERS => {
                self.current.device = device;
                self.begin(Task::Reset, now_ms);
            }
            _ => self.sign_off(now_ms, self.detach_deadline_ms),
        }
    }

    /// Goes on with the resets of a detach; whatever goes wrong ends them.
    pub(super) fn reset_devices(&mut self, now_ms: u64, budget: &mut u32) -> Option<Progress> {
        if self.timed_out(now_ms).is_some() {
            self.sign_off(now_ms, self.detach_deadline_ms);
            return None;
        }
        match self.run_task(now_ms, budget) {
            // Nobody listens to events any more.
            Ok(Some(Progress::Event(_)) | None) => None,
            Ok(progress) => progress,
            Err(_) => {
                self.sign_off(now_ms, self.detach_deadline_ms);
                None
            }
        }
    }

    /// Sends the task's request, or handles one message. `Some`: there is
    /// nothing more to do now, or the caller is to know something.
    pub(super) fn run_task(
        &mut self,
        now_ms: u64,
        budget: &mut u32,
    ) -> Result<Option<Progress>, Reason> {
        let Some((task, state)) = self.task else { return Ok(Some(Progress::Waiting)) };
        match state {
            TaskState::ToSend { not_before_ms } if now_ms < not_before_ms => {
                self.take_message(now_ms, task, None, budget)
            }
            TaskState::ToSend { .. } => {
                let (device, request) = self.request(task).ok_or(Reason::OutOfTurn)?;
                let board = self.board.as_mut().ok_or(Reason::OutOfTurn)?;
                let deadline_ms = now_ms.saturating_add(timer::REQUEST);
                match board.endpoint.request(device, request, deadline_ms) {
                    Ok(token) => {
                        self.task = Some((task, TaskState::InFlight { token }));
                        self.send_deadline_ms = None;
                        if task == Task::Reset {
                            self.current.reset_deadline_ms = now_ms.saturating_add(timer::RESET);
                        }
                        Ok(None)
                    }
                    Err(error) => {
                        if let Some(reason) = request_reason(error) {
                            return Err(reason);
                        }
                        // No room: the board takes nothing, for as long as an answer may take.
                        let give_up = *self.send_deadline_ms.get_or_insert(deadline_ms);
                        if now_ms >= give_up {
                            return Err(Reason::NoAnswer(request.kind()));
                        }
                        self.take_message(now_ms, task, None, budget)
                    }
                }
            }
            TaskState::InFlight { token } => self.take_message(now_ms, task, Some(token), budget),
        }
    }

    fn take_message(
        &mut self,
        now_ms: u64,
        task: Task,
        ours: Option<u16>,
        budget: &mut u32,
    ) -> Result<Option<Progress>, Reason> {
        let board = self.board.as_mut().ok_or(Reason::OutOfTurn)?;
        board.endpoint.channel().poll().map_err(fault_reason)?;
        match board.endpoint.poll(now_ms, budget).map_err(fault_reason)? {
            Some(Incoming::Answer { token, response, .. }) if Some(token) == ours => {
                self.answered(now_ms, task, response)
            }
            Some(Incoming::TimedOut { token, kind }) if Some(token) == ours => {
                Err(Reason::NoAnswer(kind))
            }
            // Of a task that was given up.
            Some(Incoming::Answer { .. } | Incoming::TimedOut { .. }) => Ok(None),
            Some(Incoming::Event { device, event }) => {
                Ok(self.event(device, event).map(Progress::Event))
            }
            None => Ok(Some(Progress::Waiting)),
        }
    }

    /// The request of a task, and the device that it goes to.
    fn request(&self, task: Task) -> Option<(u16, Request)> {
        let board = self.board.as_ref()?;
        let current = &self.current;
        let to_bus = |request: Request| Some((0, request));
        let to_device = |request: Request| Some((current.device, request));
        let status =
            |status: DeviceStatus| to_device(Request::SetDeviceStatus { status: status.bits() });
        match task {
            Task::Attach => to_bus(Request::Attach {
                version: board.version.into(),
                boot: board.boot.get(),
                session: self.options.session.get(),
            }),
            Task::AddBoardRegion { index } => {
                let accepted = self.board_regions().nth(index.into())?;
                to_bus(Request::AddRegion(RegionMessage {
                    id: accepted.id.into(),
                    kind: RegionKind::Board { index: index.into() },
                    rights: accepted.region.rights.bits(),
                    base: accepted.base,
                    len: accepted.region.len,
                }))
            }
            Task::AddHostRegion { index } => {
                let region = self.host_regions.get(usize::from(index)).copied().flatten()?;
                to_bus(Request::AddRegion(RegionMessage {
                    id: self.host_region_id(index),
                    kind: RegionKind::Host { status_page: index == 0 },
                    rights: region.rights.bits(),
                    base: region.base,
                    len: region.len,
                }))
            }
            Task::ListDevices => to_bus(Request::GetDevices { first: 0, count: DEVICE_NUMBERS }),
            Task::Info => to_device(Request::GetDeviceInfo),
            Task::Reset => status(DeviceStatus::RESET),
            Task::ResetLook => to_device(Request::GetDeviceStatus),
            Task::Acknowledge => status(ACKNOWLEDGED),
            Task::Driver => status(DRIVEN),
            Task::Offered => to_device(Request::GetDeviceFeatures {
                first: 0,
                count: current.info.feature_bits / 32,
            }),
            Task::SetFeatures => to_device(Request::SetDriverFeatures(FeatureWords::of(
                current.accepted,
                0,
                current.info.feature_bits / 32,
            ))),
            Task::FeaturesOk => status(SETTLED),
            Task::Config => {
                let offset = u32::try_from(current.config_len).ok()?;
                to_device(Request::GetConfig { offset, count: self.config_piece()? })
            }
            Task::QueueSize { queue } => to_device(Request::GetVqueue { queue: queue.into() }),
            Task::Route { index } => {
                let placement = self.placement(index)?;
                to_bus(Request::RouteQueue {
                    device: current.device.into(),
                    queue: placement.queue.into(),
                    doorbell: placement.doorbell,
                    vector: placement.vector,
                })
            }
            Task::SetQueue { index } => {
                let placement = self.placement(index)?;
                to_device(Request::SetVqueue {
                    queue: placement.queue.into(),
                    addresses: addresses(&placement),
                })
            }
            Task::Verify { index } => {
                let placement = self.placement(index)?;
                to_device(Request::GetVqueue { queue: placement.queue.into() })
            }
            Task::DriverOk => status(LIVE),
        }
    }

    /// Bytes of config space to ask for next.
    fn config_piece(&self) -> Option<u32> {
        let left = self.config_size().saturating_sub(self.current.config_len);
        u32::try_from(left.min(CONFIG_DATA_MAX)).ok()
    }

    fn host_region_id(&self, index: u8) -> u32 {
        let boards = u32::try_from(self.board_regions().count()).unwrap_or(u32::MAX);
        boards.saturating_add(index.into())
    }

    /// What comes after the answer to `task`.
    fn answered(
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
                must(map.next == 0, Reason::DeviceLimits { device: map.next })?;
                must(self.devices != 0, Reason::NoDevice)?;
                self.next_device(now_ms);
            }
            (Task::Info, Response::DeviceInfo(info)) => self.take_info(now_ms, info)?,
            (Task::Reset, Response::SetDeviceStatus { status })
            | (Task::ResetLook, Response::DeviceStatus { status }) => {
                self.reset_answered(now_ms, status)?;
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
                let device = self.current.device;
                must(missing.is_empty(), Reason::FeaturesMissing { device, missing })?;
                self.current.offered = offered;
                self.task = None;
                self.enter(Mode::NeedFeatures, now_ms, None);
            }
            (Task::SetFeatures, Response::DriverFeatures) => self.begin(Task::FeaturesOk, now_ms),
            (Task::FeaturesOk, Response::SetDeviceStatus { status }) => {
                let device = self.current.device;
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
                let device = self.current.device;
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
                let asked = (u32::from(self.current.device), u32::from(placement.queue));
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
                self.begin(Task::Route { index: index.saturating_add(1) }, now_ms);
            }
            (Task::DriverOk, Response::SetDeviceStatus { status }) => {
                self.same_status(LIVE, status)?;
                self.up |= self.device_bit();
                self.task = None;
                self.enter(Mode::SayUp, now_ms, None);
            }
            _ => return Err(bad),
        }
        Ok(None)
    }

    fn same_status(&self, wanted: DeviceStatus, found: u32) -> Result<(), Reason> {
        let found = DeviceStatus::new(found);
        must(found == wanted, Reason::Status { device: self.current.device, wanted, found })
    }

    fn take_info(&mut self, now_ms: u64, info: DeviceInfo) -> Result<(), Reason> {
        let device = self.current.device;
        if info.device_id == 0 && self.mode != Mode::Running {
            // Listed, but inactive.
            self.next_device(now_ms);
            return Ok(());
        }
        let within = info.feature_bits.is_multiple_of(32)
            && info.feature_bits <= MAX_FEATURE_BITS
            && usize::try_from(info.config_size).is_ok_and(|size| size <= MAX_CONFIG)
            && usize::try_from(info.queues).is_ok_and(|queues| queues <= MAX_QUEUES);
        must(within, Reason::DeviceLimits { device })?;
        self.current.info = info;
        if self.mode == Mode::Running {
            self.begin(Task::Config, now_ms);
        } else {
            self.touched |= self.device_bit();
            self.begin(Task::Reset, now_ms);
        }
        Ok(())
    }

    fn reset_answered(&mut self, now_ms: u64, status: u32) -> Result<(), Reason> {
        if status != 0 {
            let late = now_ms >= self.current.reset_deadline_ms;
            must(!late, Reason::Timeout { after_ms: timer::RESET })?;
            let not_before_ms = now_ms.saturating_add(timer::RESET_LOOK);
            self.task = Some((Task::ResetLook, TaskState::ToSend { not_before_ms }));
            return Ok(());
        }
        if self.mode == Mode::Resetting {
            self.touched &= !self.device_bit();
            self.next_reset(now_ms);
        } else if self.current.declined {
            self.touched &= !self.device_bit();
            self.next_device(now_ms);
        } else {
            self.begin(Task::Acknowledge, now_ms);
        }
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
            let device = self.current.device;
            must(self.current.restarts <= CONFIG_RESTARTS, Reason::ConfigUnstable { device })?;
            self.current.config_len = 0;
            self.begin(Task::Config, now_ms);
            return Ok(None);
        }
        self.current.generation = generation;
        let into = self.current.config.get_mut(at..at + data.len()).ok_or(bad)?;
        into.copy_from_slice(data);
        self.current.config_len = at + data.len();
        if self.mode == Mode::Running && self.current.config_len >= self.config_size() {
            self.task = None;
            let device = self.current.device;
            return Ok(Some(Progress::Event(LinkEvent::ConfigRead { device })));
        }
        self.begin(Task::Config, now_ms);
        Ok(None)
    }
}

fn must(good: bool, reason: Reason) -> Result<(), Reason> {
    if good { Ok(()) } else { Err(reason) }
}

fn granted(kind: Kind, result: ResultCode) -> Result<(), Reason> {
    must(result == ResultCode::Ok, Reason::Result(kind, result))
}

/// What SET_VQUEUE says of a placement.
fn addresses(placement: &QueuePlacement) -> QueueAddresses {
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
