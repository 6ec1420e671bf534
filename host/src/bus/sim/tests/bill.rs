//! The bill is exact, in both modes.

use crate::bus::Ring;

use super::*;

/// Everything once, with different numbers everywhere.
fn script(rig: &Rig) {
    // Host, data plane.
    for word in 0..3 {
        set(&rig.host_bar, word, 1);
    }
    for word in 0..5 {
        get(&rig.host_ram, word);
    }
    rig.host_bar.write(4, &[0; 100]);
    rig.host_ram.write(0, &[0; 10]);
    rig.host_ram.read(0, &mut [0; 20]);
    get(&rig.host_bar, 0);
    rig.host_bar.read(60, &mut [0; 8]);
    set(&rig.host_ram, 0, 1);
    // Host, link plane.
    let control = rig.host.bar(0, StoreWidth::Bits64).unwrap();
    control.load::<u32>(0);
    control.store(0x3000, 1_u64);
    control.store(0x3FFC, 1_u32);
    for (index, times) in [(0, 1), (1, 2), (2, 3)] {
        let doorbell = rig.host.doorbell(&rig.bus.doorbells(), index).unwrap();
        (0..times).for_each(|_| doorbell.ring());
    }
    // Board.
    let status = rig.board.outbound(rig.iova, 8192).unwrap();
    status.store(0xFFC, 1_u32);
    status.store(0x1000, 1_u32);
    rig.board.control().unwrap().store(16, 1_u64);
    set(&rig.board_bar, 0, 1);
    get(&rig.board_ram, 0);
    rig.dma_ram.read(0, &mut [0; 4096]);
    rig.dma_bar.write(0, &[0; 4096]);
    rig.dma_bar.write(0, &[]);
    for vector in [0, 1, 1, 7] {
        rig.board.raise(vector);
    }
}

fn counts(loads: u64, stores: u64) -> Accesses {
    Accesses { control_loads: loads, control_stores: stores, ..Accesses::default() }
}

#[test]
fn every_access_is_counted_once_and_in_its_place() {
    for options in [SimOptions::counted(), SimOptions::instrument(3, Profile::Adversarial)] {
        let rig = rig(options);
        assert_eq!(rig.bus.bill(), Bill::default());
        script(&rig);
        let once = rig.bus.bill();

        let host = once[(Initiator::HostCpu, Plane::Data)];
        let expected = Counts {
            local: Accesses {
                payload_loads: 1,
                payload_load_bytes: 20,
                payload_stores: 1,
                payload_store_bytes: 10,
                ..counts(5, 1)
            },
            remote: Accesses {
                payload_loads: 1,
                payload_load_bytes: 8,
                payload_stores: 1,
                payload_store_bytes: 100,
                ..counts(1, 3)
            },
            doorbells: 5,
            // Three words; 100 bytes from 4 on are 13 aligned eights; one word
            // and, over a boundary, two pieces read; five doorbells.
            tlps_uncached: 3 + 13 + 1 + 2 + 5,
            // Three lines; 100 bytes from 4 on are two, none of them open;
            // one word read; eight bytes over a line's end; five doorbells.
            tlps_combined: 3 + 2 + 1 + 2 + 5,
            ..Counts::default()
        };
        assert_eq!(host, expected);
        assert_eq!(host.bus_reads(), 2);
        assert_eq!((host.control_stores(), host.control_loads()), (4, 6));

        let host_link = once[(Initiator::HostCpu, Plane::Link)];
        let expected = Counts {
            remote: counts(1, 2),
            doorbells: 1,
            tlps_uncached: 4,
            tlps_combined: 4,
            ..Counts::default()
        };
        assert_eq!(host_link, expected);

        let board = once[(Initiator::BoardCpu, Plane::Data)];
        let expected = Counts {
            local: counts(0, 1),
            remote: counts(1, 1),
            interrupts: 3,
            tlps_uncached: 5,
            tlps_combined: 5,
            ..Counts::default()
        };
        assert_eq!(board, expected);

        let board_link = once[(Initiator::BoardCpu, Plane::Link)];
        let expected = Counts {
            local: counts(0, 1),
            remote: counts(0, 1),
            interrupts: 1,
            tlps_uncached: 2,
            tlps_combined: 2,
            ..Counts::default()
        };
        assert_eq!(board_link, expected);

        let dma = once[(Initiator::BoardDma, Plane::Data)];
        let expected = Counts {
            local: Accesses { payload_stores: 2, payload_store_bytes: 4096, ..Accesses::default() },
            remote: Accesses { payload_loads: 1, payload_load_bytes: 4096, ..Accesses::default() },
            tlps_uncached: 512,
            tlps_combined: 64,
            ..Counts::default()
        };
        assert_eq!(dma, expected);
        assert_eq!(once[(Initiator::BoardDma, Plane::Link)], Counts::default());

        // A second time: the difference is the same, the sum the double.
        script(&rig);
        assert_eq!(rig.bus.bill() - once, once);
        let mut double = once;
        double += once;
        assert_eq!(rig.bus.bill(), double);
        assert_eq!(once.plane(Plane::Link).doorbells, 1);
        assert_eq!(once.initiator(Initiator::HostCpu).doorbells, 6);
    }
}

