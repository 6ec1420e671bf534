//! The device state machine: all its transitions.

use std::collections::HashSet;

use proptest::prelude::*;

use crate::address::BusAddress;
use crate::fault::PeerFault;
use crate::msg::body::*;
use crate::msg::device::{DeviceEndpoint, DeviceModel, ModelInfo, VirtioDevice};
use crate::msg::status::{DeviceState, QueueSetup, StatusChange};
use crate::region::{Region, RegionTable, Rights};
use crate::window::testing::TestWindow;
use crate::wire::features::{self, Features};
use crate::wire::status::DeviceStatus;

type State = DeviceState<2>;

const OFFERED: Features =
    Features::new(features::REQUIRED.bits() | features::RING_RESET | features::RING_PACKED | 1);

fn setup(addresses: u64) -> QueueAddresses {
    QueueAddresses {
        size: 4,
        descriptors: BusAddress::new(addresses),
        driver: BusAddress::new(addresses + 0x100),
        device: BusAddress::new(addresses + 0x200),
    }
}

/// Everything that a driver, or the device behind, can do to a state.
fn steps(state: &State) -> Vec<State> {
    let mut next = Vec::new();
    let mut step = |change: &mut dyn FnMut(&mut State)| {
        let mut copy = state.clone();
        change(&mut copy);
        next.push(copy);
    };
    // Every combination of the eight status bits.
    for status in 0..=255_u32 {
        step(&mut |state| {
            let before = state.clone();
            match state.set_status(DeviceStatus::new(status)) {
                StatusChange::BeginReset => {
                    assert_eq!(status, 0);
                    assert_eq!(state.status(), before.status(), "the old status until drained");
                }
                StatusChange::DriverOk => {
                    assert!(state.is_live());
                    assert!(before.status().contains(DeviceStatus::FEATURES_OK));
                    for queue in 0..2 {
                        if state.queue(queue).is_some() {
                            state.activated(queue);
                        }
                    }
                }
                StatusChange::None => {}
            }
            assert!(state.status().contains(before.status()), "status went back");
        });
    }
    for accepted in [
        features::REQUIRED,
        features::REQUIRED | Features::new(features::RING_RESET),
        features::REQUIRED.without(Features::new(features::ORDER_PLATFORM)),
        // Offered by the model, forbidden by the protocol; and not offered at all.
        features::REQUIRED | Features::new(features::RING_PACKED),
        features::REQUIRED | Features::new(2),
    ] {
        step(&mut |state| state.set_features(&FeatureWords::of(accepted, 0, 2)));
    }
    let mut beyond = FeatureWords::of(features::REQUIRED, 0, 4);
    beyond.words[3] = 1;
    step(&mut |state| state.set_features(&beyond));
    for queue in 0..3 {
        step(&mut |state| {
            let _ = state.route(queue, 1, 1);
        });
        for at in [0x1000, 0x2000] {
            step(&mut |state| {
                let before = state.clone();
                if let Some(checked) = state.check_queue(queue, &setup(at), 8) {
                    assert!(before.status().contains(DeviceStatus::FEATURES_OK));
                    if state.take_queue(&checked) {
                        state.activated(checked.queue);
                    }
                }
            });
        }
        step(&mut |state| {
            state.reset_queue(queue);
        });
        step(&mut |state| {
            if let Ok(queue) = u16::try_from(queue)
                && state.is_queue_resetting(queue)
            {
                state.queue_reset_done(queue);
            }
        });
    }
    step(&mut |state| {
        state.fail();
    });
    step(&mut |state| {
        if state.is_resetting() {
            state.reset_done();
            assert_eq!(*state, State::new(OFFERED));
        }
    });
    next
}

