//! What each refusal says: what is wrong, and what to do about it.

use crate::fault::PeerFault;
use crate::link::control::ControlError;
use crate::link::description::Versions;
use crate::link::refusal::{AttachStep, Reason, Refusal, RegionFault};
use crate::link::words::LinkLoss;
use crate::msg::body::ResultCode;
use crate::msg::kind::Kind;
use crate::wire::features::{self, Features};
use crate::wire::status::DeviceStatus;

/// A value for each pattern, with its text. The patterns are those of a
/// `match`, so a variant without a row does not compile.
macro_rules! texts {
    ($kind:ty: $($pattern:pat = $value:expr => $text:expr;)*) => {{
        let _complete = |value: &$kind| match value { $($pattern => (),)* };
        $({
            let value: $kind = $value;
            assert!(matches!(value, $pattern), "{value:?} is not of its row");
            assert_eq!(value.to_string(), $text);
        })*
    }};
}

#[test]
fn every_reason() {
    use Reason::{
        BadAnswer, BarTooShort, Block, Busy, ConfigUnstable, ConfigWrite, DeviceLimits,
        DeviceNotUp, Fault, FeatureChoice, FeaturesMissing, FeaturesRefused, Lost, NoAnswer,
        NoBlock, NoDevice, NoRingReset, OutOfTurn, Placement, QueueDiffers, Region, Result,
        SessionRefused, Status, Timeout, TooManyLate,
    };
    let bits = Features::new(features::VERSION_1 | features::IN_ORDER);
    let driver = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
    texts! { Reason:
        BarTooShort { .. } = BarTooShort { len: 4096 } =>
            "the BAR has 4096 bytes and a control block needs 16384; this is not the control BAR, or not a virtio-phys board: name another";
        NoBlock { .. } = NoBlock { found: 0x1234 } =>
            "no control block (found 0x00001234); check that the firmware runs and that this is its control BAR";
        Block(ControlError::AllOnes { .. }) = Block(ControlError::AllOnes { offset: 0x20 }) =>
            "control block word 0x20 is all ones; the firmware is broken or of another make, update it";
        Block(ControlError::Checksum) = Block(ControlError::Checksum) =>
            "the control block's checksum does not match; the firmware is broken or of another make, update it";
        Block(ControlError::Field { .. }) = Block(ControlError::Field { offset: 0x38 }) =>
            "control block field 0x38 is outside its range; the firmware is broken or of another make, update it";
        Block(ControlError::Reserved { .. }) = Block(ControlError::Reserved { offset: 0x40 }) =>
            "reserved control block field 0x40 is not zero; the firmware is broken or of another make, update it";
        Block(ControlError::Outside { .. }) = Block(ControlError::Outside { offset: 0x48 }) =>
            "what control block field 0x48 describes leaves its BAR; the firmware is broken or of another make, update it";
        Block(ControlError::Overlap { .. }) = Block(ControlError::Overlap { offset: 0x50 }) =>
            "what control block field 0x50 describes overlaps something else; the firmware is broken or of another make, update it";
        Reason::Versions { .. } =
            Reason::Versions { board: Versions { min: 1, max: 2 }, host: Versions { min: 3, max: 4 } } =>
            "the board speaks protocol versions 1 to 2, this host 3 to 4; update the older side";
        SessionRefused(_) = SessionRefused(ResultCode::StaleEpoch) =>
            "the board refused the session: boot or session epoch is not the current one; if that stays so, reset it";
        Timeout { .. } = Timeout { after_ms: 2000 } =>
            "not done after 2000 ms; the board hangs or is overloaded, reset it";
        NoAnswer(_) = NoAnswer(Kind::Attach) =>
            "no answer to Attach; the board hangs or does not know it, reset it";
        Result(..) = Result(Kind::AddRegion, ResultCode::NoRoom) =>
            "the board answered AddRegion with: no room left in the table, or no outbound window; reset it, or update its firmware";
        BadAnswer(_) = BadAnswer(Kind::GetVqueue) =>
            "the answer to GetVqueue does not fit the question; the firmware is broken, update it";
        Region { .. } = Region { index: 2, why: RegionFault::TooMany } =>
            "host region 2: more than 64 regions; use fewer, larger ones";
        NoDevice = NoDevice => "the board has no virtio device; check its firmware";
        DeviceLimits { .. } = DeviceLimits { device: 3 } =>
            "device 3 states more features, config space or queues than the protocol allows; update its firmware";
        FeaturesMissing { .. } = FeaturesMissing { device: 3, missing: bits } =>
            "device 3 does not offer required features VERSION_1 IN_ORDER; update its firmware";
        FeatureChoice { .. } = FeatureChoice { device: 3, wrong: bits } =>
            "the feature choice for device 3 is wrong in VERSION_1 IN_ORDER: not offered, or required and left out; correct the feature mask";
        FeaturesRefused { .. } = FeaturesRefused { device: 3 } =>
            "device 3 does not take these features; try a smaller feature mask";
        Status { .. } =
            Status { device: 3, wanted: driver, found: DeviceStatus::DEVICE_NEEDS_RESET } =>
            "device 3 has status \"DEVICE_NEEDS_RESET\" where \"ACKNOWLEDGE DRIVER\" was written; reset the board";
        ConfigUnstable { .. } = ConfigUnstable { device: 3 } =>
            "the config space of device 3 kept changing while it was read; reset the board";
        Placement { .. } = Placement { queue: 5 } =>
            "queue 5 cannot be set up as planned: size, number, doorbell or vector out of range; choose other queue sizes";
        QueueDiffers { .. } = QueueDiffers { queue: 5 } =>
            "the board keeps other values for queue 5 than those set; update its firmware";
        Lost(LinkLoss::AllOnes) = Lost(LinkLoss::AllOnes) =>
            "the bus answers all ones; the card is gone or switched off, put it back";
        Lost(LinkLoss::Rebooted) = Lost(LinkLoss::Rebooted) =>
            "the board booted again; if that goes on, look at its log and its power";
        Lost(LinkLoss::SessionDropped) = Lost(LinkLoss::SessionDropped) =>
            "the board dropped the session; if that goes on, look at its log";
        Lost(LinkLoss::HeartbeatLost) = Lost(LinkLoss::HeartbeatLost) =>
            "the board's heartbeat stands still; reset it";
        Fault(PeerFault::ChannelClosed { .. }) = Fault(PeerFault::ChannelClosed { status: 2 }) =>
            "the board closed its message channel (status 0x0002): it was switched off or boots again; if that goes on, look at its log";
        Fault(_) = Fault(PeerFault::ChannelIndex { index: 70 }) =>
            "the board broke the protocol: channel index 70 leaves the ring; if that goes on, update its firmware";
        TooManyLate = TooManyLate => "too many requests went unanswered; reset the board";
        OutOfTurn = OutOfTurn =>
            "something was supplied that the link had not asked for (a bug of this program)";
        DeviceNotUp { .. } = DeviceNotUp { device: 3 } =>
            "device 3 is not up; wait until the board says that it is ready";
        NoRingReset { .. } = NoRingReset { device: 3 } =>
            "device 3 cannot reset single queues; reset the device, or allow RING_RESET in the feature mask";
        ConfigWrite { .. } = ConfigWrite { device: 3 } =>
            "a write to the config space of device 3 takes 1 to 44 bytes below offset 4096; split it";
        Busy = Busy => "too many requests to the board wait; ask again when one is done";
    }
}

