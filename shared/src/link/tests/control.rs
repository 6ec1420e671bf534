//! The control block: numbers, every rule, and blocks that change while read.

use std::cell::Cell;
use std::rc::Rc;

use proptest::prelude::*;

use super::rig::*;
use crate::link::board::BoardLink;
use crate::link::control::*;
use crate::link::description::*;
use crate::link::host::{HostLink, Progress};
use crate::link::refusal::{AttachStep, Reason};
use crate::link::words::LinkLoss;
use crate::raw::StoreWidth;
use crate::window::Window;
use crate::window::testing::TestWindow;
use crate::wire::control::{self, field};

const BARS: BarLengths = [BAR_LEN, 0x1000, 0, 0, 0, 0];

fn bytes() -> Vec<u8> {
    StaticPart::encode(&description(), &OUR_AREAS).as_slice().to_vec()
}

/// Checks a block with these bytes, its checksum put right.
fn check(mut bytes: Vec<u8>) -> Result<(BoardDescription, Areas), ControlError> {
    bytes[field::CHECKSUM..field::CHECKSUM + 4].fill(0);
    let crc = crc32c(&bytes);
    bytes[field::CHECKSUM..field::CHECKSUM + 4].copy_from_slice(&crc.to_le_bytes());
    StaticPart::from_slice(&bytes).unwrap().check(0, &BARS)
}

fn with32(at: usize, value: u32) -> Vec<u8> {
    let mut bytes = bytes();
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    bytes
}

fn with64(at: usize, value: u64) -> Vec<u8> {
    let mut bytes = bytes();
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn crc32c_check_value() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
}

#[test]
fn numbers() {
    assert_eq!(control::MAGIC_VALUE.to_le_bytes(), *b"vphy");
    let page_plan = [
        control::LIVE_OFFSET,
        control::CHANNEL_OFFSET,
        control::CHANNEL_LEN,
        control::HOST_PAGE_OFFSET,
        control::HOST_PAGE_LEN,
    ];
    assert_eq!(page_plan, [0xF00, 0x1000, 0x2000, 0x3000, 0x1000]);
    assert_eq!((control::CONTROL_LEN, control::STATIC_LEN_MAX), (0x4000, 0x500));
    use control::live;
    let words = [live::BOOT_EPOCH, live::STATE, live::ACCEPTED, live::HEARTBEAT];
    assert_eq!((words, live::REFUSED, live::REFUSAL), ([0, 4, 8, 12], 16, 20));
    use control::host_page as host;
    let words = [host::SESSION, host::VERSION, host::BOOT_EPOCH, host::STATE, host::HEARTBEAT];
    assert_eq!(words, [0, 4, 8, 12, 16]);
    use control::board_state as board;
    let states = [board::BOOTING, board::READY, board::SESSION, board::DRAINING, board::FAILED];
    assert_eq!(states, [1, 2, 3, 4, 5]);
    use control::host_state as state;
    assert_eq!([state::ATTACHING, state::RUNNING, state::LEAVING], [1, 2, 3]);
}

#[test]
fn a_block_survives_the_round_trip() {
    assert_eq!(check(bytes()), Ok((description(), OUR_AREAS)));
    let mut other = description();
    other.outbound = None;
    other.interrupts_unordered = true;
    other.widest_store = StoreWidth::Bits32;
    other.regions = BoardRegions::new();
    // ivshmem: one register for all, the vector in the value.
    other.doorbell =
        DoorbellDescription { bar: 1, offset: 12, stride: 0, count: 4, value: 5 << 16, step: 1 };
    let part = StaticPart::encode(&other, &OUR_AREAS);
    assert_eq!(part.check(0, &BARS), Ok((other.clone(), OUR_AREAS)));
    assert_eq!(other.doorbell.register(3), Some((12, 5 << 16 | 3)));
    assert_eq!(other.doorbell.register(4), None);
}

