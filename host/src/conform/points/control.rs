//! The control block, read from a private copy, field by field.

use shared::link::StatusWords;
use shared::link::control::{StaticPart, crc32c};
use shared::msg::channel::ChannelLayout;
use shared::window::Window;
use shared::wire::control::{
    FLAG_DMA_ENGINE, FLAG_INTERRUPTS_UNORDERED, MAX_BOARD_REGIONS, MAX_NOTIFICATIONS, MAX_OUTBOUND,
    REGION_LEN, STATIC_LEN, STATIC_LEN_MAX, WIDTH_32, WIDTH_64, field, host_page, live,
};

use crate::conform::kit::Kit;
use crate::conform::point::{Checked, Point, Stop, must, seen};

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "control-magic",
        section: "3.1",
        rule: "BAR 0 begins with the magic and has at least 16 KiB",
        check: magic,
    },
    Point {
        id: "control-length",
        section: "3.1",
        rule: "length is 0x100 + 32 x region count, at most 0x500",
        check: length,
    },
    Point {
        id: "control-checksum",
        section: "3.1",
        rule: "the checksum is the CRC-32C of the static part with this field taken as zero",
        check: checksum,
    },
    Point {
        id: "control-versions",
        section: "3.1",
        rule: "the version window lies in 1 to 0xFFFF, and version 1 is in it",
        check: versions,
    },
    Point {
        id: "control-reserved",
        section: "3.1",
        rule: "reserved fields and unknown flags are zero",
        check: reserved,
    },
    Point {
        id: "control-vectors",
        section: "3.1",
        rule: "there are 1 to 2048 vectors",
        check: vectors,
    },
    Point { id: "control-widths", section: "3.1", rule: "store widths are 1 or 3", check: widths },
    Point {
        id: "control-areas",
        section: "3.1",
        rule: "live words, channel layout and host page lie inside the BAR, aligned to 8, behind \
               the static part and apart",
        check: areas,
    },
    Point {
        id: "control-heartbeat",
        section: "3.1",
        rule: "the heartbeat interval is 10 to 60000 ms, misses 2 to 100, their product at most \
               two minutes",
        check: heartbeat,
    },
    Point {
        id: "control-doorbells",
        section: "3.1",
        rule: "1 to 2048 doorbells, 4 bytes wide, each inside its BAR, values told apart and not \
               all ones",
        check: doorbells,
    },
    Point {
        id: "control-mac",
        section: "3.1",
        rule: "the board's MAC address is neither multicast nor zero",
        check: mac,
    },
    Point {
        id: "control-names",
        section: "3.1",
        rule: "board name and firmware version are 1 to 32 printable ASCII characters, then zeros",
        check: names,
    },
    Point {
        id: "control-outbound",
        section: "3.1",
        rule: "up to 64 outbound windows; size, alignment and address bits fit them, and are zero \
               without",
        check: outbound,
    },
    Point {
        id: "control-regions",
        section: "3.1",
        rule: "up to 32 board regions in multiples of 4096, with rights, inside their BARs and \
               apart",
        check: regions,
    },
    Point {
        id: "control-all-ones",
        section: "3.1",
        rule: "no word of the static part is all ones",
        check: all_ones,
    },
    Point {
        id: "control-accepted",
        section: "3.1",
        rule: "the control block as a whole keeps every rule that a host checks",
        check: accepted,
    },
    Point {
        id: "control-live",
        section: "3.2",
        rule: "live words are not all ones; the boot epoch and the heartbeat are not 0, the state \
               is 2 to 4",
        check: live_words,
    },
    Point {
        id: "control-idle",
        section: "3.2",
        rule: "without a host the accepted session is 0",
        check: idle,
    },
    Point {
        id: "control-layout",
        section: "4",
        rule: "the channel layout has its magic, version 1, no unknown feature, 2 to 1024 elements \
               of 64 bytes, its parts inside and apart",
        check: layout,
    },
];

