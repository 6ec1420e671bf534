//! What a simulated bus and its board are like.

use super::schedule::Profile;

/// What a simulated bus and its board are like. Make one with `default()` and
/// change what matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SimOptions {
    /// Exact or fast.
    pub mode: Mode,
    /// BAR 0's length in bytes, a multiple of 4096: control pages, then board
    /// memory.
    pub bar_len: u64,
    /// How many bytes at the start of BAR 0 are billed as the link's.
    pub bar_link_len: u64,
    /// How many bytes at the start of the first shared region are billed as
    /// the link's.
    pub host_link_len: u64,
    /// Whether BAR 0 takes only aligned 32-bit stores: it drops others and
    /// counts them ([`Bill::width_faults`](super::Bill::width_faults)).
    pub bar_32_bit: bool,
    /// Whether the board's CPU makes two stores of a 64-bit word.
    pub board_32_bit: bool,
    /// Interrupt vectors, at most 64.
    pub vectors: u16,
    /// Doorbell registers in BAR 1, four bytes apart, at most 64.
    pub doorbells: u16,
    /// The first IOVA that is given out.
    pub iova_base: u64,
    /// Bits of an IOVA that bus and IOMMU carry.
    pub iova_bits: u8,
    /// How much host memory may be shared at once, in bytes.
    pub host_limit: u64,
    /// The host's page size in bytes: what it shares is whole pages.
    pub page_size: u64,
    /// How the board reaches host memory.
    pub outbound: OutboundLimits,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Counted,
            bar_len: 16 << 20,
            bar_link_len: 16 << 10,
            host_link_len: 4 << 10,
            bar_32_bit: false,
            board_32_bit: false,
            vectors: 8,
            doorbells: 8,
            iova_base: 1 << 32,
            iova_bits: 39,
            host_limit: 1 << 30,
            page_size: 4096,
            outbound: OutboundLimits::default(),
        }
    }
}

impl SimOptions {
    /// The default in instrument mode.
    #[must_use]
    pub fn instrument(seed: u64, profile: Profile) -> Self {
        Self { mode: Mode::Instrument(Instrument::new(seed, profile)), ..Self::default() }
    }

    /// The default in counted mode.
    #[must_use]
    pub fn counted() -> Self {
        Self::default()
    }
}

/// How the bus behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Every store is buffered, reordered and delayed as the rules allow. For
    /// one thread at a time.
    Instrument(Instrument),
    /// Plain shared memory between threads; only the bill is kept.
    Counted,
}

/// The settings of instrument mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instrument {
    /// Decides the schedule; the same seed gives the same run.
    pub seed: u64,
    /// How long things are delayed.
    pub profile: Profile,
    /// Which of PCIe's ordering rules are broken.
    pub order: BrokenOrder,
}

impl Instrument {
    /// Settings under which every rule holds.
    #[must_use]
    pub fn new(seed: u64, profile: Profile) -> Self {
        Self { seed, profile, order: BrokenOrder::default() }
    }
}

/// Which of the bus's ordering rules do *not* hold. All `false` is PCIe with
/// relaxed ordering off, which is what the protocol asks for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct BrokenOrder {
    /// Posted writes pass each other in the queue.
    pub relaxed_writes: bool,
    /// Read requests pass the reader's earlier posted writes.
    pub relaxed_requests: bool,
    /// Read completions pass the posted writes of the side that answers.
    pub relaxed_completions: bool,
    /// Interrupts travel on a path of their own and may overtake data.
    pub separate_interrupts: bool,
    /// Raising a vector does not wait for the DMA engine's earlier stores.
    pub interrupt_ignores_dma: bool,
    /// Nor for the board processor's own.
    pub interrupt_ignores_cpu: bool,
}

/// How the board reaches host memory, as its control block would say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutboundLimits {
    /// Windows that may be open at once; 0: the board cannot reach the host.
    pub windows: u16,
    /// The longest window, in bytes.
    pub window_len: u64,
    /// What a window's first address is a multiple of, in bytes.
    pub alignment: u64,
    /// Address bits that windows and DMA engine carry.
    pub address_bits: u8,
    /// Whether there is a DMA engine.
    pub dma: bool,
}

impl Default for OutboundLimits {
    fn default() -> Self {
        Self { windows: 8, window_len: 1 << 32, alignment: 4096, address_bits: 40, dma: true }
    }
}

impl OutboundLimits {
    /// A board that cannot reach host memory at all ("bar-only").
    #[must_use]
    pub fn none() -> Self {
        Self { windows: 0, dma: false, ..Self::default() }
    }
}
