//! R4 on that machine: the host publishes avail entries and sleeps on used
//! ones, the board the other way round, both at the same time.

use std::fmt;

use shared::virtq::notify;
use virtio_phys_tests::explore::Model;

use crate::bus::{ENDS, End, Layout, Message, Relaxed, StoreBuffer, Word, WordKind};
use crate::state::{At, POSTED, Program, State, Step, witness};

/// How a sleeper says that it wants to be notified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Suppression {
    /// VIRTIO_F_EVENT_IDX: an event word.
    EventIndex,
    /// A flag in the 32-bit word of the sleeper's own index.
    Flags,
}

/// How a notification travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Path {
    /// In the posted queue, behind all earlier writes.
    Ordered,
    /// Beside it: it may overtake data, and data may overtake it.
    Separate,
}

/// What is taken out of the protocol, to see that the check notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutation {
    Nothing,
    /// The sleeper does not read its word back.
    NoFlush(End),
    /// The read-back is served from a cache that also keeps the store back.
    CachedFlush(End),
    /// The sleeper's look may be done before its loads and stores so far.
    NoSleeperBarrier(End),
    /// The sleeper's last look does not wait for the completion.
    LookBeforeCompletion(End),
    /// The publisher loads the event word with its index still in the buffer.
    NoPublishBarrier(End),
    /// The publisher compares for the last entry of a batch only.
    LastEntryOnly,
    /// An empty wake-up goes back to sleep without arming again.
    NoReArm(End),
    /// The latch is drained behind the last look.
    DrainAfterLook(End),
    /// The requests of the given end's reads pass posted writes.
    RelaxedRequest(End),
    /// The completions of the given end's reads pass posted writes.
    RelaxedCompletion(End),
}

/// The protocol's variant and its size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    pub(crate) layout: Layout,
    pub(crate) suppression: Suppression,
    pub(crate) path: Path,
    /// The host reads its event word back at publishes, too.
    pub(crate) publish_flush: bool,
    pub(crate) store_buffer: StoreBuffer,
    /// Entries of the queue.
    pub(crate) size: u8,
    /// Values of an index: what 65536 is to a real one.
    pub(crate) modulus: u8,
    /// Largest batch.
    pub(crate) batch: u8,
    /// Whether an end that is awake may park its event word.
    pub(crate) parks: bool,
    pub(crate) mutation: Mutation,
    /// Whether states that differ by a turn of all indices count as one.
    pub(crate) turned: bool,
}

/// The flag beside an index: notify, or do not.
const WANTED: u8 = 0;
const UNWANTED: u8 = 1;

impl Protocol {
    pub(crate) fn add(&self, index: u8, count: u8) -> u8 {
        (index + count) % self.modulus
    }

    fn distance(&self, from: u8, to: u8) -> u8 {
        (to + self.modulus - from) % self.modulus
    }

    /// Entries that `end` may publish: free ones of the queue, or consumed
    /// ones that are not yet returned.
    pub(crate) fn publishable(&self, state: &State, end: End) -> u8 {
        let own = &state.program[end as usize];
        match end {
            End::Host => self.size - self.distance(own.consumed, own.published),
            End::Board => self.distance(own.published, own.consumed),
        }
    }

    pub(crate) fn is_local(&self, end: End, word: Word) -> bool {
        self.layout.home(word) == end
    }

    /// Whether `end` looks at the peer's index without crossing the bus.
    pub(crate) fn looks_locally(&self, end: End) -> bool {
        self.is_local(end, Word::index_of(end.peer()))
    }

    /// The word in which `end` says when to notify it.
    pub(crate) fn wish_word(&self, end: End) -> Word {
        match self.suppression {
            Suppression::EventIndex => Word::event_of(end),
            Suppression::Flags => Word::index_of(end),
        }
    }

    /// One entry in steps of a real 16-bit index, which then wraps where the
    /// model's does (`the_scaled_rules_are_the_rules_in_a_smaller_modulus`).
    fn real(&self, index: u8) -> u16 {
        let unit = 0x1_0000 / u32::from(self.modulus);
        u16::try_from(u32::from(index) * unit).expect("an index is below the modulus")
    }

    fn scaled(&self, index: u16) -> u8 {
        u8::try_from(u32::from(index) * u32::from(self.modulus) / 0x1_0000).expect("below it")
    }

    /// Stores own index, with the flags beside it.
    pub(crate) fn store_index(&self, to: &mut State, end: End) {
        let own = &to.program[end as usize];
        let flags = match self.suppression {
            Suppression::Flags => own.wish,
            Suppression::EventIndex => 0,
        };
        let value = own.published << 1 | flags;
        to.buffer[end as usize].push(Message::Store(WordKind::Index, value));
    }

    /// Stores in own event word (or flags) when to be notified.
    pub(crate) fn store_wish(&self, to: &mut State, end: End, wish: u8) {
        to.program[end as usize].wish = wish;
        match self.suppression {
            Suppression::Flags => self.store_index(to, end),
            Suppression::EventIndex => {
                to.buffer[end as usize].push(Message::Store(WordKind::Event, wish));
            }
        }
    }

    /// What the sleeper has to store for `own` to be notified, if anything.
    pub(crate) fn armed_wish(&self, own: &Program) -> Option<u8> {
        let wish = match self.suppression {
            Suppression::Flags => WANTED,
            Suppression::EventIndex => self.scaled(notify::armed_event(self.real(own.consumed))),
        };
        (wish != own.wish).then_some(wish)
    }