#[test]
fn every_word_all_ones_is_link_lost() {
    for at in (0..bytes().len()).step_by(4) {
        let mut rig = Rig::new();
        rig.bar.poke(at as u64, u32::MAX);
        let refusal = rig.host.step(1, false).unwrap_err();
        assert_eq!(refusal.reason, Reason::Lost(LinkLoss::AllOnes), "word {at:#x}");
        // And with the checksum put right it is no legal value either.
        let checksum = at == field::CHECKSUM;
        assert!(checksum || check(with32(at, u32::MAX)).is_err(), "word {at:#x}");
    }
    for at in [control::live::BOOT_EPOCH, control::live::ACCEPTED, control::live::HEARTBEAT] {
        let mut rig = Rig::new();
        rig.bar.poke(0xF00 + at, u32::MAX);
        let refusal = rig.host.step(1, false).unwrap_err();
        assert_eq!(refusal.reason, Reason::Lost(LinkLoss::AllOnes), "live word {at:#x}");
    }
}

#[test]
fn every_rule() {
    use ControlError::{Field, Outside, Overlap, Reserved};
    let f = |offset| Field { offset };
    let cases: Vec<(Vec<u8>, ControlError)> = vec![
        (with32(field::MAGIC, 1), f(field::MAGIC)),
        (with32(field::VERSION_MIN, 0), f(field::VERSION_MIN)),
        (with32(field::VERSION_MIN, 2), f(field::VERSION_MAX)),
        (with32(field::VERSION_MAX, 0x1_0000), f(field::VERSION_MAX)),
        (with32(field::FLAGS, 4), Reserved { offset: field::FLAGS }),
        (with32(field::VECTORS, 0), f(field::VECTORS)),
        (with32(field::VECTORS, 2049), f(field::VECTORS)),
        (with32(field::STORE_WIDTHS, 0), f(field::STORE_WIDTHS)),
        (with32(field::STORE_WIDTHS, 2), f(field::STORE_WIDTHS)),
        (with32(field::STORE_WIDTHS, 7), f(field::STORE_WIDTHS)),
        (with32(field::LIVE, 0xF04), f(field::LIVE)),
        (with32(field::LIVE + 4, 23), f(field::LIVE)),
        (with32(field::LIVE, 0x100), Overlap { offset: field::LIVE }),
        (with32(field::CHANNEL + 4, 63), f(field::CHANNEL)),
        (with32(field::CHANNEL, 0xF00), Overlap { offset: field::CHANNEL }),
        (with32(field::CHANNEL + 4, 0x2001), Overlap { offset: field::HOST_PAGE }),
        (with32(field::HOST_PAGE + 4, 19), f(field::HOST_PAGE)),
        (with32(field::HOST_PAGE, 0x1_FFF8), Outside { offset: field::HOST_PAGE }),
        (with32(field::HOST_PAGE, u32::MAX - 7), Outside { offset: field::HOST_PAGE }),
        (with32(field::HOST_PAGE + 4, 0x1001), Overlap { offset: 0x100 }),
        (with32(field::HEARTBEAT_INTERVAL, 9), f(field::HEARTBEAT_INTERVAL)),
        (with32(field::HEARTBEAT_INTERVAL, 60_001), f(field::HEARTBEAT_INTERVAL)),
        (with32(field::HEARTBEAT_MISSES, 1), f(field::HEARTBEAT_MISSES)),
        (with32(field::HEARTBEAT_MISSES, 101), f(field::HEARTBEAT_MISSES)),
        (with32(field::HEARTBEAT_INTERVAL, 60_000), f(field::HEARTBEAT_MISSES)),
        (with32(field::DOORBELL_BAR, 6), f(field::DOORBELL_BAR)),
        (with32(field::DOORBELL_BAR, 2), Outside { offset: field::DOORBELL_OFFSET }),
        (with32(field::DOORBELL_BAR, 0), Overlap { offset: field::DOORBELL_OFFSET }),
        (with32(field::DOORBELL_WIDTH, 8), f(field::DOORBELL_WIDTH)),
        (with64(field::DOORBELL_OFFSET, 2), f(field::DOORBELL_OFFSET)),
        (with64(field::DOORBELL_OFFSET, 0xFF8), Outside { offset: field::DOORBELL_OFFSET }),
        (with64(field::DOORBELL_OFFSET, 1 << 62), Outside { offset: field::DOORBELL_OFFSET }),
        (with32(field::DOORBELL_STRIDE, 2), f(field::DOORBELL_STRIDE)),
        (with32(field::DOORBELL_STRIDE, 0), f(field::DOORBELL_STEP)),
        (with32(field::DOORBELL_STRIDE, 0x1000), Outside { offset: field::DOORBELL_OFFSET }),
        (with32(field::DOORBELL_COUNT, 0), f(field::DOORBELL_COUNT)),
        (with32(field::DOORBELL_COUNT, 2049), f(field::DOORBELL_COUNT)),
        (with32(field::DOORBELL_STEP, 1 << 31), f(field::DOORBELL_STEP)),
        (with32(field::MAC, 0x0100_0001), f(field::MAC)),
        (with64(field::MAC, 0), f(field::MAC)),
        (with32(field::MAC + 4, 0x0001_0900), Reserved { offset: field::MAC + 6 }),
        (with64(field::NAME, 0), f(field::NAME)),
        (with64(field::NAME, 0x6100_6161), f(field::NAME)),
        (with64(field::FIRMWARE, 0x1B), f(field::FIRMWARE)),
        (with32(field::REGION_COUNT, 1), f(field::LENGTH)),
        (with32(field::REGION_COUNT, 33), f(field::REGION_COUNT)),
        (with32(field::OUTBOUND_COUNT, 65), f(field::OUTBOUND_COUNT)),
        (with32(field::OUTBOUND_COUNT, 0), f(field::OUTBOUND_SIZE)),
        (with64(field::OUTBOUND_SIZE, 0), f(field::OUTBOUND_SIZE)),
        (with64(field::OUTBOUND_SIZE, 0x1001), f(field::OUTBOUND_SIZE)),
        (with64(field::OUTBOUND_ALIGN, 0x800), f(field::OUTBOUND_ALIGN)),
        (with64(field::OUTBOUND_ALIGN, 0x3000), f(field::OUTBOUND_ALIGN)),
        (with32(field::OUTBOUND_BITS, 11), f(field::OUTBOUND_BITS)),
        (with32(field::OUTBOUND_BITS, 64), f(field::OUTBOUND_BITS)),
        (with32(field::RESERVED, 1), Reserved { offset: field::RESERVED }),
        (with32(0xFC, 1), Reserved { offset: 0xFC }),
        (with32(0x100 + field::REGION_BAR, 7), f(0x100 + field::REGION_BAR)),
        (with32(0x100 + field::REGION_BAR, 3), Outside { offset: 0x100 }),
        (with32(0x100 + field::REGION_RIGHTS, 0), f(0x100 + field::REGION_RIGHTS)),
        (with32(0x100 + field::REGION_RIGHTS, 4), f(0x100 + field::REGION_RIGHTS)),
        (with64(0x100 + field::REGION_OFFSET, 0x4100), f(0x100 + field::REGION_OFFSET)),
        (with64(0x100 + field::REGION_OFFSET, 0x3000), Overlap { offset: 0x100 }),
        (with64(0x120 + field::REGION_OFFSET, 0x5000), Overlap { offset: 0x120 }),
        (with64(0x120 + field::REGION_OFFSET, 0x1_1000), Outside { offset: 0x120 }),
        (with64(0x100 + field::REGION_LENGTH, 0), f(0x100 + field::REGION_LENGTH)),
        (with64(0x100 + field::REGION_LENGTH, 0x1FFF), f(0x100 + field::REGION_LENGTH)),
        (with64(0x100 + field::REGION_LENGTH, 1 << 63), Outside { offset: 0x100 }),
        (with64(0x100 + field::REGION_RESERVED, 1), Reserved { offset: 0x118 }),
    ];
    for (bytes, error) in cases {
        assert_eq!(check(bytes).err(), Some(error), "{error}");
    }
    // A region whose end wraps to 0.
    let mut wraps = with64(0x100 + field::REGION_OFFSET, 0xFFFF_FFFE << 32);
    let at = 0x100 + field::REGION_LENGTH;
    wraps[at..at + 8].copy_from_slice(&(2_u64 << 32).to_le_bytes());
    assert_eq!(check(wraps).err(), Some(Outside { offset: 0x100 }));
    // A broken checksum comes before everything.
    let part = StaticPart::from_slice(&with32(field::VECTORS, 9)).unwrap();
    assert_eq!(part.check(0, &BARS).err(), Some(ControlError::Checksum));
    // The board refuses to publish what a host would refuse.
    let mut own = description();
    own.vectors = 0;
    let refused = BoardLink::new(TestWindow::new(0x4000), 0, own);
    assert_eq!(refused.err(), Some(f(field::VECTORS)));
}

