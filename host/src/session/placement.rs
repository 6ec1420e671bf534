//! Where everything of a session lies: rings and buffers, by layout.
//!
//! The layout decides what each access costs (docs/protocol-rings.md); this
//! file is the only place that knows which part lies on which side.

use std::fmt;

use shared::region::REGION_GRANULE;
use shared::virtq::{IndirectTables, QueueSize, SleepFlush};

use crate::slow_queue::{SLOW_BUFFER, SLOW_ENTRIES, SLOW_TABLE_ENTRIES, slow_queue_size};

/// Which side holds what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Split by who reads it (R3): descriptors and avail ring in board memory,
    /// used ring in host memory. For boards that reach host memory.
    Split,
    /// Everything in board memory: for boards that do not.
    BarOnly,
    /// Everything in host memory, as virtio does without a bus in between:
    /// kept to show what it costs.
    AllHost,
}

impl Layout {
    /// What a sleeper must do before its last look (R4).
    #[must_use]
    pub const fn sleep_flush(self) -> SleepFlush {
        match self {
            Self::Split => SleepFlush::ReadBack,
            Self::BarOnly | Self::AllHost => SleepFlush::LookFlushes,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Split => "split",
            Self::BarOnly => "bar-only",
            Self::AllHost => "all-host",
        })
    }
}

/// A memory that parts are placed in, by the device's rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Area {
    /// Host memory that the board writes.
    HostWritable,
    /// Host memory that the board only reads.
    HostReadable,
    /// Board memory in the BAR.
    Board,
}

/// A stretch of one [`Area`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot {
    /// The memory.
    pub area: Area,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// One queue's three parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingSpots {
    /// Descriptor table.
    pub descriptors: Spot,
    /// Avail ring with its used_event.
    pub avail: Spot,
    /// Used ring with its avail_event, [`USED_AT`] bytes into the spot.
    pub used: Spot,
}

/// Where the used ring begins in its spot: at 4 modulo 8 each of its entries
/// is one aligned 64-bit word (docs/protocol-rings.md, "Rings").
pub const USED_AT: u64 = 4;

/// Slow queues that a session has room for: the control queue, and a console's
/// two.
pub const SLOW_QUEUES: usize = 3;

/// One slow queue's rings and buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowSpots {
    /// Its three parts.
    pub rings: RingSpots,
    /// Its indirect tables, of [`SLOW_TABLE_ENTRIES`] descriptors each.
    pub tables: Spot,
    /// Buffers that the board reads.
    pub readable: Spot,
    /// Buffers that the board writes.
    pub writable: Spot,
}

/// What is to be placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Descriptors of the receiveq.
    pub to_host: QueueSize,
    /// Descriptors of the transmitq.
    pub to_board: QueueSize,
    /// Bytes of each buffer on the way to the host.
    pub to_host_buffer: u32,
    /// Bytes of each buffer on the way to the board: the longest frame.
    pub to_board_buffer: u32,
    /// Bytes of each push buffer in board memory (layout split): the whole
    /// frame, if the board has no DMA engine to fetch large ones.
    pub push_buffer: u32,
    /// Whether there are slow queues.
    pub slow: bool,
}

/// Where everything lies, and how much of each memory that takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The layout that it follows.
    pub layout: Layout,
    /// Descriptors of the receiveq, at most.
    pub to_host_size: QueueSize,
    /// Descriptors of the transmitq, at most.
    pub to_board_size: QueueSize,
    /// Bytes of each buffer in `to_board_buffers`, or of the longest frame.
    pub to_board_stride: u32,
    /// Bytes of each buffer in `push_buffers`.
    pub push_stride: u32,
    /// The page that the board posts its live words into, if it reaches it.
    pub status_page: Option<Spot>,
    /// The receiveq's rings.
    pub to_host_rings: RingSpots,
    /// The transmitq's rings.
    pub to_board_rings: RingSpots,
    /// Buffers on the way to the host.
    pub to_host_buffers: Spot,
    /// Host memory that frames to the board arrive in and are fetched from.
    pub to_board_buffers: Option<Spot>,
    /// Board memory that frames are pushed into.
    pub push_buffers: Option<Spot>,
    /// The slow queues, if there is room for them.
    pub slow: Option<[SlowSpots; SLOW_QUEUES]>,
    /// Bytes of [`Area::HostWritable`], whole granules.
    pub host_writable: u64,
    /// Bytes of [`Area::HostReadable`], whole granules.
    pub host_readable: u64,
    /// Bytes of [`Area::Board`], whole granules.
    pub board: u64,
}

/// A cache line: no two writers share one (R2).
const LINE: u64 = 64;

/// Hands out stretches of the three areas, front to back.
#[derive(Default)]
struct Cursor {
    host_writable: u64,
    host_readable: u64,
    board: u64,
}

impl Cursor {
    fn take(&mut self, area: Area, len: u64, align: u64) -> Spot {
        let end = match area {
            Area::HostWritable => &mut self.host_writable,
            Area::HostReadable => &mut self.host_readable,
            Area::Board => &mut self.board,
        };
        let offset = end.next_multiple_of(align);
        *end = offset + len;
        Spot { area, offset, len }
    }