    /// What a side that is awake stores in order not to be, if anything.
    pub(crate) fn parked_wish(&self, own: &Program) -> Option<u8> {
        match self.suppression {
            Suppression::Flags => (own.wish != UNWANTED).then_some(UNWANTED),
            Suppression::EventIndex => {
                let real = |index| self.real(index);
                notify::parked_event(real(own.wish), real(own.consumed), real(self.size))
                    .map(|event| self.scaled(event))
            }
        }
    }

    /// The publisher's decision on the peer's wish, by the code's own rule.
    pub(crate) fn decides_to_notify(&self, own: &Program, wish: u8) -> bool {
        match self.suppression {
            Suppression::Flags => notify::flags_ask(u16::from(wish & 1)),
            Suppression::EventIndex => {
                let batch = match self.mutation {
                    Mutation::LastEntryOnly => 1,
                    _ => own.batch,
                };
                let old = self.add(own.published, self.modulus - batch);
                let real = |index| self.real(index);
                notify::needs_event(real(wish), real(own.published), real(old))
            }
        }
    }

    pub(crate) fn relaxed(&self, sender: End) -> Relaxed {
        Relaxed {
            requests: self.mutation == Mutation::RelaxedRequest(sender),
            completions: self.mutation == Mutation::RelaxedCompletion(sender.peer()),
        }
    }

    /// Turns all indices so that the host has consumed none. The protocol
    /// only ever compares distances, so states that differ by a turn are one.
    fn turn(&self, state: &mut State) {
        let by = self.modulus - state.program[End::Host as usize].consumed;
        if by == self.modulus {
            return;
        }
        let turn = |kind: WordKind, value: u8| match (kind, self.suppression) {
            (WordKind::Index, _) => self.add(value >> 1, by) << 1 | value & 1,
            (WordKind::Event, Suppression::EventIndex) => self.add(value, by),
            (WordKind::Event, Suppression::Flags) => value,
        };
        for end in ENDS {
            let own = &mut state.program[end as usize];
            own.published = self.add(own.published, by);
            own.consumed = self.add(own.consumed, by);
            own.wish = turn(WordKind::Event, own.wish);
            if matches!(self.mutation, Mutation::LookBeforeCompletion(_))
                && matches!(own.at, At::Flushing | At::Flushed)
            {
                own.seen = self.add(own.seen, by);
            }
            for queue in [&mut state.buffer[end as usize], &mut state.bus[end as usize]] {
                *queue = queue.map(turn);
            }
            let memory = &mut state.memory[end as usize];
            *memory = [turn(WordKind::Index, memory[0]), turn(WordKind::Event, memory[1])];
        }
    }

    /// Whether `end` sleeps over an entry, with nothing left to wake it.
    fn lost(&self, state: &State, end: End) -> bool {
        let own = &state.program[end as usize];
        let peer = &state.program[end.peer() as usize];
        let in_flight = ENDS.iter().any(|&end| {
            !state.buffer[end as usize].is_empty() || !state.bus[end as usize].is_empty()
        });
        own.at == At::Asleep
            && !own.latch
            && state.separate[end as usize] == 0
            && !in_flight
            && matches!(peer.at, At::Awake | At::Asleep)
            && peer.published != own.consumed
    }
}

impl Model for Protocol {
    type State = State;
    type Step = Step;

    /// Set up, and both ends awake: whoever starts looks first.
    fn initial(&self) -> Vec<State> {
        assert!(self.modulus.is_power_of_two() && self.modulus <= 8);
        assert!(self.size.is_power_of_two() && self.size < self.modulus);
        vec![State {
            program: Default::default(),
            buffer: Default::default(),
            bus: Default::default(),
            separate: [0; 2],
            memory: [[0; 2]; 2],
        }]
    }

    fn steps(&self, state: &State, out: &mut Vec<(Step, State)>) {
        for end in ENDS {
            self.program_steps(state, end, out);
            self.bus_steps(state, end, out);
        }
        if self.turned {
            for (_, to) in out {
                self.turn(to);
            }
        }
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        if self.lost(state, End::Host) {
            Some("the host sleeps over a used entry and nothing will wake it")
        } else if self.lost(state, End::Board) {
            Some("the board sleeps over an avail entry and nothing will wake it")
        } else {
            None
        }
    }

    /// Everything came back and both ends sleep.
    fn finished(&self, state: &State) -> bool {
        let [host, board] = &state.program;
        host.at == At::Asleep
            && board.at == At::Asleep
            && host.published == board.consumed
            && board.published == board.consumed
            && host.consumed == board.published
    }

    /// New entries come from outside the system.
    fn is_stimulus(&self, step: &Step) -> bool {
        matches!(step, Step::Publish(End::Host, _))
    }

    fn witness(&self, step: &Step, state: &State) -> u32 {
        let both_at = |at: At| ENDS.iter().all(|&end| state.is_at(end, at));
        let mut seen = match *step {
            Step::Suppress(_) => witness::SUPPRESSED,
            Step::Found(_) => witness::LOOK_AGAIN_FOUND,
            Step::WakeEmpty(_) => witness::EMPTY_WAKE,
            Step::ArriveSeparately(end) if state.posted(end.peer()) > 0 => witness::OVERTAKEN,
            _ => 0,
        };
        let mut note = |happened, what| seen |= if happened { what } else { 0 };
        note(both_at(At::Asleep), witness::BOTH_ASLEEP);
        note(both_at(At::Flushing), witness::BOTH_FLUSHING);
        let host = &state.program[End::Host as usize];
        note(host.published < host.consumed, witness::WRAPPED);
        note(ENDS.iter().any(|&end| state.posted(end) == POSTED), witness::BUS_FULL);
        seen
    }
}

impl fmt::Display for Suppression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EventIndex => "event index",
            Self::Flags => "flags",
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ordered => "behind data",
            Self::Separate => "separate",
        })
    }
}
