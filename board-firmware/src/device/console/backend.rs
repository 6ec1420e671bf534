//! What lies behind the console.

use crate::device::BoardView;

/// What takes the host's bytes and makes the board's.
///
/// # Implementation contract
/// - Whatever bytes come, no method panics or loops without bound.
/// - While [`wants_input`](Self::wants_input) says so, [`input`](Self::input)
///   takes at least one byte: else the device would ask for ever.
pub trait ConsoleBackend {
    /// A driver is ready: forget what the last one had begun.
    fn start(&mut self);

    /// Called in every run, also without a driver.
    fn poll(&mut self, now: u64, board: &dyn BoardView);

    /// Whether it takes bytes now. If not, they wait in the host's buffers.
    fn wants_input(&self) -> bool;

    /// Bytes from the host. Returns how many it has taken; the rest comes again.
    fn input(&mut self, bytes: &[u8]) -> usize;

    /// Bytes for the host, into `into`: how many. They are lost if the driver
    /// resets the device before it has given buffers for them.
    fn output(&mut self, board: &dyn BoardView, into: &mut [u8]) -> usize;

    /// Whether somebody has asked for a restart of the board since the last call.
    fn take_reboot(&mut self) -> bool {
        false
    }
}
