//! Litmus tests: what a side may see of the other's stores, and what not.
//!
//! Each runs over many seeds and all profiles. `never` asserts that no run
//! shows the outcome, `sometimes` that at least one does: a rule that could
//! not be broken would test nothing.

use super::*;

const SEEDS: u64 = 400;

fn count(order: BrokenOrder, mut outcome: impl FnMut(&Rig, u64) -> bool) -> u64 {
    let mut seen = 0;
    for profile in PROFILES {
        for seed in 0..SEEDS {
            let rig = broken(seed, profile, order);
            seen += u64::from(outcome(&rig, mix(seed)));
        }
    }
    seen
}

#[track_caller]
fn never(outcome: impl FnMut(&Rig, u64) -> bool) {
    assert_eq!(count(BrokenOrder::default(), outcome), 0);
}

#[track_caller]
fn sometimes(outcome: impl FnMut(&Rig, u64) -> bool) {
    sometimes_with(BrokenOrder::default(), outcome);
}

#[track_caller]
fn sometimes_with(order: BrokenOrder, outcome: impl FnMut(&Rig, u64) -> bool) {
    assert_ne!(count(order, outcome), 0);
}

/// Runs the steps of two programs in an order that `random` decides.
fn interleave(mut random: u64, programs: [&mut [&mut dyn FnMut()]; 2]) {
    let [one, two] = programs;
    let (mut one, mut two) = (one.iter_mut(), two.iter_mut());
    loop {
        random = mix(random);
        let (first, second) =
            if random & 1 == 0 { (&mut one, &mut two) } else { (&mut two, &mut one) };
        match first.next().or_else(|| second.next()) {
            Some(step) => step(),
            None => return,
        }
    }
}

/// Message passing: the writer stores 0, then 1; the reader waits for 1, then
/// looks at 0. True where it has not arrived.
fn passes(writer: &SimWindow, between: Option<Barrier>, reader: &SimWindow) -> bool {
    set(writer, 0, 1);
    if let Some(barrier) = between {
        writer.barrier(barrier);
    }
    set(writer, 1, 1);
    // Something that lets time pass: the writer may be what is delayed.
    for _ in 0..10_000 {
        if get(reader, 1) == 1 {
            reader.barrier(Barrier::Read);
            return get(reader, 0) == 0;
        }
    }
    panic!("a store never arrived");
}

/// Every pair of windows through which one side can pass the other a message.
fn pairs(rig: &Rig) -> [(&SimWindow, &SimWindow); 8] {
    [
        (&rig.host_bar, &rig.board_bar),
        (&rig.host_bar, &rig.dma_bar),
        (&rig.host_ram, &rig.board_ram),
        (&rig.host_ram, &rig.dma_ram),
        (&rig.board_bar, &rig.host_bar),
        (&rig.board_ram, &rig.host_ram),
        (&rig.dma_ram, &rig.host_ram),
        (&rig.dma_bar, &rig.board_bar),
    ]
}

#[test]
fn two_stores_arrive_in_any_order_without_a_write_barrier() {
    for pair in 0..8 {
        sometimes(|rig, _| passes(pairs(rig)[pair].0, None, pairs(rig)[pair].1));
    }
}

#[test]
fn two_stores_arrive_in_order_with_a_write_barrier() {
    for pair in 0..8 {
        for barrier in [Barrier::Write, Barrier::Full] {
            never(|rig, _| passes(pairs(rig)[pair].0, Some(barrier), pairs(rig)[pair].1));
        }
    }
}

#[test]
fn a_read_barrier_does_not_order_stores() {
    sometimes(|rig, _| passes(&rig.host_bar, Some(Barrier::Read), &rig.board_bar));
}

#[test]
fn relaxed_writes_pass_each_other_whatever_the_barriers() {
    let order = BrokenOrder { relaxed_writes: true, ..BrokenOrder::default() };
    sometimes_with(order, |rig, _| passes(&rig.host_bar, Some(Barrier::Write), &rig.board_bar));
    sometimes_with(order, |rig, _| passes(&rig.board_ram, Some(Barrier::Full), &rig.host_ram));
}

