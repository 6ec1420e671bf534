//! What one initiator sees of itself, and of one word, whatever the schedule.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Store32(u64, u32),
    Store64(u64, u64),
    Write(u64, Vec<u8>),
    Load(u64),
    Read(u64, usize),
    Barrier(u8),
    Run(u64),
}

const SPACE: u64 = 256;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..SPACE / 4, any::<u32>()).prop_map(|(at, value)| Step::Store32(at * 4, value)),
        2 => (0..SPACE / 8, any::<u64>()).prop_map(|(at, value)| Step::Store64(at * 8, value)),
        2 => (0..200_u64, prop::collection::vec(any::<u8>(), 0..56))
            .prop_map(|(at, bytes)| Step::Write(at, bytes)),
        3 => (0..SPACE / 8).prop_map(|at| Step::Load(at * 8)),
        1 => (0..200_u64, 0..56_usize).prop_map(|(at, len)| Step::Read(at, len)),
        1 => (0..3_u8).prop_map(Step::Barrier),
        1 => (0..20_u64).prop_map(Step::Run),
    ]
}

/// Runs the steps through `window` and on a plain array; payload in whole
/// words where the bus takes nothing else.
fn check(
    bus: &SimBus,
    window: &SimWindow,
    words: bool,
    steps: &[Step],
) -> Result<Vec<u8>, TestCaseError> {
    let mut plain = vec![0; SPACE as usize];
    for step in steps {
        match step {
            Step::Store32(at, value) => {
                window.store(*at, *value);
                plain[*at as usize..][..4].copy_from_slice(&value.to_le_bytes());
            }
            Step::Store64(at, value) => {
                window.store(*at, *value);
                plain[*at as usize..][..8].copy_from_slice(&value.to_le_bytes());
            }
            Step::Write(at, bytes) => {
                let at = &if words { at & !3 } else { *at };
                let bytes = &bytes[..if words { bytes.len() & !3 } else { bytes.len() }];
                window.write(*at, bytes);
                plain[*at as usize..][..bytes.len()].copy_from_slice(bytes);
            }
            Step::Load(at) => {
                let expected = u64::from_le_bytes(plain[*at as usize..][..8].try_into().unwrap());
                prop_assert_eq!(window.load::<u64>(*at), expected);
            }
            Step::Read(at, len) => {
                let mut found = vec![0; *len];
                window.read(*at, &mut found);
                prop_assert_eq!(&found[..], &plain[*at as usize..][..*len]);
            }
            Step::Barrier(0) => window.barrier(Barrier::Write),
            Step::Barrier(1) => window.barrier(Barrier::Read),
            Step::Barrier(_) => window.barrier(Barrier::Full),
            Step::Run(steps) => bus.run(*steps),
        }
    }
    Ok(plain)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// An initiator sees its own stores in order, local or remote, and once
    /// all has settled so does everybody else.
    #[test]
    fn one_initiator_alone_sees_plain_memory(
        seed in any::<u64>(),
        profile in 0..3_usize,
        pair in 0..6_usize,
        narrow in any::<bool>(),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let options = SimOptions {
            bar_32_bit: narrow,
            ..SimOptions::instrument(seed, PROFILES[profile])
        };
        let rig = rig(options);
        let (by, other) = [
            (&rig.host_bar, &rig.board_bar),
            (&rig.host_ram, &rig.board_ram),
            (&rig.board_bar, &rig.host_bar),
            (&rig.board_ram, &rig.host_ram),
            (&rig.dma_bar, &rig.board_bar),
            (&rig.dma_ram, &rig.host_ram),
        ][pair];
        let plain = check(&rig.bus, by, narrow, &steps)?;
        rig.bus.settle();
        let mut found = vec![0; plain.len()];
        other.read(0, &mut found);
        prop_assert_eq!(found, plain);
    }

    /// Nobody sees one word go back in time, barriers or not.
    #[test]
    fn a_word_never_goes_back(seed in any::<u64>(), profile in 0..3_usize) {
        let rig = instrument(seed, PROFILES[profile]);
        let writer_readers = [
            (&rig.host_bar, vec![&rig.board_bar, &rig.dma_bar]),
            (&rig.board_ram, vec![&rig.host_ram, &rig.dma_ram]),
            (&rig.dma_bar, vec![&rig.board_bar, &rig.host_bar]),
        ];
        for (word, (writer, readers)) in (0..).zip(&writer_readers) {
            let mut seen = vec![0; readers.len()];
            for value in 1..100 {
                set(writer, word, value);
                for (reader, last) in readers.iter().zip(&mut seen) {
                    let now = get(reader, word);
                    prop_assert!(now >= *last && now <= value, "{now} after {last}");
                    *last = now;
                }
            }
        }
    }

    /// The seed decides everything.
    #[test]
    fn equal_seeds_give_equal_runs(seed in any::<u64>(), profile in 0..3_usize) {
        let run = || {
            let rig = instrument(seed, PROFILES[profile]);
            let mut seen = Vec::new();
            for value in 1..50 {
                set(&rig.host_bar, u64::from(value % 5), value);
                rig.dma_ram.write(0, &[value as u8; 100]);
                seen.extend((0..5).map(|word| get(&rig.board_bar, word)));
                seen.push(rig.host_ram.load(96));
            }
            seen
        };
        prop_assert_eq!(run(), run());
    }
}

