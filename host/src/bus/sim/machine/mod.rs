//! Instrument mode: store buffers, posted queues and the past.
//!
//! A store goes into its initiator's [`buffer`]; it leaves for local memory,
//! or for the posted queue of its direction and from there for memory. Loads
//! look through the initiator's own buffer and, in local memory, may see the
//! [past](stale). Payload in board memory may go through a [`cache`] that
//! nobody keeps coherent. Which of it happens when is the
//! [schedule](super::schedule)'s, one step at each access.

mod accesses;
mod buffer;
mod cache;
mod data;
mod stale;

use std::collections::VecDeque;
use std::sync::Arc;

use shared::region::Rights;
use shared::window::Barrier;

use super::access::Access;
use super::faults::{Fault, FaultHook};
use super::memory::Memory;
use super::options::Instrument;
use super::presence::Presence;
use super::schedule::Schedule;
use crate::bus::bill::{Initiator, Meter, Side};
pub(super) use accesses::Target;
pub(super) use cache::LINE;

use buffer::{Cargo, StoreBuffer};
use cache::Cache;
use data::{Data, Pool, Range};
use stale::Past;

/// A posted queue that holds this many lets its oldest entry arrive.
const QUEUE_CAPACITY: usize = 128;

struct Place {
    bytes: Box<[u8]>,
    /// `None`: taken away from the board, and no window of it is left.
    memory: Option<Arc<Memory>>,
}

/// Who makes the board start over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reset {
    /// The host, by way of the bus.
    Bus,
    /// The board: what it has sent is sent.
    Board,
}

/// What a fault holds back, and until which step.
struct Held {
    until: u64,
    from: Initiator,
    remote: bool,
    cargo: Cargo,
}

pub(super) struct Machine {
    places: Vec<Place>,
    buffers: [StoreBuffer; 3],
    /// What travels towards each side.
    posted: [VecDeque<Cargo>; 2],
    /// Interrupts, where they have a path of their own.
    interrupts: VecDeque<Cargo>,
    /// What each side's processor may still see.
    past: [Past; 2],
    /// The board processor's.
    cache: Cache,
    held: Vec<Held>,
    pool: Pool,
    schedule: Schedule,
    settings: Instrument,
    board: Arc<Presence>,
    meter: Arc<Meter>,
    hook: Option<Box<dyn FaultHook>>,
    /// Accesses made, for hooks.
    made: [u64; 3],
    rung: u64,
    raised: u64,
    steps: u64,
    now: u64,
}

impl Machine {
    pub(super) fn new(settings: Instrument, board: Arc<Presence>, meter: Arc<Meter>) -> Self {
        Self {
            places: Vec::new(),
            buffers: Default::default(),
            posted: Default::default(),
            interrupts: VecDeque::new(),
            past: Default::default(),
            cache: Cache::default(),
            held: Vec::new(),
            pool: Pool::default(),
            schedule: Schedule::new(settings.seed, settings.profile),
            settings,
            board,
            meter,
            hook: None,
            made: [0; 3],
            rung: 0,
            raised: 0,
            steps: 0,
            now: 0,
        }
    }

    /// Adds a memory of `len` zeroed bytes, and drops those that nobody can
    /// reach any more.
    pub(super) fn add_memory(
        &mut self,
        len: usize,
        make: impl FnOnce(usize) -> Arc<Memory>,
    ) -> Arc<Memory> {
        for place in &mut self.places {
            let unused = |memory: &Arc<Memory>| !memory.is_live() && Arc::strong_count(memory) == 1;
            if place.memory.as_ref().is_some_and(unused) {
                *place = Place { bytes: Box::default(), memory: None };
            }
        }
        let memory = make(self.places.len());
        self.places.push(Place { bytes: vec![0; len].into(), memory: Some(Arc::clone(&memory)) });
        memory
    }

    /// One step: some stores leave their buffers, some posted writes arrive.
    fn step(&mut self) {
        self.steps += 1;
        self.schedule.step();
        self.cache_step();
        if !self.held.is_empty() {
            self.release(self.steps);
        }
        for who in Initiator::ALL {
            while !self.buffers[who.index()].is_empty() && self.schedule.leaves(who.index()) {
                self.leave(who);
            }
        }
        for side in [Side::Host, Side::Board] {
            let index = side.index();
            while !self.posted[index].is_empty() && self.schedule.arrives(index) {
                self.arrive(side);
            }
        }
        while !self.interrupts.is_empty() && self.schedule.arrives(Side::Host.index()) {
            if let Some(cargo) = self.interrupts.pop_front() {
                self.deliver(cargo, Side::Host);
            }
        }
    }

    /// Sends on what faults have held back until step `steps`.
    fn release(&mut self, steps: u64) {
        while let Some(index) = self.held.iter().position(|held| held.until <= steps) {
            let Held { from, remote, cargo, .. } = self.held.remove(index);
            self.dispatch(from, cargo, remote);
        }
    }

    /// One store leaves the buffer of `who`, if there is one.
    fn leave(&mut self, who: Initiator) -> bool {
        let Some((cargo, remote)) = self.buffers[who.index()].leave(&mut self.schedule) else {
            return false;
        };
        self.dispatch(who, cargo, remote);
        true
    }

    /// All remote stores of `who` leave, and whatever must leave before them.
    fn push_out(&mut self, who: Initiator) {
        while let Some((cargo, remote)) =
            self.buffers[who.index()].leave_for_remote(&mut self.schedule)
        {
            self.dispatch(who, cargo, remote);
        }
    }

