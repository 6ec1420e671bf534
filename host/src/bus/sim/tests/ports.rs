//! The two faces: what the host may share, what the board may reach.

use shared::address::BusAddress;

use super::*;
use crate::bus::{KernelMemory, Latch, Ring};

fn both(options: SimOptions) -> [SimBus; 2] {
    let instrument = SimOptions::instrument(1, Profile::Eager).mode;
    [options, SimOptions { mode: instrument, ..options }]
        .map(|options| SimBus::new(options).unwrap())
}

#[test]
fn shared_memory_is_placed_within_reach_and_aligned_to_its_size() {
    let options = SimOptions { iova_base: 0x1000, iova_bits: 24, ..SimOptions::default() };
    for bus in both(options) {
        let mut host = bus.host();
        let mut ends = Vec::new();
        for len in [0x3000, 0x1000, 0x2000, 0x80_0000] {
            let memory = host.share(len, Rights::READ_WRITE).unwrap();
            let base = memory.iova.bits();
            assert!(base.is_multiple_of(len.next_power_of_two()) && base >= 0x1000);
            assert!(ends.iter().all(|end| base >= *end));
            ends.push(base + len);
            assert_eq!(memory.window.len(), len);
            assert_eq!(memory.window.load::<u64>(len - 8), 0);
        }
        for (len, text) in [
            (0x80_0000, "24 address bits"),
            (0, "multiple of 4096"),
            (5000, "multiple of 4096"),
            (u64::MAX << 12, "no free bus addresses"),
        ] {
            let error = host.share(len, Rights::READ).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
    let options = SimOptions { host_limit: 0x2000, ..SimOptions::default() };
    for bus in both(options) {
        let mut host = bus.host();
        host.share(0x1000, Rights::READ).unwrap();
        let error = host.share(0x2000, Rights::READ).unwrap_err();
        assert!(error.to_string().contains("4096 are left"), "{error}");
        host.unshare_all();
        host.share(0x2000, Rights::READ).unwrap();
    }
}

#[test]
fn what_is_unshared_is_out_of_the_boards_reach() {
    for bus in both(SimOptions::default()) {
        let (mut host, board) = (bus.host(), bus.board());
        let before = host.share(4096, Rights::READ_WRITE).unwrap();
        let window = board.outbound(before.iova, 4096).unwrap();
        window.store(0, 1_u32);
        bus.settle();
        host.unshare_all();
        window.store(0, 2_u32);
        window.write(8, &[2]);
        assert_eq!(window.load::<u32>(0), u32::MAX);
        bus.settle();
        assert_eq!(before.window.load::<u32>(0), 1);
        assert_eq!(bus.bill().iommu_faults, 3);
        assert!(bus.bill().to_string().contains("refused by the IOMMU"));
        let error = board.outbound(before.iova, 4096).unwrap_err();
        assert!(matches!(error, BusError::NotShared { .. }), "{error}");
        // The next session's memory is another's, even at the same address.
        let after = host.share(4096, Rights::READ_WRITE).unwrap();
        assert_eq!(after.iova, before.iova);
        window.store(0, 3_u32);
        bus.settle();
        assert_eq!((after.window.load::<u32>(0), before.window.load::<u32>(0)), (0, 1));
    }
}

#[test]
fn a_store_that_is_on_the_bus_when_memory_is_unshared_is_refused() {
    let rig = instrument(1, Profile::Lazy);
    set(&rig.board_ram, 0, 1);
    rig.board_ram.barrier(Barrier::Full);
    let mut host = rig.bus.host();
    host.unshare_all();
    rig.bus.settle();
    assert_eq!((get(&rig.host_ram, 0), rig.bus.bill().iommu_faults), (0, 1));
}

#[test]
fn the_iommu_holds_the_board_to_its_rights() {
    for bus in both(SimOptions::default()) {
        let (mut host, board) = (bus.host(), bus.board());
        let readable = host.share(4096, Rights::READ).unwrap();
        let writable = host.share(4096, Rights::WRITE).unwrap();
        let (r, w) =
            (board.outbound(readable.iova, 4096).unwrap(), board.dma(writable.iova, 4096).unwrap());
        r.store(0, 1_u32);
        w.store(0, 1_u32);
        bus.settle();
        assert_eq!(readable.window.load::<u32>(0), 0);
        assert_eq!(writable.window.load::<u32>(0), 1);
        assert_eq!(r.load::<u32>(0), 0);
        assert_eq!(w.load::<u32>(0), u32::MAX);
        w.read(0, &mut [0; 4]);
        assert_eq!(bus.bill().iommu_faults, 3);
    }
}

#[test]
fn the_boards_reach_is_limited_as_it_says() {
    let outbound = OutboundLimits {
        windows: 2,
        window_len: 0x2000,
        alignment: 0x2000,
        address_bits: 33,
        dma: false,
    };
    for bus in both(SimOptions { outbound, ..SimOptions::default() }) {
        let (mut host, board) = (bus.host(), bus.board());
        let near = host.share(0x4000, Rights::READ_WRITE).unwrap().iova;
        let far = host.share(1 << 29, Rights::READ_WRITE).unwrap().iova;
        let add = |base: BusAddress, bytes| base.checked_add(bytes).unwrap();
        let refused = |at, len, text: &str| {
            let error = board.outbound(at, len).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        };
        refused(near, 0x5000, "too short");
        refused(add(near, 0x1000), 0x1000, "cannot start there");
        refused(BusAddress::new(1 << 33), 0x1000, "address bits");
        refused(BusAddress::board(0), 0x1000, "address bits");
        refused(BusAddress::new(0), 0x1000, "not memory that the host shares");
        refused(add(near, 0x4000), 0x1000, "not memory that the host shares");
        // Two windows, parts included, and refusals take none.
        let one = board.outbound(near, 0x2000).unwrap();
        let two = board.outbound(far, 0x1000).unwrap().part(8, 8).unwrap();
        refused(near, 0x1000, "in use");
        let clone = one.clone();
        drop(one);
        refused(near, 0x1000, "in use");
        drop(clone);
        assert!(two.dma_view().is_none());
        board.outbound(add(near, 0x2000), 0x2000).unwrap();
        refused(near, 0x4000, "in use");
        drop(two);
        // A longer one is two side by side.
        let long = board.outbound(near, 0x4000).unwrap();
        refused(near, 0x1000, "in use");
        drop(long);
        board.outbound(near, 0x1000).unwrap();
        assert!(board.dma(near, 0x1000).unwrap_err().to_string().contains("no DMA engine"));
        assert!(matches!(board.memory(bus.host().bar_len(0), 8), Err(BusError::OutsideBar { .. })));
        assert!(board.control().is_ok());
    }
    let bus = SimBus::new(SimOptions { outbound: OutboundLimits::none(), ..SimOptions::default() });
    let bus = bus.unwrap();
    let near = bus.host().share(0x1000, Rights::READ_WRITE).unwrap().iova;
    assert!(bus.board().outbound(near, 0x1000).unwrap_err().to_string().contains("too few"));
}

#[test]
fn the_dma_engine_sees_the_same_memory() {
    let rig = instrument(1, Profile::Eager);
    let view = rig.board_ram.dma_view().unwrap();
    assert_eq!((view.initiator(), view.is_remote()), (Initiator::BoardDma, true));
    set(&view, 0, 7);
    assert_eq!(get(&rig.dma_ram, 0), 7);
    rig.bus.settle();
    assert_eq!(get(&rig.host_ram, 0), 7);
    let local = rig.board_bar.dma_view().unwrap();
    assert!(!local.is_remote() && rig.host_bar.dma_view().is_none());
    // It takes none of the CPU's outbound windows and keeps none open.
    let limits = rig.board.limits();
    drop(rig.board_ram);
    let open: Vec<_> = (0..limits.windows).map(|_| rig.board.outbound(rig.iova, 8)).collect();
    assert!(open.iter().all(Result::is_ok));
}

#[test]
fn bars_doorbells_and_vectors_that_are_not_there_are_refused() {
    for bus in both(SimOptions { doorbells: 4, vectors: 2, ..SimOptions::default() }) {
        let host = bus.host();
        assert_eq!([0, 1, 2, 255].map(|bar| host.bar_len(bar)), [16 << 20, 4096, 0, 0]);
        assert!(host.bar(0, StoreWidth::Bits64).is_ok());
        for bar in [1, 2, 255] {
            assert!(
                host.bar(bar, StoreWidth::Bits64)
                    .unwrap_err()
                    .to_string()
                    .contains("no memory at BAR")
            );
        }
        let described = bus.doorbells();
        assert!((0..4).all(|index| host.doorbell(&described, index).is_ok()));
        let refused = |described: DoorbellDescription, index, text: &str| {
            let error = host.doorbell(&described, index).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        };
        refused(described, 4, "fewer doorbells");
        refused(DoorbellDescription { count: 5, ..described }, 4, "behind the last");
        refused(DoorbellDescription { bar: 0, ..described }, 0, "BAR 1");
        refused(DoorbellDescription { offset: 2, ..described }, 0, "not aligned");
        refused(DoorbellDescription { offset: u64::MAX - 1, ..described }, 1, "fewer");
        assert!(host.interrupt(1).is_ok());
        let error = host.interrupt(2).unwrap_err().to_string();
        assert!(error.contains("vector 2") && error.contains("has 2"), "{error}");
        bus.board().raise(2);
    }
}

#[test]
fn notifications_of_one_kind_count_once_and_do_not_mix() {
    for bus in both(SimOptions::default()) {
        let (host, board) = (bus.host(), bus.board());
        let [one, two] = [1, 2].map(|vector| host.interrupt(vector).unwrap());
        board.raise(1);
        board.raise(1);
        bus.settle();
        assert!(one.drain() && !one.drain() && !two.drain());
        board.raise(2);
        bus.settle();
        assert!(!one.drain() && two.drain());
        for index in [0, 5, 5] {
            host.doorbell(&bus.doorbells(), index).unwrap().ring();
        }
        bus.settle();
        assert_eq!(board.take_doorbells(), 0b10_0001);
        assert_eq!(board.take_doorbells(), 0);
    }
}

#[test]
fn a_reset_board_loses_what_was_under_way_and_is_silent_until_it_is_back() {
    for bus in both(SimOptions::default()) {
        let (mut host, board) = (bus.host(), bus.board());
        let memory = host.share(4096, Rights::READ_WRITE).unwrap();
        let window = board.outbound(memory.iova, 4096).unwrap();
        host.doorbell(&bus.doorbells(), 1).unwrap().ring();
        bus.settle();
        assert!(!board.take_reset());
        host.reset().unwrap();
        assert_eq!(board.take_doorbells(), 0);
        window.store(0, 1_u32);
        assert_eq!(window.load::<u32>(0), u32::MAX);
        board.raise(1);
        bus.settle();
        assert_eq!(memory.window.load::<u32>(0), 0);
        assert!(!host.interrupt(1).unwrap().drain());
        // It still answers, and once it has taken notice it also speaks.
        assert_eq!(host.bar(0, StoreWidth::Bits64).unwrap().load::<u32>(0), 0);
        assert!(board.take_reset() && !board.take_reset());
        window.store(0, 1_u32);
        board.raise(1);
        bus.settle();
        assert_eq!(memory.window.load::<u32>(0), 1);
        assert!(host.interrupt(1).unwrap().drain());
        assert_eq!(bus.bill().iommu_faults, 0);
    }
}

#[test]
fn nothing_of_before_a_reset_arrives_after_it() {
    let mut lost = 0;
    for seed in 0..50 {
        let rig = instrument(seed, Profile::Lazy);
        set(&rig.board_ram, 0, 1);
        rig.board_ram.barrier(Barrier::Full);
        set(&rig.board_ram, 1, 1);
        set(&rig.dma_ram, 2, 1);
        rig.board.raise(1);
        rig.bus.host().reset().unwrap();
        assert!(rig.board.take_reset());
        rig.host_ram.barrier(Barrier::Read);
        let seen = || [0, 1, 2].map(|word| get(&rig.host_ram, word));
        let (before, interrupted) = (seen(), rig.host.interrupt(1).unwrap().drain());
        rig.bus.settle();
        assert_eq!(seen(), before);
        assert!(!rig.host.interrupt(1).unwrap().drain());
        lost += u32::from(before != [1; 3] && !interrupted);
    }
    assert!(lost > 10);
}

#[test]
fn the_kernel_may_copy_into_the_hosts_own_memory_only() {
    let rig = rig(SimOptions::counted());
    let len = rig.host_ram.len();
    assert_eq!(rig.host_ram.kernel_range(100, 4096).map(|range| range.len()), Some(4096));
    assert!(rig.host_ram.part(8, 8).unwrap().kernel_range(0, 9).is_none());
    assert!(rig.host_ram.kernel_range(len - 1, 2).is_none());
    assert!(rig.host_ram.kernel_range(u64::MAX, 2).is_none());
    for window in [&rig.host_bar, &rig.board_bar, &rig.board_ram, &rig.dma_ram] {
        assert!(window.kernel_range(0, 1).is_none());
    }
    let rig = instrument(1, Profile::Eager);
    assert!(rig.host_ram.kernel_range(0, 1).is_none());
    assert!(rig.host.interrupt(0).unwrap().fd().is_none() && rig.board.doorbell_fd().is_none());
}

#[test]
fn what_is_shared_is_whole_pages() {
    for page_size in [4 << 10, 16 << 10, 64 << 10] {
        for bus in both(SimOptions { page_size, ..SimOptions::default() }) {
            let mut host = bus.host();
            for len in [0x1000, 0x9000, 0x2_1000] {
                let memory = host.share(len, Rights::READ_WRITE).unwrap();
                let got = memory.window.len();
                assert_eq!(got, len.next_multiple_of(page_size));
                assert!(memory.iova.bits().is_multiple_of(got.next_power_of_two()));
            }
            assert!(host.share(u64::MAX << 12, Rights::READ).is_err());
        }
    }
}