#[test]
fn a_write_barrier_orders_stores_to_different_memories() {
    // The host stores to the board, then to its own memory; the board reads
    // the second across the bus, the first in its own memory.
    let outcome = |rig: &Rig, barrier: bool| {
        set(&rig.host_bar, 0, 1);
        if barrier {
            rig.host_bar.barrier(Barrier::Write);
        }
        set(&rig.host_ram, 0, 1);
        for _ in 0..10_000 {
            if get(&rig.board_ram, 0) == 1 {
                rig.board_bar.barrier(Barrier::Read);
                return get(&rig.board_bar, 0) == 0;
            }
        }
        panic!("a store never arrived");
    };
    never(|rig, _| outcome(rig, true));
    sometimes(|rig, _| outcome(rig, false));
}

/// What pushes stores out keeps to the barriers among them: the local store
/// before the barrier is in memory before the remote one behind it is posted.
#[test]
fn a_push_keeps_to_the_write_barriers() {
    let outcome = |rig: &Rig, push: &dyn Fn(&Rig), near: [&SimWindow; 2], far: [&SimWindow; 2]| {
        set(near[0], 0, 1);
        near[0].barrier(Barrier::Write);
        set(near[1], 0, 1);
        push(rig);
        far[1].barrier(Barrier::Read);
        for _ in 0..10_000 {
            if get(far[1], 0) == 1 {
                far[1].barrier(Barrier::Read);
                return get(far[0], 0) == 0;
            }
        }
        panic!("a store never arrived");
    };
    let read = |rig: &Rig| assert_eq!(get(&rig.host_bar, 9), 0);
    never(|rig, _| {
        let (near, far) = ([&rig.host_ram, &rig.host_bar], [&rig.board_ram, &rig.board_bar]);
        outcome(rig, &read, near, far)
    });
    let raise = |rig: &Rig| rig.board.raise(1);
    never(|rig, _| {
        let (near, far) = ([&rig.board_bar, &rig.board_ram], [&rig.host_bar, &rig.host_ram]);
        outcome(rig, &raise, near, far)
    });
}

/// A load may be carried out before an earlier one.
fn loads(rig: &Rig, read_barrier: bool) -> bool {
    set(&rig.board_ram, 0, 1);
    rig.board_ram.barrier(Barrier::Write);
    set(&rig.board_ram, 1, 1);
    for _ in 0..10_000 {
        if get(&rig.host_ram, 1) == 1 {
            if read_barrier {
                rig.host_ram.barrier(Barrier::Read);
            }
            return get(&rig.host_ram, 0) == 0;
        }
    }
    panic!("a store never arrived");
}

#[test]
fn loads_pass_each_other_without_a_read_barrier() {
    sometimes(|rig, _| loads(rig, false));
    never(|rig, _| loads(rig, true));
}

#[test]
fn payload_may_be_stale_without_a_read_barrier() {
    let outcome = |rig: &Rig, barrier: bool| {
        rig.dma_bar.write(64, &[7; 200]);
        rig.dma_bar.barrier(Barrier::Write);
        set(&rig.dma_bar, 0, 1);
        for _ in 0..10_000 {
            if get(&rig.board_bar, 0) == 1 {
                if barrier {
                    rig.board_bar.barrier(Barrier::Read);
                }
                let mut found = [0; 200];
                rig.board_bar.read(64, &mut found);
                return found != [7; 200];
            }
        }
        panic!("a store never arrived");
    };
    sometimes(|rig, _| outcome(rig, false));
    never(|rig, _| outcome(rig, true));
}

/// Both store, then look at the other's word in their own memory. True where
/// neither sees the other: in R4's words, both sleep.
fn both_miss(
    random: u64,
    [one, two]: [(&SimWindow, &SimWindow); 2],
    barrier: Option<Barrier>,
    two_reads_back: bool,
) -> bool {
    let fence = |window: &SimWindow| {
        if let Some(barrier) = barrier {
            window.barrier(barrier);
        }
    };
    let (mut seen_by_one, mut seen_by_two) = (0, 0);
    interleave(
        random,
        [
            &mut [&mut || set(one.0, 0, 1), &mut || fence(one.0), &mut || {
                seen_by_one = get(one.1, 0)
            }],
            &mut [
                &mut || set(two.0, 0, 1),
                &mut || fence(two.0),
                &mut || {
                    if two_reads_back {
                        get(two.0, 0);
                    }
                },
                &mut || two.1.barrier(Barrier::Read),
                &mut || seen_by_two = get(two.1, 0),
            ],
        ],
    );
    seen_by_one == 0 && seen_by_two == 0
}

