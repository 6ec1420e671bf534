//! The bill: what a frame costs on the bus, in counts that do not depend on
//! the machine. Rules R1, R4, R5 and R6 of docs/architecture.md as numbers.
//!
//! `cargo run -p virtio-phys-tests --example bill` prints the whole table.

use std::fs;
use std::path::Path;

use host::bus::sim::{Counts, Initiator, Plane};
use host::session::Layout;
use shared::wire::features::{EVENT_IDX, IN_ORDER};
use virtio_phys_tests::bill::{Asleep, Awake, Cost, DIRECTIONS, LAYOUTS, Table, flow};
use virtio_phys_tests::lockstep::Lockstep;
use virtio_phys_tests::rig::RigOptions;

use Initiator::{BoardCpu, BoardDma, HostCpu};

/// Frames each way: more than 2^16, so that every index passes every value
/// that a forgotten event word can have.
const FRAMES: u32 = 80 << 10;

/// Frames between two such moves, at least.
const PARK: u64 = 1 << 14;

fn split(batch: u32) -> Awake {
    Awake::measure(Layout::Split, batch, FRAMES).unwrap()
}

/// Words that `who` stored for one direction, in thousandths a frame.
fn stores(run: &Awake, who: Initiator, direction: Plane) -> u64 {
    run.cost(who, direction).control_stores * 1000 / run.frames
}

/// Asserts that nobody reads across the bus and nobody is notified.
fn silent(run: &Awake) {
    for who in Initiator::ALL {
        for direction in DIRECTIONS {
            let Cost { bus_reads, notifications, .. } = run.cost(who, direction);
            assert_eq!((bus_reads, notifications), (0, 0), "{who}, {direction:?}\n{}", run.bill);
        }
    }
}

#[test]
fn a_flow_reads_nothing_across_the_bus_and_signals_nobody() {
    for batch in [1, 2, 8, 32] {
        silent(&split(batch));
    }
}

/// R1 and R6 do not rest on an optional feature.
#[test]
fn nor_does_it_without_event_index_or_order() {
    for withheld in [EVENT_IDX, IN_ORDER, EVENT_IDX | IN_ORDER] {
        let mut link = Lockstep::with(RigOptions::counted().without(withheld)).unwrap();
        assert!(!link.rig.terms().features.has(withheld));
        flow(&mut link, 32, 4096).unwrap();
        let before = link.bill();
        flow(&mut link, 32, FRAMES).unwrap();
        let bill = link.bill() - before;
        for who in Initiator::ALL {
            let Cost { bus_reads, notifications, .. } = bill.data(who).into();
            assert_eq!((bus_reads, notifications), (0, 0), "{who}\n{bill}");
        }
    }
}

/// R6: what a side asked for before it slept does not hold once it is awake,
/// whatever woke it.
#[test]
fn a_side_that_woke_for_another_reason_is_not_notified() {
    let mut link = Lockstep::new(Layout::Split).unwrap();
    flow(&mut link, 32, 4096).unwrap();
    for round in 0..100 {
        link.host_to_sleep().unwrap();
        link.board_to_sleep();
        if round % 2 == 0 {
            // Its own code wakes the board.
            link.board().waiting = 1;
            link.board_step();
            link.host_to_sleep().unwrap();
        } else {
            // The port wakes the host.
            link.port.waiting = 1;
            link.host_step().unwrap();
            link.board_to_sleep();
        }
        // The one that woke is still awake when the other has a batch for it.
        let before = link.bill();
        if round % 2 == 0 {
            link.port.waiting = 32;
            link.host_step().unwrap();
        } else {
            link.board().waiting = 32;
            link.board_step();
        }
        let bill = link.bill() - before;
        let signals = |who| Cost::from(bill.data(who)).notifications;
        assert_eq!((signals(HostCpu), signals(BoardCpu)), (0, 0), "round {round}\n{bill}");
    }
}

/// Batches of 24 end at another place of the ring each time.
#[test]
fn a_frame_in_a_batch_costs_one_word_of_whoever_sends_it() {
    for batch in [24, 32] {
        let run = split(batch);
        assert!(stores(&run, HostCpu, Plane::ToBoard) <= 1100, "{}", run.bill);
        assert!(stores(&run, BoardCpu, Plane::ToBoard) <= 100, "{}", run.bill);
        assert!(stores(&run, HostCpu, Plane::ToHost) <= 100, "{}", run.bill);
        assert!(stores(&run, BoardCpu, Plane::ToHost) <= 1100, "{}", run.bill);
    }
}

#[test]
fn a_frame_by_itself_costs_two_words_at_most() {
    let run = split(1);
    for direction in DIRECTIONS {
        for who in Initiator::ALL {
            let stores = run.cost(who, direction).control_stores;
            let parks = run.frames / PARK + 1;
            assert!(stores <= 2 * run.frames + parks, "{who}, {direction:?}\n{}", run.bill);
        }
    }
}

/// Payload crosses the bus once, posted, whichever way it goes.
#[test]
fn payload_crosses_the_bus_once() {
    let run = split(32);
    assert_eq!(run.bill.plane(Plane::ToHost).remote.payload_stores, run.frames);
    // A push goes in chunks and in whole words.
    for (direction, padding) in [(Plane::ToBoard, 3), (Plane::ToHost, 0)] {
        let counts = run.bill.plane(direction).remote;
        assert_eq!(counts.payload_loads, 0);
        // 12 bytes of header and 60 to 1514 of frame, on average 787.
        let least = run.frames * (12 + 770);
        let most = run.frames * (12 + 804 + padding);
        assert!((least..most).contains(&counts.payload_store_bytes), "{}", run.bill);
    }
}