/// Rows 1 and 9: any word changes behind any read; what is used is one copy.
#[test]
fn a_block_that_changes_behind_every_read() {
    let reads = {
        let rig = Rig::new();
        rig.bar.hook(|_, _, _| {});
        let mut host = HostLink::new(rig.bar.clone(), options(1));
        host.step(1, false).unwrap();
        let mut words: Vec<u64> =
            rig.bar.take_loads().into_iter().filter(|at| *at < 0xF00).collect();
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), count, "a word of the static part was read twice");
        assert_eq!(count, bytes().len() / 4);
        count
    };
    for k in 0..reads {
        for target in (0..bytes().len()).step_by(4) {
            let rig = Rig::new();
            rig.bar.hook(move |at, _, memory| {
                if at == k {
                    memory[target] ^= 0x10;
                }
            });
            let mut host = HostLink::new(rig.bar.clone(), options(1));
            match host.step(1, false) {
                // Changed before it was read: the checksum tells, try again.
                Ok(step) if host.description().is_none() => {
                    assert_eq!(step.progress, Progress::Waiting);
                }
                Ok(_) => assert_eq!(host.description(), Some(&description())),
                Err(refusal) => panic!("{refusal}"),
            }
        }
    }
}

/// Row 8: only the first n stores of the board have arrived.
#[test]
fn a_half_written_block_is_never_taken() {
    let total = {
        let bar = TestWindow::new(BAR_LEN);
        bar.limit_stores(u64::MAX);
        let mut link = BoardLink::new(bar.part(0, 0x4000).unwrap(), 0, description()).unwrap();
        link.publish(Epoch::new(5).unwrap(), 0);
        bar.stores()
    };
    // Over nothing, over an older boot of the same board, and over rubbish.
    for before in [0_u32, 1, 2] {
        for n in 0..=total {
            let bar = TestWindow::new(BAR_LEN);
            if before == 1 {
                let mut old = description();
                old.firmware = Label::new("0.0.9");
                let control = bar.part(0, 0x4000).unwrap();
                BoardLink::new(control, 0, old).unwrap().publish(Epoch::new(4).unwrap(), 0);
            } else if before == 2 {
                for at in (0..0x4000).step_by(4) {
                    bar.poke(at, 0x6B6B_6B6B);
                }
            }
            let mut link = BoardLink::new(bar.part(0, 0x4000).unwrap(), 0, description()).unwrap();
            bar.limit_stores(n);
            link.publish(Epoch::new(5).unwrap(), 0);
            bar.limit_stores(u64::MAX);
            let mut host = HostLink::new(bar.clone(), options(1));
            let step = host.step(1, false);
            let taken = host.description().is_some();
            match (before, n) {
                (_, n) if n == total => assert!(taken),
                // Nothing but "accepted session 0" has changed yet.
                (1, 0..=1) => assert!(taken),
                _ => assert!(!taken, "taken after {n} of {total} stores: {step:?}"),
            }
        }
    }
}

