//! Regions: taken, refused, and given back.

use shared::address::BusAddress;
use shared::msg::{RegionKind, RegionMessage, ResultCode};
use shared::window::Window;
use shared::wire::control::live;

use crate::conform::device::DRIVER_OK;
use crate::conform::kit::Kit;
use crate::conform::point::{Checked, Point, Stop, must, seen, skip};
use crate::conform::session::{BOARD, BOARD_BASE, FAR_READABLE, FAR_WRITABLE, Lent, WRITABLE};

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "regions-add",
        section: "6",
        rule: "board and host regions within the board's reach are taken",
        check: |kit| kit.share().map(|_| ()),
    },
    Point {
        id: "regions-number-taken",
        section: "6",
        rule: "a region number that is taken is answered with 3",
        check: |kit| host(kit, ResultCode::Invalid, |region, _| region.id = WRITABLE),
    },
    Point {
        id: "regions-number-large",
        section: "7",
        rule: "region numbers are below 64: others are answered with 3",
        check: |kit| {
            any(kit, |region, _| region.id = 64)?;
            any(kit, |region, _| region.id = u32::MAX)
        },
    },
    Point {
        id: "regions-length-zero",
        section: "6",
        rule: "length 0 is answered with 3",
        check: |kit| any(kit, |region, _| region.len = 0),
    },
    Point {
        id: "regions-length-odd",
        section: "6",
        rule: "a length that is no multiple of 4096 is answered with 3",
        check: |kit| any(kit, |region, _| region.len += 16),
    },
    Point {
        id: "regions-base-odd",
        section: "6",
        rule: "a base that is no multiple of 4096 is answered with 3",
        check: |kit| {
            any(kit, |region, free| {
                region.base = BusAddress::new(free + 16);
            })
        },
    },
    Point {
        id: "regions-wrap",
        section: "6",
        rule: "a region that wraps, or leaves its kind of memory, is answered with 3",
        check: wrap,
    },
    Point {
        id: "regions-overlap",
        section: "6",
        rule: "a region that overlaps another is answered with 3",
        check: overlap,
    },
    Point {
        id: "regions-rights",
        section: "7.1",
        rule: "rights of none, or with unknown bits, are answered with 3",
        check: |kit| {
            any(kit, |region, _| region.rights = 0)?;
            any(kit, |region, _| region.rights = 4)?;
            any(kit, |region, _| region.rights = u32::MAX)
        },
    },
    Point {
        id: "regions-status-rights",
        section: "7",
        rule: "a status page in a region that the device may not write is answered with 3",
        check: |kit| {
            alone(kit, |region| {
                region.rights = 1;
                region.kind = RegionKind::Host { status_page: true };
            })
        },
    },
    Point {
        id: "regions-kind",
        section: "6",
        rule: "host memory above bit 63, and board memory below it, are answered with 3",
        check: kinds,
    },
    Point {
        id: "regions-board-length",
        section: "7",
        rule: "a board region with another length than the control block states is answered with 3",
        check: |kit| board(kit, ResultCode::Invalid, |region| region.len -= 4096),
    },
    Point {
        id: "regions-board-rights",
        section: "7",
        rule: "a board region with other rights than the control block states is answered with 3",
        check: |kit| {
            board(kit, ResultCode::Invalid, |region| {
                region.rights = if region.rights == 3 { 1 } else { 3 };
            })
        },
    },
    Point {
        id: "regions-board-unknown",
        section: "7.1",
        rule: "a board region that the control block does not state is answered with 6",
        check: board_unknown,
    },
    Point {
        id: "regions-reach",
        section: "6",
        rule: "host memory beyond the board's address bits is answered with 5; of a board without \
               outbound windows any is",
        check: reach,
    },
    Point {
        id: "regions-windows",
        section: "6",
        rule: "host regions that need more windows than the board has are answered with 4",
        check: windows,
    },
    Point {
        id: "regions-refused-nothing",
        section: "6",
        rule: "a region that was refused is not there: removing it is answered with 6",
        check: refused_nothing,
    },
    Point {
        id: "regions-remove-unknown",
        section: "7.1",
        rule: "removing a region that is not there is answered with 6",
        check: remove_unknown,
    },
    Point {
        id: "regions-remove",
        section: "6",
        rule: "a region that no queue uses is removed, and its number and addresses are free again",
        check: remove,
    },
    Point {
        id: "regions-remove-used",
        section: "6",
        rule: "removing a region in which a live queue has a part is answered with 7; when the \
               device is reset, with 0",
        check: remove_used,
    },
    Point {
        id: "regions-status-page",
        section: "3.4",
        rule: "the status page shows boot epoch, state, accepted session and heartbeat when its \
               region is taken, and the heartbeat beats there too",
        check: status_page,
    },
];