/// All of the data path's memory is known to one direction or the other, and
/// the link costs the threads that move frames nothing on the bus.
#[test]
fn the_data_path_is_the_whole_bill() {
    for layout in LAYOUTS {
        let run = Awake::measure(layout, 32, 4096).unwrap();
        assert_eq!(run.bill.plane(Plane::Data), Counts::default());
        let link = run.bill.plane(Plane::Link);
        assert_eq!((link.bus_reads(), link.interrupts, link.doorbells), (0, 0, 0));
        assert_eq!(run.bill.iommu_faults, 0);
    }
}

#[test]
fn idle_polling_reads_nothing_across_the_bus() {
    let mut link = Lockstep::new(Layout::Split).unwrap();
    flow(&mut link, 32, 4096).unwrap();
    let before = link.bill();
    for _ in 0..1000 {
        assert!(!link.host_step().unwrap());
    }
    let mut spins = 0;
    while link.board_step() {
        spins += 1;
    }
    assert!(spins > 10);
    let bill = link.bill() - before;
    assert_eq!(bill[(HostCpu, Plane::Link)].bus_reads() + bill.data(HostCpu).bus_reads(), 0);
    // The last step slept.
    assert_eq!(bill.data(BoardCpu).bus_reads(), 1);
    assert_eq!(bill.data(BoardDma).bus_reads(), 0);
}

#[test]
fn a_sleep_costs_one_read_across_the_bus() {
    for direction in DIRECTIONS {
        let run = Asleep::measure(Layout::Split, direction, 1000).unwrap();
        assert_eq!(run.sleeps, (run.frames, run.frames));
        assert_eq!(run.flushes, run.sleeps);
        assert_eq!(run.cost(HostCpu).bus_reads, run.sleeps.0, "{}", run.bill);
        assert_eq!(run.cost(BoardCpu).bus_reads, run.sleeps.1, "{}", run.bill);
        assert_eq!(run.cost(BoardDma).bus_reads, 0, "{}", run.bill);
        // One signal wakes whoever has work; whoever gets a buffer back sleeps on.
        let signals = (run.cost(HostCpu).notifications, run.cost(BoardCpu).notifications);
        let expected = match direction {
            Plane::ToBoard => (run.frames, 0),
            _ => (0, run.frames),
        };
        assert_eq!(signals, expected, "{}", run.bill);
    }
}

/// A host that has filled the ring sleeps on both queues, and flushes once.
#[test]
fn a_sleep_on_both_queues_costs_one_read_too() {
    let mut link = Lockstep::new(Layout::Split).unwrap();
    flow(&mut link, 32, 4096).unwrap();
    link.board_to_sleep();
    link.port.waiting = 1000;
    let before = link.bill();
    link.host_to_sleep().unwrap();
    assert!(link.pair.to_board.is_full() && link.port.waiting > 0);
    let bill = link.bill() - before;
    assert_eq!(bill.data(HostCpu).bus_reads(), 1, "{bill}");

    // And it is woken as soon as one buffer comes back.
    link.board_step();
    let bill = link.bill() - before;
    assert_eq!(bill[(BoardCpu, Plane::ToBoard)].interrupts, 1, "{bill}");
}

/// Every wake-up starts the sleeper's protocol over, one that finds nothing too.
#[test]
fn an_empty_wake_up_costs_another_read_and_no_store() {
    let mut link = Lockstep::new(Layout::Split).unwrap();
    flow(&mut link, 32, 4096).unwrap();
    link.host_to_sleep().unwrap();
    link.board_to_sleep();
    let before = link.bill();
    assert!(link.pair.prepare_sleep().unwrap());
    link.board_to_sleep();
    let bill = link.bill() - before;
    for who in [HostCpu, BoardCpu] {
        let counts = bill.data(who);
        assert_eq!((counts.bus_reads(), counts.control_stores()), (1, 0), "{who}\n{bill}");
    }
}

/// Why the layout is what it is: the others wait for the bus at every frame.
#[test]
fn the_other_layouts_wait_for_the_bus() {
    let bar_only = Awake::measure(Layout::BarOnly, 32, 4096).unwrap();
    let all_host = Awake::measure(Layout::AllHost, 32, 4096).unwrap();
    // All reads are the side's whose memory it is not.
    for direction in DIRECTIONS {
        assert!(bar_only.cost(HostCpu, direction).bus_reads > 0);
        assert_eq!(bar_only.cost(BoardCpu, direction).bus_reads, 0);
        assert_eq!(bar_only.cost(BoardDma, direction).bus_reads, 0);
        assert_eq!(all_host.cost(HostCpu, direction).bus_reads, 0);
        assert!(all_host.cost(BoardCpu, direction).bus_reads >= 3 * all_host.frames);
    }
    // Payload to the host is read out of the BAR byte by byte.
    let read = bar_only.cost(HostCpu, Plane::ToHost).payload.1;
    assert!(read > 700 * bar_only.frames, "{}", bar_only.bill);
    // Where the look is itself a bus read, or the peer's is, there is no flush.
    for layout in [Layout::BarOnly, Layout::AllHost] {
        let run = Asleep::measure(layout, Plane::ToHost, 100).unwrap();
        assert_eq!(run.flushes, (0, 0));
        assert_eq!(run.sleeps, (100, 100));
    }
    for run in [bar_only, all_host] {
        assert_eq!(run.bill.plane(Plane::ToBoard).doorbells, 0);
        assert_eq!(run.bill.plane(Plane::ToHost).interrupts, 0);
    }
}

#[test]
fn the_docs_show_what_is_printed() {
    let table = Table::measure().unwrap().to_string();
    println!("{table}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/testing.md");
    let docs = fs::read_to_string(path).unwrap();
    assert!(docs.contains(&table), "docs/testing.md, \"The bill\", should show:\n\n{table}");
}
