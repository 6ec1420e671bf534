//! What a hostile peer makes the other end read, access by access.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use board::device::net::NetBackend;
use host::bus::Stretch;
use host::bus::sim::{Access, AccessKind, Fault, Initiator, Side};
use host::session::USED_AT;
use virtio_phys_tests::rig::Rig;

/// One of the two queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queue {
    ToHost,
    ToBoard,
}

/// A word of a ring that its peer reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// A descriptor's address.
    Address,
    /// A descriptor's other half: `len`, `flags`, `next` from the low end.
    Tail,
    /// The avail ring's flags (low half) and index.
    AvailIndex,
    /// Two avail entries.
    AvailPair,
    /// The used ring's flags (low half) and index.
    UsedIndex,
    /// A used entry: id (low half) and length.
    Used,
}

impl Part {
    /// Which of the queue's memory holds it (`terms().areas`), and whether it
    /// is at this offset there.
    fn is_at(self, queue: &[Stretch], address: u64) -> bool {
        let [descriptors, avail, used, ..] = queue else { return false };
        let place = match self {
            Self::Address | Self::Tail => descriptors,
            Self::AvailIndex | Self::AvailPair => avail,
            Self::UsedIndex | Self::Used => used,
        };
        let Some(offset) = address.checked_sub(place.start).filter(|at| *at < place.len) else {
            return false;
        };
        match self {
            Self::Address => offset % 16 == 0,
            Self::Tail => offset % 16 == 8,
            Self::AvailIndex => offset == 0,
            // The last word of a ring is the event word.
            Self::AvailPair => (4..place.len - 4).contains(&offset),
            Self::UsedIndex => offset == USED_AT,
            Self::Used => (USED_AT + 4..place.len - 4).contains(&offset),
        }
    }

    /// Who reads it.
    pub(crate) const fn reader(self) -> Initiator {
        match self {
            Self::UsedIndex | Self::Used => Initiator::HostCpu,
            _ => Initiator::BoardCpu,
        }
    }
}

/// The memory of a queue of this session.
pub(crate) fn memory<B: NetBackend>(rig: &Rig<B>, queue: Queue) -> Vec<Stretch> {
    let areas = &rig.terms().areas;
    match queue {
        Queue::ToHost => areas.to_host.clone(),
        Queue::ToBoard => areas.to_board.clone(),
    }
}

/// From now on the reader of `part` reads what `lie` makes of each word, the
/// first `times` times that it makes anything else of it (it is told how many
/// those were before). Returns how often
/// that was.
pub(crate) fn tell<B: NetBackend>(
    rig: &Rig<B>,
    queue: Queue,
    part: Part,
    times: u32,
    lie: impl Fn(u64, u32) -> u64 + Send + 'static,
) -> Arc<AtomicU32> {
    let (queue, told) = (memory(rig, queue), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&told);
    let in_bar = |stretch: &Stretch| stretch.bar.is_some();
    let side = match part {
        Part::Address | Part::Tail => queue.first().is_some_and(in_bar),
        Part::AvailIndex | Part::AvailPair => queue.get(1).is_some_and(in_bar),
        Part::UsedIndex | Part::Used => queue.get(2).is_some_and(in_bar),
    };
    let side = if side { Side::Board } else { Side::Host };
    rig.bus
        .set_faults(Some(Box::new(move |access: &Access| {
            let read = access.kind == AccessKind::Load && access.initiator == part.reader();
            if !read || access.target != side || !part.is_at(&queue, access.address) {
                return None;
            }
            let told = count.load(Ordering::Relaxed);
            let word = lie(access.value, told);
            if word == access.value || told >= times {
                return None;
            }
            count.fetch_add(1, Ordering::Relaxed);
            Some(Fault::Replace(word))
        })))
        .expect("an instrument");
    told
}
