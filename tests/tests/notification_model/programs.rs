//! The two programs, access by access, and what the machine does between
//! them. The code that each step stands for is named in
//! docs/notification-model.md.

use crate::bus::{End, Message, Word};
use crate::protocol::{Mutation, Path, Protocol};
use crate::state::{At, BUFFER, POSTED, SEPARATE, State, Step};

impl Protocol {
    /// What `end` itself may do next.
    pub(crate) fn program_steps(&self, state: &State, end: End, out: &mut Vec<(Step, State)>) {
        let own = &state.program[end as usize];
        let room = state.buffer[end as usize].len() < BUFFER;
        let looked = state.index_of(end.peer());
        let mut to = state.clone();
        match own.at {
            At::Awake => self.awake_steps(state, end, out),
            At::Published => {
                let barrier = self.mutation != Mutation::NoPublishBarrier(end);
                if barrier && !state.buffer[end as usize].is_empty() || !room {
                    return;
                }
                let step = if self.publish_flush && end == End::Host {
                    Self::send_read(&mut to, end, self.wish_word(end), At::PublishFlush);
                    Step::PublishFlush(end)
                } else {
                    self.load_event(&mut to, end)
                };
                out.push((step, to));
            }
            At::PublishFlushed => out.push((self.load_event(&mut to, end), to)),
            At::Armed => self.armed_steps(state, end, out),
            At::Flushed => {
                let early = self.mutation == Mutation::LookBeforeCompletion(end);
                let seen = if early { own.seen } else { looked };
                out.push((self.fall_asleep(&mut to, end, seen), to));
            }
            At::Drained => {
                to.program[end as usize].latch = false;
                to.program[end as usize].at = At::Asleep;
                out.push((Step::DrainLate(end), to));
            }
            At::Asleep => {
                if room {
                    self.publish_steps(state, end, out);
                }
                if own.latch {
                    let empty = self.looks_locally(end) && looked == own.consumed;
                    let sleeps_on = empty && self.mutation == Mutation::NoReArm(end);
                    to.program[end as usize].latch = false;
                    to.program[end as usize].at = if sleeps_on { At::Asleep } else { At::Awake };
                    out.push((if empty { Step::WakeEmpty(end) } else { Step::Wake(end) }, to));
                }
            }
            At::Looking | At::PublishFlush | At::ReadingEvent | At::Flushing => {}
        }
    }

    /// Awake: any of the calls of a queue, in any order.
    fn awake_steps(&self, state: &State, end: End, out: &mut Vec<(Step, State)>) {
        let own = &state.program[end as usize];
        let looked = state.index_of(end.peer());
        if !self.looks_locally(end) {
            let mut to = state.clone();
            Self::send_read(&mut to, end, Word::index_of(end.peer()), At::Looking);
            out.push((Step::LookAcross(end), to));
        } else if looked != own.consumed {
            let mut to = state.clone();
            to.program[end as usize].consumed = looked;
            out.push((Step::Consume(end), to));
        }
        if state.buffer[end as usize].len() == BUFFER {
            return;
        }
        self.publish_steps(state, end, out);
        if let Some(wish) = self.parked_wish(own).filter(|_| self.parks) {
            let mut to = state.clone();
            self.store_wish(&mut to, end, wish);
            out.push((Step::Park(end), to));
        }
        let mut to = state.clone();
        if let Some(wish) = self.armed_wish(own) {
            self.store_wish(&mut to, end, wish);
        }
        to.program[end as usize].at = At::Armed;
        out.push((Step::Arm(end), to));
    }

    /// New work: batches of every size that the queue has room for.
    fn publish_steps(&self, state: &State, end: End, out: &mut Vec<(Step, State)>) {
        for batch in 1..=self.batch.min(self.publishable(state, end)) {
            let mut to = state.clone();
            let own = &mut to.program[end as usize];
            own.published = self.add(own.published, batch);
            own.batch = batch;
            own.latch = false;
            own.at = At::Published;
            self.store_index(&mut to, end);
            out.push((Step::Publish(end, batch), to));
        }
    }

    /// The publisher behind its barrier (and its flush).
    fn load_event(&self, to: &mut State, end: End) -> Step {
        let word = self.wish_word(end.peer());
        if self.is_local(end, word) {
            let wish = to.memory[word.writer as usize][word.kind as usize];
            self.decide(to, end, wish)
        } else {
            Self::send_read(to, end, word, At::ReadingEvent);
            Step::ReadEvent(end)
        }
    }

