//! Why a bus could not do what was asked.

use std::{fmt, io};

use shared::address::BusAddress;

use super::ivshmem::IvshmemError;

/// Why a bus could not do what was asked. The texts are for the person who
/// runs the program.
#[derive(Debug)]
pub enum BusError {
    /// The board has no such BAR, or it is no memory.
    NoBar {
        /// The BAR asked for.
        index: u8,
    },
    /// The board has fewer interrupt vectors.
    NoVector {
        /// The vector asked for, from 0.
        vector: u16,
        /// How many there are.
        count: u16,
    },
    /// A doorbell register that is not there or that this bus cannot store to.
    BadDoorbell {
        /// The doorbell asked for.
        index: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A length that is zero or no multiple of the page size.
    BadLength {
        /// The length asked for, in bytes.
        len: u64,
        /// The page size, in bytes.
        page: u64,
    },
    /// No free range of bus addresses is left below what both sides reach.
    NoAddressSpace {
        /// The length asked for, in bytes.
        len: u64,
        /// Address bits that the bus and the board reach.
        address_bits: u8,
    },
    /// More host memory than may be shared.
    NoHostMemory {
        /// The length asked for, in bytes.
        len: u64,
        /// What is left, in bytes.
        available: u64,
    },
    /// The range is not (wholly) memory that the host shared.
    NotShared {
        /// First bus address.
        address: BusAddress,
        /// Bytes.
        len: u64,
    },
    /// The range leaves the board's own BAR memory.
    OutsideBar {
        /// First byte, from the start of the BAR.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// The board's outbound windows cannot reach a range in this way.
    OutboundLimit {
        /// First bus address.
        address: BusAddress,
        /// Bytes.
        len: u64,
        /// Which limit.
        reason: &'static str,
    },
    /// Nobody answers where the board was: a card's vendor ID reads all ones,
    /// a process has left.
    Gone,
    /// Only the simulator's instrument mode can do this.
    NotInstrument {
        /// What was asked for.
        what: &'static str,
    },
    /// The board could not be reset.
    NotReset {
        /// Why not.
        reason: &'static str,
    },
    /// There is no ivshmem server to talk to, or no more.
    Ivshmem(IvshmemError),
    /// The operating system refused.
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        error: io::Error,
    },
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBar { index } => write!(
                f,
                "the board has no memory at BAR {index}; its control block and its PCI header disagree"
            ),
            Self::NoVector { vector, count } => write!(
                f,
                "interrupt vector {vector} does not exist: the board has {count} (numbered from 0)"
            ),
            Self::BadDoorbell { index, reason } => {
                write!(f, "doorbell {index} cannot be used: {reason}")
            }
            Self::BadLength { len, page } => write!(
                f,
                "{len} bytes cannot be shared: the length must be a multiple of {page}, and not 0"
            ),
            Self::NoAddressSpace { len, address_bits } => write!(
                f,
                "no free bus addresses for {len} bytes within the {address_bits} address bits that \
                 bus and board reach; use a smaller buffer pool"
            ),
            Self::NoHostMemory { len, available } => write!(
                f,
                "{len} bytes of host memory cannot be shared: {available} are left; use a smaller \
                 buffer pool"
            ),
            Self::NotShared { address, len } => {
                write!(
                    f,
                    "{len} bytes at {address:?} are not memory that the host shares (a bug of the \
                     board's, or of this program)"
                )
            }
            Self::OutsideBar { offset, len } => {
                write!(
                    f,
                    "{len} bytes at offset {offset:#x} leave the board's BAR memory (a bug of the \
                     board's, or of this program)"
                )
            }
            Self::OutboundLimit { address, len, reason } => {
                write!(f, "the board cannot reach {len} bytes at {address:?}: {reason}")
            }
            Self::Gone => f.write_str(
                "nobody answers where the board was: a card was pulled out or has no power (put \
                 it back), a process has ended (start it again)",
            ),
            Self::NotInstrument { what } => {
                write!(
                    f,
                    "{what} needs the simulated bus in instrument mode (SimOptions::instrument)"
                )
            }
            Self::NotReset { reason } => write!(
                f,
                "the board could not be reset: {reason}. Its old memory is not used in the next \
                 session; reset the board by hand if it stays silent"
            ),
            Self::Ivshmem(error) => error.fmt(f),
            Self::System { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for BusError {}

impl From<IvshmemError> for BusError {
    fn from(error: IvshmemError) -> Self {
        Self::Ivshmem(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_what_to_do() {
        let address = BusAddress::new(0x1_2000);
        for (error, text) in [
            (
                BusError::NoBar { index: 2 },
                "the board has no memory at BAR 2; its control block and its PCI header disagree",
            ),
            (
                BusError::NoVector { vector: 4, count: 4 },
                "interrupt vector 4 does not exist: the board has 4 (numbered from 0)",
            ),
            (
                BusError::BadDoorbell { index: 1, reason: "it is not aligned" },
                "doorbell 1 cannot be used: it is not aligned",
            ),
            (
                BusError::BadLength { len: 100, page: 4096 },
                "100 bytes cannot be shared: the length must be a multiple of 4096, and not 0",
            ),
            (
                BusError::NoAddressSpace { len: 8192, address_bits: 32 },
                "no free bus addresses for 8192 bytes within the 32 address bits that bus and \
                 board reach; use a smaller buffer pool",
            ),
            (
                BusError::NoHostMemory { len: 8192, available: 4096 },
                "8192 bytes of host memory cannot be shared: 4096 are left; use a smaller buffer \
                 pool",
            ),
            (
                BusError::NotShared { address, len: 8 },
                "8 bytes at iova:0x12000 are not memory that the host shares (a bug of the \
                 board's, or of this program)",
            ),
            (
                BusError::OutsideBar { offset: 0xFF8, len: 16 },
                "16 bytes at offset 0xff8 leave the board's BAR memory (a bug of the board's, or \
                 of this program)",
            ),
            (
                BusError::OutboundLimit { address, len: 8, reason: "it has no window" },
                "the board cannot reach 8 bytes at iova:0x12000: it has no window",
            ),
            (
                BusError::Gone,
                "nobody answers where the board was: a card was pulled out or has no power (put \
                 it back), a process has ended (start it again)",
            ),
            (
                BusError::NotInstrument { what: "fault injection" },
                "fault injection needs the simulated bus in instrument mode (SimOptions::instrument)",
            ),
            (
                BusError::NotReset { reason: "it does not answer" },
                "the board could not be reset: it does not answer. Its old memory is not used in \
                 the next session; reset the board by hand if it stays silent",
            ),
            (
                BusError::System {
                    what: "map shared memory",
                    error: io::Error::from_raw_os_error(12),
                },
                "cannot map shared memory: Cannot allocate memory (os error 12)",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