/// What holds in every state, and from each to the next (rows 19 and 20).
fn check(before: &State, after: &State) {
    let settled = DeviceStatus::FEATURES_OK;
    let live = DeviceStatus::DRIVER_OK;
    if after.status().contains(settled) {
        assert!(after.offered().contains(after.accepted()));
        assert!(after.accepted().contains(features::REQUIRED));
        assert!(!after.accepted().has(features::RING_PACKED));
    }
    if after.status().contains(live) {
        assert!(after.status().contains(settled));
    }
    let was_reset = after.status().is_reset() && !before.status().is_reset();
    if was_reset {
        return;
    }
    if before.status().contains(settled) {
        assert_eq!(before.accepted(), after.accepted(), "features are frozen");
    }
    if before.status().contains(live) {
        for queue in 0..2 {
            let (old, new) = (before.queue(queue), after.queue(queue));
            let reset = before.is_queue_resetting(queue) && new.is_none();
            let again = old.is_none() && before.accepted().has(features::RING_RESET);
            assert!(old == new || reset || again, "a frozen queue changed: {old:?} {new:?}");
        }
    }
}

#[test]
fn every_state_and_every_transition() {
    let mut seen = HashSet::new();
    let mut todo = vec![State::new(OFFERED)];
    seen.insert(format!("{:?}", todo[0]));
    let mut transitions = 0_u64;
    while let Some(state) = todo.pop() {
        for next in steps(&state) {
            transitions += 1;
            check(&state, &next);
            if seen.insert(format!("{next:?}")) {
                todo.push(next);
            }
        }
    }
    assert!(seen.len() > 500, "{} states", seen.len());
    assert!(transitions > 100_000, "{transitions}");
}

#[test]
fn impossible_queues_are_not_taken() {
    let mut state = State::new(OFFERED);
    for status in [1, 3] {
        state.set_status(DeviceStatus::new(status));
    }
    state.set_features(&FeatureWords::of(features::REQUIRED, 0, 2));
    assert_eq!(state.check_queue(0, &setup(0x1000), 8), None, "before FEATURES_OK");
    state.set_status(DeviceStatus::new(11));
    assert_eq!(state.check_queue(0, &setup(0x1000), 8), None, "before it is routed");
    state.route(0, 1, 1).unwrap();
    let good = setup(0x1000);
    assert!(state.check_queue(0, &good, 8).is_some());
    let wrong = [
        (QueueAddresses { size: 0, ..good }, "size 0"),
        (QueueAddresses { size: 1, ..good }, "size 1"),
        (QueueAddresses { size: 3, ..good }, "not a power of two"),
        (QueueAddresses { size: 16, ..good }, "above the largest"),
        (QueueAddresses { size: 1 << 16, ..good }, "above 32768"),
        (QueueAddresses { size: u32::MAX, ..good }, "all ones"),
        (QueueAddresses { descriptors: BusAddress::new(0x1008), ..good }, "misaligned table"),
        (QueueAddresses { driver: BusAddress::new(0x1102), ..good }, "misaligned avail"),
        (QueueAddresses { device: BusAddress::new(0x1202), ..good }, "misaligned used"),
        (QueueAddresses { driver: BusAddress::new(0x103C), ..good }, "avail in the table"),
        (QueueAddresses { device: BusAddress::new(0x110C), ..good }, "used in avail"),
        (QueueAddresses { device: good.descriptors, ..good }, "used on the table"),
    ];
    for (addresses, why) in wrong {
        assert_eq!(state.check_queue(0, &addresses, 8), None, "{why}");
    }
    assert_eq!(state.check_queue(2, &good, 8), None, "no such queue");
}

/// A device that checks that every queue it is given lies where it may.
#[derive(Default)]
struct Watcher {
    live: Vec<u16>,
    ready: bool,
    drain: bool,
}

impl DeviceModel<TestWindow> for Watcher {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            device_id: 1,
            vendor_id: 1,
            features: OFFERED,
            config_size: 12,
            queues: 2,
            queue_size: 8,
        }
    }
    fn read_config(&mut self, offset: u32, into: &mut [u8]) {
        assert!(usize::try_from(offset).unwrap() + into.len() <= 12);
    }
    fn write_config(&mut self, offset: u32, from: &[u8]) -> bool {
        assert!(usize::try_from(offset).unwrap() + from.len() <= 12);
        true
    }
    fn driver_ok(&mut self, features: Features) {
        assert!(features.contains(features::REQUIRED) && !features.has(features::RING_PACKED));
        self.ready = true;
    }
    fn activate_queue(
        &mut self,
        setup: &QueueSetup,
        regions: &RegionTable<TestWindow>,
    ) -> Result<(), PeerFault> {
        assert!(self.ready && !self.live.contains(&setup.queue));
        for ((address, len), need) in
            setup.parts().into_iter().zip([Rights::READ, Rights::READ, Rights::WRITE])
        {
            regions.resolve(address, u32::try_from(len).unwrap(), need).unwrap();
        }
        self.live.push(setup.queue);
        Ok(())
    }
    fn reset(&mut self) -> bool {
        self.drain = !self.drain;
        if !self.drain {
            (self.live, self.ready) = (Vec::new(), false);
        }
        !self.drain
    }
    fn reset_queue(&mut self, queue: u16) -> bool {
        self.live.retain(|live| *live != queue);
        true
    }
}