    fn rings(&mut self, layout: Layout, size: QueueSize) -> RingSpots {
        let (read_by_board, written_by_board) = match layout {
            Layout::Split => (Area::Board, Area::HostWritable),
            Layout::BarOnly => (Area::Board, Area::Board),
            Layout::AllHost => (Area::HostReadable, Area::HostWritable),
        };
        RingSpots {
            descriptors: self.take(read_by_board, size.descriptor_table_len(), LINE),
            avail: self.take(read_by_board, size.avail_len(), LINE),
            used: self.take(written_by_board, USED_AT + size.used_len(), LINE),
        }
    }

    fn slow(&mut self, layout: Layout) -> SlowSpots {
        let (readable, writable) = match layout {
            Layout::Split => (Area::Board, Area::HostWritable),
            Layout::BarOnly => (Area::Board, Area::Board),
            Layout::AllHost => (Area::HostReadable, Area::HostWritable),
        };
        let bytes = u64::from(SLOW_ENTRIES) * u64::from(SLOW_BUFFER);
        let rings = self.rings(layout, slow_queue_size());
        let tables = IndirectTables::<()>::bytes(slow_queue_size(), SLOW_TABLE_ENTRIES);
        SlowSpots {
            rings,
            tables: self.take(rings.descriptors.area, tables, LINE),
            readable: self.take(readable, bytes, LINE),
            writable: self.take(writable, bytes, LINE),
        }
    }
}

impl Placement {
    /// Places `sizes` as `layout` says.
    #[must_use]
    pub fn new(layout: Layout, sizes: &Sizes) -> Self {
        let mut cursor = Cursor::default();
        let reaches_host = layout != Layout::BarOnly;
        let status_page =
            reaches_host.then(|| cursor.take(Area::HostWritable, REGION_GRANULE, REGION_GRANULE));
        let to_host_rings = cursor.rings(layout, sizes.to_host);
        let to_board_rings = cursor.rings(layout, sizes.to_board);
        let bytes = |size: QueueSize, each: u32| u64::from(size.get()) * u64::from(each);
        let up = if reaches_host { Area::HostWritable } else { Area::Board };
        let to_host_buffers =
            cursor.take(up, bytes(sizes.to_host, sizes.to_host_buffer), REGION_GRANULE);
        let down = bytes(sizes.to_board, sizes.to_board_buffer);
        let to_board_buffers =
            reaches_host.then(|| cursor.take(Area::HostReadable, down, REGION_GRANULE));
        let push_buffers = match layout {
            Layout::Split => {
                let small = bytes(sizes.to_board, sizes.push_buffer);
                Some(cursor.take(Area::Board, small, REGION_GRANULE))
            }
            Layout::BarOnly => Some(cursor.take(Area::Board, down, REGION_GRANULE)),
            Layout::AllHost => None,
        };
        let slow = sizes.slow.then(|| std::array::from_fn(|_| cursor.slow(layout)));
        Self {
            layout,
            to_host_size: sizes.to_host,
            to_board_size: sizes.to_board,
            to_board_stride: sizes.to_board_buffer,
            push_stride: match layout {
                Layout::BarOnly => sizes.to_board_buffer,
                Layout::Split | Layout::AllHost => sizes.push_buffer,
            },
            status_page,
            to_host_rings,
            to_board_rings,
            to_host_buffers,
            to_board_buffers,
            push_buffers,
            slow,
            host_writable: cursor.host_writable.next_multiple_of(REGION_GRANULE),
            host_readable: cursor.host_readable.next_multiple_of(REGION_GRANULE),
            board: cursor.board.next_multiple_of(REGION_GRANULE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spots(placement: &Placement) -> Vec<Spot> {
        let rings = |r: &RingSpots| [r.descriptors, r.avail, r.used];
        let mut all = Vec::new();
        all.extend(placement.status_page);
        all.extend(rings(&placement.to_host_rings));
        all.extend(rings(&placement.to_board_rings));
        all.push(placement.to_host_buffers);
        all.extend(placement.to_board_buffers);
        all.extend(placement.push_buffers);
        for slow in placement.slow.iter().flatten() {
            all.extend(rings(&slow.rings));
            all.extend([slow.tables, slow.readable, slow.writable]);
        }
        all
    }

    fn sizes() -> Sizes {
        let size = |n: u32| QueueSize::try_from(n).unwrap();
        Sizes {
            to_host: size(256),
            to_board: size(64),
            to_host_buffer: 4096,
            to_board_buffer: 69_632,
            push_buffer: 2048,
            slow: true,
        }
    }

    #[test]
    fn no_two_parts_overlap_or_share_a_cache_line() {
        for layout in [Layout::Split, Layout::BarOnly, Layout::AllHost] {
            let placement = Placement::new(layout, &sizes());
            let all = spots(&placement);
            for (i, a) in all.iter().enumerate() {
                assert_eq!(a.offset % LINE, 0);
                for b in &all[i + 1..] {
                    let apart = a.area != b.area
                        || a.offset + a.len <= b.offset
                        || b.offset + b.len <= a.offset;
                    assert!(apart, "{layout}: {a:?} and {b:?}");
                }
            }
        }
    }

    #[test]
    fn what_each_side_polls_lies_on_its_own_side() {
        let split = Placement::new(Layout::Split, &sizes());
        for rings in [split.to_host_rings, split.to_board_rings] {
            assert_eq!(rings.descriptors.area, Area::Board);
            assert_eq!(rings.avail.area, Area::Board);
            assert_eq!(rings.used.area, Area::HostWritable);
        }
        let bar_only = Placement::new(Layout::BarOnly, &sizes());
        assert_eq!((bar_only.host_writable, bar_only.host_readable), (0, 0));
    }
}
