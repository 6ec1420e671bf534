//! The lies that are told by name, and what must come of each.

use shared::fault::PeerFault;
use shared::wire::virtq::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE};

use super::lies::{Part, Queue};

/// A word that the peer reads instead, and the fault that it must see.
pub(crate) struct Lie {
    pub(crate) name: &'static str,
    pub(crate) queue: Queue,
    pub(crate) part: Part,
    /// Most times that it is told.
    pub(crate) times: u32,
    /// Of the word that is there, and how often it was told.
    pub(crate) word: fn(u64, u32) -> u64,
    pub(crate) fault: fn(&PeerFault) -> bool,
    /// The board may say this of a buffer that it has: what lies there from
    /// before comes as a frame.
    pub(crate) forges: bool,
    /// Only with VIRTIO_F_IN_ORDER (`Some(true)`), or only without.
    pub(crate) in_order: Option<bool>,
}

const LIE: Lie = Lie {
    name: "",
    queue: Queue::ToHost,
    part: Part::UsedIndex,
    times: 1,
    word: |word, _| word,
    fault: |_| false,
    forges: false,
    in_order: None,
};

/// An index word whose index is more than a queue ahead.
const fn ahead(word: u64) -> u64 {
    (word + (0x100 << 16)) & 0xFFFF_FFFF
}

/// An index word whose index has been there before.
const fn back(word: u64) -> u64 {
    word.wrapping_sub(0x200 << 16) & 0xFFFF_FFFF
}

/// A used entry for the buffer `more` further on in a queue of `size`.
const fn with_other_id(word: u64, more: u64, size: u64) -> u64 {
    word & !0xFFFF_FFFF | ((word + more) % size)
}

const fn with_low(word: u64, low: u32) -> u64 {
    word & 0xFFFF_FFFF_0000_0000 | low as u64
}

const fn with_len(word: u64, len: u32) -> u64 {
    word & 0xFFFF_FFFF | (len as u64) << 32
}

const fn with_flags(word: u64, flags: u16) -> u64 {
    word & !(0xFFFF << 32) | (flags as u64) << 32
}

/// What a board can make a host read.
pub(crate) const TO_THE_HOST: &[Lie] = &[
    Lie {
        name: "used.idx far ahead",
        word: |word, _| ahead(word),
        fault: |fault| matches!(fault, PeerFault::UsedIndexAhead { .. }),
        ..LIE
    },
    Lie {
        name: "used.idx goes back",
        word: |word, _| back(word),
        fault: |fault| matches!(fault, PeerFault::UsedIndexAhead { .. }),
        ..LIE
    },
    Lie {
        name: "used.idx far ahead",
        queue: Queue::ToBoard,
        word: |word, _| ahead(word),
        fault: |fault| matches!(fault, PeerFault::UsedIndexAhead { .. }),
        ..LIE
    },
    Lie {
        name: "used.id outside the table",
        part: Part::Used,
        word: |word, _| with_low(word, 64),
        fault: |fault| matches!(fault, PeerFault::UsedId { id: 64 }),
        ..LIE
    },
    Lie {
        name: "used.id outside 16 bits",
        part: Part::Used,
        word: |word, _| word | 0x1_0000,
        fault: |fault| matches!(fault, PeerFault::UsedId { .. }),
        ..LIE
    },
    Lie {
        name: "used.id of a buffer that is due later",
        part: Part::Used,
        word: |word, _| with_other_id(word, 40, 64),
        fault: |fault| matches!(fault, PeerFault::BatchBeyondIndex { .. }),
        in_order: Some(true),
        ..LIE
    },
    Lie {
        name: "used.id of a buffer that was never sent",
        queue: Queue::ToBoard,
        part: Part::Used,
        word: |word, _| with_other_id(word, 20, 32),
        fault: |fault| matches!(fault, PeerFault::UsedId { .. }),
        ..LIE
    },
    Lie {
        name: "a buffer returned twice",
        part: Part::Used,
        // Every entry names one and the same buffer.
        times: 64,
        word: |word, _| with_low(word, 5),
        fault: |fault| {
            let id = matches!(fault, PeerFault::UsedId { .. });
            id || matches!(fault, PeerFault::NumBuffers { .. } | PeerFault::ChainTooShort { .. })
        },
        forges: true,
        in_order: Some(false),
        ..LIE
    },
    Lie {
        name: "used.len beyond the buffer",
        part: Part::Used,
        word: |word, _| with_len(word, 4097),
        fault: |fault| matches!(fault, PeerFault::UsedLength { length: 4097, limit: 4096 }),
        ..LIE
    },
    Lie {
        name: "used.len in a buffer that cannot be written",
        queue: Queue::ToBoard,
        part: Part::Used,
        word: |word, _| with_len(word, 1),
        fault: |fault| matches!(fault, PeerFault::UsedLength { length: 1, limit: 0 }),
        ..LIE
    },
    Lie {
        name: "used.len shorter than a header",
        part: Part::Used,
        // Of a frame's last buffer it may be true.
        times: 64,
        forges: true,
        word: |word, _| with_len(word, 11),
        fault: |fault| matches!(fault, PeerFault::ChainTooShort { found: 11, needed: 12 }),
        ..LIE
    },
];