#[test]
fn a_board_that_boots_while_the_block_is_read() {
    let rig = Rig::new();
    let booted = Rc::new(Cell::new(false));
    let flag = booted.clone();
    rig.bar.hook(move |k, _, memory| {
        // A new boot with the same static part, right behind the first look at the epoch.
        if k == 20 {
            memory[0xF00] ^= 1;
            flag.set(true);
        }
    });
    let mut host = HostLink::new(rig.bar.clone(), options(1));
    assert_eq!(host.step(1, false).unwrap().progress, Progress::Waiting);
    assert!(booted.get() && host.description().is_none());
    rig.bar.unhook();
    host.step(2, false).unwrap();
    assert!(host.description().is_some());
}

#[test]
fn no_block_and_short_bars_are_refused_in_time() {
    let mut host = HostLink::new(TestWindow::new(0x3FFC), options(1));
    let refusal = host.step(0, false).unwrap_err();
    assert_eq!(refusal.reason, Reason::BarTooShort { len: 0x3FFC });
    for (word, step) in [(0_u32, AttachStep::FindBlock), (0x1234, AttachStep::FindBlock)] {
        let bar = TestWindow::new(BAR_LEN);
        bar.poke(0, word);
        let mut host = HostLink::new(bar, options(1));
        for now in 0..10_000 {
            assert_eq!(host.step(now, false).unwrap().progress, Progress::Waiting);
        }
        let refusal = host.step(10_000, false).unwrap_err();
        assert_eq!((refusal.step, refusal.reason), (step, Reason::NoBlock { found: word }));
        host.detach(10_001);
        let done = host.step(10_001, false).unwrap().progress;
        assert_eq!(done, Progress::Detached { clean: true });
    }
    let rig = Rig::new();
    rig.bar.poke(0x18, 5);
    let mut host = HostLink::new(rig.bar.clone(), options(1));
    host.step(0, false).unwrap();
    let refusal = host.step(10_000, false).unwrap_err();
    assert_eq!(refusal.step, AttachStep::ReadBlock);
    assert_eq!(refusal.reason, Reason::Block(ControlError::Checksum));
}

