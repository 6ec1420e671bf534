//! Status and feature negotiation.

use shared::wire::features::{ACCESS_PLATFORM, ORDER_PLATFORM, REQUIRED, VERSION_1};
use shared::wire::status::DeviceStatus;

use crate::conform::device::{ACKNOWLEDGE, DRIVER, DRIVER_OK, Device, FEATURES_OK, NEEDS_RESET};
use crate::conform::kit::Kit;
use crate::conform::point::{Checked, Point, Stop, must, skip};

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "status-first",
        section: "5.1",
        rule: "a device that nobody has used has status 0",
        check: first,
    },
    Point {
        id: "status-forward",
        section: "5.1",
        rule: "ACKNOWLEDGE, DRIVER and FEATURES_OK are taken one after the other, and GET_DEVICE_STATUS \
               shows each",
        check: forward,
    },
    Point {
        id: "status-back",
        section: "5.1",
        rule: "a status that takes bits back is ignored, and the old one answered",
        check: back,
    },
    Point {
        id: "status-reset",
        section: "5.1",
        rule: "status 0 is answered with status 0 when the reset is done",
        check: reset,
    },
    Point {
        id: "status-needs-reset",
        section: "5.1",
        rule: "DEVICE_NEEDS_RESET is the device's to set, not the driver's",
        check: needs_reset,
    },
    Point {
        id: "status-version-1",
        section: "5.1",
        rule: "FEATURES_OK is refused without VERSION_1",
        check: |kit| lacking(kit, VERSION_1),
    },
    Point {
        id: "status-access-platform",
        section: "5.1",
        rule: "FEATURES_OK is refused without ACCESS_PLATFORM",
        check: |kit| lacking(kit, ACCESS_PLATFORM),
    },
    Point {
        id: "status-order-platform",
        section: "5.1",
        rule: "FEATURES_OK is refused without ORDER_PLATFORM",
        check: |kit| lacking(kit, ORDER_PLATFORM),
    },
    Point {
        id: "status-not-offered",
        section: "5.1",
        rule: "FEATURES_OK is refused with a bit that was not offered",
        check: not_offered,
    },
    Point {
        id: "status-beyond",
        section: "5.1",
        rule: "FEATURES_OK is refused with a bit beyond 128",
        check: beyond,
    },
    Point {
        id: "status-frozen",
        section: "5.1",
        rule: "features are frozen by FEATURES_OK: a later SET_DRIVER_FEATURES changes nothing",
        check: frozen,
    },
    Point {
        id: "status-early",
        section: "8.2",
        rule: "DRIVER_OK without FEATURES_OK from an earlier answer is not taken",
        check: early,
    },
    Point {
        id: "status-running",
        section: "5.1",
        rule: "DRIVER_OK is taken with all queues set up",
        check: running,
    },
    Point {
        id: "status-failed",
        section: "5.1",
        rule: "FAILED is taken, and ends with a reset",
        check: failed,
    },
];

fn device(kit: &mut Kit<'_>) -> Result<Device, Stop> {
    kit.attach()?;
    kit.any_device()
}

fn first(kit: &mut Kit<'_>) -> Checked {
    let device = device(kit)?;
    let status = kit.status(device)?;
    must(status == 0, || format!("it has status {status:#x}"))
}

fn shows(kit: &mut Kit<'_>, device: Device, status: u32) -> Checked {
    let now = kit.status(device)?;
    must(now == status, || {
        format!("it shows {}, not {}", DeviceStatus::new(now), DeviceStatus::new(status))
    })
}

fn forward(kit: &mut Kit<'_>) -> Checked {
    let device = device(kit)?;
    for status in [ACKNOWLEDGE, DRIVER] {
        kit.advance(device, status)?;
        shows(kit, device, status)?;
    }
    kit.accept(device, REQUIRED.bits())?;
    kit.advance(device, FEATURES_OK)?;
    shows(kit, device, FEATURES_OK)
}

fn back(kit: &mut Kit<'_>) -> Checked {
    let device = device(kit)?;
    let status = kit.negotiate(device, REQUIRED.bits())?;
    for fewer in [ACKNOWLEDGE, DRIVER, FEATURES_OK & !ACKNOWLEDGE] {
        let answer = kit.set_status(device, fewer)?;
        must(answer == status, || format!("{fewer:#x} is answered with {answer:#x}"))?;
        shows(kit, device, status)?;
    }
    Ok(())
}

