//! The board as the kit reaches it: any bus, behind one face that needs no
//! type parameter.
//!
//! Nothing here decides anything; what a load gives is the board's word, and
//! the board is taken for hostile.

use std::rc::Rc;

use shared::address::BusAddress;
use shared::link::{BarLengths, DoorbellDescription};
use shared::raw::StoreWidth;
use shared::region::Rights;
use shared::window::{Barrier, Window, Word, fits};

use crate::bus::{Bus, BusError, Latch, Ring};

/// Memory that both sides see, without a type parameter.
trait Memory {
    fn bytes(&self) -> u64;
    fn load_32(&self, at: u64) -> u32;
    fn load_64(&self, at: u64) -> u64;
    fn store_32(&self, at: u64, value: u32);
    fn store_64(&self, at: u64, value: u64);
    fn copy_from(&self, at: u64, into: &mut [u8]);
    fn copy_to(&self, at: u64, from: &[u8]);
    fn order(&self, barrier: Barrier);
}

impl<W: Window> Memory for W {
    fn bytes(&self) -> u64 {
        self.len()
    }

    fn load_32(&self, at: u64) -> u32 {
        self.load(at)
    }

    fn load_64(&self, at: u64) -> u64 {
        self.load(at)
    }

    fn store_32(&self, at: u64, value: u32) {
        self.store(at, value);
    }

    fn store_64(&self, at: u64, value: u64) {
        self.store(at, value);
    }

    fn copy_from(&self, at: u64, into: &mut [u8]) {
        self.read(at, into);
    }

    fn copy_to(&self, at: u64, from: &[u8]) {
        self.write(at, from);
    }

    fn order(&self, barrier: Barrier) {
        self.barrier(barrier);
    }
}

/// A stretch of memory that both sides see.
#[derive(Clone)]
pub(super) struct Shared {
    memory: Rc<dyn Memory>,
    start: u64,
    len: u64,
}

impl Shared {
    fn new<W: Window + 'static>(window: W) -> Self {
        let memory: Rc<dyn Memory> = Rc::new(window);
        let len = memory.bytes();
        Self { memory, start: 0, len }
    }
}

impl Window for Shared {
    fn len(&self) -> u64 {
        self.len
    }

    fn load<T: Word>(&self, offset: u64) -> T {
        if !fits(self.len, offset, T::BYTES) {
            return T::ALL_ONES;
        }
        let at = self.start + offset;
        T::from_u64(match T::BYTES {
            4 => self.memory.load_32(at).into(),
            _ => self.memory.load_64(at),
        })
    }

    fn store<T: Word>(&self, offset: u64, value: T) {
        if !fits(self.len, offset, T::BYTES) {
            return;
        }
        let at = self.start + offset;
        match T::BYTES {
            4 => self.memory.store_32(at, u32::from_u64(value.to_u64())),
            _ => self.memory.store_64(at, value.to_u64()),
        }
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        if fits(self.len, offset, into.len() as u64) {
            self.memory.copy_from(self.start + offset, into);
        } else {
            into.fill(u8::MAX);
        }
    }

    fn write(&self, offset: u64, from: &[u8]) {
        if fits(self.len, offset, from.len() as u64) {
            self.memory.copy_to(self.start + offset, from);
        }
    }

    fn barrier(&self, barrier: Barrier) {
        self.memory.order(barrier);
    }

    fn part(&self, offset: u64, len: u64) -> Option<Self> {
        fits(self.len, offset, len).then(|| Self {
            memory: Rc::clone(&self.memory),
            start: self.start + offset,
            len,
        })
    }
}

/// A bus without its types.
pub(super) trait Card {
    /// The BARs' lengths, in bytes.
    fn bars(&self) -> BarLengths;
    /// A BAR's memory, stored to in words of at most `widest`.
    fn memory(&self, bar: u8, widest: StoreWidth) -> Result<Shared, BusError>;
    /// Host memory, and where the board reaches it.
    fn lend(&mut self, len: u64) -> Result<(BusAddress, Shared), BusError>;
    /// Takes all of it back.
    fn take_back(&mut self);
    /// A doorbell of the board's.
    fn bell(&self, described: &DoorbellDescription, index: u32) -> Result<Box<dyn Ring>, BusError>;
    /// A vector of ours.
    fn vector(&self, vector: u16) -> Result<Box<dyn Latch>, BusError>;
    /// Resets the board.
    fn restart(&mut self) -> Result<(), BusError>;
}

impl<B: Bus> Card for B {
    fn bars(&self) -> BarLengths {
        [0, 1, 2, 3, 4, 5].map(|bar| self.bar_len(bar))
    }

    fn memory(&self, bar: u8, widest: StoreWidth) -> Result<Shared, BusError> {
        self.bar(bar, widest).map(Shared::new)
    }

    fn lend(&mut self, len: u64) -> Result<(BusAddress, Shared), BusError> {
        let memory = self.share(len, Rights::READ_WRITE)?;
        Ok((memory.iova, Shared::new(memory.window)))
    }

    fn take_back(&mut self) {
        self.unshare_all();
    }

    fn bell(&self, described: &DoorbellDescription, index: u32) -> Result<Box<dyn Ring>, BusError> {
        Ok(Box::new(self.doorbell(described, index)?))
    }

    fn vector(&self, vector: u16) -> Result<Box<dyn Latch>, BusError> {
        Ok(Box::new(self.interrupt(vector)?))
    }

    fn restart(&mut self) -> Result<(), BusError> {
        self.reset()
    }
}