proptest! {
    /// Row 3: whatever a block says, what is accepted lies inside the BARs and apart.
    #[test]
    fn accepted_geometry_is_sound(
        live in any::<u16>(), channel in any::<u16>(), page in any::<u16>(),
        lens in any::<[u16; 3]>(),
        regions in prop::collection::vec((0_u64..40, 1_u64..40), 0..6),
        bar_len in 0_u64..0x3_0000,
    ) {
        let mut board = description();
        board.regions = BoardRegions::new();
        for (offset, len) in regions {
            let region = BoardRegion {
                bar: 0,
                rights: crate::region::Rights::READ,
                offset: offset * 4096,
                len: len * 4096,
            };
            prop_assert!(board.regions.push(region));
        }
        let area = |offset: u16, len: u16| Area { offset: u64::from(offset) & !7, len: len.into() };
        let areas = Areas {
            live: area(live, lens[0] & 0xFF),
            channel: area(channel, lens[1] & 0x3FFF),
            host_page: area(page, lens[2] & 0x1FFF),
        };
        let part = StaticPart::encode(&board, &areas);
        let len = part.as_slice().len() as u64;
        if let Ok((board, areas)) = part.check(0, &[bar_len, 0x1000, 0, 0, 0, 0]) {
            let mut extents = vec![(0, len)];
            extents.extend([areas.live, areas.channel, areas.host_page].map(|a| (a.offset, a.len)));
            extents.extend(board.regions.iter().map(|region| (region.offset, region.len)));
            extents.sort_unstable();
            for pair in extents.windows(2) {
                prop_assert!(pair[0].0 + pair[0].1 <= pair[1].0);
            }
            prop_assert!(extents.iter().all(|(at, len)| at + len <= bar_len));
        }
    }

    #[test]
    fn random_static_parts_are_refused_or_sound(noise in prop::collection::vec(any::<u8>(), 0x140)) {
        let mut noisy = bytes();
        let at = usize::from(noise[0]) % 0x100;
        let len = usize::from(noise[1]) % 16;
        noisy[at..at + len].copy_from_slice(&noise[16..16 + len]);
        let _ = check(noisy);
    }
}