/// Both sides store to one word (which the protocol never does): once a
/// processor's own store is in memory it sees nothing older.
#[test]
fn an_own_store_ends_the_past() {
    for seed in 0..300 {
        let rig = instrument(seed, Profile::Lazy);
        set(&rig.board_ram, 0, 1);
        rig.board_ram.barrier(Barrier::Full);
        get(&rig.board_ram, 1);
        set(&rig.host_ram, 0, 2);
        for _ in 0..300 {
            assert_eq!(get(&rig.host_ram, 0), 2);
        }
    }
}

#[test]
fn different_seeds_give_different_runs() {
    let run = |seed| {
        let rig = instrument(seed, Profile::Adversarial);
        (1..50)
            .map(|value| {
                set(&rig.host_bar, 0, value);
                get(&rig.board_bar, 0)
            })
            .collect::<Vec<_>>()
    };
    assert!((1..20).any(|seed| run(seed) != run(0)));
}

#[test]
fn a_wide_word_falls_apart_on_a_32_bit_bar() {
    let torn = |narrow: bool| {
        (0..500_u64).any(|seed| {
            let options =
                SimOptions { bar_32_bit: narrow, ..SimOptions::instrument(seed, Profile::Lazy) };
            let rig = rig(options);
            rig.host_bar.store(0, u64::MAX);
            (0..1000).any(|_| {
                let seen: u64 = rig.board_bar.load(0);
                seen != 0 && seen != u64::MAX
            })
        })
    };
    assert!(torn(true));
    assert!(!torn(false));
}

#[test]
fn payload_falls_apart_but_words_inside_it_do_not() {
    let mut torn = false;
    for seed in 0..300 {
        let rig = instrument(seed, Profile::Lazy);
        rig.host_bar.write(0, &[0xFF; 64]);
        for _ in 0..200 {
            let mut seen = [0; 64];
            rig.board_bar.read(0, &mut seen);
            for word in seen.chunks(8) {
                assert!(word == [0; 8] || word == [0xFF; 8]);
            }
            torn |= seen.contains(&0) && seen.contains(&0xFF);
        }
    }
    assert!(torn);
}

#[test]
fn what_does_not_fit_is_not_there() {
    for rig in [instrument(1, Profile::Eager), rig(SimOptions::counted())] {
        let window = rig.board_bar.part(0, 64).unwrap();
        window.store(64, 1_u32);
        window.store(2, 1_u32);
        window.store(u64::MAX, 1_u64);
        window.write(60, &[1; 8]);
        rig.bus.settle();
        for at in [64, 2, 60, u64::MAX] {
            let expected = if at == 60 { 0 } else { u32::MAX };
            assert_eq!(window.load::<u32>(at), expected);
        }
        let mut bytes = [0; 8];
        window.read(60, &mut bytes);
        assert_eq!(bytes, [0xFF; 8]);
        assert!(window.part(8, 64).is_none() && window.part(4, 8).is_none());
        assert!(window.part(u64::MAX - 7, 16).is_none());
        assert_eq!(rig.board_bar.load::<u32>(64), 0);
    }
}

/// A BAR that takes 32-bit words drops what is wider, narrower or unaligned,
/// and says so.
#[test]
fn a_narrow_bar_drops_what_it_does_not_take() {
    for options in [SimOptions::counted(), SimOptions::instrument(3, Profile::Eager)] {
        let rig = rig(SimOptions { bar_32_bit: true, ..options });
        let wide = rig.host.bar(0, StoreWidth::Bits64).unwrap().part(DATA, 1 << 15).unwrap();
        let faults = || rig.bus.bill().width_faults;
        wide.store(0, 1_u32);
        rig.host_bar.store(8, 1_u64);
        rig.host_bar.write(64, &[1; 64]);
        assert_eq!(faults(), 0);
        wide.store(16, 1_u64);
        wide.write(128, &[1; 64]);
        rig.host_bar.write(193, &[1; 4]);
        rig.host_bar.write(192, &[1; 5]);
        assert_eq!(faults(), 4);
        rig.bus.settle();
        let at = |offset| rig.board_bar.load::<u64>(offset);
        assert_eq!([0, 8, 64].map(at), [1, 1, 0x0101_0101_0101_0101]);
        assert_eq!([16, 128, 192].map(at), [0; 3]);
        // The board's own memory takes what it is given.
        rig.board_bar.write(193, &[1; 4]);
        assert_eq!(faults(), 4);
    }
}

/// A board's CPU that makes two stores of a 64-bit word, everywhere.
#[test]
fn a_wide_word_falls_apart_on_a_32_bit_board() {
    let rig = rig(SimOptions { board_32_bit: true, ..SimOptions::counted() });
    rig.board_bar.store(0, 1_u64);
    rig.board_ram.store(0, 1_u64);
    rig.dma_ram.store(8, 1_u64);
    let bill = rig.bus.bill();
    assert_eq!(bill[(Initiator::BoardCpu, Plane::Data)].control_stores(), 4);
    assert_eq!(bill[(Initiator::BoardDma, Plane::Data)].control_stores(), 1);
    assert_eq!((rig.host_bar.load::<u64>(0), rig.host_ram.load::<u64>(0)), (1, 1));
}
