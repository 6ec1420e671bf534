//! Instrument mode.

use std::sync::Arc;

use shared::window::Barrier;

use super::access::Initiator;
use super::core::BoardState;
use super::faults::FaultHook;
use super::memory::Memory;
use super::meter::Meter;
use super::options::Instrument;
use super::window::usize_of;

#[expect(dead_code, reason = "the next commit fills this in")]
pub(super) struct Machine {
    memories: Vec<Box<[u8]>>,
    settings: Instrument,
    board: Arc<BoardState>,
    meter: Arc<Meter>,
    hook: Option<Box<dyn FaultHook>>,
    rung: u64,
    raised: u64,
    now: u64,
}

impl Machine {
    pub(super) fn new(settings: Instrument, board: Arc<BoardState>, meter: Arc<Meter>) -> Self {
        Self {
            memories: Vec::new(),
            settings,
            board,
            meter,
            hook: None,
            rung: 0,
            raised: 0,
            now: 0,
        }
    }

    pub(super) fn add_memory(
        &mut self,
        len: usize,
        make: impl FnOnce(usize) -> Arc<Memory>,
    ) -> Arc<Memory> {
        self.memories.push(vec![0; len].into());
        make(self.memories.len() - 1)
    }

    pub(super) fn load(&mut self, who: Initiator, memory: &Memory, at: u64, len: usize) -> u64 {
        let _ = who;
        let mut word = [0; 8];
        let at = usize_of(at);
        word[..len].copy_from_slice(&self.memories[memory.id][at..at + len]);
        u64::from_le_bytes(word)
    }

    pub(super) fn store(
        &mut self,
        who: Initiator,
        memory: &Arc<Memory>,
        at: u64,
        len: usize,
        value: u64,
    ) {
        self.write(who, memory, at, &value.to_le_bytes()[..len]);
    }

    pub(super) fn read(&mut self, who: Initiator, memory: &Memory, at: u64, into: &mut [u8]) {
        let _ = who;
        let at = usize_of(at);
        into.copy_from_slice(&self.memories[memory.id][at..at + into.len()]);
    }

    pub(super) fn write(&mut self, who: Initiator, memory: &Arc<Memory>, at: u64, from: &[u8]) {
        let _ = who;
        let at = usize_of(at);
        self.memories[memory.id][at..at + from.len()].copy_from_slice(from);
    }

    pub(super) fn barrier(&mut self, who: Initiator, barrier: Barrier) {
        let _ = (who, barrier);
    }

    pub(super) fn ring(&mut self, index: u16) {
        self.rung |= 1 << index;
    }

    pub(super) fn raise(&mut self, vector: u16) {
        self.raised |= 1 << vector;
    }

    pub(super) fn take_doorbells(&mut self) -> u64 {
        std::mem::take(&mut self.rung)
    }

    pub(super) fn take_interrupt(&mut self, vector: u16) -> bool {
        let bit = 1 << vector;
        let was = self.raised & bit != 0;
        self.raised &= !bit;
        was
    }

    pub(super) fn run(&mut self, steps: u64) {
        let _ = steps;
    }

    pub(super) fn tick(&mut self, now: u64) {
        self.now = now;
    }

    pub(super) fn settle(&mut self) {}

    pub(super) fn reset(&mut self) {
        self.rung = 0;
        self.raised = 0;
    }

    pub(super) fn set_hook(&mut self, hook: Option<Box<dyn FaultHook>>) {
        self.hook = hook;
    }
}
