//! One queue pair: both directions, and the rules of sleeping.

use shared::fault::PeerFault;
use shared::link::LinkGuard;
use shared::window::Window;

use super::to_board::ToBoard;
use super::to_host::ToHost;
use super::{BUDGET, BridgeCounters, BridgeError, Moved};
use crate::bus::{Latch, Ring};
use crate::limit::RateLimit;
use crate::net::FramePort;

/// A look at the rings is due after this long while frames move (R4), in ms.
const LOOK_INTERVAL: u64 = 10;

/// The board may keep buffers on the way to it this long without returning
/// any, in ms; then it hangs, whatever its heartbeat says.
const STALL: u64 = 5000;

/// Wake-ups a second that find nothing before the board is no longer listened
/// to: an interrupt that a poll was faster than is one, a storm is many.
const EMPTY_WAKEUPS: u32 = 1000;

/// How long the interrupt of what a timer found may still come, in ms: longer
/// than anybody between the board's processor and this thread stands still.
const INTERRUPT_GRACE: u64 = 1000;

/// A frame that moved within this time counts as "frames move", in ms.
const RECENT: u64 = 1000;

/// The two directions of one virtio-net queue pair and its interrupts.
#[derive(Debug)]
pub struct QueuePair<W: Window, R, L> {
    /// Towards the board.
    pub to_board: ToBoard<W, R>,
    /// Towards the host.
    pub to_host: ToHost<W, R>,
    /// Raised by the board when it has used to_host buffers.
    pub to_host_interrupt: L,
    /// Raised by the board when it has used to_board buffers.
    pub to_board_interrupt: L,
    timer: Timer,
    guard: Option<LinkGuard<W>>,
    progress: Progress,
}

/// When the board last returned a buffer on the way to it, or held none.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    returned: u64,
    /// `None` before the first step.
    at: Option<u64>,
}

/// When to look at the rings although no interrupt came, and what such a
/// look means.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    idle_interval: u64,
    last_frame: Option<u64>,
    /// When a timer's look found work whose interrupt has not come yet, in ms.
    owed: Option<u64>,
    /// Interrupts that announced nothing.
    empty: RateLimit,
}

impl Timer {
    /// A timer that looks every `idle_interval` ms on an idle link.
    #[must_use]
    pub const fn new(idle_interval: u64) -> Self {
        let empty = RateLimit::new(EMPTY_WAKEUPS, 1000);
        Self { idle_interval, last_frame: None, owed: None, empty }
    }

    /// Whether interrupts may end a sleep that begins at `now` (ms). While
    /// too many announce nothing, looks go by time alone.
    #[must_use]
    pub fn listens(&self, now: u64) -> bool {
        !self.empty.is_reached(now)
    }

    /// How long to sleep at most from `now` on, in ms.
    #[must_use]
    pub fn interval(&self, now: u64, in_flight: bool) -> u64 {
        let recent = self.last_frame.is_some_and(|last| now.saturating_sub(last) < RECENT);
        let soon = in_flight || recent || !self.listens(now);
        if soon { LOOK_INTERVAL } else { self.idle_interval }
    }

    /// A wake-up at `now` (ms): whether an interrupt `announced` it, and whether
    /// a timer's look `found` work. `true`: an interrupt was never raised.
    fn settle(&mut self, now: u64, announced: bool, found: bool) -> bool {
        if announced {
            self.owed = None;
            return false;
        }
        let lost = self.owed.take_if(|since| now.saturating_sub(*since) >= INTERRUPT_GRACE);
        if found {
            self.owed.get_or_insert(now);
        }
        lost.is_some()
    }
}

impl<W: Window, R: Ring, L: Latch> QueuePair<W, R, L> {
    /// Puts a queue pair together.
    #[must_use]
    pub const fn new(
        to_board: ToBoard<W, R>,
        to_host: ToHost<W, R>,
        to_board_interrupt: L,
        to_host_interrupt: L,
        timer: Timer,
        guard: Option<LinkGuard<W>>,
    ) -> Self {
        let progress = Progress { returned: 0, at: None };
        Self { to_board, to_host, to_host_interrupt, to_board_interrupt, timer, guard, progress }
    }

    /// Moves frames both ways, at most [`BUDGET`] each, at time `now` (ms).
    ///
    /// # Errors
    /// The board broke the protocol, or the port failed.
    pub fn step(&mut self, now: u64, port: &mut impl FramePort<W>) -> Result<Moved, BridgeError> {
        // Rings of a session that is over are not to be believed.
        if let Some(guard) = &self.guard {
            guard.check().map_err(BridgeError::SessionOver)?;
        }
        let up = self.to_host.step(port, BUDGET)?;
        let down = self.to_board.step(port, BUDGET)?;
        let moved =
            Moved { frames: up.frames.saturating_add(down.frames), more: up.more || down.more };
        if moved.frames > 0 {
            self.timer.last_frame = Some(now);
        }
        self.watch_progress(now)?;
        Ok(moved)
    }

    fn watch_progress(&mut self, now: u64) -> Result<(), BridgeError> {
        let returned = self.to_board.returned();
        let waits = self.to_board.in_flight() && !self.to_board.held;
        if returned != self.progress.returned || !waits {
            self.progress = Progress { returned, at: Some(now) };
        }
        let idle = now.saturating_sub(*self.progress.at.get_or_insert(now));
        if idle < STALL { Ok(()) } else { Err(BridgeError::Stalled { for_ms: idle }) }
    }