    /// The sleeper behind its event word's store.
    fn armed_steps(&self, state: &State, end: End, out: &mut Vec<(Step, State)>) {
        let stored = state.buffer[end as usize].is_empty();
        let cached = self.mutation == Mutation::CachedFlush(end);
        if !stored && !cached && self.mutation != Mutation::NoSleeperBarrier(end) {
            return;
        }
        let mut to = state.clone();
        let step = if !self.looks_locally(end) {
            // The look is the flush.
            Self::send_read(&mut to, end, Word::index_of(end.peer()), At::Flushing);
            Step::Flush(end)
        } else if cached
            || self.mutation == Mutation::NoFlush(end)
            || self.is_local(end, self.wish_word(end))
        {
            self.fall_asleep(&mut to, end, state.index_of(end.peer()))
        } else if stored {
            Self::send_read(&mut to, end, self.wish_word(end), At::Flushing);
            if self.mutation == Mutation::LookBeforeCompletion(end) {
                to.program[end as usize].seen = state.index_of(end.peer());
                Step::LookEarly(end)
            } else {
                Step::Flush(end)
            }
        } else {
            // Not even without the barrier: a load does not overtake a store
            // of its CPU to the same address.
            return;
        };
        out.push((step, to));
    }

    /// Sends a read across the bus.
    fn send_read(to: &mut State, end: End, word: Word, then: At) {
        to.bus[end as usize].push(Message::Read(word));
        to.program[end as usize].at = then;
    }

    /// Ends a publish by the event word's `wish`.
    fn decide(&self, to: &mut State, end: End, wish: u8) -> Step {
        let notify = self.decides_to_notify(&to.program[end as usize], wish);
        let own = &mut to.program[end as usize];
        own.batch = 0;
        own.at = At::Awake;
        if notify {
            to.buffer[end as usize].push(Message::Notify);
            Step::Notify(end)
        } else {
            Step::Suppress(end)
        }
    }

    /// Ends an arming by what the last look `seen`.
    fn fall_asleep(&self, to: &mut State, end: End, seen: u8) -> Step {
        let own = &mut to.program[end as usize];
        own.seen = 0;
        if seen != own.consumed {
            own.consumed = seen;
            own.latch = false;
            own.at = At::Awake;
            Step::Found(end)
        } else if self.mutation == Mutation::DrainAfterLook(end) {
            own.at = At::Drained;
            Step::Sleep(end)
        } else {
            own.at = At::Asleep;
            Step::Sleep(end)
        }
    }

    /// What the machine may do next for `end`: let a store go, or bring a
    /// message of its to the peer.
    pub(crate) fn bus_steps(&self, state: &State, end: End, out: &mut Vec<(Step, State)>) {
        let peer = end.peer();
        for (at, message) in self.store_buffer.ready(state.buffer[end as usize]) {
            let mut to = state.clone();
            to.buffer[end as usize].remove(at);
            match message {
                Message::Store(kind, value) if self.is_local(end, Word { writer: end, kind }) => {
                    to.memory[end as usize][kind as usize] = value;
                }
                Message::Notify if self.path == Path::Separate => {
                    if state.separate[peer as usize] == SEPARATE {
                        continue;
                    }
                    to.separate[peer as usize] += 1;
                }
                _ if state.posted(end) == POSTED => continue,
                _ => to.bus[end as usize].push(message),
            }
            out.push((Step::Accept(end, message), to));
        }
        for (at, message) in self.relaxed(end).ready(state.bus[end as usize]) {
            let mut to = state.clone();
            to.bus[end as usize].remove(at);
            match message {
                Message::Store(kind, value) => to.memory[end as usize][kind as usize] = value,
                Message::Notify => Self::notify(&mut to, peer),
                Message::Read(word) => {
                    let value = state.memory[word.writer as usize][word.kind as usize];
                    to.bus[peer as usize].push(Message::Completion(word.kind, value));
                }
                Message::Completion(_, value) => self.complete(&mut to, peer, value),
            }
            out.push((Step::Arrive(end, message), to));
        }
        if state.separate[end as usize] > 0 {
            let mut to = state.clone();
            to.separate[end as usize] -= 1;
            Self::notify(&mut to, end);
            out.push((Step::ArriveSeparately(end), to));
        }
    }

    /// A notification reaches `end`. Only a program between its drain and its
    /// wake-up can tell; for the others the latch is as good as drained.
    fn notify(to: &mut State, end: End) {
        let own = &mut to.program[end as usize];
        own.latch =
            matches!(own.at, At::Armed | At::Flushing | At::Flushed | At::Drained | At::Asleep);
    }

    /// A read of `end` is answered.
    fn complete(&self, to: &mut State, end: End, value: u8) {
        match to.program[end as usize].at {
            At::Looking => {
                to.program[end as usize].consumed = value >> 1;
                to.program[end as usize].at = At::Awake;
            }
            At::PublishFlush => to.program[end as usize].at = At::PublishFlushed,
            At::ReadingEvent => {
                self.decide(to, end, value);
            }
            At::Flushing if self.looks_locally(end) => {
                to.program[end as usize].at = At::Flushed;
            }
            At::Flushing => {
                self.fall_asleep(to, end, value >> 1);
            }
            _ => unreachable!("one read an end"),
        }
    }
}
