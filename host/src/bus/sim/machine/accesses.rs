//! The accesses themselves.

use std::sync::Arc;

use super::{Cargo, Data, Fault, Held, Machine, Range};
use crate::bus::bill::{Initiator, Plane, Side};
use crate::bus::sim::access::{Access, AccessKind};
use crate::bus::sim::memory::{Memory, usize_of};

/// Where an access goes. Windows have checked that it fits.
#[derive(Clone, Copy)]
pub(in crate::bus::sim) struct Target<'a> {
    pub(in crate::bus::sim) who: Initiator,
    pub(in crate::bus::sim) memory: &'a Arc<Memory>,
    pub(in crate::bus::sim) at: u64,
}

impl Target<'_> {
    fn is_remote(&self) -> bool {
        self.who.home() != self.memory.home
    }

    pub(super) fn range(&self, len: usize) -> Range {
        Range { memory: self.memory.id, at: usize_of(self.at), len }
    }
}

/// The first eight bytes as a word, for hooks.
fn first_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    u64::from_le_bytes(word)
}

fn set_first_word(bytes: &mut [u8], word: u64) {
    let len = bytes.len().min(8);
    bytes[..len].copy_from_slice(&word.to_le_bytes()[..len]);
}

/// Changes a word or payload as the fault says.
pub(super) fn change(bytes: &mut [u8], fault: Option<Fault>) {
    match fault {
        Some(Fault::Replace(word)) => set_first_word(bytes, word),
        Some(Fault::Flip(bits)) => {
            let word = first_word(bytes) ^ bits;
            set_first_word(bytes, word);
        }
        _ => {}
    }
}

impl Machine {
    pub(in crate::bus::sim) fn load(&mut self, target: Target<'_>, len: usize) -> u64 {
        let mut word = [0; 8];
        self.load_bytes(target, AccessKind::Load, &mut word[..len]);
        u64::from_le_bytes(word)
    }

    pub(in crate::bus::sim) fn read(&mut self, target: Target<'_>, into: &mut [u8]) {
        self.load_bytes(target, AccessKind::PayloadLoad, into);
    }

    fn load_bytes(&mut self, target: Target<'_>, kind: AccessKind, into: &mut [u8]) {
        self.step();
        let range = target.range(into.len());
        let (first, second) = range.split(self.schedule.tear(range.len));
        let (low, high) = into.split_at_mut(first.len);
        self.load_part(target, first, low);
        if !high.is_empty() {
            self.step();
            self.load_part(target, second, high);
        }
        let fault = self.fault_at(target, kind, into);
        change(into, fault);
        let died = target.is_remote() && target.memory.home == Side::Board && self.board.is_dead();
        if died || fault == Some(Fault::Drop) {
            into.fill(0xFF);
        }
    }

    fn load_part(&mut self, target: Target<'_>, range: Range, into: &mut [u8]) {
        if target.is_remote() {
            return self.load_across(target, range, into);
        }
        self.load_local(target.who, range, into);
    }

    /// A load from own memory.
    pub(super) fn load_local(&mut self, who: Initiator, range: Range, into: &mut [u8]) {
        self.look(&range, into);
        if who != Initiator::BoardDma {
            let past = &mut self.past[who.home().index()];
            past.overlay(&range, into, &mut self.schedule, &mut self.pool);
        }
        self.buffers[who.index()].forward(&range, into);
    }

    /// A load across the bus: it pushes what is posted each way ahead of it.
    fn load_across(&mut self, target: Target<'_>, range: Range, into: &mut [u8]) {
        if !self.answers(target.memory) {
            into.fill(0xFF);
            return;
        }
        let order = self.settings.order;
        let there = target.memory.home;
        if !order.relaxed_requests {
            self.push_out(target.who);
            self.arrive_all(there);
        }
        self.look(&range, into);
        if !order.relaxed_completions {
            self.arrive_all(there.other());
        }
    }

    fn look(&self, range: &Range, into: &mut [u8]) {
        into.copy_from_slice(&self.places[range.memory].bytes[range.at..range.at + range.len]);
    }

    pub(in crate::bus::sim) fn store(&mut self, target: Target<'_>, len: usize, value: u64) {
        self.step();
        let mut data = Data::Word(value.to_le_bytes(), len);
        let fault = self.fault_at(target, AccessKind::Store, data.bytes());
        change(data.bytes_mut(), fault);
        let cargo = Cargo::Write(target.range(len), data);
        self.accept(target.who, cargo, target.is_remote(), fault);
    }