fn any_request() -> impl Strategy<Value = Request> {
    let queue = prop_oneof![0..3_u32, Just(u32::MAX)];
    let address = prop_oneof![
        (0..0x40_u64).prop_map(|at| at * 0x40),
        (0..0x40_u64).prop_map(|at| 1 << 63 | (at * 0x40)),
        any::<u64>(),
    ]
    .prop_map(BusAddress::new);
    let size = prop_oneof![(0..6_u32).prop_map(|log| 1 << log), any::<u32>()];
    prop_oneof![
        (0..16_u32).prop_map(|status| Request::SetDeviceStatus { status }),
        Just(Request::SetDeviceStatus { status: 11 }),
        Just(Request::SetDeviceStatus { status: 15 }),
        any::<u64>().prop_map(|bits| Request::SetDriverFeatures(FeatureWords::of(
            Features::new(bits),
            0,
            2
        ))),
        Just(Request::SetDriverFeatures(FeatureWords::of(features::REQUIRED, 0, 2))),
        (queue.clone(), size, address.clone(), address.clone(), address).prop_map(
            |(queue, size, descriptors, driver, device)| Request::SetVqueue {
                queue,
                addresses: QueueAddresses { size, descriptors, driver, device }
            }
        ),
        queue.clone().prop_map(|queue| Request::ResetVqueue { queue }),
        queue.prop_map(|queue| Request::GetVqueue { queue }),
        (any::<u32>(), any::<u32>())
            .prop_map(|(offset, count)| Request::GetConfig { offset, count }),
        (0..14_u32, 0..14_u32).prop_map(|(offset, count)| Request::GetConfig { offset, count }),
        (any::<u32>(), any::<u32>())
            .prop_map(|(first, count)| Request::GetDeviceFeatures { first, count }),
        (0..14_u32, 0..14_usize, 0..3_u32).prop_map(|(offset, len, generation)| {
            let data = ConfigData::new(&[1; 14][..len]).unwrap();
            Request::SetConfig { generation, offset, data }
        }),
    ]
}

proptest! {
    /// Row 20: whatever the messages, a queue that runs lies in its regions.
    #[test]
    fn sequences_of_messages(
        requests in prop::collection::vec(any_request(), 1..40),
        steer in any::<bool>(),
    ) {
        let mut regions = RegionTable::new();
        for (id, base, rights) in [
            (0, BusAddress::new(0), Rights::WRITE),
            (1, BusAddress::board(0), Rights::READ),
        ] {
            let window = TestWindow::new(0x1000);
            regions.insert(Region { id, base, rights, window }).unwrap();
        }
        let mut device = VirtioDevice::<Watcher, 2>::new(Watcher::default());
        let prologue = [
            Request::SetDeviceStatus { status: 1 },
            Request::SetDeviceStatus { status: 3 },
            Request::SetDriverFeatures(FeatureWords::of(features::REQUIRED, 0, 2)),
            Request::SetDeviceStatus { status: 11 },
        ];
        for request in prologue.iter().filter(|_| steer).chain(&requests) {
            for queue in 0..2 {
                let _ = DeviceEndpoint::<TestWindow>::route(&mut device, queue, 1, 1);
            }
            let response = device.handle(request, &regions).unwrap();
            prop_assert_eq!(response.kind(), request.kind());
            let live: Vec<u16> = device.model().live.clone();
            for queue in live {
                prop_assert!(device.state().queue(queue).is_some());
            }
        }
    }
}