fn reset(kit: &mut Kit<'_>) -> Checked {
    let device = device(kit)?;
    kit.negotiate(device, REQUIRED.bits())?;
    kit.reset_device(device)?;
    shows(kit, device, 0)?;
    // And it starts over.
    let status = kit.negotiate(device, REQUIRED.bits())?;
    must(status == FEATURES_OK, || format!("behind it, status {status:#x} is the answer"))
}

fn needs_reset(kit: &mut Kit<'_>) -> Checked {
    let device = device(kit)?;
    kit.advance(device, ACKNOWLEDGE)?;
    kit.set_status(device, ACKNOWLEDGE | NEEDS_RESET)?;
    let now = kit.status(device)?;
    must(now & NEEDS_RESET == 0, || format!("it shows {now:#x}"))
}

/// That FEATURES_OK is refused, in the answer and in what is read.
fn refused(kit: &mut Kit<'_>, device: Device, features: u64) -> Checked {
    let ok = DeviceStatus::FEATURES_OK.bits();
    let answer = kit.negotiate(device, features)?;
    must(answer & ok == 0, || format!("{features:#x} is answered with status {answer:#x}"))?;
    let now = kit.status(device)?;
    must(now & ok == 0, || format!("with {features:#x} GET_DEVICE_STATUS shows {now:#x}"))
}

fn lacking(kit: &mut Kit<'_>, bit: u64) -> Checked {
    let device = device(kit)?;
    refused(kit, device, REQUIRED.bits() & !bit)
}

fn not_offered(kit: &mut Kit<'_>) -> Checked {
    let device = device(kit)?;
    let missing = !kit.offered(device)?;
    if missing == 0 {
        return skip("every bit is offered");
    }
    refused(kit, device, REQUIRED.bits() | 1 << missing.trailing_zeros())
}

fn beyond(kit: &mut Kit<'_>) -> Checked {
    use shared::msg::{FeatureWords, Request, Response};
    let device = device(kit)?;
    for first in [4, u32::MAX] {
        kit.reset_device(device)?;
        kit.advance(device, ACKNOWLEDGE)?;
        kit.advance(device, DRIVER)?;
        kit.accept(device, REQUIRED.bits())?;
        let mut words = [0; 12];
        words[0] = 1;
        let request = Request::SetDriverFeatures(FeatureWords { first, count: 1, words });
        match kit.ask(device.number, request)? {
            Response::DriverFeatures => {}
            other => return crate::conform::point::seen(format!("the answer is {other:?}")),
        }
        let answer = kit.set_status(device, FEATURES_OK)?;
        must(answer == DRIVER, || format!("a bit of word {first}: status {answer:#x}"))?;
    }
    Ok(())
}

fn frozen(kit: &mut Kit<'_>) -> Checked {
    let device = device(kit)?;
    let status = kit.negotiate(device, REQUIRED.bits())?;
    must(status == FEATURES_OK, || format!("status {status:#x}"))?;
    // Nothing at all, which FEATURES_OK would not stand.
    kit.accept(device, 0)?;
    shows(kit, device, FEATURES_OK)?;
    kit.advance(device, DRIVER_OK)
}

fn early(kit: &mut Kit<'_>) -> Checked {
    let device = device(kit)?;
    let ok = DeviceStatus::DRIVER_OK.bits();
    kit.advance(device, ACKNOWLEDGE)?;
    kit.advance(device, DRIVER)?;
    for status in [DRIVER | ok, DRIVER_OK] {
        kit.set_status(device, status)?;
        let now = kit.status(device)?;
        must(now & ok == 0, || format!("behind {status:#x} it shows {now:#x}"))?;
    }
    Ok(())
}

fn running(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_set(0)?;
    kit.net_start(&mut net)?;
    shows(kit, net.device, DRIVER_OK)
}

fn failed(kit: &mut Kit<'_>) -> Checked {
    let device = device(kit)?;
    let failed = DeviceStatus::FAILED.bits();
    kit.negotiate(device, REQUIRED.bits())?;
    kit.advance(device, FEATURES_OK | failed)?;
    shows(kit, device, FEATURES_OK | failed)?;
    kit.reset_device(device)
}