    pub(in crate::bus::sim) fn write(&mut self, target: Target<'_>, from: &[u8]) {
        self.step();
        let fault = self.fault_at(target, AccessKind::PayloadStore, from);
        let range = target.range(from.len());
        let (first, second) = range.split(self.schedule.tear(range.len));
        let (low, high) = from.split_at(first.len);
        for (range, bytes, fault_of_word) in [(first, low, fault), (second, high, None)] {
            if !bytes.is_empty() {
                let mut data = self.pool.copy_of(bytes);
                change(data.bytes_mut(), fault_of_word);
                self.accept(target.who, Cargo::Write(range, data), target.is_remote(), fault);
            }
        }
    }

    /// Takes a store into its buffer, unless a fault has it otherwise.
    pub(super) fn accept(
        &mut self,
        who: Initiator,
        cargo: Cargo,
        remote: bool,
        fault: Option<Fault>,
    ) {
        match fault {
            Some(Fault::Drop) => {}
            Some(Fault::Delay(steps)) => self.hold(who, cargo, remote, steps),
            _ => {
                if self.buffers[who.index()].is_full() {
                    self.leave(who);
                }
                self.buffers[who.index()].push(cargo, remote);
            }
        }
    }

    fn hold(&mut self, from: Initiator, cargo: Cargo, remote: bool, steps: u64) {
        let until = self.steps.saturating_add(steps);
        self.held.push(Held { until, from, remote, cargo });
    }

    /// Counts an access and asks the hook about it.
    pub(super) fn fault_at(
        &mut self,
        target: Target<'_>,
        kind: AccessKind,
        bytes: &[u8],
    ) -> Option<Fault> {
        let nth = self.count(target.who);
        self.hook.as_ref()?;
        self.consult(Access {
            initiator: target.who,
            plane: target.memory.labels.plane(target.at),
            kind,
            target: target.memory.home,
            address: target.memory.base + target.at,
            len: bytes.len() as u64,
            value: first_word(bytes),
            nth,
            now: self.now,
        })
    }

    fn count(&mut self, who: Initiator) -> u64 {
        let made = &mut self.made[who.index()];
        *made += 1;
        *made - 1
    }

    fn fault_at_notification(&mut self, who: Initiator, number: u16) -> Option<Fault> {
        let nth = self.count(who);
        self.hook.as_ref()?;
        let kind = match who {
            Initiator::HostCpu => AccessKind::Doorbell,
            _ => AccessKind::Interrupt,
        };
        self.consult(Access {
            initiator: who,
            plane: Plane::of_notification(number.into()),
            kind,
            target: who.home().other(),
            address: number.into(),
            len: 4,
            value: number.into(),
            nth,
            now: self.now,
        })
    }

    /// A doorbell: a store like others, behind a write barrier.
    pub(in crate::bus::sim) fn ring(&mut self, index: u16) {
        self.step();
        let who = Initiator::HostCpu;
        let fault = self.fault_at_notification(who, index);
        self.buffers[who.index()].fence();
        if let Some(Fault::Duplicate(steps)) = fault {
            self.hold(who, Cargo::Doorbell(index), true, steps);
        }
        self.accept(who, Cargo::Doorbell(index), true, fault);
    }

    /// An interrupt: onto the bus at once, behind what the board has stored.
    pub(in crate::bus::sim) fn raise(&mut self, vector: u16) {
        self.step();
        let who = Initiator::BoardCpu;
        let fault = self.fault_at_notification(who, vector);
        let order = self.settings.order;
        if !order.interrupt_ignores_cpu {
            self.push_out(Initiator::BoardCpu);
        }
        if !order.interrupt_ignores_dma {
            self.push_out(Initiator::BoardDma);
        }
        match fault {
            Some(Fault::Drop) => return,
            Some(Fault::Delay(steps)) => {
                return self.hold(who, Cargo::Interrupt(vector), true, steps);
            }
            Some(Fault::Duplicate(steps)) => {
                self.hold(who, Cargo::Interrupt(vector), true, steps);
            }
            _ => {}
        }
        self.dispatch(who, Cargo::Interrupt(vector), true);
    }

    pub(in crate::bus::sim) fn take_doorbells(&mut self) -> u64 {
        self.step();
        std::mem::take(&mut self.rung)
    }

    pub(in crate::bus::sim) fn take_interrupt(&mut self, vector: u16) -> bool {
        self.step();
        let bit = 1 << vector;
        let was = self.raised & bit != 0;
        self.raised &= !bit;
        was
    }
}