#[test]
fn inside_one_machine_a_full_barrier_on_both_sides_settles_it() {
    let outcome = |rig: &Rig, random, barrier| {
        // Two words of the board's memory, its CPU and its DMA engine.
        let cpu = (rig.board_bar.part(0, 64).unwrap(), rig.board_bar.part(64, 64).unwrap());
        let dma = (rig.dma_bar.part(64, 64).unwrap(), rig.dma_bar.part(0, 64).unwrap());
        both_miss(random, [(&cpu.0, &cpu.1), (&dma.0, &dma.1)], barrier, false)
    };
    never(|rig, random| outcome(rig, random, Some(Barrier::Full)));
    sometimes(|rig, random| outcome(rig, random, Some(Barrier::Write)));
    sometimes(|rig, random| outcome(rig, random, None));
}

#[test]
fn across_the_bus_the_sleeper_must_read_back_as_well() {
    let host = |rig: &Rig| (rig.host_bar.clone(), rig.host_ram.clone());
    let board = |rig: &Rig| (rig.board_ram.clone(), rig.board_bar.clone());
    let outcome = |rig: &Rig, random, barrier, flush, board_sleeps| {
        let (h, b) = (host(rig), board(rig));
        let (h, b) = ((&h.0, &h.1), (&b.0, &b.1));
        let sides = if board_sleeps { [h, b] } else { [b, h] };
        both_miss(random, sides, barrier, flush)
    };
    for board_sleeps in [true, false] {
        never(|rig, random| outcome(rig, random, Some(Barrier::Full), true, board_sleeps));
        sometimes(|rig, random| outcome(rig, random, Some(Barrier::Full), false, board_sleeps));
        sometimes(|rig, random| outcome(rig, random, Some(Barrier::Write), true, board_sleeps));
        let relaxed = [
            BrokenOrder { relaxed_requests: true, ..BrokenOrder::default() },
            BrokenOrder { relaxed_completions: true, ..BrokenOrder::default() },
        ];
        for order in relaxed {
            sometimes_with(order, |rig, random| {
                outcome(rig, random, Some(Barrier::Full), true, board_sleeps)
            });
        }
    }
}

#[test]
fn a_bus_read_pushes_the_readers_own_writes() {
    let outcome = |rig: &Rig, by_host: bool| {
        let (near, far) =
            if by_host { (&rig.host_bar, &rig.board_bar) } else { (&rig.dma_ram, &rig.host_ram) };
        set(near, 0, 1);
        get(near, 1);
        far.barrier(Barrier::Read);
        get(far, 0) == 0
    };
    for by_host in [true, false] {
        never(|rig, _| outcome(rig, by_host));
        let order = BrokenOrder { relaxed_requests: true, ..BrokenOrder::default() };
        sometimes_with(order, |rig, _| outcome(rig, by_host));
    }
}

#[test]
fn a_bus_reads_value_comes_behind_the_writes_that_travel_with_it() {
    // The board posts data, then sets a flag in its own memory; the host reads
    // the flag across the bus and looks for the data in its memory.
    let outcome = |rig: &Rig| {
        set(&rig.board_ram, 0, 1);
        rig.board_ram.barrier(Barrier::Write);
        set(&rig.board_bar, 0, 1);
        for _ in 0..10_000 {
            if get(&rig.host_bar, 0) == 1 {
                rig.host_ram.barrier(Barrier::Read);
                return get(&rig.host_ram, 0) == 0;
            }
        }
        panic!("a store never arrived");
    };
    never(|rig, _| outcome(rig));
    let order = BrokenOrder { relaxed_completions: true, ..BrokenOrder::default() };
    sometimes_with(order, |rig, _| outcome(rig));
}

