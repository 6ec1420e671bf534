//! What a board says about itself, in meaningful types.
//!
//! The bytes are in [`super::control`]; the rules that make a description
//! acceptable are checked there too.

use core::fmt;

use crate::raw::StoreWidth;
use crate::region::Rights;
use crate::wire::control::{MAX_BOARD_REGIONS, TEXT_LEN, VERSION};

/// A boot or session epoch: never 0, never all ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// The epoch with this number; `None` for 0 and all ones.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        match value {
            0 | u32::MAX => None,
            value => Some(Self(value)),
        }
    }

    /// An epoch made from any number, for callers with a random one.
    #[must_use]
    pub const fn from_random(value: u32) -> Self {
        match value {
            0 | u32::MAX => Self(1),
            value => Self(value),
        }
    }

    /// The word on the wire.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::from_random(self.0.wrapping_add(1))
    }
}

/// Up to 32 printable ASCII characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Label {
    bytes: [u8; TEXT_LEN],
}

impl Label {
    /// The label with this text: what is not printable ASCII becomes `?`, what
    /// is too long is cut, nothing at all becomes `?`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; TEXT_LEN];
        for (byte, character) in bytes.iter_mut().zip(text.bytes().chain(None)) {
            *byte = if matches!(character, b' '..=b'~') { character } else { b'?' };
        }
        if bytes.first() == Some(&0) {
            bytes = [0; TEXT_LEN];
            if let Some(first) = bytes.first_mut() {
                *first = b'?';
            }
        }
        Self { bytes }
    }

    /// The label in these bytes; `None` if they are not printable ASCII
    /// followed by zeros, or empty.
    #[must_use]
    pub fn from_bytes(bytes: [u8; TEXT_LEN]) -> Option<Self> {
        let len = bytes.iter().take_while(|byte| **byte != 0).count();
        let (text, padding) = bytes.split_at_checked(len)?;
        let good = !text.is_empty()
            && text.iter().all(|byte| matches!(byte, b' '..=b'~'))
            && padding.iter().all(|byte| *byte == 0);
        good.then_some(Self { bytes })
    }

    /// The bytes on the wire.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; TEXT_LEN] {
        &self.bytes
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let len = self.bytes.iter().take_while(|byte| **byte != 0).count();
        self.bytes.get(..len).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("")
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The protocol versions that a side speaks, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    /// Lowest.
    pub min: u16,
    /// Highest.
    pub max: u16,
}

impl Versions {
    /// What this code speaks.
    pub const OURS: Self = Self { min: VERSION, max: VERSION };

    /// The highest version that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let highest = self.max.min(other.max);
        (highest >= self.min.max(other.min)).then_some(highest)
    }
}

/// How often a live side counts its heartbeat up, and when it counts as dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Milliseconds from beat to beat.
    pub interval_ms: u32,
    /// Intervals without a beat until the peer counts as dead.
    pub misses: u32,
}

impl Heartbeat {
    /// Milliseconds without a beat until the peer counts as dead.
    #[must_use]
    pub fn limit_ms(self) -> u64 {
        u64::from(self.interval_ms) * u64::from(self.misses)
    }
}

/// Where the board's doorbell registers are and what is written into them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DoorbellDescription {
    /// BAR.
    pub bar: u8,
    /// Offset of register 0, in bytes.
    pub offset: u64,
    /// Bytes from register to register; 0: one register for all.
    pub stride: u32,
    /// How many doorbells there are; number 0 is the message channel's.
    pub count: u32,
    /// The 32-bit value for doorbell 0.
    pub value: u32,
    /// What each further doorbell adds to the value.
    pub step: u32,
}

impl DoorbellDescription {
    /// Where doorbell `index` is rung: the offset in [`Self::bar`] and the
    /// 32-bit value to store there. `None` if there is no such doorbell.
    #[must_use]
    pub fn register(&self, index: u32) -> Option<(u64, u32)> {
        if index >= self.count {
            return None;
        }
        let offset = self.offset.checked_add(u64::from(index) * u64::from(self.stride))?;
        let value = self.value.checked_add(self.step.checked_mul(index)?)?;
        Some((offset, value))
    }
}

/// What the board reaches of host memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outbound {
    /// How many windows it has.
    pub windows: u32,
    /// Bytes of each.
    pub size: u64,
    /// A window starts at a multiple of this.
    pub alignment: u64,
    /// It reaches bus addresses below 2 to the power of this.
    pub address_bits: u32,
}

impl Outbound {
    /// How many windows a host region of `len` bytes at `base` takes, or
    /// `None` if it cannot be reached at all.
    #[must_use]
    pub fn windows_for(&self, base: u64, len: u64) -> Option<u64> {
        let end = base.checked_add(len)?;
        let limit = 1_u64.checked_shl(self.address_bits)?;
        if len == 0 || end > limit {
            return None;
        }
        let first = base.checked_div(self.alignment)?.checked_mul(self.alignment)?;
        let step = self.size.checked_div(self.alignment)?.checked_mul(self.alignment)?;
        // A window shorter than the alignment leaves gaps: then only what one window covers.
        match step {
            0 => (end - first <= self.size).then_some(1),
            step => Some((end - first).div_ceil(step)),
        }
    }
}

/// Board memory that a board offers as a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BoardRegion {
    /// BAR.
    pub bar: u8,
    /// What the *device* may do with it.
    pub rights: Rights,
    /// Offset in the BAR, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

/// The regions that a board offers, in the order of their indices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BoardRegions {
    regions: [Option<BoardRegion>; MAX_BOARD_REGIONS],
    count: usize,
}

impl Default for BoardRegions {
    fn default() -> Self {
        Self::new()
    }
}

impl BoardRegions {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { regions: [None; MAX_BOARD_REGIONS], count: 0 }
    }

    /// Adds one; `false` if [`MAX_BOARD_REGIONS`] are there already.
    #[must_use]
    pub fn push(&mut self, region: BoardRegion) -> bool {
        match self.regions.get_mut(self.count) {
            Some(slot) => {
                *slot = Some(region);
                self.count += 1;
                true
            }
            None => false,
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The region with this index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<BoardRegion> {
        self.regions.get(index).copied().flatten()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = BoardRegion> + '_ {
        self.regions.iter().flatten().copied()
    }
}

/// Everything that a board says about itself in its control block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoardDescription {
    /// The board's name.
    pub name: Label,
    /// Its firmware's version.
    pub firmware: Label,
    /// The board's own MAC address (the host interface's is in the net config).
    pub mac: [u8; 6],
    /// Protocol versions.
    pub versions: Versions,
    /// Interrupts may overtake the board's writes: the host flushes at its publishes too.
    pub interrupts_unordered: bool,
    /// A DMA engine fetches from host memory. Without one the board's CPU
    /// would wait for each word, so the host pushes every frame.
    pub dma_engine: bool,
    /// Interrupt vectors; number 0 is the message channel's.
    pub vectors: u32,
    /// The widest store that the board's BARs take.
    pub widest_store: StoreWidth,
    /// The heartbeat of both sides.
    pub heartbeat: Heartbeat,
    /// Doorbells.
    pub doorbell: DoorbellDescription,
    /// Reach into host memory; `None`: a BAR-only board.
    pub outbound: Option<Outbound>,
    /// Board memory on offer.
    pub regions: BoardRegions,
}
