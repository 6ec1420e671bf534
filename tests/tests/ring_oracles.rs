//! The rings against other people's: this device side driven by
//! `virtio-drivers`, this driver side served by `virtio-queue`. Neither knows
//! in-order; event index and indirect tables on and off; byte for byte, over the
//! indices' wrap.

#[path = "../src/raw/oracle_memory.rs"]
mod raw;

#[path = "ring_oracles/our_device.rs"]
mod our_device;
#[path = "ring_oracles/our_driver.rs"]
mod our_driver;

/// xorshift64*: the same numbers everywhere.
struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }

    /// A buffer's segment lengths: at least one, none empty, 4096 at most.
    fn lengths(&mut self, count: usize) -> Vec<usize> {
        (0..count)
            .map(|_| if self.below(8) == 0 { 1 + self.below(4096) } else { 1 + self.below(96) })
            .collect()
    }
}

/// What a device answers: as many bytes as there is room for, each made from
/// the request, so that a byte in the wrong place shows.
fn answer(request: &[u8], room: usize, salt: u8) -> Vec<u8> {
    let mut state = salt;
    let mut at = 0;
    (0..room)
        .map(|_| {
            let byte = request.get(at).copied().unwrap_or(0x5A);
            at = if at + 1 < request.len() { at + 1 } else { 0 };
            state = state.wrapping_mul(31).wrapping_add(byte ^ 0xC3);
            state
        })
        .collect()
}