/// A field of 32 bits.
fn word(part: &StaticPart, at: usize) -> u32 {
    let bytes = part.as_slice().get(at..at + 4).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// A field of 64 bits.
fn long(part: &StaticPart, at: usize) -> u64 {
    u64::from(word(part, at)) | u64::from(word(part, at + 4)) << 32
}

fn part(kit: &mut Kit<'_>) -> Result<StaticPart, Stop> {
    kit.block().map(|(part, _)| part)
}

/// That the word at `at` lies in a range.
fn within(part: &StaticPart, at: usize, low: u32, high: u32) -> Checked {
    let value = word(part, at);
    must((low..=high).contains(&value), || format!("offset {at:#x} holds {value:#x}"))
}

fn magic(kit: &mut Kit<'_>) -> Checked {
    let len = kit.bar()?.len();
    must(len >= 16 << 10, || format!("BAR 0 has {len} bytes"))
}

fn length(kit: &mut Kit<'_>) -> Checked {
    let part = part(kit)?;
    let (length, count) = (word(&part, field::LENGTH), word(&part, field::REGION_COUNT));
    let expected = u64::from(count) * REGION_LEN as u64 + STATIC_LEN as u64;
    must(u64::from(length) == expected && expected <= STATIC_LEN_MAX as u64, || {
        format!("length {length:#x} with {count} regions")
    })
}

fn checksum(kit: &mut Kit<'_>) -> Checked {
    let part = part(kit)?;
    let mut bytes = part.as_slice().to_vec();
    bytes[field::CHECKSUM..field::CHECKSUM + 4].fill(0);
    let (says, is) = (word(&part, field::CHECKSUM), crc32c(&bytes));
    must(says == is, || format!("it says {says:#010x}, the bytes give {is:#010x}"))
}

fn versions(kit: &mut Kit<'_>) -> Checked {
    let part = part(kit)?;
    let (min, max) = (word(&part, field::VERSION_MIN), word(&part, field::VERSION_MAX));
    must(1 <= min && min <= max && max <= 0xFFFF, || format!("the window is {min} to {max}"))?;
    must(min == 1, || format!("the window is {min} to {max}, the kit speaks version 1"))
}

fn reserved(kit: &mut Kit<'_>) -> Checked {
    let part = part(kit)?;
    let known = FLAG_INTERRUPTS_UNORDERED | FLAG_DMA_ENGINE;
    let unknown = word(&part, field::FLAGS) & !known;
    must(unknown == 0, || format!("flags {unknown:#x} are unknown"))?;
    let behind_mac = word(&part, field::MAC + 4) >> 16;
    must(behind_mac == 0, || format!("offset 0x66 holds {behind_mac:#x}"))?;
    let entries = (STATIC_LEN..part.as_slice().len()).step_by(REGION_LEN);
    let of_entries = entries.flat_map(|at| [24, 28].map(|field| at + field));
    for at in (field::RESERVED..STATIC_LEN).step_by(4).chain(of_entries) {
        let found = word(&part, at);
        must(found == 0, || format!("offset {at:#x} holds {found:#x}"))?;
    }
    Ok(())
}

fn vectors(kit: &mut Kit<'_>) -> Checked {
    within(&part(kit)?, field::VECTORS, 1, MAX_NOTIFICATIONS)
}

fn widths(kit: &mut Kit<'_>) -> Checked {
    let found = word(&part(kit)?, field::STORE_WIDTHS);
    must([WIDTH_32, WIDTH_32 | WIDTH_64].contains(&found), || format!("they are {found:#x}"))
}

/// A stretch of a BAR: its name, first byte, and the byte behind it.
type Extent = (&'static str, u64, u64);

fn apart(extents: &[Extent]) -> Checked {
    for (index, (name, start, end)) in extents.iter().enumerate() {
        for (other, first, behind) in &extents[..index] {
            must(end <= first || behind <= start, || format!("{name} overlaps {other}"))?;
        }
    }
    Ok(())
}

/// The areas of the control BAR, the static part first.
fn area_list(part: &StaticPart) -> [Extent; 4] {
    let area = |name, at| {
        let start = u64::from(word(part, at));
        (name, start, start + u64::from(word(part, at + 4)))
    };
    [
        ("the static part", 0, part.as_slice().len() as u64),
        area("the live words", field::LIVE),
        area("the channel layout", field::CHANNEL),
        area("the host page", field::HOST_PAGE),
    ]
}

fn areas(kit: &mut Kit<'_>) -> Checked {
    let part = part(kit)?;
    let len = kit.bar()?.len();
    let list = area_list(&part);
    for ((name, start, end), least) in list[1..].iter().zip([live::LEN, 64, host_page::LEN]) {
        must(start.is_multiple_of(8), || format!("{name} begin at {start:#x}"))?;
        must(end - start >= least, || format!("{name} have {} bytes", end - start))?;
        must(*end <= len, || format!("{name} end at {end:#x}, the BAR at {len:#x}"))?;
    }
    apart(&list)
}

fn heartbeat(kit: &mut Kit<'_>) -> Checked {
    let part = part(kit)?;
    within(&part, field::HEARTBEAT_INTERVAL, 10, 60_000)?;
    within(&part, field::HEARTBEAT_MISSES, 2, 100)?;
    let (interval, misses) =
        (word(&part, field::HEARTBEAT_INTERVAL), word(&part, field::HEARTBEAT_MISSES));
    must(interval * misses <= 120_000, || format!("{interval} ms x {misses}"))
}

fn doorbells(kit: &mut Kit<'_>) -> Checked {
    let part = part(kit)?;
    within(&part, field::DOORBELL_BAR, 0, 5)?;
    within(&part, field::DOORBELL_WIDTH, 4, 4)?;
    within(&part, field::DOORBELL_COUNT, 1, MAX_NOTIFICATIONS)?;
    let (offset, stride) =
        (long(&part, field::DOORBELL_OFFSET), word(&part, field::DOORBELL_STRIDE));
    must(offset.is_multiple_of(4) && stride.is_multiple_of(4), || {
        format!("offset {offset:#x}, stride {stride}")
    })?;
    let (count, bar) = (word(&part, field::DOORBELL_COUNT), word(&part, field::DOORBELL_BAR));
    let (value, step) = (word(&part, field::DOORBELL_VALUE), word(&part, field::DOORBELL_STEP));
    let len = kit.card.bars()[bar as usize];
    let span = u64::from(stride) * u64::from(count - 1) + 4;
    let inside = offset.checked_add(span).is_some_and(|end| end <= len);
    must(inside, || format!("they need {span} bytes at {offset:#x} of BAR {bar}, with {len}"))?;
    let last = u64::from(value) + u64::from(step) * u64::from(count - 1);
    must(last < u64::from(u32::MAX), || format!("the last one's value is {last:#x}"))?;
    must(count == 1 || stride != 0 || step != 0, || "all are one and the same".to_owned())?;
    let mut list = area_list(&part).to_vec();
    if bar == 0 {
        list.push(("the doorbells", offset, offset + span));
    }
    apart(&list)
}

fn mac(kit: &mut Kit<'_>) -> Checked {
    let part = part(kit)?;
    let mac = &part.as_slice()[field::MAC..field::MAC + 6];
    must(mac[0] & 1 == 0 && mac != [0; 6], || format!("it is {mac:02x?}"))
}

fn names(kit: &mut Kit<'_>) -> Checked {
    let part = part(kit)?;
    for at in [field::NAME, field::FIRMWARE] {
        let bytes = &part.as_slice()[at..at + 32];
        let len = bytes.iter().take_while(|byte| **byte != 0).count();
        let good = len > 0
            && bytes[..len].iter().all(|byte| (b' '..=b'~').contains(byte))
            && bytes[len..].iter().all(|byte| *byte == 0);
        must(good, || format!("offset {at:#x} holds {bytes:02x?}"))?;
    }
    Ok(())
}

fn outbound(kit: &mut Kit<'_>) -> Checked {
    let part = part(kit)?;
    within(&part, field::OUTBOUND_COUNT, 0, MAX_OUTBOUND)?;
    let count = word(&part, field::OUTBOUND_COUNT);
    let (size, align) = (long(&part, field::OUTBOUND_SIZE), long(&part, field::OUTBOUND_ALIGN));
    let bits = word(&part, field::OUTBOUND_BITS);
    let good = if count == 0 {
        (size, align, bits) == (0, 0, 0)
    } else {
        size != 0
            && size.is_multiple_of(4096)
            && align.is_power_of_two()
            && align >= 4096
            && (12..=63).contains(&bits)
    };
    must(good, || format!("{count} windows of {size:#x} bytes at {align:#x}, {bits} address bits"))
}

fn regions(kit: &mut Kit<'_>) -> Checked {
    let part = part(kit)?;
    within(&part, field::REGION_COUNT, 0, u32::try_from(MAX_BOARD_REGIONS).unwrap_or(0))?;
    let bars = kit.card.bars();
    let mut lists = [const { Vec::<Extent>::new() }; 6];
    lists[0].extend(area_list(&part));
    for at in (STATIC_LEN..part.as_slice().len()).step_by(REGION_LEN) {
        within(&part, at + field::REGION_BAR, 0, 5)?;
        within(&part, at + field::REGION_RIGHTS, 1, 3)?;
        let (start, len) =
            (long(&part, at + field::REGION_OFFSET), long(&part, at + field::REGION_LENGTH));
        let bar = word(&part, at + field::REGION_BAR) as usize;
        let whole = start.is_multiple_of(4096) && len.is_multiple_of(4096) && len != 0;
        let inside = start.checked_add(len).is_some_and(|end| end <= bars[bar]);
        must(whole && inside, || {
            format!("a region of {len:#x} bytes at {start:#x} of BAR {bar} with {:#x}", bars[bar])
        })?;
        lists[bar].push(("a board region", start, start + len));
    }
    lists.iter().try_for_each(|list| apart(list))
}

fn all_ones(kit: &mut Kit<'_>) -> Checked {
    // The copy ends at the first such word.
    part(kit).map(|_| ())
}

fn accepted(kit: &mut Kit<'_>) -> Checked {
    kit.board().map(|_| ())
}

fn live_words(kit: &mut Kit<'_>) -> Checked {
    let words = StatusWords::load(&kit.board()?.live);
    for at in (0..live::LEN).step_by(4) {
        kit.live(at)?;
    }
    must(words.boot != 0 && words.heartbeat != 0, || {
        format!("boot epoch {}, heartbeat {}", words.boot, words.heartbeat)
    })?;
    must((2..=4).contains(&words.state), || format!("the state is {}", words.state))
}

fn idle(kit: &mut Kit<'_>) -> Checked {
    // A host that was there before the kit may still have to be noticed as gone.
    kit.board()?;
    let limit = kit.patience() + kit.silence();
    let idle = kit.until(limit, |kit| {
        Ok((kit.live(live::ACCEPTED)? == 0 && kit.live(live::STATE)? == 2).then_some(()))
    })?;
    match idle {
        Some(()) => Ok(()),
        None => seen(kit.standing()),
    }
}

fn layout(kit: &mut Kit<'_>) -> Checked {
    let channel = kit.board()?.channel.clone();
    match ChannelLayout::read(&channel) {
        Ok(_) => Ok(()),
        Err(fault) => seen(fault.to_string()),
    }
}
