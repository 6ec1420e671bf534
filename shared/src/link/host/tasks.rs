//! What the host asks of the board, one request at a time: steps 7 to 19, the
//! resets of step 21, and what a running session wishes.

use crate::msg::body::{FeatureWords, RegionKind, RegionMessage, Request};
use crate::msg::driver::Incoming;
use crate::window::Window;
use crate::wire::control::{host_page, host_state};
use crate::wire::msg::CONFIG_DATA_MAX;
use crate::wire::status::DeviceStatus;

use super::answers::addresses;
use super::wishes::Wish;
use super::{
    AttachStep, Current, HostLink, MAX_CONFIG, Mode, Progress, QueuePlacement, Reason, TaskState,
    fault_reason, request_reason, timer,
};

/// Devices that GET_DEVICES is asked for.
pub(super) const DEVICE_NUMBERS: u16 = 64;

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
    ResetQueue { queue: u16 },
    ResetQueueLook { queue: u16 },
    WriteConfig,
    ResetBoard,
    RemoveRegion { number: u8 },
    RemoveRegionAgain { number: u8 },
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
            Self::ResetQueue { .. }
            | Self::ResetQueueLook { .. }
            | Self::WriteConfig
            | Self::ResetBoard
            | Self::RemoveRegion { .. }
            | Self::RemoveRegionAgain { .. } => AttachStep::Running,
        }
    }

    /// Whether it is about one device that comes up.
    pub(super) const fn is_of_a_bring_up(self) -> bool {
        !matches!(
            self,
            Self::Attach
                | Self::AddBoardRegion { .. }
                | Self::AddHostRegion { .. }
                | Self::ListDevices
        )
    }

    /// Whether what it begins has [`timer::RESET`] to be done.
    const fn begins_a_wait(self) -> bool {
        matches!(self, Self::Reset | Self::ResetQueue { .. } | Self::RemoveRegion { .. })
    }
}

/// The status after each of the driver's writes.
pub(super) const ACKNOWLEDGED: DeviceStatus = DeviceStatus::ACKNOWLEDGE;
pub(super) const DRIVEN: DeviceStatus =
    DeviceStatus::new(ACKNOWLEDGED.bits() | DeviceStatus::DRIVER.bits());
pub(super) const SETTLED: DeviceStatus =
    DeviceStatus::new(DRIVEN.bits() | DeviceStatus::FEATURES_OK.bits());
pub(super) const LIVE: DeviceStatus =
    DeviceStatus::new(SETTLED.bits() | DeviceStatus::DRIVER_OK.bits());

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

    pub(super) fn config_size(&self) -> usize {
        usize::try_from(self.current.info.config_size).unwrap_or(MAX_CONFIG).min(MAX_CONFIG)
    }

    /// The queue that is being set up: one of the bring-up's, or a wish.
    pub(super) fn placement(&self, index: u8) -> Option<QueuePlacement> {
        if let Some(Wish::SetUpQueue { placement, .. }) = self.active {
            return (index == 0).then_some(placement);
        }
        self.current.queues.get(usize::from(index)).copied().flatten()
    }

    /// The device that the task is about, as a bit.
    pub(super) fn device_bit(&self) -> u64 {
        bit(self.target)
    }

    /// Goes on with the next device of the list, or runs.
    pub(super) fn next_device(&mut self, now_ms: u64) {
        self.task = None;
        self.device_deadline_ms = None;
        match u16::try_from(self.devices.trailing_zeros()) {
            Ok(device) if device < DEVICE_NUMBERS => {
                self.devices &= self.devices.wrapping_sub(1);
                self.current = Current::new(device);
                self.target = device;
                self.begin(Task::Info, now_ms);
            }
            _ => {
                if let (false, Some(board)) = (self.started, &self.board) {
                    board.host_page.store(host_page::STATE, host_state::RUNNING);
                }
                self.started = true;
                self.next_look_ms = now_ms;
                self.enter(Mode::Running, now_ms, None);
            }
        }
    }

    /// Detach: resets the next device that was touched, or signs off.
    pub(super) fn next_reset(&mut self, now_ms: u64) {
        match u16::try_from(self.touched.trailing_zeros()) {
            Ok(device) if device < DEVICE_NUMBERS => {
                self.target = device;
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
                        if task.begins_a_wait() {
                            self.wait_deadline_ms = now_ms.saturating_add(timer::RESET);
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
                self.answered(now_ms, task, response).or_else(|why| self.refuse_device(now_ms, why))
            }
            Some(Incoming::TimedOut { token, kind }) if Some(token) == ours => {
                Err(Reason::NoAnswer(kind))
            }
            // Of a task that was given up.
            Some(Incoming::Answer { .. } | Incoming::TimedOut { .. }) => Ok(None),
            Some(Incoming::Event { device, event }) => {
                Ok(self.event(now_ms, device, event).map(Progress::Event))
            }
            None => Ok(Some(Progress::Waiting)),
        }
    }

    /// The request of a task, and the device that it goes to.
    fn request(&self, task: Task) -> Option<(u16, Request)> {
        let board = self.board.as_ref()?;
        let current = &self.current;
        let to_bus = |request: Request| Some((0, request));
        let to_device = |request: Request| Some((self.target, request));
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
                    device: self.target.into(),
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
            Task::ResetQueue { queue } => to_device(Request::ResetVqueue { queue: queue.into() }),
            Task::ResetQueueLook { queue } => to_device(Request::GetVqueue { queue: queue.into() }),
            Task::WriteConfig => {
                let Some(Wish::WriteConfig { generation, offset, data, .. }) = self.active else {
                    return None;
                };
                to_device(Request::SetConfig { generation, offset, data })
            }
            Task::ResetBoard => to_bus(Request::BoardReset { boot: board.boot.get() }),
            Task::RemoveRegion { number } | Task::RemoveRegionAgain { number } => {
                to_bus(Request::RemoveRegion { id: self.host_region_id(number) })
            }
        }
    }

    /// Bytes of config space to ask for next.
    pub(super) fn config_piece(&self) -> Option<u32> {
        let left = self.config_size().saturating_sub(self.current.config_len);
        u32::try_from(left.min(CONFIG_DATA_MAX)).ok()
    }

    pub(super) fn host_region_id(&self, index: u8) -> u32 {
        let boards = u32::try_from(self.board_regions().count()).unwrap_or(u32::MAX);
        boards.saturating_add(index.into())
    }
}

/// The bit of a device; 0 for a number that none has.
pub(super) const fn bit(device: u16) -> u64 {
    if device < DEVICE_NUMBERS { 1 << device } else { 0 }
}
