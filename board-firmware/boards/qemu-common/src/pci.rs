//! PCI, as much of it as a board with one function needs.

/// A function's place: bus, device, function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// 0 to 255.
    pub bus: u8,
    /// 0 to 31.
    pub device: u8,
    /// 0 to 7.
    pub function: u8,
}

/// PCI configuration space, in aligned 32-bit words. Values are the numbers
/// that the specification speaks of, whatever the processor's byte order.
pub trait ConfigSpace {
    /// Reads the word at `offset`, a multiple of 4. All ones where nothing answers.
    fn read(&self, function: Function, offset: u16) -> u32;
    /// Writes it.
    fn write(&self, function: Function, offset: u16, value: u32);
}
