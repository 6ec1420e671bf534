//! The control block: its bytes, and the check of a private copy.
//!
//! The host copies the block once, word by word, and decides on the copy; the
//! board checks what it is about to publish with the same code.

use core::fmt;

use byteorder::{ByteOrder, LittleEndian as Le};

use crate::raw::StoreWidth;
use crate::region::{REGION_GRANULE, Rights};
use crate::window::{Barrier, Window, fits};
use crate::wire::control::{
    CHANNEL_LEN, CHANNEL_OFFSET, FLAG_DMA_ENGINE, FLAG_INTERRUPTS_UNORDERED, HOST_PAGE_LEN,
    HOST_PAGE_OFFSET, LIVE_LEN, LIVE_OFFSET, MAGIC_VALUE, MAX_BOARD_REGIONS, MAX_NOTIFICATIONS,
    MAX_OUTBOUND, REGION_LEN, STATIC_LEN, STATIC_LEN_MAX, TEXT_LEN, WIDTH_32, WIDTH_64, field,
    host_page, live,
};

use super::description::{
    BoardDescription, BoardRegion, BoardRegions, DoorbellDescription, Heartbeat, Label, Outbound,
    Versions,
};

/// Lengths of the six BARs as the bus reports them; 0: not there.
pub type BarLengths = [u64; 6];

/// Where one of the control BAR's areas lies, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Area {
    /// First byte.
    pub offset: u64,
    /// Length.
    pub len: u64,
}

/// The control BAR's areas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Areas {
    /// The board's live words.
    pub live: Area,
    /// The channel layout.
    pub channel: Area,
    /// The host page.
    pub host_page: Area,
}

/// Where our boards have the areas.
pub const OUR_AREAS: Areas = Areas {
    live: Area { offset: LIVE_OFFSET as u64, len: LIVE_LEN as u64 },
    channel: Area { offset: CHANNEL_OFFSET as u64, len: CHANNEL_LEN as u64 },
    host_page: Area { offset: HOST_PAGE_OFFSET as u64, len: HOST_PAGE_LEN as u64 },
};

/// Why a control block is not acceptable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlError {
    /// A word is all ones.
    AllOnes {
        /// Its offset in bytes.
        offset: usize,
    },
    /// The checksum does not match: half-written, or damaged.
    Checksum,
    /// A field is outside its range.
    Field {
        /// Its offset in bytes.
        offset: usize,
    },
    /// A reserved field is not zero.
    Reserved {
        /// Its offset in bytes.
        offset: usize,
    },
    /// An area or region leaves its BAR.
    Outside {
        /// Offset of the field that says so, in bytes.
        offset: usize,
    },
    /// Two areas or regions overlap.
    Overlap {
        /// Offset of the field of one of them, in bytes.
        offset: usize,
    },
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AllOnes { offset } => write!(f, "control block word {offset:#x} is all ones"),
            Self::Checksum => f.write_str("the control block's checksum does not match"),
            Self::Field { offset } => {
                write!(f, "control block field {offset:#x} is outside its range")
            }
            Self::Reserved { offset } => {
                write!(f, "reserved control block field {offset:#x} is not zero")
            }
            Self::Outside { offset } => {
                write!(f, "what control block field {offset:#x} describes leaves its BAR")
            }
            Self::Overlap { offset } => {
                write!(f, "what control block field {offset:#x} describes overlaps something else")
            }
        }
    }
}

impl core::error::Error for ControlError {}

/// CRC-32C (Castagnoli) of `bytes`: reflected, start and final xor all ones.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            // The polynomial 0x1EDC6F41 with its bits reversed.
            crc >> 1 ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    })
}

/// What is at the start of a BAR.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub enum Snapshot {
    /// A static part, not yet checked, and the boot epoch before its bulk was copied.
    Block(StaticPart, u32),
    /// Another word than the magic.
    NoMagic {
        /// That word.
        found: u32,
    },
    /// The length is impossible: a block that is being written, or no block.
    NoLength,
}

/// A private copy of a static part.
#[derive(Clone, Debug)]
pub struct StaticPart {
    bytes: [u8; STATIC_LEN_MAX],
    len: usize,
}

/// The longest that a board may ask to be taken for alive without a beat.
const LONGEST_SILENCE_MS: u64 = 120_000;

