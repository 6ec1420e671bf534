//! Memory for this crate's own tests: shared by both sides, with every load
//! counted and a hook behind each.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{Barrier, Window, Word, fits};

/// Called behind load number `k` (from 0) of the word at `offset`; may change memory.
type Hook = Box<dyn FnMut(usize, u64, &mut Vec<u8>)>;

#[derive(Default)]
struct Memory {
    bytes: RefCell<Vec<u8>>,
    loads: RefCell<Vec<u64>>,
    hook: RefCell<Option<Hook>>,
    dead: Cell<bool>,
    stores: Cell<u64>,
    /// Stores past this many are lost.
    store_limit: Cell<Option<u64>>,
}

/// A window on test memory.
#[derive(Clone)]
pub(crate) struct TestWindow {
    memory: Rc<Memory>,
    start: u64,
    len: u64,
}

impl std::fmt::Debug for TestWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "test memory {:#x}+{:#x}", self.start, self.len)
    }
}

impl TestWindow {
    pub(crate) fn new(len: u64) -> Self {
        let memory = Memory::default();
        memory.bytes.replace(vec![0; usize::try_from(len).unwrap()]);
        Self { memory: Rc::new(memory), start: 0, len }
    }

    /// Loads answer all ones from now on, or no longer.
    pub(crate) fn set_dead(&self, dead: bool) {
        self.memory.dead.set(dead);
    }

    /// Counts loads from 0 again and calls `hook` behind each.
    pub(crate) fn hook(&self, hook: impl FnMut(usize, u64, &mut Vec<u8>) + 'static) {
        self.memory.loads.borrow_mut().clear();
        self.memory.hook.replace(Some(Box::new(hook)));
    }

    pub(crate) fn unhook(&self) {
        self.memory.hook.replace(None);
    }

    /// Offsets of the loads since the last call or hook.
    pub(crate) fn take_loads(&self) -> Vec<u64> {
        self.memory.loads.take()
    }

    pub(crate) fn stores(&self) -> u64 {
        self.memory.stores.get()
    }

    /// Only the next `limit` stores reach memory.
    pub(crate) fn limit_stores(&self, limit: u64) {
        self.memory.stores.set(0);
        self.memory.store_limit.set(Some(limit));
    }

    fn stored(&self) -> bool {
        let count = self.memory.stores.get();
        self.memory.stores.set(count + 1);
        self.memory.store_limit.get().is_none_or(|limit| count < limit)
    }

    pub(crate) fn peek(&self, offset: u64) -> u32 {
        let at = usize::try_from(self.start + offset).unwrap();
        let bytes = self.memory.bytes.borrow();
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn poke(&self, offset: u64, value: u32) {
        let at = usize::try_from(self.start + offset).unwrap();
        self.memory.bytes.borrow_mut()[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn copy_out(&self) -> Vec<u8> {
        let at = usize::try_from(self.start).unwrap();
        self.memory.bytes.borrow()[at..at + usize::try_from(self.len).unwrap()].to_vec()
    }

    fn loaded(&self, offset: u64) {
        if let Some(hook) = self.memory.hook.borrow_mut().as_mut() {
            let k = self.memory.loads.borrow().len();
            self.memory.loads.borrow_mut().push(offset);
            hook(k, offset, &mut self.memory.bytes.borrow_mut());
        }
    }

    fn at(&self, offset: u64, len: u64) -> Option<usize> {
        fits(self.len, offset, len).then(|| usize::try_from(self.start + offset).unwrap())
    }
}

impl Window for TestWindow {
    fn len(&self) -> u64 {
        self.len
    }

    fn load<T: Word>(&self, offset: u64) -> T {
        let aligned = offset.is_multiple_of(T::BYTES);
        let Some(at) = self.at(offset, T::BYTES).filter(|_| aligned && !self.memory.dead.get())
        else {
            return T::ALL_ONES;
        };
        let mut word = [0; 8];
        let len = usize::try_from(T::BYTES).unwrap();
        word[..len].copy_from_slice(&self.memory.bytes.borrow()[at..at + len]);
        self.loaded(self.start + offset);
        T::from_u64(u64::from_le_bytes(word))
    }

    fn store<T: Word>(&self, offset: u64, value: T) {
        let Some(at) = self.at(offset, T::BYTES).filter(|_| offset.is_multiple_of(T::BYTES)) else {
            return;
        };
        let len = usize::try_from(T::BYTES).unwrap();
        let word = value.to_u64().to_le_bytes();
        if self.stored() {
            self.memory.bytes.borrow_mut()[at..at + len].copy_from_slice(&word[..len]);
        }
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        match self.at(offset, into.len() as u64).filter(|_| !self.memory.dead.get()) {
            Some(at) => {
                into.copy_from_slice(&self.memory.bytes.borrow()[at..at + into.len()]);
                self.loaded(self.start + offset);
            }
            None => into.fill(0xFF),
        }
    }

    fn write(&self, offset: u64, from: &[u8]) {
        if let Some(at) = self.at(offset, from.len() as u64).filter(|_| self.stored()) {
            self.memory.bytes.borrow_mut()[at..at + from.len()].copy_from_slice(from);
        }
    }

    fn barrier(&self, _: Barrier) {}

    fn part(&self, offset: u64, len: u64) -> Option<Self> {
        fits(self.len, offset, len).then(|| Self {
            memory: self.memory.clone(),
            start: self.start + offset,
            len,
        })
    }
}