#[test]
fn every_region_fault() {
    use RegionFault::{
        BarOnly, NotToRemove, OutOfReach, Overlaps, StatusPage, TooFewWindows, TooMany, Unaligned,
        Wraps,
    };
    texts! { RegionFault:
        TooMany = TooMany => "more than 64 regions; use fewer, larger ones";
        Unaligned = Unaligned => "base and length must be multiples of 4096, not zero";
        Wraps = Wraps => "it wraps or has bit 63 set; choose another IOVA";
        Overlaps = Overlaps => "it overlaps another region; choose another IOVA";
        BarOnly = BarOnly =>
            "the board has no window into host memory; use the layout in which everything lies in the BAR";
        OutOfReach { .. } = OutOfReach { address_bits: 32 } =>
            "the board reaches only bus addresses below 2^32; map the pool lower";
        TooFewWindows { .. } = TooFewWindows { windows: 2 } =>
            "the board's 2 outbound windows do not cover it; use a smaller or better aligned pool";
        StatusPage = StatusPage =>
            "the first host region must be device-writable, for the status page";
        NotToRemove = NotToRemove =>
            "it is not there, or holds the status page; end the session to take it back";
    }
}

#[test]
fn every_step_has_its_number_and_name() {
    use AttachStep as Step;
    let text = |step| Refusal { step, reason: Reason::NoDevice }.to_string();
    let steps: [(Step, &str); 21] = [
        (Step::FindBlock, "step 1 (find the control block)"),
        (Step::ReadBlock, "step 2 (read the control block)"),
        (Step::ChooseVersion, "step 3 (choose the protocol version)"),
        (Step::WriteSession, "step 4 (write the session epoch)"),
        (Step::AwaitAcceptance, "step 5 (wait for the board to accept the session)"),
        (Step::StartChannel, "step 6 (start the message channel)"),
        (Step::Attach, "step 7 (attach)"),
        (Step::AddRegions, "step 8 (add the memory regions)"),
        (Step::ListDevices, "step 9 (list the devices)"),
        (Step::DeviceInfo, "step 10 (ask what a device is)"),
        (Step::ResetDevice, "step 11 (reset the device)"),
        (Step::Features, "step 12 (negotiate features)"),
        (Step::FeaturesOk, "step 13 (settle features)"),
        (Step::Config, "step 14 (read config space)"),
        (Step::QueueSizes, "step 15 (ask for queue sizes)"),
        (Step::RouteQueue, "step 16 (route a queue)"),
        (Step::SetQueue, "step 17 (set a queue up)"),
        (Step::VerifyQueue, "step 18 (verify a queue)"),
        (Step::DriverOk, "step 19 (start the device)"),
        (Step::Running, "step 20 (run)"),
        (Step::Detach, "step 21 (detach)"),
    ];
    for ((step, expected), number) in steps.into_iter().zip(1..) {
        assert_eq!(step.number(), number);
        assert_eq!(text(step), format!("{expected}: {}", Reason::NoDevice));
    }
}
