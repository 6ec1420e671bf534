//! On the simulated bus, which counts for itself, both bills are the same.

use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::window::{Barrier, Window};

use super::{BusMeter, MeteredBus};
use crate::bus::bill::{Bill, Counts, Initiator, Label, Plane};
use crate::bus::sim::{SimBus, SimHostPort, SimOptions};
use crate::bus::{Bus, HostMemory, KernelMemory, Latch, Ring, Stretch};

/// Bytes of the BAR and of host memory that belong to each direction.
const AREA: u64 = 4096;
/// The first of them, behind what the simulated bus bills to the link.
const TO_BOARD: u64 = 16 << 10;
const TO_HOST: u64 = TO_BOARD + AREA;
/// As long as both labelled areas and what is before them.
const SHARED: u64 = TO_HOST + AREA;

struct Rig {
    sim: SimBus,
    meter: BusMeter,
    bus: MeteredBus<SimHostPort>,
    bar: <MeteredBus<SimHostPort> as Bus>::Window,
    ram: HostMemory<<MeteredBus<SimHostPort> as Bus>::Window>,
}

impl Rig {
    fn new(options: SimOptions, widest: StoreWidth) -> Self {
        let sim = SimBus::new(SimOptions { host_link_len: TO_BOARD, ..options }).unwrap();
        let mut bus = MeteredBus::new(sim.host());
        let meter = bus.meter();
        let bar = bus.bar(0, widest).unwrap();
        let ram = bus.share(SHARED, Rights::READ_WRITE).unwrap();
        let rig = Self { sim, meter, bus, bar, ram };
        rig.label();
        rig
    }

    /// Tells both bills the same.
    fn label(&self) {
        let base = self.ram.iova.bits();
        let area = |start| {
            [
                Stretch { bar: Some(0), start, len: AREA },
                Stretch { bar: None, start: base + start, len: AREA },
            ]
        };
        let (to_board, to_host) = (area(TO_BOARD), area(TO_HOST));
        let labels = [
            Label { plane: Plane::ToBoard, stretches: &to_board, notification: 2 },
            Label { plane: Plane::ToHost, stretches: &to_host, notification: 1 },
        ];
        self.sim.label(&labels);
        self.meter.label(&labels);
    }

    /// Everything, with other numbers in each memory and area.
    fn work(&self) {
        for (place, at) in [0, TO_BOARD, TO_HOST].into_iter().enumerate() {
            for (window, more) in [(&self.bar, 1), (&self.ram.window, 5)] {
                let window = window.part(at, AREA).unwrap();
                for step in 0..(place as u64 + more) {
                    window.store(8 * step, 1_u64);
                    window.store(256 + 4 * step, 1_u32);
                    window.load::<u32>(4 * step);
                    window.write(64 * step, &[7; 100]);
                    window.read(4 * step + 1, &mut [0; 20]);
                }
                window.barrier(Barrier::Write);
                window.load::<u64>(0);
                // None of these fits or is aligned.
                window.store(AREA, 1_u32);
                window.load::<u64>(4);
                window.write(AREA - 1, &[0; 2]);
                window.read(u64::MAX, &mut [0; 2]);
            }
        }
        for (index, times) in [(0, 1), (1, 2), (2, 3)] {
            let doorbell = self.bus.doorbell(&self.sim.doorbells(), index).unwrap();
            (0..times).for_each(|_| doorbell.ring());
        }
    }

    fn compare(&self) {
        let (own, sim) = (self.meter.bill(), self.sim.bill());
        for plane in Plane::ALL {
            let who = Initiator::HostCpu;
            assert_eq!(own[(who, plane)], sim[(who, plane)], "{plane:?}\n{own}\n{sim}");
        }
    }
}

#[test]
fn each_access_is_counted_as_the_simulated_bus_counts_it() {
    let narrow = SimOptions { bar_32_bit: true, ..SimOptions::counted() };
    for (options, widest) in
        [(SimOptions::counted(), StoreWidth::Bits64), (narrow, StoreWidth::Bits32)]
    {
        let rig = Rig::new(options, widest);
        assert_eq!(rig.meter.bill(), Bill::default());
        rig.work();
        let bill = rig.meter.bill();
        for plane in [Plane::ToBoard, Plane::ToHost, Plane::Link] {
            let Counts { local, remote, .. } = bill[(Initiator::HostCpu, plane)];
            assert!(remote.control_loads > 0 && local.control_stores > 0, "{plane:?}\n{bill}");
            assert!(remote.payload_store_bytes > 0 && remote.payload_load_bytes > 0, "{bill}");
        }
        rig.compare();
    }
}

#[test]
fn interrupts_are_counted_when_they_are_taken() {
    let rig = Rig::new(SimOptions::counted(), StoreWidth::Bits64);
    let board = rig.sim.board();
    let latch = rig.bus.interrupt(1).unwrap();
    assert!(!latch.drain());
    for _ in 0..3 {
        board.raise(1);
        board.raise(1);
        assert!(latch.drain() && !latch.drain());
    }
    let bill = rig.meter.bill();
    assert_eq!(bill[(Initiator::BoardCpu, Plane::ToHost)].interrupts, 3, "{bill}");
    assert_eq!(bill.plane(Plane::ToBoard), Counts::default());
}

/// What a session that ended has labelled does not hold in the next one.
#[test]
fn each_session_has_labels_of_its_own() {
    let mut rig = Rig::new(SimOptions::counted(), StoreWidth::Bits64);
    rig.bus.unshare_all();
    let old = rig.bar.clone();
    rig.bar = rig.bus.bar(0, StoreWidth::Bits64).unwrap();
    rig.ram = rig.bus.share(SHARED, Rights::READ_WRITE).unwrap();
    let stores = |plane| rig.meter.bill()[(Initiator::HostCpu, plane)].remote.control_stores;
    rig.bar.store(TO_BOARD, 1_u32);
    old.store(TO_BOARD, 1_u32);
    assert_eq!((stores(Plane::Link), stores(Plane::ToBoard)), (1, 1));
    rig.label();
    rig.bar.store(TO_BOARD, 1_u32);
    assert_eq!((stores(Plane::Link), stores(Plane::ToBoard)), (1, 2));
}

/// Payload that the kernel copied would be missing from the bill.
#[test]
fn the_kernel_copies_in_host_memory_only() {
    let rig = Rig::new(SimOptions::counted(), StoreWidth::Bits64);
    assert!(rig.bar.kernel_range(0, 64).is_none());
    let part = rig.ram.window.part(TO_BOARD, AREA).unwrap();
    assert!(part.kernel_range(0, 64).is_some() && part.kernel_range(AREA, 64).is_none());
    assert_eq!(rig.meter.bill(), Bill::default());
}