/// The region that the kit's own leave free: number 9, host memory.
fn spare(lent: &Lent) -> (RegionMessage, u64) {
    let free = lent.far.at(FAR_WRITABLE + FAR_READABLE);
    let region = RegionMessage {
        id: 9,
        kind: RegionKind::Host { status_page: false },
        rights: 3,
        base: BusAddress::new(free),
        len: 4096,
    };
    (region, free)
}

/// A session whose board reaches host memory.
fn reaching(kit: &mut Kit<'_>) -> Result<Lent, Stop> {
    let lent = kit.share()?;
    if lent.split { Ok(lent) } else { skip("the board does not reach host memory") }
}

fn answered(kit: &mut Kit<'_>, region: RegionMessage, expected: ResultCode) -> Checked {
    let result = kit.add(region)?;
    must(result == expected, || {
        format!(
            "region {} of {:#x} bytes at {:#x} with rights {}: answered with {}",
            region.id,
            region.len,
            region.base.bits(),
            region.rights,
            result.code()
        )
    })
}

/// Adds a host region that is good but for what `spoil` does.
fn host(
    kit: &mut Kit<'_>,
    expected: ResultCode,
    spoil: impl FnOnce(&mut RegionMessage, u64),
) -> Checked {
    let lent = reaching(kit)?;
    let (mut region, free) = spare(&lent);
    spoil(&mut region, free);
    answered(kit, region, expected)
}

/// The same with a board region where the board reaches no host memory.
fn any(kit: &mut Kit<'_>, spoil: impl FnOnce(&mut RegionMessage, u64)) -> Checked {
    if kit.board()?.description.outbound.is_some() {
        return host(kit, ResultCode::Invalid, spoil);
    }
    board(kit, ResultCode::Invalid, |region| spoil(region, BOARD_BASE))
}

/// The same in a session that has no region yet.
fn alone(kit: &mut Kit<'_>, spoil: impl FnOnce(&mut RegionMessage)) -> Checked {
    kit.attach()?;
    let Some(far) = kit.lend()? else { return skip("the board does not reach host memory") };
    let mut region = RegionMessage {
        id: 9,
        kind: RegionKind::Host { status_page: false },
        rights: 3,
        base: far.base,
        len: 4096,
    };
    spoil(&mut region);
    answered(kit, region, ResultCode::Invalid)
}

/// Adds the board region with what `spoil` does to it.
fn board(
    kit: &mut Kit<'_>,
    expected: ResultCode,
    spoil: impl FnOnce(&mut RegionMessage),
) -> Checked {
    kit.attach()?;
    let (_, mut region, _) = kit.board_region()?;
    spoil(&mut region);
    answered(kit, region, expected)
}

fn wrap(kit: &mut Kit<'_>) -> Checked {
    for (base, len) in
        [((1 << 63) - 4096, 8192), ((1 << 63) - 4096, 1 << 63), (4096, u64::MAX - 4095)]
    {
        any(kit, |region, _| {
            (region.base, region.len) = (BusAddress::new(base), len);
        })?;
    }
    board(kit, ResultCode::Invalid, |region| {
        region.base = BusAddress::new(0_u64.wrapping_sub(4096));
    })
}

fn overlap(kit: &mut Kit<'_>) -> Checked {
    let lent = reaching(kit)?;
    let (region, free) = spare(&lent);
    for (offset, len) in [(0, 4096), (FAR_WRITABLE - 4096, 4096), (FAR_WRITABLE, FAR_READABLE)] {
        let base = BusAddress::new(lent.far.at(offset));
        answered(kit, RegionMessage { base, len, ..region }, ResultCode::Invalid)?;
    }
    // Around the last one, and beginning in it.
    let base = BusAddress::new(free - 4096);
    answered(kit, RegionMessage { base, len: 8192, ..region }, ResultCode::Invalid)?;
    let (_, board, _) = kit.board_region()?;
    answered(kit, RegionMessage { id: 9, ..board }, ResultCode::Invalid)
}

fn kinds(kit: &mut Kit<'_>) -> Checked {
    if kit.board()?.description.outbound.is_some() {
        let base = BusAddress::new(1 << 63 | 1 << 41);
        host(kit, ResultCode::Invalid, |region, _| region.base = base)?;
    }
    board(kit, ResultCode::Invalid, |region| {
        region.base = BusAddress::new(BOARD_BASE & !(1 << 63));
    })
}

fn board_unknown(kit: &mut Kit<'_>) -> Checked {
    let count = u32::try_from(kit.board()?.description.regions.len()).unwrap_or(0);
    for index in [count, 32, u32::MAX] {
        board(kit, ResultCode::Unknown, |region| region.kind = RegionKind::Board { index })?;
    }
    Ok(())
}

fn reach(kit: &mut Kit<'_>) -> Checked {
    let Some(outbound) = kit.board()?.description.outbound else {
        kit.attach()?;
        let region = RegionMessage {
            id: 9,
            kind: RegionKind::Host { status_page: false },
            rights: 3,
            base: BusAddress::new(1 << 20),
            len: 4096,
        };
        return answered(kit, region, ResultCode::OutOfReach);
    };
    if outbound.address_bits == 63 {
        return skip("the board reaches every address");
    }
    let end = 1_u64 << outbound.address_bits;
    host(kit, ResultCode::OutOfReach, |region, _| region.base = BusAddress::new(end))?;
    host(kit, ResultCode::OutOfReach, |region, _| {
        (region.base, region.len) = (BusAddress::new(end - 4096), 8192);
    })
}

