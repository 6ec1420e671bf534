//! The machine under the protocol: two CPUs with store buffers, two memories,
//! and a posted queue a direction between them, under PCIe's ordering rules.

use std::fmt;

/// One of the two ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum End {
    Host,
    Board,
}

pub(crate) const ENDS: [End; 2] = [End::Host, End::Board];

impl End {
    pub(crate) fn peer(self) -> Self {
        match self {
            Self::Host => Self::Board,
            Self::Board => Self::Host,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Board => "board",
        })
    }
}

/// The four words of a queue that take part, each by its one writer: the
/// host's index is avail.idx and its event word used_event; the board's are
/// used.idx and avail_event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Word {
    pub(crate) writer: End,
    pub(crate) kind: WordKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum WordKind {
    /// The index, and beside it, in the same 32 bits, the flags.
    Index,
    Event,
}

impl Word {
    pub(crate) fn index_of(writer: End) -> Self {
        Self { writer, kind: WordKind::Index }
    }

    pub(crate) fn event_of(writer: End) -> Self {
        Self { writer, kind: WordKind::Event }
    }

    fn number(self) -> u8 {
        2 * (self.writer as u8) + (self.kind as u8)
    }

    fn from_number(number: u8) -> Self {
        let writer = if number & 2 == 0 { End::Host } else { End::Board };
        let kind = if number & 1 == 0 { WordKind::Index } else { WordKind::Event };
        Self { writer, kind }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.writer, self.kind) {
            (End::Host, WordKind::Index) => "avail.idx",
            (End::Host, WordKind::Event) => "used_event",
            (End::Board, WordKind::Index) => "used.idx",
            (End::Board, WordKind::Event) => "avail_event",
        })
    }
}

/// What waits in a store buffer or travels on the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// A posted write of one of the sender's own words.
    Store(WordKind, u8),
    /// A posted write that notifies: a doorbell or an MSI-X.
    Notify,
    /// A non-posted read request.
    Read(Word),
    /// The answer to the receiver's read of a word of this kind.
    Completion(WordKind, u8),
}

/// A packed message: three bits for its kind above four for its value.
const BITS: usize = 7;
const VALUES: u8 = 16;

impl Message {
    fn pack(self) -> u8 {
        let (kind, value) = match self {
            Self::Store(WordKind::Index, value) => (1, value),
            Self::Store(WordKind::Event, value) => (2, value),
            Self::Notify => (3, 0),
            Self::Read(word) => (4, word.number()),
            Self::Completion(WordKind::Index, value) => (5, value),
            Self::Completion(WordKind::Event, value) => (6, value),
        };
        assert!(value < VALUES);
        kind * VALUES + value
    }

    fn unpack(packed: u8) -> Self {
        let value = packed % VALUES;
        match packed / VALUES {
            1 => Self::Store(WordKind::Index, value),
            2 => Self::Store(WordKind::Event, value),
            3 => Self::Notify,
            4 => Self::Read(Word::from_number(value)),
            5 => Self::Completion(WordKind::Index, value),
            _ => Self::Completion(WordKind::Event, value),
        }
    }

    pub(crate) fn is_posted(self) -> bool {
        matches!(self, Self::Store(..) | Self::Notify)
    }

    /// Whether a CPU may let `self` overtake an `earlier` store of its own
    /// where no barrier stands between them: never to the same address.
    fn may_leave_before(self, earlier: Self) -> bool {
        match (self, earlier) {
            (Self::Store(kind, _), Self::Store(other, _)) => kind != other,
            (Self::Notify, Self::Notify) => false,
            _ => true,
        }
    }
}

/// Up to nine messages in order, the oldest in the lowest bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Messages(u64);

impl Messages {
    pub(crate) const CAPACITY: usize = 64 / BITS;

    pub(crate) fn len(self) -> usize {
        (64 - self.0.leading_zeros() as usize).div_ceil(BITS)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked to the bits of one message")]
    pub(crate) fn iter(self) -> impl Iterator<Item = Message> {
        let packed = move |at: usize| (self.0 >> (BITS * at)) as u8 & ((1 << BITS) - 1);
        (0..self.len()).map(move |at| Message::unpack(packed(at)))
    }

    pub(crate) fn push(&mut self, message: Message) {
        assert!(self.len() < Self::CAPACITY, "the bounds on what is in flight are wrong");
        self.0 |= u64::from(message.pack()) << (BITS * self.len());
    }

    pub(crate) fn remove(&mut self, at: usize) {
        let below = (1_u64 << (BITS * at)) - 1;
        self.0 = self.0 & below | (self.0 >> BITS) & !below;
    }

    /// The same messages with every value replaced.
    pub(crate) fn map(self, replace: impl Fn(WordKind, u8) -> u8) -> Self {
        let mut mapped = Self::default();
        for message in self.iter() {
            mapped.push(match message {
                Message::Store(kind, value) => Message::Store(kind, replace(kind, value)),
                Message::Completion(kind, value) => Message::Completion(kind, replace(kind, value)),
                other => other,
            });
        }
        mapped
    }
}

/// How strongly a CPU orders its own stores where no barrier says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StoreBuffer {
    /// In program order (x86). Loads still overtake them.
    InOrder,
    /// In any order, to the same address in program order (Arm, RISC-V).
    AnyOrder,
}

impl StoreBuffer {
    /// The stores of `buffer` that may leave it next.
    pub(crate) fn ready(self, buffer: Messages) -> impl Iterator<Item = (usize, Message)> {
        buffer.iter().enumerate().filter(move |&(at, message)| match self {
            Self::InOrder => at == 0,
            Self::AnyOrder => {
                buffer.iter().take(at).all(|earlier| message.may_leave_before(earlier))
            }
        })
    }
}

/// What reads may overtake on the bus. PCIe's base order is "nothing that is
/// posted"; relaxed and ID-based ordering lift that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Relaxed {
    pub(crate) requests: bool,
    pub(crate) completions: bool,
}

impl Relaxed {
    /// The messages of `queue` that may arrive next (PCIe's ordering table:
    /// posted writes pass reads and completions, never each other; reads and
    /// completions pass each other, never posted writes).
    pub(crate) fn ready(self, queue: Messages) -> impl Iterator<Item = (usize, Message)> {
        queue.iter().enumerate().filter(move |&(at, message)| {
            let held_by_posted = match message {
                Message::Store(..) | Message::Notify => true,
                Message::Read(_) => !self.requests,
                Message::Completion(..) => !self.completions,
            };
            !(held_by_posted && queue.iter().take(at).any(Message::is_posted))
        })
    }
}

/// Where the parts of a queue lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// Each word in the memory of the end that reads it.
    SplitPush,
    /// Everything in board memory.
    BarOnly,
    /// Everything in host memory.
    AllInHost,
}

impl Layout {
    /// The end whose memory holds `word`.
    pub(crate) fn home(self, word: Word) -> End {
        match self {
            Self::SplitPush => word.writer.peer(),
            Self::BarOnly => End::Board,
            Self::AllInHost => End::Host,
        }
    }
}

impl fmt::Display for StoreBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InOrder => "in order",
            Self::AnyOrder => "any order",
        })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SplitPush => "split",
            Self::BarOnly => "bar-only",
            Self::AllInHost => "all-host",
        })
    }
}