impl StaticPart {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// A copy of `bytes`; `None` if there are more than a static part has.
    #[must_use]
    pub fn from_slice(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; STATIC_LEN_MAX];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self { bytes, len: from.len() })
    }

    fn put(&mut self, at: usize, from: &[u8]) {
        if let Some(to) = self.bytes.get_mut(at..at + from.len()) {
            to.copy_from_slice(from);
        }
    }

    fn put32(&mut self, at: usize, value: u32) {
        let mut bytes = [0; 4];
        Le::write_u32(&mut bytes, value);
        self.put(at, &bytes);
    }

    fn put64(&mut self, at: usize, value: u64) {
        let mut bytes = [0; 8];
        Le::write_u64(&mut bytes, value);
        self.put(at, &bytes);
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn u32(&self, at: usize) -> u32 {
        Le::read_u32(&self.array::<4>(at))
    }

    fn u64(&self, at: usize) -> u64 {
        Le::read_u64(&self.array::<8>(at))
    }

    fn area(&self, at: usize) -> Area {
        Area { offset: self.u32(at).into(), len: self.u32(at + 4).into() }
    }

    fn checksum(&self) -> u32 {
        let mut copy = self.clone();
        copy.put32(field::CHECKSUM, 0);
        crc32c(copy.as_slice())
    }

    /// The static part that describes `board`, whose areas lie at `areas`.
    #[must_use]
    pub fn encode(board: &BoardDescription, areas: &Areas) -> Self {
        let len = STATIC_LEN + REGION_LEN * board.regions.len();
        let mut part = Self { bytes: [0; STATIC_LEN_MAX], len };
        let short = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        part.put32(field::MAGIC, MAGIC_VALUE);
        part.put32(field::LENGTH, short(len as u64));
        part.put32(field::VERSION_MIN, board.versions.min.into());
        part.put32(field::VERSION_MAX, board.versions.max.into());
        let unordered = if board.interrupts_unordered { FLAG_INTERRUPTS_UNORDERED } else { 0 };
        let flags = unordered | if board.dma_engine { FLAG_DMA_ENGINE } else { 0 };
        part.put32(field::FLAGS, flags);
        part.put32(field::VECTORS, board.vectors);
        let widths = match board.widest_store {
            StoreWidth::Bits32 => WIDTH_32,
            StoreWidth::Bits64 => WIDTH_32 | WIDTH_64,
        };
        part.put32(field::STORE_WIDTHS, widths);
        for (at, area) in [
            (field::LIVE, areas.live),
            (field::CHANNEL, areas.channel),
            (field::HOST_PAGE, areas.host_page),
        ] {
            part.put32(at, short(area.offset));
            part.put32(at + 4, short(area.len));
        }
        part.put32(field::HEARTBEAT_INTERVAL, board.heartbeat.interval_ms);
        part.put32(field::HEARTBEAT_MISSES, board.heartbeat.misses);
        part.put32(field::DOORBELL_BAR, board.doorbell.bar.into());
        part.put32(field::DOORBELL_WIDTH, 4);
        part.put64(field::DOORBELL_OFFSET, board.doorbell.offset);
        part.put32(field::DOORBELL_STRIDE, board.doorbell.stride);
        part.put32(field::DOORBELL_COUNT, board.doorbell.count);
        part.put32(field::DOORBELL_VALUE, board.doorbell.value);
        part.put32(field::DOORBELL_STEP, board.doorbell.step);
        part.put(field::MAC, &board.mac);
        part.put(field::NAME, board.name.bytes());
        part.put(field::FIRMWARE, board.firmware.bytes());
        part.put32(field::REGION_COUNT, short(board.regions.len() as u64));
        if let Some(outbound) = &board.outbound {
            part.put32(field::OUTBOUND_COUNT, outbound.windows);
            part.put64(field::OUTBOUND_SIZE, outbound.size);
            part.put64(field::OUTBOUND_ALIGN, outbound.alignment);
            part.put32(field::OUTBOUND_BITS, outbound.address_bits);
        }
        for (at, region) in (STATIC_LEN..).step_by(REGION_LEN).zip(board.regions.iter()) {
            part.put32(at + field::REGION_BAR, region.bar.into());
            part.put32(at + field::REGION_RIGHTS, region.rights.bits());
            part.put64(at + field::REGION_OFFSET, region.offset);
            part.put64(at + field::REGION_LENGTH, region.len);
        }
        part.put32(field::CHECKSUM, part.checksum());
        part
    }

    /// Writes everything but the magic to the start of `window` (step B2).
    pub fn publish_all_but_magic<W: Window>(&self, window: &W) {
        for at in (field::LENGTH..self.len).step_by(4) {
            window.store(at as u64, self.u32(at));
        }
    }

    /// Writes the magic (step B3).
    pub fn publish_magic<W: Window>(&self, window: &W) {
        window.store(field::MAGIC as u64, self.u32(field::MAGIC));
    }

    /// Copies the static part at the start of `window`, each word read once.
    ///
    /// # Errors
    /// [`ControlError::AllOnes`] at the first word that is, the boot epoch included.
    pub fn snapshot<W: Window>(window: &W) -> Result<Snapshot, ControlError> {
        let load = |at: u64, offset: usize| match window.load::<u32>(at) {
            u32::MAX => Err(ControlError::AllOnes { offset }),
            word => Ok(word),
        };
        let mut part = Self { bytes: [0; STATIC_LEN_MAX], len: 0 };
        let magic = load(field::MAGIC as u64, field::MAGIC)?;
        if magic != MAGIC_VALUE {
            return Ok(Snapshot::NoMagic { found: magic });
        }
        part.put32(field::MAGIC, magic);
        window.barrier(Barrier::Read);
        let length = load(field::LENGTH as u64, field::LENGTH)?;
        part.put32(field::LENGTH, length);
        part.len = match usize::try_from(length) {
            Ok(len) if (STATIC_LEN..=STATIC_LEN_MAX).contains(&len) && len % 4 == 0 => len,
            _ => return Ok(Snapshot::NoLength),
        };
        // Where the boot epoch lies is taken on trust until the copy is checked.
        let live = load(field::LIVE as u64, field::LIVE)?;
        part.put32(field::LIVE, live);
        let readable = live % 4 == 0 && fits(window.len(), live.into(), live::LEN);
        let boot = match readable {
            true => load(u64::from(live) + live::BOOT_EPOCH, field::LIVE)?,
            false => 0,
        };
        window.barrier(Barrier::Read);
        for at in (field::CHECKSUM..part.len).step_by(4).filter(|at| *at != field::LIVE) {
            part.put32(at, load(at as u64, at)?);
        }
        window.barrier(Barrier::Read);
        Ok(Snapshot::Block(part, boot))
    }

    /// What the static part describes, if it keeps every rule. `control_bar`
    /// is the BAR that it lies in.
    ///
    /// # Errors
    /// The first rule that it breaks, in the order of the fields.
    pub fn check(
        &self,
        control_bar: u8,
        bars: &BarLengths,
    ) -> Result<(BoardDescription, Areas), ControlError> {
        if self.checksum() != self.u32(field::CHECKSUM) {
            return Err(ControlError::Checksum);
        }
        if let Some(offset) = (0..self.len).step_by(4).find(|at| self.u32(*at) == u32::MAX) {
            return Err(ControlError::AllOnes { offset });
        }
        let (description, areas) = self.fields()?;
        Geometry { part: self, control_bar, bars, description: &description, areas: &areas }
            .check()?;
        Ok((description, areas))
    }

    fn in_range(&self, at: usize, low: u32, high: u32) -> Result<u32, ControlError> {
        let value = self.u32(at);
        if (low..=high).contains(&value) {
            Ok(value)
        } else {
            Err(ControlError::Field { offset: at })
        }
    }

    fn version(&self, at: usize, low: u16) -> Result<u16, ControlError> {
        u16::try_from(self.u32(at))
            .ok()
            .filter(|version| *version >= low)
            .ok_or(ControlError::Field { offset: at })
    }

    fn bar(&self, at: usize) -> Result<u8, ControlError> {
        let bar = self.in_range(at, 0, 5)?;
        u8::try_from(bar).map_err(|_| ControlError::Field { offset: at })
    }

    fn label(&self, at: usize) -> Result<Label, ControlError> {
        Label::from_bytes(self.array::<TEXT_LEN>(at)).ok_or(ControlError::Field { offset: at })
    }

    /// Each field in its own range.
    fn fields(&self) -> Result<(BoardDescription, Areas), ControlError> {
        let must = |good: bool, offset: usize| {
            if good { Ok(()) } else { Err(ControlError::Field { offset }) }
        };
        must(self.u32(field::MAGIC) == MAGIC_VALUE, field::MAGIC)?;
        let min = self.version(field::VERSION_MIN, 1)?;
        let versions = Versions { min, max: self.version(field::VERSION_MAX, min)? };
        let flags = self.u32(field::FLAGS);
        if flags & !(FLAG_INTERRUPTS_UNORDERED | FLAG_DMA_ENGINE) != 0 {
            return Err(ControlError::Reserved { offset: field::FLAGS });
        }
        let vectors = self.in_range(field::VECTORS, 1, MAX_NOTIFICATIONS)?;
        let widest_store = match self.u32(field::STORE_WIDTHS) {
            WIDTH_32 => StoreWidth::Bits32,
            widths if widths == WIDTH_32 | WIDTH_64 => StoreWidth::Bits64,
            _ => return Err(ControlError::Field { offset: field::STORE_WIDTHS }),
        };
        let areas = Areas {
            live: self.area(field::LIVE),
            channel: self.area(field::CHANNEL),
            host_page: self.area(field::HOST_PAGE),
        };
        let heartbeat = Heartbeat {
            interval_ms: self.in_range(field::HEARTBEAT_INTERVAL, 10, 60_000)?,
            misses: self.in_range(field::HEARTBEAT_MISSES, 2, 100)?,
        };
        must(heartbeat.limit_ms() <= LONGEST_SILENCE_MS, field::HEARTBEAT_MISSES)?;
        let doorbell = self.doorbell()?;
        let [mac @ .., reserved_low, reserved_high] = self.array::<8>(field::MAC);
        let multicast = mac.first().is_none_or(|first| first & 1 == 1);
        must(!multicast && mac != [0; 6], field::MAC)?;
        if (reserved_low, reserved_high) != (0, 0) {
            return Err(ControlError::Reserved { offset: field::MAC + 6 });
        }
        let name = self.label(field::NAME)?;
        let firmware = self.label(field::FIRMWARE)?;
        let outbound = self.outbound()?;
        if let Some(offset) = (field::RESERVED..STATIC_LEN).step_by(4).find(|at| self.u32(*at) != 0)
        {
            return Err(ControlError::Reserved { offset });
        }
        let description = BoardDescription {
            name,
            firmware,
            mac,
            versions,
            interrupts_unordered: flags & FLAG_INTERRUPTS_UNORDERED != 0,
            dma_engine: flags & FLAG_DMA_ENGINE != 0,
            vectors,
            widest_store,
            heartbeat,
            doorbell,
            outbound,
            regions: self.regions()?,
        };
        Ok((description, areas))
    }

    fn doorbell(&self) -> Result<DoorbellDescription, ControlError> {
        let must = |good: bool, offset: usize| {
            if good { Ok(()) } else { Err(ControlError::Field { offset }) }
        };
        let bar = self.bar(field::DOORBELL_BAR)?;
        self.in_range(field::DOORBELL_WIDTH, 4, 4)?;
        let doorbell = DoorbellDescription {
            bar,
            offset: self.u64(field::DOORBELL_OFFSET),
            stride: self.u32(field::DOORBELL_STRIDE),
            count: self.in_range(field::DOORBELL_COUNT, 1, MAX_NOTIFICATIONS)?,
            value: self.u32(field::DOORBELL_VALUE),
            step: self.u32(field::DOORBELL_STEP),
        };
        must(doorbell.offset.is_multiple_of(4), field::DOORBELL_OFFSET)?;
        must(doorbell.stride.is_multiple_of(4), field::DOORBELL_STRIDE)?;
        let last = doorbell.register(doorbell.count - 1);
        must(last.is_some_and(|(_, value)| value != u32::MAX), field::DOORBELL_STEP)?;
        let told_apart = doorbell.count == 1 || doorbell.stride != 0 || doorbell.step != 0;
        must(told_apart, field::DOORBELL_STEP)?;
        Ok(doorbell)
    }

    fn outbound(&self) -> Result<Option<Outbound>, ControlError> {
        let windows = self.in_range(field::OUTBOUND_COUNT, 0, MAX_OUTBOUND)?;
        let outbound = Outbound {
            windows,
            size: self.u64(field::OUTBOUND_SIZE),
            alignment: self.u64(field::OUTBOUND_ALIGN),
            address_bits: self.u32(field::OUTBOUND_BITS),
        };
        let there = windows != 0;
        let rules = [
            (
                outbound.size.is_multiple_of(REGION_GRANULE) && (outbound.size != 0) == there,
                field::OUTBOUND_SIZE,
            ),
            (
                if there {
                    outbound.alignment.is_power_of_two() && outbound.alignment >= REGION_GRANULE
                } else {
                    outbound.alignment == 0
                },
                field::OUTBOUND_ALIGN,
            ),
            (
                if there {
                    (12..=63).contains(&outbound.address_bits)
                } else {
                    outbound.address_bits == 0
                },
                field::OUTBOUND_BITS,
            ),
        ];
        match rules.iter().find(|(good, _)| !good) {
            Some((_, offset)) => Err(ControlError::Field { offset: *offset }),
            None => Ok(there.then_some(outbound)),
        }
    }

    fn regions(&self) -> Result<BoardRegions, ControlError> {
        let most = u32::try_from(MAX_BOARD_REGIONS).unwrap_or(0);
        let count = self.in_range(field::REGION_COUNT, 0, most)?;
        let count = usize::try_from(count).unwrap_or(0);
        if self.len != STATIC_LEN + count * REGION_LEN {
            return Err(ControlError::Field { offset: field::LENGTH });
        }
        let mut regions = BoardRegions::new();
        for at in (STATIC_LEN..self.len).step_by(REGION_LEN) {
            let wrong = |field: usize| ControlError::Field { offset: at + field };
            let region = BoardRegion {
                bar: self.bar(at + field::REGION_BAR)?,
                rights: Rights::from_bits(self.u32(at + field::REGION_RIGHTS))
                    .ok_or(wrong(field::REGION_RIGHTS))?,
                offset: self.u64(at + field::REGION_OFFSET),
                len: self.u64(at + field::REGION_LENGTH),
            };
            if !region.offset.is_multiple_of(REGION_GRANULE) {
                return Err(wrong(field::REGION_OFFSET));
            }
            if region.len == 0 || !region.len.is_multiple_of(REGION_GRANULE) {
                return Err(wrong(field::REGION_LENGTH));
            }
            if self.u64(at + field::REGION_RESERVED) != 0 {
                return Err(ControlError::Reserved { offset: at + field::REGION_RESERVED });
            }
            if !regions.push(region) {
                return Err(ControlError::Field { offset: field::REGION_COUNT });
            }
        }
        Ok(regions)
    }
}