/// What a host can make a board read.
pub(crate) const TO_THE_BOARD: &[Lie] = &[
    Lie {
        name: "avail.idx far ahead",
        queue: Queue::ToBoard,
        part: Part::AvailIndex,
        word: |word, _| ahead(word),
        fault: |fault| matches!(fault, PeerFault::AvailIndexAhead { .. }),
        ..LIE
    },
    Lie {
        name: "avail.idx goes back",
        queue: Queue::ToBoard,
        part: Part::AvailIndex,
        word: |word, _| back(word),
        fault: |fault| matches!(fault, PeerFault::AvailIndexAhead { .. }),
        ..LIE
    },
    Lie {
        name: "a head outside the table",
        queue: Queue::ToBoard,
        part: Part::AvailPair,
        word: |_, _| 0x7FFF_7FFF,
        fault: |fault| matches!(fault, PeerFault::DescriptorIndex { index: 0x7FFF, size: 32 }),
        ..LIE
    },
    Lie {
        name: "a head made available twice",
        part: Part::AvailPair,
        times: 64,
        word: |word, _| word & 0xFFFF | (word & 0xFFFF) << 16,
        fault: |fault| matches!(fault, PeerFault::HeadInFlight { .. }),
        ..LIE
    },
    Lie {
        name: "an address in no region",
        queue: Queue::ToBoard,
        part: Part::Address,
        word: |_, _| 0x7000,
        fault: |fault| matches!(fault, PeerFault::AddressUnmapped { address: 0x7000 }),
        ..LIE
    },
    Lie {
        name: "an address that wraps",
        queue: Queue::ToBoard,
        part: Part::Address,
        word: |_, _| u64::MAX - 7,
        fault: |fault| matches!(fault, PeerFault::AddressWraps { .. }),
        ..LIE
    },
    Lie {
        name: "an address in no region, to write to",
        part: Part::Address,
        word: |_, _| 0x7000,
        // The header of a frame in several buffers goes last.
        fault: |fault| matches!(fault, PeerFault::AddressUnmapped { address: 0x7000 | 0x700C }),
        ..LIE
    },
    Lie {
        name: "flags that do not exist",
        queue: Queue::ToBoard,
        part: Part::Tail,
        word: |word, _| with_flags(word, 8),
        fault: |fault| matches!(fault, PeerFault::DescriptorFlags { .. }),
        ..LIE
    },
    Lie {
        name: "an indirect table that is no whole one",
        queue: Queue::ToBoard,
        part: Part::Tail,
        word: |word, _| with_flags(with_low(word, 17), DESC_INDIRECT),
        fault: |fault| matches!(fault, PeerFault::IndirectLength { length: 17 }),
        ..LIE
    },
    Lie {
        name: "an indirect table beside a chain",
        queue: Queue::ToBoard,
        part: Part::Tail,
        word: |word, _| with_flags(with_low(word, 32), DESC_INDIRECT | DESC_NEXT),
        fault: |fault| matches!(fault, PeerFault::DescriptorFlags { .. }),
        ..LIE
    },
    Lie {
        // A header that asks for nothing, and the flags in a MAC address.
        name: "a frame for an indirect table",
        queue: Queue::ToBoard,
        part: Part::Tail,
        word: |word, _| with_flags(with_low(word, 32), DESC_INDIRECT),
        fault: |fault| matches!(fault, PeerFault::DescriptorFlags { flags: 0x7602 }),
        ..LIE
    },
    Lie {
        name: "a chain that goes on outside the table",
        queue: Queue::ToBoard,
        part: Part::Tail,
        word: |word, _| with_flags(word, DESC_NEXT) | 0xFFFF << 48,
        fault: |fault| matches!(fault, PeerFault::DescriptorIndex { .. }),
        ..LIE
    },
    Lie {
        name: "a chain without end",
        queue: Queue::ToBoard,
        part: Part::Tail,
        times: 1000,
        word: |word, _| with_flags(word, DESC_NEXT) & !(0xFFFF << 48),
        fault: |fault| matches!(fault, PeerFault::ChainTooLong { .. }),
        ..LIE
    },
    Lie {
        name: "a buffer to write that may only be read",
        part: Part::Tail,
        word: |word, _| with_flags(word, 0),
        fault: |fault| matches!(fault, PeerFault::ChainTooShort { .. }),
        ..LIE
    },
    Lie {
        name: "readable behind writable",
        part: Part::Tail,
        times: 2,
        word: |word, told| match told {
            0 => with_flags(word, DESC_NEXT | DESC_WRITE) | 1 << 48,
            _ => with_flags(word, 0),
        },
        fault: |fault| matches!(fault, PeerFault::ReadableAfterWritable),
        ..LIE
    },
];