/// Data by CPU or DMA engine, then an interrupt. True where the interrupt
/// arrives first.
fn overtakes(rig: &Rig, by_dma: bool) -> bool {
    use crate::bus::Latch;
    set(if by_dma { &rig.dma_ram } else { &rig.board_ram }, 0, 1);
    rig.board.raise(3);
    let latch = rig.host.interrupt(3).unwrap();
    for _ in 0..10_000 {
        if latch.drain() {
            rig.host_ram.barrier(Barrier::Read);
            return get(&rig.host_ram, 0) == 0;
        }
    }
    panic!("an interrupt never arrived");
}

#[test]
fn an_interrupt_arrives_behind_the_data() {
    let order = BrokenOrder::default();
    for by_dma in [false, true] {
        never(|rig, _| overtakes(rig, by_dma));
        // Relaxed data passes relaxed data, but no interrupt passes it.
        let relaxed = BrokenOrder { relaxed_writes: true, ..order };
        assert_eq!(count(relaxed, |rig, _| overtakes(rig, by_dma)), 0);
        let separate = BrokenOrder { separate_interrupts: true, ..order };
        sometimes_with(separate, |rig, _| overtakes(rig, by_dma));
    }
    let ignores_dma = BrokenOrder { interrupt_ignores_dma: true, ..order };
    sometimes_with(ignores_dma, |rig, _| overtakes(rig, true));
    assert_eq!(count(ignores_dma, |rig, _| overtakes(rig, false)), 0);
    let ignores_cpu = BrokenOrder { interrupt_ignores_cpu: true, ..order };
    sometimes_with(ignores_cpu, |rig, _| overtakes(rig, false));
    assert_eq!(count(ignores_cpu, |rig, _| overtakes(rig, true)), 0);
}

#[test]
fn a_doorbell_arrives_behind_the_data() {
    use crate::bus::Ring;
    let outcome = |rig: &Rig, _| {
        set(&rig.host_bar, 0, 1);
        rig.host.doorbell(&rig.bus.doorbells(), 5).unwrap().ring();
        for _ in 0..10_000 {
            if rig.board.take_doorbells() == 1 << 5 {
                rig.board_bar.barrier(Barrier::Read);
                return get(&rig.board_bar, 0) == 0;
            }
        }
        panic!("a doorbell never arrived");
    };
    never(outcome);
    let order = BrokenOrder { relaxed_writes: true, ..BrokenOrder::default() };
    assert_eq!(count(order, outcome), 0);
}

#[test]
fn the_dma_engine_is_not_ordered_with_the_cpu_until_it_finishes() {
    let outcome = |rig: &Rig, finish: bool| {
        rig.dma_ram.write(64, &[9; 1500]);
        if finish {
            rig.dma_ram.barrier(Barrier::Full);
        }
        rig.board_ram.barrier(Barrier::Full);
        set(&rig.board_ram, 0, 1);
        for _ in 0..10_000 {
            if get(&rig.host_ram, 0) == 1 {
                rig.host_ram.barrier(Barrier::Read);
                let mut found = [0; 1500];
                rig.host_ram.read(64, &mut found);
                return found != [9; 1500];
            }
        }
        panic!("a store never arrived");
    };
    never(|rig, _| outcome(rig, true));
    sometimes(|rig, _| outcome(rig, false));
}

#[test]
fn a_local_store_is_seen_across_the_bus_once_it_has_left_the_buffer() {
    let outcome = |rig: &Rig, barrier: Option<Barrier>| {
        set(&rig.board_bar, 0, 1);
        if let Some(barrier) = barrier {
            rig.board_bar.barrier(barrier);
        }
        get(&rig.host_bar, 0) == 0
    };
    never(|rig, _| outcome(rig, Some(Barrier::Full)));
    sometimes(|rig, _| outcome(rig, Some(Barrier::Write)));
    sometimes(|rig, _| outcome(rig, None));
}

#[test]
fn a_full_barrier_posts_but_does_not_deliver() {
    sometimes(|rig, _| {
        set(&rig.host_bar, 0, 1);
        rig.host_bar.barrier(Barrier::Full);
        rig.board_bar.barrier(Barrier::Read);
        get(&rig.board_bar, 0) == 0
    });
}