#[test]
fn a_32_bit_bar_takes_twice_the_stores() {
    for options in [SimOptions::counted(), SimOptions::instrument(3, Profile::Eager)] {
        let rig = rig(SimOptions { bar_32_bit: true, ..options });
        rig.host_bar.store(0, 1_u64);
        rig.host_bar.write(64, &[0; 64]);
        let host = rig.bus.bill()[(Initiator::HostCpu, Plane::Data)];
        assert_eq!(host.remote.control_stores, 2);
        assert_eq!(host.remote.payload_stores, 1);
        assert_eq!((host.tlps_uncached, host.tlps_combined), (2 + 16, 2));
        rig.bus.settle();
        assert_eq!(rig.board_bar.load::<u64>(0), 1);
        // The board's own memory and host memory take wide stores.
        rig.board_bar.store(0, 1_u64);
        rig.board_ram.store(0, 1_u64);
        let board = rig.bus.bill()[(Initiator::BoardCpu, Plane::Data)];
        assert_eq!((board.control_stores(), board.tlps_uncached), (2, 1));
    }
}

#[test]
fn stores_into_one_line_are_combined_until_something_ends_it() {
    let lines = |act: &dyn Fn(&Rig)| {
        let rig = rig(SimOptions::counted());
        rig.host_bar.store(0, 1_u64);
        act(&rig);
        rig.host_bar.store(8, 1_u64);
        let host = rig.bus.bill()[(Initiator::HostCpu, Plane::Data)];
        host.tlps_combined
    };
    assert_eq!(lines(&|_| ()), 1);
    assert_eq!(lines(&|rig| rig.host_bar.barrier(Barrier::Read)), 1);
    assert_eq!(lines(&|rig| set(&rig.host_ram, 0, 1)), 1);
    assert_eq!(lines(&|rig| set(&rig.dma_ram, 0, 1)), 1);
    assert_eq!(lines(&|rig| rig.host_bar.barrier(Barrier::Write)), 2);
    assert_eq!(lines(&|rig| rig.host_bar.barrier(Barrier::Full)), 2);
    assert_eq!(lines(&|rig| set(&rig.host_bar, 1, 1)), 3);
    let read = |rig: &Rig| assert_eq!(get(&rig.dma_bar, 9), get(&rig.host_bar, 9));
    assert_eq!(lines(&read), 3);
    let ring = |rig: &Rig| rig.host.doorbell(&rig.bus.doorbells(), 1).unwrap().ring();
    assert_eq!(lines(&ring), 3);
    // Payload that goes on where a word stopped.
    assert_eq!(lines(&|rig| rig.host_bar.write(16, &[0; 48])), 1);
}

#[test]
fn the_bill_prints_as_a_table() {
    let rig = rig(SimOptions::counted());
    script(&rig);
    let table = rig.bus.bill().to_string();
    let line = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap();
        line[34..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("bus reads"), ["2", "1", "1", "1", "0", "0"]);
    assert_eq!(line("doorbells and interrupts"), ["5", "3", "0", "1", "1", "0"]);
    assert!(!table.contains("stalled") && !table.contains("IOMMU"));
    assert!(table.lines().skip(1).all(|line| line.len() == 34 + 6 * 12));
    let each = rig.bus.bill().per_packet(4).to_string();
    assert!(each.contains("0.500") && each.starts_with("per packet"));
}
