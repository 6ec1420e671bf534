//! Time, sleep, watchdog, reset: [`Surroundings`].

use board::program::{Order, Surroundings};

use crate::raw::{self, SYSTEM, TIMER};
use crate::soc::{system, timer};

/// What surrounds the board's loop.
pub(crate) struct Machine;

impl Surroundings for Machine {
    fn now_us(&mut self) -> u64 {
        now_us()
    }

    // Called before each sleep, and every 256 steps by a board that is never idle.
    fn pause(&mut self, until_us: u64) -> Order {
        // Here, and nowhere else, by whom a board that hangs would not come.
        SYSTEM.write(system::FEED, 1);
        set_timer(until_us.saturating_mul(timer::TICKS));
        raw::wait();
        Order::Go
    }
}

/// Microseconds since any start.
///
/// Look up: a counter of at least 1 MHz that never stops, in sleep neither.
/// One of 32 bits wraps: count its laps here, called more often than it wraps.
pub(crate) fn now_us() -> u64 {
    loop {
        let high = TIMER.read(timer::NOW + 4);
        let low = TIMER.read(timer::NOW);
        // The low half may have wrapped in between, at most once in years.
        if TIMER.read(timer::NOW + 4) == high {
            return (u64::from(high) << 32 | u64::from(low)) / timer::TICKS;
        }
    }
}

/// Has the timer's interrupt wait from tick `at` on: at once if that has been.
#[expect(clippy::cast_possible_truncation, reason = "takes the halves apart")]
fn set_timer(at: u64) {
    // Never sooner, on the way, than both the old and the new time.
    TIMER.write(timer::COMPARE, u32::MAX);
    TIMER.write(timer::COMPARE + 4, (at >> 32) as u32);
    TIMER.write(timer::COMPARE, at as u32);
}

/// Starts the board over.
///
/// Look up: whether this resets the PCIe controller. If it does, the host
/// loses the card for a moment (and rescans, or not); one that resets the
/// processor alone only changes the boot epoch. The DMA engine has to be reset
/// with the processor: it would go on with the transfers of the old boot.
pub(crate) fn reset() -> ! {
    loop {
        SYSTEM.write(system::RESET, 1);
    }
}