    /// A store has left its buffer: into memory, or onto the bus.
    fn dispatch(&mut self, who: Initiator, cargo: Cargo, remote: bool) {
        if !remote {
            if let Cargo::Write(range, data) = cargo {
                self.commit(range, data, Some(who));
            }
            return;
        }
        let side = who.home().other();
        if side == Side::Host && self.board.is_silent() {
            return;
        }
        if matches!(cargo, Cargo::Interrupt(_)) && self.settings.order.separate_interrupts {
            self.interrupts.push_back(cargo);
            return;
        }
        if self.posted[side.index()].len() >= QUEUE_CAPACITY {
            self.arrive(side);
        }
        self.posted[side.index()].push_back(cargo);
    }

    /// The oldest posted write towards `side` arrives (with relaxed ordering
    /// any), if there is one.
    fn arrive(&mut self, side: Side) -> bool {
        let queue = &mut self.posted[side.index()];
        let mut index = 0;
        if self.settings.order.relaxed_writes && !queue.is_empty() {
            index = self.schedule.index_below(queue.len());
            if !matches!(queue.get(index), Some(Cargo::Write(..))) {
                // Notifications do not carry the relaxed-ordering bit.
                index = 0;
            }
        }
        let Some(cargo) = queue.remove(index) else {
            return false;
        };
        self.deliver(cargo, side);
        true
    }

    /// Everything that is on the bus towards `side` arrives.
    fn arrive_all(&mut self, side: Side) {
        while self.arrive(side) {}
    }

    /// A posted write has crossed the bus.
    fn deliver(&mut self, cargo: Cargo, side: Side) {
        if side == Side::Board && self.board.is_dead() {
            return;
        }
        match cargo {
            Cargo::Doorbell(index) => self.rung |= 1 << index,
            Cargo::Interrupt(vector) => self.raised |= 1 << vector,
            Cargo::Write(range, data) => {
                let allowed = match &self.places[range.memory].memory {
                    Some(memory) if side == Side::Host => {
                        memory.is_live() && memory.rights.contains(Rights::WRITE)
                    }
                    memory => memory.is_some(),
                };
                if allowed {
                    self.commit(range, data, None);
                } else {
                    self.meter.iommu_fault();
                    self.pool.take_back(data);
                }
            }
        }
    }

    /// Bytes reach memory. `by`: the initiator whose own memory it is.
    fn commit(&mut self, range: Range, mut data: Data, by: Option<Initiator>) {
        let place = &mut self.places[range.memory];
        let Some(home) = place.memory.as_ref().map(|memory| memory.home) else {
            return;
        };
        let there = &mut place.bytes[range.at..range.at + range.len];
        there.swap_with_slice(data.bytes_mut());
        // What was there is now in `data`.
        let past = &mut self.past[home.index()];
        match by {
            Some(Initiator::HostCpu | Initiator::BoardCpu) => {
                past.forget(&range, &mut self.pool);
                self.pool.take_back(data);
            }
            Some(Initiator::BoardDma) | None => past.remember(range, data, &mut self.pool),
        }
    }

    pub(super) fn barrier(&mut self, who: Initiator, barrier: Barrier) {
        if barrier == Barrier::Write {
            self.buffers[who.index()].fence();
            return;
        }
        if who != Initiator::BoardDma {
            self.past[who.home().index()].clear(&mut self.pool);
        }
        if barrier == Barrier::Full {
            while self.leave(who) {}
        }
    }

    /// What the hook does to an access, where a mere [`Fault`] is left to do.
    fn consult(&mut self, access: Access) -> Option<Fault> {
        let hook = self.hook.as_mut()?;
        match hook.access(&access)? {
            Fault::Stall(ns) => self.meter.stalled(access.initiator, access.plane, ns),
            Fault::KillBoard => self.board.die(),
            Fault::UnplugBoard => self.board.unplug(),
            fault => return Some(fault),
        }
        None
    }

    /// Whether a remote load gets an answer.
    fn answers(&self, memory: &Memory) -> bool {
        self.board.reaches(&self.meter, memory, Rights::READ)
    }

    pub(super) fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step();
        }
    }

    pub(super) fn tick(&mut self, now: u64) {
        self.now = now;
        self.step();
    }

    pub(super) fn settle(&mut self) {
        self.release(u64::MAX);
        for who in Initiator::ALL {
            while self.leave(who) {}
        }
        for side in [Side::Host, Side::Board] {
            self.arrive_all(side);
        }
        while let Some(cargo) = self.interrupts.pop_front() {
            self.deliver(cargo, Side::Host);
        }
        for past in &mut self.past {
            past.clear(&mut self.pool);
        }
    }

    /// The board starts over: what is in its buffers is lost and, where the
    /// bus was reset too, what is on the bus.
    pub(super) fn reset(&mut self, by: Reset) {
        for who in [Initiator::BoardCpu, Initiator::BoardDma] {
            self.buffers[who.index()].clear();
        }
        self.posted[Side::Board.index()].clear();
        if by == Reset::Bus {
            self.posted[Side::Host.index()].clear();
            self.interrupts.clear();
            self.held.clear();
        }
        self.past[Side::Board.index()].clear(&mut self.pool);
        self.cache.clear();
        self.rung = 0;
    }

    /// The memory `id` loses what it held.
    pub(super) fn wipe(&mut self, id: usize) {
        if let Some(place) = self.places.get_mut(id) {
            place.bytes.fill(0);
        }
    }

    pub(super) fn set_hook(&mut self, hook: Option<Box<dyn FaultHook>>) {
        self.hook = hook;
    }
}
