//! The state of one device as its driver sees it: status, features, queues.
//!
//! A plain state machine without messages and without the device behind it, so
//! that all its transitions are tested. Rules: VirtIO 1.3 §2.1, §3.1 and
//! docs/protocol.md, "Messages", *Status*.

use crate::address::BusAddress;
use crate::msg::body::{FeatureWords, QueueAddresses, ResultCode};
use crate::virtq::QueueSize;
use crate::wire::features::{self, Features};
use crate::wire::status::DeviceStatus;

/// A queue that its driver set up: what the device needs to run it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueSetup {
    /// Queue number.
    pub queue: u16,
    /// Entries.
    pub size: QueueSize,
    /// Descriptor area.
    pub descriptors: BusAddress,
    /// Driver area (avail ring).
    pub driver: BusAddress,
    /// Device area (used ring).
    pub device: BusAddress,
    /// Doorbell that its driver rings.
    pub doorbell: u32,
    /// Vector that its driver waits for.
    pub vector: u32,
}

impl QueueSetup {
    /// The three parts: first address and bytes.
    #[must_use]
    pub fn parts(&self) -> [(BusAddress, u64); 3] {
        [
            (self.descriptors, self.size.descriptor_table_len()),
            (self.driver, self.size.avail_len()),
            (self.device, self.size.used_len()),
        ]
    }

    /// Whether a byte of any part lies in `len` bytes from `base`.
    #[must_use]
    pub fn touches(&self, base: BusAddress, len: u64) -> bool {
        self.parts().iter().any(|(first, bytes)| overlap((*first, *bytes), (base, len)))
    }
}

/// Where a queue stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    /// Not set up, or reset.
    #[default]
    Unset,
    /// Set up; frozen by DRIVER_OK.
    Set,
    /// Runs.
    Active,
    /// Reset asked for, the device still drains it.
    Resetting,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Queue {
    stage: Stage,
    addresses: QueueAddresses,
    route: Option<(u32, u32)>,
    /// Was reset after DRIVER_OK, so it may be set up again.
    reopened: bool,
}

/// What a status write asks the device to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusChange {
    /// Nothing beyond the new status.
    None,
    /// Begin a reset; call [`DeviceState::reset_done`] when it is drained.
    BeginReset,
    /// DRIVER_OK was just set: activate every queue that is set up.
    DriverOk,
}

/// What no device of ours offers, whatever its model says.
const FORBIDDEN: Features = Features::new(
    features::RING_PACKED
        | features::SR_IOV
        | features::NOTIFICATION_DATA
        | features::NOTIF_CONFIG_DATA
        | features::ADMIN_VQ
        | features::SUSPEND,
);

/// The bits that a driver may write.
const DRIVER_BITS: u32 = DeviceStatus::ACKNOWLEDGE.bits()
    | DeviceStatus::DRIVER.bits()
    | DeviceStatus::DRIVER_OK.bits()
    | DeviceStatus::FEATURES_OK.bits()
    | DeviceStatus::FAILED.bits();

/// Status, features and queues of one device with up to `QUEUES` queues.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceState<const QUEUES: usize> {
    status: DeviceStatus,
    resetting: bool,
    offered: Features,
    accepted: Features,
    /// The driver asked for bits that no feature has.
    unknown_accepted: bool,
    queues: [Queue; QUEUES],
}

impl<const QUEUES: usize> DeviceState<QUEUES> {
    /// A device after reset that offers `offered` (what the protocol forbids is taken out).
    #[must_use]
    pub fn new(offered: Features) -> Self {
        Self {
            status: DeviceStatus::RESET,
            resetting: false,
            offered: offered.without(FORBIDDEN),
            accepted: Features::NONE,
            unknown_accepted: false,
            queues: [Queue::default(); QUEUES],
        }
    }

    /// The status as the driver reads it.
    #[must_use]
    pub const fn status(&self) -> DeviceStatus {
        self.status
    }

    /// Whether a reset is under way.
    #[must_use]
    pub const fn is_resetting(&self) -> bool {
        self.resetting
    }

    /// What the device offers.
    #[must_use]
    pub const fn offered(&self) -> Features {
        self.offered
    }

    /// What the driver accepted; final once FEATURES_OK is set.
    #[must_use]
    pub const fn accepted(&self) -> Features {
        self.accepted
    }

