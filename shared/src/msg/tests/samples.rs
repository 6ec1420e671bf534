//! One message of every kind and direction, with a value in every field.

use crate::address::BusAddress;
use crate::msg::body::*;
use crate::msg::kind::{Kind, Side};
use crate::wire::features::Features;

const QUEUE: QueueAddresses = QueueAddresses {
    size: 0x100,
    descriptors: BusAddress::board(0x1000),
    driver: BusAddress::board(0x2000),
    device: BusAddress::new(0x1_0203_0405_0604),
};

pub(super) fn request(kind: Kind) -> Option<Request> {
    let data = ConfigData::new(&[0xD0, 0xD1, 0xD2]).unwrap();
    Some(match kind {
        Kind::GetDeviceInfo => Request::GetDeviceInfo,
        Kind::GetDeviceFeatures => Request::GetDeviceFeatures { first: 0, count: 2 },
        Kind::SetDriverFeatures => {
            Request::SetDriverFeatures(FeatureWords::of(Features::new(0x1F_0000_0003), 0, 2))
        }
        Kind::GetConfig => Request::GetConfig { offset: 4, count: 8 },
        Kind::SetConfig => Request::SetConfig { generation: 7, offset: 4, data },
        Kind::GetDeviceStatus => Request::GetDeviceStatus,
        Kind::SetDeviceStatus => Request::SetDeviceStatus { status: 11 },
        Kind::GetVqueue => Request::GetVqueue { queue: 1 },
        Kind::SetVqueue => Request::SetVqueue { queue: 1, addresses: QUEUE },
        Kind::ResetVqueue => Request::ResetVqueue { queue: 1 },
        Kind::GetShm => Request::GetShm { index: 2 },
        Kind::GetDevices => Request::GetDevices { first: 0, count: 64 },
        Kind::Ping => Request::Ping { data: 0x0403_0201 },
        Kind::Attach => Request::Attach { version: 1, boot: 77, session: 1000 },
        Kind::AddRegion => Request::AddRegion(RegionMessage {
            id: 2,
            kind: RegionKind::Host { status_page: true },
            rights: 3,
            base: BusAddress::new(0x10_0000),
            len: 0x8000,
        }),
        Kind::RemoveRegion => Request::RemoveRegion { id: 2 },
        Kind::RouteQueue => Request::RouteQueue { device: 3, queue: 1, doorbell: 2, vector: 2 },
        Kind::BoardReset => Request::BoardReset { boot: 77 },
        Kind::EventConfig
        | Kind::EventAvail
        | Kind::EventUsed
        | Kind::EventDevice
        | Kind::EventFault => return None,
    })
}

pub(super) fn response(kind: Kind) -> Option<Response> {
    let data = ConfigData::new(&[0xD0, 0xD1, 0xD2]).unwrap();
    Some(match kind {
        Kind::GetDeviceInfo => Response::DeviceInfo(DeviceInfo {
            device_id: 1,
            vendor_id: 0x1AF4,
            feature_bits: 64,
            config_size: 20,
            queues: 3,
            admin_start: 0,
            admin_count: 0,
        }),
        Kind::GetDeviceFeatures => {
            Response::DeviceFeatures(FeatureWords::of(Features::new(0x1F_0000_0003), 0, 2))
        }
        Kind::SetDriverFeatures => Response::DriverFeatures,
        Kind::GetConfig => Response::Config { generation: 7, offset: 4, data },
        Kind::SetConfig => Response::SetConfig { generation: 8, offset: 4, data },
        Kind::GetDeviceStatus => Response::DeviceStatus { status: 15 },
        Kind::SetDeviceStatus => Response::SetDeviceStatus { status: 11 },
        Kind::GetVqueue => Response::Vqueue { queue: 1, largest: 0x400, addresses: QUEUE },
        Kind::SetVqueue => Response::SetVqueue,
        Kind::ResetVqueue => Response::ResetVqueue,
        Kind::GetShm => Response::Shm { index: 2, len: 0, address: 0 },
        Kind::GetDevices => Response::Devices(DeviceMap {
            first: 0,
            count: 64,
            next: 0,
            bits: Data::new(&[8, 0, 0, 0, 0, 0, 0, 0x80]).unwrap(),
        }),
        Kind::Ping => Response::Pong { data: 0x0403_0201 },
        Kind::Attach => {
            Response::Attach { result: ResultCode::Ok, version: 1, boot: 77, session: 1000 }
        }
        Kind::AddRegion => Response::AddRegion { id: 2, result: ResultCode::OutOfReach },
        Kind::RemoveRegion => Response::RemoveRegion { id: 2, result: ResultCode::Busy },
        Kind::RouteQueue => {
            Response::RouteQueue { device: 3, queue: 1, result: ResultCode::Invalid }
        }
        Kind::BoardReset => Response::BoardReset { result: ResultCode::NotAllowed },
        Kind::EventConfig
        | Kind::EventAvail
        | Kind::EventUsed
        | Kind::EventDevice
        | Kind::EventFault => return None,
    })
}

pub(super) fn event(kind: Kind) -> Option<Event> {
    Some(match kind {
        Kind::EventConfig => Event::Config {
            status: 0x4F,
            generation: 9,
            offset: 6,
            data: Data::new(&[1, 0]).unwrap(),
        },
        Kind::EventAvail => Event::Avail { queue: 1, next: 0 },
        Kind::EventUsed => Event::Used { queue: 1 },
        Kind::EventDevice => Event::Device { device: 3, state: 2 },
        Kind::EventFault => Event::Fault { code: 15, device: 3, queue: 1, detail: 0, count: 4 },
        _ => return None,
    })
}

/// Every message that exists, with who sends it.
pub(crate) fn all() -> Vec<(Kind, bool, Side, Message)> {
    let mut messages = Vec::new();
    for kind in Kind::ALL {
        let asker = if kind.sent_by(Side::Driver) { Side::Driver } else { Side::Device };
        let device = if kind.wire().0 { 0 } else { 3 };
        let bodies = [
            request(kind).map(Body::Request),
            event(kind).map(Body::Event),
            response(kind).map(Body::Response),
        ];
        for body in bodies.into_iter().flatten() {
            let response = matches!(body, Body::Response(_));
            let sender = if response { asker.peer() } else { asker };
            let token = if kind.is_event() { 0 } else { 0x1234 };
            messages.push((kind, response, sender, Message { device, token, body }));
        }
    }
    messages
}
