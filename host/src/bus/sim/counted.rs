//! Counted mode's notifications: eventfds, and one word for the doorbells.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// An eventfd that never blocks.
#[derive(Debug)]
pub(super) struct Event(EventFd);

impl Event {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(EventFd::from_value_and_flags(0, flags)?))
    }

    /// Makes it readable. It can only fail where 2^64 - 2 are pending, and
    /// then it is readable.
    pub(super) fn signal(&self) {
        let _ = self.0.write(1);
    }

    /// Whether it was signalled since the last time.
    pub(super) fn drain(&self) -> bool {
        self.0.read().is_ok()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Doorbells and interrupts between threads.
#[derive(Debug)]
pub(super) struct Signals {
    rung: AtomicU64,
    doorbell: Event,
    /// How often `doorbell` was signalled, and how much of that was drained.
    sent: AtomicU64,
    drained: AtomicU64,
    vectors: Vec<Event>,
}

impl Signals {
    pub(super) fn new(vectors: u16) -> io::Result<Self> {
        let vectors = (0..vectors).map(|_| Event::new()).collect::<io::Result<_>>()?;
        Ok(Self {
            rung: AtomicU64::new(0),
            doorbell: Event::new()?,
            sent: AtomicU64::new(0),
            drained: AtomicU64::new(0),
            vectors,
        })
    }

    /// The bit is set before the event is signalled, and taken after it is
    /// drained, so that none is lost.
    pub(super) fn ring(&self, index: u16) {
        self.rung.fetch_or(1 << index, Ordering::SeqCst);
        self.wake();
    }

    /// Wakes the board without a doorbell.
    pub(super) fn wake(&self) {
        self.doorbell.signal();
        self.sent.fetch_add(1, Ordering::SeqCst);
    }

    /// For one thread at a time. `sent` counts after the signal: what a drain
    /// came too early for is drained the next time, and a busy board with
    /// nothing rung makes no system call.
    pub(super) fn take_doorbells(&self) -> u64 {
        let sent = self.sent.load(Ordering::SeqCst);
        if self.rung.load(Ordering::SeqCst) == 0 && self.drained.load(Ordering::Relaxed) == sent {
            return 0;
        }
        self.drained.store(sent, Ordering::Relaxed);
        self.doorbell.drain();
        self.rung.swap(0, Ordering::SeqCst)
    }

    /// Takes back what has rung; from any thread.
    pub(super) fn forget_doorbells(&self) {
        self.rung.store(0, Ordering::SeqCst);
    }

    pub(super) fn doorbell_fd(&self) -> BorrowedFd<'_> {
        self.doorbell.fd()
    }

    pub(super) fn raise(&self, vector: u16) {
        if let Some(event) = self.vectors.get(usize::from(vector)) {
            event.signal();
        }
    }

    pub(super) fn vector(&self, vector: u16) -> Option<&Event> {
        self.vectors.get(usize::from(vector))
    }
}
