//! The DMA engine: [`DmaEngine`]. Without one use [`board::dma::CpuCopy`], and
//! leave this file out.
//!
//! Every transfer is over when its call returns; short ones the processor
//! makes. Payload passes through memory that is never cached, so the engine
//! needs no cache maintenance, and no alignment but this memory's.

use board::dma::{DmaEngine, DmaError};
use shared::raw::BusWindow;
use shared::window::{Barrier, Window, fits};

use crate::machine;
use crate::raw::ENGINE;
use crate::soc::{BOUNCE_LEN, engine};
use crate::window::TwoMappings;

const BUSY: u32 = 1;
const REFUSED: u32 = 2;
const START: u32 = 1;
const ABORT: u32 = 2;

/// The engine, with the memory that it copies to and from.
pub(crate) struct Engine {
    bounce: BusWindow,
}

impl Engine {
    /// The engine, stopped, whatever the last boot left it at.
    pub(crate) fn new(bounce: BusWindow) -> Self {
        ENGINE.write(engine::CONTROL, ABORT);
        let engine = Self { bounce };
        // Bounded; one that never ends its last transfer fails its next one.
        let _ = engine.wait();
        ENGINE.write(engine::STATUS, REFUSED);
        engine
    }

    /// Copies `len` bytes, both addresses as the processor has them.
    ///
    /// Look up: whether the engine sees these addresses (or bus addresses, then
    /// take the region's), its limits of length and alignment, what a
    /// completion timeout or an unsupported request looks like, and whether it
    /// is cleared by an abort.
    #[expect(clippy::cast_possible_truncation, reason = "addresses of this processor have 32 bits")]
    fn copy(&self, source: usize, target: usize, len: usize) -> Result<(), DmaError> {
        // Behind all that the processor stored: the bounce memory, a post before this.
        self.bounce.barrier(Barrier::Full);
        ENGINE.write(engine::SOURCE, source as u32);
        ENGINE.write(engine::TARGET, target as u32);
        ENGINE.write(engine::LEN, len as u32);
        ENGINE.write(engine::CONTROL, START);
        let status = self.wait();
        self.bounce.barrier(Barrier::Full);
        match status {
            Some(status) if status & REFUSED != 0 => {
                ENGINE.write(engine::STATUS, REFUSED);
                Err(DmaError::Bus)
            }
            Some(_) => Ok(()),
            None => {
                ENGINE.write(engine::CONTROL, ABORT);
                let _ = self.wait();
                ENGINE.write(engine::STATUS, REFUSED);
                Err(DmaError::Timeout)
            }
        }
    }

    /// Waits for the end of a transfer: the status then, or `None`.
    fn wait(&self) -> Option<u32> {
        let end = machine::now_us() + engine::PATIENCE_US;
        loop {
            let status = ENGINE.read(engine::STATUS);
            if status & BUSY == 0 {
                return Some(status);
            }
            if machine::now_us() > end {
                return None;
            }
        }
    }
}

/// Where the processor finds what lies at `offset`, if `len` bytes of it fit.
fn address(window: &TwoMappings, offset: u64, len: usize) -> Result<usize, DmaError> {
    let offset_here =
        usize::try_from(offset).ok().filter(|_| fits(window.len(), offset, len as u64));
    Ok(window.address() + offset_here.ok_or(DmaError::Unreachable)?)
}

impl DmaEngine<TwoMappings> for Engine {
    fn fetch(&mut self, from: &TwoMappings, offset: u64, into: &mut [u8]) -> Result<(), DmaError> {
        let mut source = address(from, offset, into.len())?;
        if into.len() < engine::LEAST {
            from.read(offset, into);
            return Ok(());
        }
        for piece in into.chunks_mut(BOUNCE_LEN) {
            self.copy(source, self.bounce.as_ptr().addr(), piece.len())?;
            self.bounce.read(0, piece);
            source += piece.len();
        }
        Ok(())
    }

    fn post(&mut self, from: &[u8], to: &TwoMappings, offset: u64) -> Result<(), DmaError> {
        let mut target = address(to, offset, from.len())?;
        if from.len() < engine::LEAST {
            to.write(offset, from);
            return Ok(());
        }
        for piece in from.chunks(BOUNCE_LEN) {
            self.bounce.write(0, piece);
            self.copy(self.bounce.as_ptr().addr(), target, piece.len())?;
            target += piece.len();
        }
        Ok(())
    }

    /// Look up: whether "not busy" means that the PCIe controller has accepted
    /// the last write, on the way that the processor's own writes take. If
    /// not, read the last word of the last post back here.
    fn finish(&mut self) -> Result<(), DmaError> {
        Ok(())
    }

    fn drain(&mut self) {
        if self.wait().is_none() {
            // An engine that cannot be stopped must not outlive its session.
            machine::reset();
        }
    }
}