    /// Gets ready to sleep (R4): drains the latches, arms the event words,
    /// looks once more. `true`: nothing is there, sleep until an interrupt,
    /// a frame from the port (unless [`ToBoard::is_full`]), or
    /// [`QueuePair::longest_sleep`]. Every wake-up starts this over.
    ///
    /// # Errors
    /// The board broke the protocol.
    pub fn prepare_sleep(&mut self) -> Result<bool, PeerFault> {
        if self.to_host_interrupt.drain() {
            self.timer.owed = None;
        }
        self.to_board_interrupt.drain();
        // Only when it is full does a used to_board buffer matter before the
        // next frame. One flush serves both queues.
        let full = self.to_board.waits_for_room();
        if self.to_host.held {
            return if full { self.to_board.queue.arm() } else { Ok(true) };
        }
        if full {
            self.to_board.queue.ask();
        }
        let quiet = self.to_host.queue.arm()?;
        Ok(quiet && (!full || self.to_board.queue.pending()? == 0))
    }

    /// How long a sleep may last, in ms, before the rings are looked at anyway.
    #[must_use]
    pub fn longest_sleep(&self, now: u64) -> u64 {
        self.timer.interval(now, self.to_board.in_flight())
    }

    /// Whether interrupts may end a sleep that begins at `now` (ms).
    #[must_use]
    pub fn listens(&self, now: u64) -> bool {
        self.timer.listens(now)
    }

    /// Tells that a sleep ended at `now` (ms), after at most
    /// [`QueuePair::longest_sleep`]. `timed_out`: by the timer alone, no
    /// interrupt and no frame.
    ///
    /// # Errors
    /// The board broke the protocol.
    pub fn woke(&mut self, now: u64, timed_out: bool) -> Result<(), PeerFault> {
        // Interrupts of the queue to the board count only while its ring is
        // full: only then were they asked for.
        let returned = self.to_board_interrupt.drain();
        let announced = self.to_host_interrupt.drain() || returned;
        let work = (!self.to_host.held && self.to_host.queue.pending()? > 0)
            || (self.to_board.waits_for_room() && self.to_board.queue.pending()? > 0);
        let counters = &mut self.to_host.counters;
        if announced && !work {
            counters.empty_wakeups += 1;
            let _ = self.timer.empty.admit(now);
        }
        if self.timer.settle(now, announced, timed_out && work) {
            counters.completion_polled += 1;
        }
        Ok(())
    }

    /// Whether a timer found work and no interrupt has followed yet. One that
    /// does not within a second was lost, and is counted.
    #[must_use]
    pub const fn owes_interrupt(&self) -> bool {
        self.timer.owed.is_some()
    }

    /// The counters so far.
    #[must_use]
    pub fn counters(&self) -> BridgeCounters {
        BridgeCounters { to_board: self.to_board.counters(), to_host: self.to_host.counters() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1000;

    /// Sleeps one after the other through a day: how many there are.
    fn sleeps_in_a_day(timer: &Timer, in_flight: bool) -> u64 {
        let (mut now, mut sleeps) = (0, 0);
        while now < DAY {
            now += timer.interval(now, in_flight);
            sleeps += 1;
        }
        sleeps
    }

    #[test]
    fn an_idle_day_is_as_many_looks_as_heartbeats() {
        assert_eq!(sleeps_in_a_day(&Timer::new(1000), false), DAY / 1000);
    }

    #[test]
    fn a_buffer_in_flight_is_looked_for_every_ten_milliseconds() {
        assert_eq!(sleeps_in_a_day(&Timer::new(1000), true), DAY / LOOK_INTERVAL);
    }

    #[test]
    fn a_frame_makes_looks_frequent_for_a_second() {
        let timer = Timer { last_frame: Some(5000), ..Timer::new(1000) };
        assert_eq!(timer.interval(5999, false), LOOK_INTERVAL);
        assert_eq!(timer.interval(6000, false), 1000);
    }

    #[test]
    fn a_storm_of_empty_interrupts_is_not_listened_to_for_the_rest_of_its_second() {
        let mut timer = Timer::new(1000);
        for _ in 0..EMPTY_WAKEUPS {
            assert!(timer.listens(1500));
            assert!(timer.empty.admit(1500).is_some());
        }
        assert!(!timer.listens(1500) && !timer.listens(2499));
        assert_eq!(timer.interval(2499, false), LOOK_INTERVAL);
        assert!(timer.listens(2500));
        assert_eq!(timer.interval(2500, false), 1000);
    }

    #[test]
    fn an_interrupt_that_is_late_is_not_lost() {
        let mut timer = Timer::new(1000);
        assert!(!timer.settle(5000, false, true));
        // More is found meanwhile: the first one counts.
        assert!(!timer.settle(5500, false, true) && !timer.settle(5999, false, false));
        assert!(!timer.settle(5999, true, false));
        assert!(!timer.settle(9000, false, false), "it came");
    }

    #[test]
    fn an_interrupt_that_does_not_come_for_a_second_was_lost() {
        let mut timer = Timer::new(1000);
        assert!(!timer.settle(5000, false, true));
        assert!(timer.settle(6000, false, false));
        assert!(!timer.settle(7000, false, false), "it is counted once");
        // Each time anew, also for what is found as the last one is counted.
        assert!(!timer.settle(7000, false, true));
        assert!(timer.settle(8000, false, true));
        assert!(timer.settle(9000, false, false));
    }
}
