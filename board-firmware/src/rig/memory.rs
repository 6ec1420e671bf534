//! Memory as a window, and a board that remembers what it was told.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use shared::msg::body::{RegionMessage, ResultCode};
use shared::window::{Barrier, Window, Word, fits};

use crate::support::{BoardSupport, Doorbells};

/// A window over memory of its own; clones and parts see the same memory.
/// Words outside or misaligned are a bug of the caller here, and panic.
#[derive(Clone)]
pub(crate) struct Memory {
    bytes: Rc<RefCell<Vec<u8>>>,
    start: usize,
    len: usize,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({}..{})", self.start, self.start + self.len)
    }
}

impl Memory {
    pub(crate) fn new(len: u64) -> Self {
        let len = usize::try_from(len).unwrap();
        // Rubbish: who needs zeros must write them.
        Self { bytes: Rc::new(RefCell::new(vec![0xA5; len])), start: 0, len }
    }

    fn place(&self, offset: u64, len: usize) -> std::ops::Range<usize> {
        assert!(fits(self.len as u64, offset, len as u64), "{offset:#x}+{len:#x} in {self:?}");
        let start = self.start + usize::try_from(offset).unwrap();
        start..start + len
    }

    /// All bytes, for comparing before and after.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        self.bytes.borrow()[self.start..self.start + self.len].to_vec()
    }
}

impl Window for Memory {
    fn len(&self) -> u64 {
        self.len as u64
    }

    fn load<T: Word>(&self, offset: u64) -> T {
        assert!(offset.is_multiple_of(T::BYTES));
        let mut word = [0; 8];
        let len = usize::try_from(T::BYTES).unwrap();
        word[..len].copy_from_slice(&self.bytes.borrow()[self.place(offset, len)]);
        T::from_u64(u64::from_le_bytes(word))
    }

    fn store<T: Word>(&self, offset: u64, value: T) {
        assert!(offset.is_multiple_of(T::BYTES));
        let len = usize::try_from(T::BYTES).unwrap();
        let place = self.place(offset, len);
        self.bytes.borrow_mut()[place].copy_from_slice(&value.to_u64().to_le_bytes()[..len]);
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        into.copy_from_slice(&self.bytes.borrow()[self.place(offset, into.len())]);
    }

    fn write(&self, offset: u64, from: &[u8]) {
        let place = self.place(offset, from.len());
        self.bytes.borrow_mut()[place].copy_from_slice(from);
    }

    fn barrier(&self, _: Barrier) {}

    fn part(&self, offset: u64, len: u64) -> Option<Self> {
        if !offset.is_multiple_of(8) || !fits(self.len(), offset, len) {
            return None;
        }
        let place = self.place(offset, usize::try_from(len).unwrap());
        Some(Self { bytes: Rc::clone(&self.bytes), start: place.start, len: place.len() })
    }
}

/// A board without a bus: remembers interrupts, has no doorbells.
#[derive(Debug, Default)]
pub(crate) struct FakeBoard {
    pub(crate) raised: Vec<u16>,
    /// Cache lines written back, and dropped: offset and length of each call.
    pub(crate) cleaned: Vec<(u64, u32)>,
    pub(crate) invalidated: Vec<(u64, u32)>,
    /// Transfers under way, by an engine that counts them; none may be when
    /// frames are announced.
    pub(crate) under_way: Rc<Cell<usize>>,
}

impl BoardSupport for FakeBoard {
    type Window = Memory;

    fn open_region(&mut self, _: &RegionMessage) -> Result<Memory, ResultCode> {
        Err(ResultCode::NotAllowed)
    }

    fn close_region(&mut self, _: u32) {}

    fn take_doorbells(&mut self) -> Doorbells {
        Doorbells::NONE
    }

    fn raise(&mut self, vector: u16) {
        // Vector 1 is the receiveq's in every test.
        assert!(vector != 1 || self.under_way.get() == 0, "announced before it arrived");
        self.raised.push(vector);
    }

    fn clean(&mut self, _: &Memory, offset: u64, len: u32) {
        self.cleaned.push((offset, len));
    }

    fn invalidate(&mut self, _: &Memory, offset: u64, len: u32) {
        self.invalidated.push((offset, len));
    }
}

/// Memory for a test's whole life.
pub(crate) fn leak<T: Clone + Default>(len: usize) -> &'static mut [T] {
    Box::leak(vec![T::default(); len].into_boxed_slice())
}
