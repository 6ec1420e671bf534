//! The ivshmem function, as the board's PCIe endpoint.
//!
//! The first half of its memory is the board's BAR 0, the second half is host
//! memory (docs/protocol.md, "On ivshmem").

use core::fmt;

use shared::link::{DoorbellDescription, Outbound};
use shared::raw::BusWindow;
use shared::window::{Barrier, Window};

use crate::machine::Machine;
use crate::pci::{self, ConfigSpace, Function, Msix, PciError};
use crate::raw::Registers;

const VENDOR: u16 = 0x1AF4;
const DEVICE: u16 = 0x1110;

const REGISTERS_BAR: u8 = 0;
const MEMORY_BAR: u8 = 2;

/// Which peer of the server this function is; negative: none yet.
const OWN_PEER: usize = 8;
/// A peer in the upper half, its vector in the lower.
const DOORBELL: usize = 12;

/// Where the host finds the doorbell register, by docs/protocol.md.
const DOORBELL_BAR: u8 = 1;

/// Shorter memory has no room for rings and buffers.
const LEAST_MEMORY: u64 = 1 << 20;

/// Vectors that the board takes: 31 doorbells and the wish for a reboot.
const MOST_VECTORS: u16 = 32;
/// The message channel's, and the wish for a reboot.
const LEAST_VECTORS: u16 = 2;

/// Why there is no endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EndpointError {
    /// Bus 0 has no ivshmem function.
    Missing,
    /// It has one that cannot be used.
    Pci(Function, PciError),
    /// Its memory is no power of two of at least 1 MiB.
    Memory {
        /// Bytes.
        len: u64,
    },
    /// It has too few vectors, or the interrupt controller has.
    Vectors {
        /// How many there are.
        found: u16,
    },
    /// No server has given it a peer number.
    NoPeer,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "no ivshmem-doorbell on bus 0: QEMU needs that -device"),
            Self::Pci(function, error) => write!(f, "PCI function {function}: {error}"),
            Self::Memory { len } => write!(
                f,
                "{len:#x} bytes of shared memory: give the server a power of two of at least 1 MiB"
            ),
            Self::Vectors { found } => {
                write!(f, "{found} vectors, {LEAST_VECTORS} are needed: give server and QEMU more")
            }
            Self::NoPeer => write!(f, "the ivshmem server has given no peer number"),
        }
    }
}

impl core::error::Error for EndpointError {}

/// The board's endpoint: its memory, its doorbells, its way to the host.
#[derive(Debug)]
pub struct Endpoint {
    function: Function,
    registers: Registers,
    memory: BusWindow,
    half: u64,
    peer: u16,
    vectors: u16,
}

impl Endpoint {
    /// Finds the function, gives it addresses, and has its vectors sent to the
    /// interrupt controller.
    ///
    /// # Errors
    /// [`EndpointError`]: what QEMU was not given.
    pub fn open(machine: &mut impl Machine) -> Result<Self, EndpointError> {
        let config = machine.config_space();
        let function = pci::find(&config, VENDOR, DEVICE).ok_or(EndpointError::Missing)?;
        let at = |error| EndpointError::Pci(function, error);
        pci::enable(&config, function, false);
        let mut aperture = machine.aperture();
        let mut assign = |bar| pci::assign(&config, function, bar, &mut aperture).map_err(at);
        // The largest first: each is aligned to its length.
        let memory = assign(MEMORY_BAR)?;
        let table_bar = Msix::bar(&config, function).map_err(at)?;
        let table = assign(table_bar)?;
        let registers = assign(REGISTERS_BAR)?;
        pci::enable(&config, function, true);

        let msix = Msix::open(&config, function, (table_bar, table.registers())).map_err(at)?;
        let vectors = connect(machine, &config, &msix)?;

        let window = memory.window().filter(|window| window.len() >= LEAST_MEMORY);
        let len = memory.len() as u64;
        let memory = window.ok_or(EndpointError::Memory { len })?;
        let registers = registers.registers();
        let peer = u32::from_le(registers.read32(OWN_PEER));
        let peer = u16::try_from(peer).map_err(|_| EndpointError::NoPeer)?;
        Ok(Self { function, registers, memory, half: len / 2, peer, vectors })
    }

    /// The length of BAR 0 in bytes, the control pages included.
    #[must_use]
    pub const fn bar_len(&self) -> u64 {
        self.half
    }

    /// `len` bytes at `offset` of BAR 0; `None` if they do not fit.
    #[must_use]
    pub fn memory(&self, offset: u64, len: u64) -> Option<BusWindow> {
        self.memory.part(0, self.half)?.part(offset, len)
    }

    /// `len` bytes of host memory at `iova`; `None` if they do not fit.
    #[must_use]
    pub fn outbound(&self, iova: u64, len: u64) -> Option<BusWindow> {
        self.memory.part(self.half, self.half)?.part(iova, len)
    }

    /// What the control block says of the doorbells: all vectors but the last.
    #[must_use]
    pub fn doorbells(&self) -> DoorbellDescription {
        DoorbellDescription {
            bar: DOORBELL_BAR,
            offset: DOORBELL as u64,
            stride: 0,
            count: u32::from(self.vectors) - 1,
            value: u32::from(self.peer) << 16,
            step: 1,
        }
    }

    /// What the control block says of the reach: the host's half, to its end.
    #[must_use]
    pub const fn reach(&self) -> Outbound {
        let half = self.half;
        Outbound { windows: 8, size: half, alignment: 4096, address_bits: half.ilog2() }
    }

    /// The bit of [`crate::vectors::take`] that is the wish for a reboot.
    #[must_use]
    pub const fn reboot_bit(&self) -> u32 {
        1 << (self.vectors - 1)
    }

    /// Raises an interrupt vector of the host, behind all that this processor
    /// has stored before. Nothing happens while there is no host.
    pub fn raise(&self, vector: u16) {
        // Whom to ring stands in the host's own memory: no board can know it.
        let peer = self.memory.load::<u32>(self.half).checked_sub(1);
        let Some(peer) = peer.and_then(|peer| u16::try_from(peer).ok()) else { return };
        self.memory.barrier(Barrier::Write);
        let value = u32::from(peer) << 16 | u32::from(vector);
        self.registers.write32(DOORBELL, value.to_le());
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, half, peer, vectors, .. } = self;
        write!(f, "ivshmem at {function}: peer {peer}, {vectors} vectors, 2 x {half:#x} bytes")
    }
}

/// Sends as many vectors as both ends have to the interrupt controller.
fn connect(
    machine: &mut impl Machine,
    config: &impl ConfigSpace,
    msix: &Msix,
) -> Result<u16, EndpointError> {
    let mut found = 0;
    for vector in 0..msix.entries().min(MOST_VECTORS) {
        let Some(message) = machine.message(vector) else { break };
        msix.set(vector, Some(message));
        found += 1;
    }
    for vector in found..msix.entries() {
        msix.set(vector, None);
    }
    if found < LEAST_VECTORS {
        return Err(EndpointError::Vectors { found });
    }
    msix.enable(config);
    Ok(found)
}