fn windows(kit: &mut Kit<'_>) -> Checked {
    let Some(outbound) = kit.board()?.description.outbound else {
        return skip("the board does not reach host memory");
    };
    let lent = reaching(kit)?;
    // Each region takes a window at least.
    let most = FAR_LEN_LEFT / 4096;
    if u64::from(outbound.windows) > most + 2 {
        return skip(format!(
            "the board has {} windows, more than the kit fills",
            outbound.windows
        ));
    }
    let (region, free) = spare(&lent);
    let mut refused = None;
    for (id, at) in (9..).zip((0..FAR_LEN_LEFT).step_by(4096)) {
        let base = BusAddress::new(free + at);
        let result = kit.add(RegionMessage { id, base, ..region })?;
        if result != ResultCode::Ok {
            refused = Some(result);
            break;
        }
    }
    match refused {
        Some(ResultCode::NoRoom) => Ok(()),
        Some(result) => seen(format!("it is answered with {}", result.code())),
        None => {
            seen(format!("{} regions were taken, it has {} windows", most + 2, outbound.windows))
        }
    }
}

/// Bytes that the kit's own regions leave free.
const FAR_LEN_LEFT: u64 = crate::conform::session::FAR_LEN - FAR_WRITABLE - FAR_READABLE;

fn refused_nothing(kit: &mut Kit<'_>) -> Checked {
    any(kit, |region, _| (region.id, region.len) = (9, 0))?;
    let result = kit.remove(9)?;
    must(result == ResultCode::Unknown, || {
        format!("removing it is answered with {}", result.code())
    })
}

fn remove_unknown(kit: &mut Kit<'_>) -> Checked {
    kit.attach()?;
    for id in [0, 63, 64, 256, u32::MAX] {
        let result = kit.remove(id)?;
        must(result == ResultCode::Unknown, || format!("{id}: answered with {}", result.code()))?;
    }
    Ok(())
}

/// Removes a region, again while the board is busy with it.
fn remove_well(kit: &mut Kit<'_>, id: u32) -> Checked {
    let limit = kit.patience();
    let removed = kit.until(limit, |kit| match kit.remove(id)? {
        ResultCode::Ok => Ok(Some(())),
        ResultCode::Busy => Ok(None),
        other => seen(format!("removing region {id} is answered with {}", other.code())),
    })?;
    must(removed.is_some(), || {
        format!("region {id} still is in use after {} ms", limit.as_millis())
    })
}

fn remove(kit: &mut Kit<'_>) -> Checked {
    kit.share()?;
    remove_well(kit, BOARD)?;
    let (_, region, _) = kit.board_region()?;
    answered(kit, region, ResultCode::Ok)?;
    remove_well(kit, BOARD)?;
    answered(kit, RegionMessage { id: 11, ..region }, ResultCode::Ok)
}

fn remove_used(kit: &mut Kit<'_>) -> Checked {
    let mut net = kit.net_set(0)?;
    kit.net_start(&mut net)?;
    let result = kit.remove(BOARD)?;
    must(result == ResultCode::Busy, || {
        format!("with status {DRIVER_OK:#x}, it is answered with {}", result.code())
    })?;
    kit.works(&mut net)?;
    kit.reset_device(net.device)?;
    remove_well(kit, BOARD)
}

fn status_page(kit: &mut Kit<'_>) -> Checked {
    let lent = reaching(kit)?;
    let page = lent.far.window;
    let (boot, session) = (kit.live(live::BOOT_EPOCH)?, kit.session()?.epoch);
    let limit = kit.patience();
    let word = |at: u64| page.load::<u32>(at);
    let shown = kit.until(limit, |_| {
        let right = word(live::BOOT_EPOCH) == boot
            && word(live::ACCEPTED) == session
            && word(live::STATE) == shared::wire::control::board_state::SESSION;
        Ok(right.then_some(()))
    })?;
    must(shown.is_some(), || {
        let words = [0, 4, 8, 12].map(word);
        format!("it shows {words:#x?}, the boot epoch is {boot:#x}, the session {session:#x}")
    })?;
    let first = word(live::HEARTBEAT);
    let limit = kit.silence() + kit.patience();
    let beats = kit.until(limit, |_| Ok((word(live::HEARTBEAT) != first).then_some(())))?;
    must(beats.is_some(), || format!("its heartbeat stays at {first:#x}"))?;
    let rest: Vec<u64> = (16..4096).step_by(4).filter(|at| word(*at) != 0).collect();
    must(rest.is_empty(), || format!("offsets {rest:x?} are not zero"))
}
