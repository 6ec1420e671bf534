//! A board whose cache nobody keeps coherent: what each hook is for.

use super::*;

/// How often of 400 runs `outcome` holds, over all profiles and seeds.
fn count(outcome: impl Fn(&Rig, &SimWindow) -> bool) -> u32 {
    let mut hits = 0;
    for profile in PROFILES {
        for seed in 0..400 {
            let rig = instrument(seed, profile);
            let cached = rig.board.cached_memory(DATA, 1 << 15).unwrap();
            hits += u32::from(outcome(&rig, &cached));
        }
    }
    hits
}

fn never(outcome: impl Fn(&Rig, &SimWindow) -> bool) {
    assert_eq!(count(outcome), 0);
}

fn sometimes(outcome: impl Fn(&Rig, &SimWindow) -> bool) {
    let hits = count(outcome);
    assert!(hits > 0, "never seen");
}

fn read(window: &SimWindow, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    window.read(offset, &mut bytes);
    bytes
}

/// The host's bytes arrive in memory.
fn push(rig: &Rig, offset: u64, bytes: &[u8]) {
    rig.host_bar.write(offset, bytes);
    rig.bus.settle();
}

#[test]
fn a_line_that_was_read_before_is_stale_until_invalidated() {
    let outcome = |rig: &Rig, cached: &SimWindow, invalidate: bool| {
        assert_eq!(read(cached, 100, 200), [0; 200]);
        push(rig, 100, &[7; 200]);
        if invalidate {
            cached.invalidate(100, 200);
        }
        read(cached, 100, 200) != [7; 200]
    };
    never(|rig, cached| outcome(rig, cached, true));
    sometimes(|rig, cached| outcome(rig, cached, false));
}

#[test]
fn a_line_may_be_fetched_ahead() {
    let outcome = |rig: &Rig, cached: &SimWindow, invalidate: bool| {
        let _ = read(cached, 0, 64);
        rig.bus.run(20);
        push(rig, 128, &[7; 64]);
        if invalidate {
            cached.invalidate(128, 64);
        }
        read(cached, 128, 64) != [7; 64]
    };
    never(|rig, cached| outcome(rig, cached, true));
    sometimes(|rig, cached| outcome(rig, cached, false));
}

#[test]
fn what_is_written_stays_in_the_cache_until_cleaned_or_evicted() {
    let outcome = |rig: &Rig, cached: &SimWindow, clean: bool| {
        cached.write(100, &[7; 200]);
        assert_eq!(read(cached, 100, 200), [7; 200], "its own CPU sees it");
        if clean {
            cached.clean(100, 200);
        }
        cached.barrier(Barrier::Write);
        set(&rig.board_bar, 64, 1);
        rig.bus.settle();
        assert_eq!(get(&rig.host_bar, 64), 1);
        read(&rig.host_bar, 100, 200) != [7; 200]
    };
    never(|rig, cached| outcome(rig, cached, true));
    sometimes(|rig, cached| outcome(rig, cached, false));
    // An eviction writes it back all the same.
    let evicted = |rig: &Rig, cached: &SimWindow| {
        cached.write(100, &[7; 8]);
        rig.bus.run(20_000);
        rig.bus.settle();
        read(&rig.host_bar, 100, 8) == [7; 8]
    };
    sometimes(evicted);
}

#[test]
fn cleaned_bytes_are_ordered_by_barriers_like_other_stores() {
    let outcome = |rig: &Rig, cached: &SimWindow, barrier: bool| {
        cached.write(0, &[7; 64]);
        cached.clean(0, 64);
        if barrier {
            cached.barrier(Barrier::Write);
        }
        set(&rig.board_bar, 64, 1);
        for _ in 0..10_000 {
            if get(&rig.host_bar, 64) == 1 {
                return read(&rig.host_bar, 0, 64) != [7; 64];
            }
        }
        panic!("a store never arrived");
    };
    never(|rig, cached| outcome(rig, cached, true));
    sometimes(|rig, cached| outcome(rig, cached, false));
}

#[test]
fn invalidating_a_dirty_line_loses_it() {
    sometimes(|rig, cached| {
        cached.write(0, &[7; 64]);
        cached.invalidate(0, 1);
        cached.clean(0, 64);
        rig.bus.settle();
        read(&rig.host_bar, 0, 64) == [0; 64]
    });
}

/// Lines are written back whole: who writes a part of one must not have an old
/// copy of the rest.
#[test]
fn a_part_of_a_line_takes_its_neighbours_along() {
    let outcome = |rig: &Rig, cached: &SimWindow, invalidate: bool| {
        let _ = read(cached, 0, 64);
        // The engine writes past the cache, and finishes.
        rig.dma_bar.write(12, &[9; 52]);
        rig.dma_bar.barrier(Barrier::Full);
        cached.barrier(Barrier::Full);
        if invalidate {
            cached.invalidate(0, 1);
        }
        cached.write(0, &[7; 12]);
        cached.clean(0, 12);
        rig.bus.settle();
        read(&rig.host_bar, 12, 52) != [9; 52]
    };
    never(|rig, cached| outcome(rig, cached, true));
    sometimes(|rig, cached| outcome(rig, cached, false));
}

#[test]
fn words_and_the_engine_pass_the_cache_by() {
    never(|rig, cached| {
        let _ = read(cached, 0, 64);
        push(rig, 0, &7_u64.to_le_bytes());
        cached.barrier(Barrier::Read);
        let seen: u64 = cached.load(0);
        let mut by_engine = [0; 8];
        cached.dma_view().unwrap().read(0, &mut by_engine);
        cached.store(8, 9_u64);
        cached.barrier(Barrier::Full);
        let stored: u64 = rig.host_bar.load(8);
        (seen, u64::from_le_bytes(by_engine), stored) != (7, 7, 9)
    });
}

#[test]
fn a_reset_empties_the_cache() {
    never(|rig, cached| {
        cached.write(0, &[7; 64]);
        rig.bus.reboot_board();
        cached.clean(0, 64);
        rig.bus.settle();
        // Only an eviction before the reset may have written it.
        read(cached, 0, 64) != read(&rig.host_bar, 0, 64)
    });
}

#[test]
fn where_nothing_is_cached_the_hooks_do_nothing() {
    let rig = rig(SimOptions::counted());
    let cached = rig.board.cached_memory(DATA, 4096).unwrap();
    cached.write(0, &[7; 64]);
    cached.invalidate(0, 64);
    assert_eq!(read(&rig.host_bar, 0, 64), [7; 64]);
    let rig = instrument(1, Profile::Eager);
    rig.board_bar.write(0, &[7; 64]);
    rig.board_bar.invalidate(0, 64);
    rig.board_bar.clean(u64::MAX, 64);
    rig.bus.settle();
    assert_eq!(read(&rig.host_bar, 0, 64), [7; 64]);
}