/// Whether everything lies inside its BAR and apart.
struct Geometry<'a> {
    part: &'a StaticPart,
    control_bar: u8,
    bars: &'a BarLengths,
    description: &'a BoardDescription,
    areas: &'a Areas,
}

/// A range of a BAR, and the field that describes it.
#[derive(Clone, Copy)]
struct Extent {
    bar: u8,
    area: Area,
    field: usize,
}

impl Extent {
    const fn overlaps(self, other: Self) -> bool {
        // Both were found to lie inside a BAR, so neither end wraps.
        self.bar == other.bar
            && self.area.offset < other.area.offset + other.area.len
            && other.area.offset < self.area.offset + self.area.len
    }
}

impl Geometry<'_> {
    fn inside(&self, extent: Extent) -> Result<Extent, ControlError> {
        let length = self.bars.get(usize::from(extent.bar)).copied().unwrap_or(0);
        if fits(length, extent.area.offset, extent.area.len) {
            Ok(extent)
        } else {
            Err(ControlError::Outside { offset: extent.field })
        }
    }

    fn check(&self) -> Result<(), ControlError> {
        let bar = self.control_bar;
        let part = Area { offset: 0, len: self.part.len as u64 };
        let part = Extent { bar, area: part, field: field::LENGTH };
        let live = Extent { bar, area: self.areas.live, field: field::LIVE };
        let channel = Extent { bar, area: self.areas.channel, field: field::CHANNEL };
        let page = Extent { bar, area: self.areas.host_page, field: field::HOST_PAGE };
        for (extent, least) in [(live, live::LEN), (channel, 64), (page, host_page::LEN)] {
            if !extent.area.offset.is_multiple_of(8) || extent.area.len < least {
                return Err(ControlError::Field { offset: extent.field });
            }
        }
        let doorbell = &self.description.doorbell;
        let span = u64::from(doorbell.stride) * u64::from(doorbell.count - 1) + 4;
        let doorbells = Extent {
            bar: doorbell.bar,
            area: Area { offset: doorbell.offset, len: span },
            field: field::DOORBELL_OFFSET,
        };
        // The fixed extents and then the regions, each against all before it.
        let fixed = [part, live, channel, page, doorbells];
        for (index, extent) in fixed.iter().enumerate() {
            self.inside(*extent)?;
            self.apart(*extent, fixed.iter().take(index).copied())?;
        }
        for index in 0..self.description.regions.len() {
            let region = self.inside(self.region(index))?;
            self.apart(region, fixed.into_iter())?;
            self.apart(region, (0..index).map(|before| self.region(before)))?;
        }
        Ok(())
    }

    fn region(&self, index: usize) -> Extent {
        let field = STATIC_LEN + index * REGION_LEN;
        match self.description.regions.get(index) {
            Some(region) => Extent {
                bar: region.bar,
                area: Area { offset: region.offset, len: region.len },
                field,
            },
            None => Extent { bar: u8::MAX, area: Area { offset: 0, len: 0 }, field },
        }
    }

    fn apart(
        &self,
        extent: Extent,
        mut others: impl Iterator<Item = Extent>,
    ) -> Result<(), ControlError> {
        if others.any(|other| extent.overlaps(other)) {
            Err(ControlError::Overlap { offset: extent.field })
        } else {
            Ok(())
        }
    }
}
