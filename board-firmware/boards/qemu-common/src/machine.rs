//! What a processor brings: time, sleep, interrupts, and where PCI lies.

use crate::pci::ConfigSpace;
use crate::raw::{Aperture, Message, PaintedStack};

/// How a boot ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The whole machine starts over, as after a power cut.
    Reset,
    /// QEMU ends with this status.
    Exit(u8),
}

/// A processor and what is soldered around it.
///
/// # Implementation contract
/// The interrupt handler calls [`crate::vectors::arrived`] with the number of
/// each message that came, and does nothing else that takes long.
pub trait Machine {
    /// How PCI configuration space is reached.
    type Config: ConfigSpace;

    /// PCI configuration space.
    fn config_space(&self) -> Self::Config;

    /// Memory that can be given to BARs; mapped uncached, so that no store is
    /// held back or merged.
    fn aperture(&self) -> Aperture;

    /// The message for vector `vector` of the function, from 0; the interrupt
    /// controller takes it from now on. `None`: it has no more of them.
    fn message(&mut self, vector: u16) -> Option<Message>;

    /// Microseconds since the start; never goes back.
    fn now_us(&self) -> u64;

    /// Sleeps until an interrupt comes or that time, the processor halted.
    /// Returns at once where [`crate::vectors::any`] says that one has come
    /// before; none is lost between the look and the sleep.
    fn sleep_until(&mut self, until_us: u64);

    /// A number that is another one in each boot: a counter that a reset does
    /// not stop, the time of day, noise.
    fn entropy(&self) -> u64;

    /// The stack.
    fn stack(&self) -> PaintedStack;

    /// Loads a word from an address that is no multiple of its length, as
    /// nothing else here does: it is to end in an exception. Does nothing on a
    /// processor that knows no such fault.
    fn load_misaligned(&mut self) {}

    /// Ends this boot.
    fn end(&mut self, how: End) -> !;
}