    /// Whether queues may run: DRIVER_OK, no fault, no reset under way.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.status.contains(DeviceStatus::DRIVER_OK)
            && !self.status.contains(DeviceStatus::DEVICE_NEEDS_RESET)
            && !self.status.contains(DeviceStatus::FAILED)
            && !self.resetting
    }

    /// SET_DEVICE_STATUS. Bits only come; 0 resets; the rest is ignored.
    pub fn set_status(&mut self, requested: DeviceStatus) -> StatusChange {
        type S = DeviceStatus;
        if self.resetting {
            return StatusChange::None;
        }
        if requested.is_reset() {
            self.resetting = true;
            return StatusChange::BeginReset;
        }
        let requested = S::new(requested.bits() & DRIVER_BITS);
        let now = S::new(self.status.bits() & DRIVER_BITS);
        if !requested.contains(now) {
            return StatusChange::None;
        }
        let coming = requested.without(now);
        let mut result = self.status;
        for bit in [S::ACKNOWLEDGE, S::FAILED] {
            if coming.contains(bit) {
                result = result | bit;
            }
        }
        if coming.contains(S::DRIVER) && result.contains(S::ACKNOWLEDGE) {
            result = result | S::DRIVER;
        }
        let usable = result.contains(S::DRIVER)
            && !result.contains(S::FAILED)
            && !result.contains(S::DEVICE_NEEDS_RESET);
        if coming.contains(S::FEATURES_OK) && usable && self.features_acceptable() {
            result = result | S::FEATURES_OK;
        }
        // DRIVER_OK needs FEATURES_OK from an earlier write: the driver must have read it back.
        let start = coming.contains(S::DRIVER_OK) && usable && now.contains(S::FEATURES_OK);
        if start {
            result = result | S::DRIVER_OK;
        }
        self.status = result;
        if start { StatusChange::DriverOk } else { StatusChange::None }
    }

    /// Whether FEATURES_OK may be set (docs/protocol.md, step B10).
    fn features_acceptable(&self) -> bool {
        !self.unknown_accepted
            && self.offered.contains(self.accepted)
            && self.accepted.contains(features::REQUIRED)
    }

    /// The reset that [`Self::set_status`] began is drained.
    pub fn reset_done(&mut self) {
        *self = Self::new(self.offered);
    }

    /// Begins a reset that the driver did not ask for (its session ended).
    pub const fn begin_reset(&mut self) {
        self.resetting = true;
    }

    /// The device met a fault. Returns whether that is news.
    pub fn fail(&mut self) -> bool {
        let news = !self.status.contains(DeviceStatus::DEVICE_NEEDS_RESET);
        self.status = self.status | DeviceStatus::DEVICE_NEEDS_RESET;
        news
    }

    /// SET_DRIVER_FEATURES. Ignored outside the stage for it (the status tells).
    pub fn set_features(&mut self, words: &FeatureWords) {
        let early = !self.status.contains(DeviceStatus::DRIVER);
        if self.resetting || early || self.status.contains(DeviceStatus::FEATURES_OK) {
            return;
        }
        match words.put_into(self.accepted) {
            Some(accepted) => self.accepted = accepted,
            None => self.unknown_accepted = true,
        }
    }

    /// ROUTE_QUEUE.
    ///
    /// # Errors
    /// [`ResultCode::Unknown`] for a queue that is not there,
    /// [`ResultCode::NotAllowed`] once the queue is frozen.
    pub fn route(&mut self, queue: u32, doorbell: u32, vector: u32) -> Result<(), ResultCode> {
        let open = self.may_set_up(queue);
        let slot = self.slot(queue).ok_or(ResultCode::Unknown)?;
        if !open {
            return Err(ResultCode::NotAllowed);
        }
        slot.route = Some((doorbell, vector));
        Ok(())
    }

    fn slot(&mut self, queue: u32) -> Option<&mut Queue> {
        self.queues.get_mut(usize::try_from(queue).ok()?)
    }

    fn look(&self, queue: u32) -> Option<&Queue> {
        self.queues.get(usize::try_from(queue).ok()?)
    }

    /// Whether `queue` may be routed and set up now.
    fn may_set_up(&self, queue: u32) -> bool {
        let Some(slot) = self.look(queue) else { return false };
        let closed = self.resetting
            || !self.status.contains(DeviceStatus::FEATURES_OK)
            || self.status.contains(DeviceStatus::DEVICE_NEEDS_RESET)
            || self.status.contains(DeviceStatus::FAILED);
        if closed {
            return false;
        }
        match slot.stage {
            Stage::Unset | Stage::Set if !self.status.contains(DeviceStatus::DRIVER_OK) => true,
            Stage::Unset => slot.reopened,
            Stage::Set | Stage::Active | Stage::Resetting => false,
        }
    }

    /// SET_VQUEUE: the set-up if it may be taken now and is possible in itself.
    /// The caller checks regions, then calls [`Self::take_queue`].
    #[must_use]
    pub fn check_queue(
        &self,
        queue: u32,
        addresses: &QueueAddresses,
        largest: u32,
    ) -> Option<QueueSetup> {
        let (doorbell, vector) = self.look(queue)?.route?;
        let size = QueueSize::try_from(addresses.size).ok()?;
        let aligned = addresses.descriptors.bits().is_multiple_of(16)
            && addresses.driver.bits().is_multiple_of(4)
            && addresses.device.bits().is_multiple_of(4);
        if !self.may_set_up(queue) || addresses.size > largest || !aligned {
            return None;
        }
        let setup = QueueSetup {
            queue: u16::try_from(queue).ok()?,
            size,
            descriptors: addresses.descriptors,
            driver: addresses.driver,
            device: addresses.device,
            doorbell,
            vector,
        };
        let [a, b, c] = setup.parts();
        (!overlap(a, b) && !overlap(b, c) && !overlap(a, c)).then_some(setup)
    }

    /// Takes a set-up that [`Self::check_queue`] gave. Returns whether the
    /// queue is to be activated at once (the device is live already).
    pub fn take_queue(&mut self, setup: &QueueSetup) -> bool {
        let live = self.status.contains(DeviceStatus::DRIVER_OK);
        if let Some(slot) = self.slot(u32::from(setup.queue)) {
            slot.addresses = QueueAddresses {
                size: setup.size.into(),
                descriptors: setup.descriptors,
                driver: setup.driver,
                device: setup.device,
            };
            slot.stage = Stage::Set;
        }
        live
    }

    /// The queue now runs.
    pub fn activated(&mut self, queue: u16) {
        if let Some(slot) = self.slot(u32::from(queue)) {
            slot.stage = Stage::Active;
            slot.reopened = false;
        }
    }

    /// The set-up of `queue` if it is set up (running or not).
    #[must_use]
    pub fn queue(&self, queue: u16) -> Option<QueueSetup> {
        let slot = self.look(u32::from(queue))?;
        let (doorbell, vector) = slot.route?;
        match slot.stage {
            Stage::Unset => None,
            Stage::Set | Stage::Active | Stage::Resetting => Some(QueueSetup {
                queue,
                size: QueueSize::try_from(slot.addresses.size).ok()?,
                descriptors: slot.addresses.descriptors,
                driver: slot.addresses.driver,
                device: slot.addresses.device,
                doorbell,
                vector,
            }),
        }
    }

    /// What GET_VQUEUE shows: zeros unless set up.
    #[must_use]
    pub fn addresses(&self, queue: u32) -> QueueAddresses {
        self.look(queue)
            .filter(|slot| slot.stage != Stage::Unset)
            .map_or_else(QueueAddresses::default, |slot| slot.addresses)
    }

    /// RESET_VQUEUE. Returns whether the device must now reset the queue and
    /// then call [`Self::queue_reset_done`].
    pub fn reset_queue(&mut self, queue: u32) -> bool {
        let allowed = self.accepted.has(features::RING_RESET)
            && self.status.contains(DeviceStatus::DRIVER_OK)
            && !self.resetting;
        match self.slot(queue) {
            Some(slot) if allowed && matches!(slot.stage, Stage::Set | Stage::Active) => {
                slot.stage = Stage::Resetting;
                true
            }
            _ => false,
        }
    }

    /// Whether `queue` is being reset.
    #[must_use]
    pub fn is_queue_resetting(&self, queue: u16) -> bool {
        self.look(u32::from(queue)).is_some_and(|slot| slot.stage == Stage::Resetting)
    }

    /// The device has drained `queue`.
    pub fn queue_reset_done(&mut self, queue: u16) {
        if let Some(slot) = self.slot(u32::from(queue)) {
            *slot = Queue { route: slot.route, reopened: true, ..Queue::default() };
        }
    }

    /// Whether a queue that is set up has a part in `len` bytes from `base`.
    #[must_use]
    pub fn touches(&self, base: BusAddress, len: u64) -> bool {
        (0_u16..)
            .zip(&self.queues)
            .filter_map(|(number, _)| self.queue(number))
            .any(|setup| setup.touches(base, len))
    }
}

fn overlap(a: (BusAddress, u64), b: (BusAddress, u64)) -> bool {
    let range = |(first, len): (BusAddress, u64)| {
        (u128::from(first.bits()), u128::from(first.bits()) + u128::from(len))
    };
    let ((a_first, a_end), (b_first, b_end)) = (range(a), range(b));
    a_first < b_end && b_first < a_end
}
