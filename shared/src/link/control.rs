//! The control block: its bytes, and the check of a private copy.

use core::fmt;

/// Lengths of the six BARs as the bus reports them; 0: not there.
pub type BarLengths = [u64; 6];

/// Why a control block is not acceptable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlError {
    /// A word is all ones.
    AllOnes {
        /// Its offset in bytes.
        offset: usize,
    },
    /// The checksum does not match: half-written, or damaged.
    Checksum,
    /// A field is outside its range.
    Field {
        /// Its offset in bytes.
        offset: usize,
    },
    /// A reserved field is not zero.
    Reserved {
        /// Its offset in bytes.
        offset: usize,
    },
    /// An area or region leaves its BAR.
    Outside {
        /// Offset of the field that says so, in bytes.
        offset: usize,
    },
    /// Two areas or regions overlap.
    Overlap {
        /// Offset of the field of one of them, in bytes.
        offset: usize,
    },
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AllOnes { offset } => write!(f, "control block word {offset:#x} is all ones"),
            Self::Checksum => f.write_str("the control block's checksum does not match"),
            Self::Field { offset } => {
                write!(f, "control block field {offset:#x} is outside its range")
            }
            Self::Reserved { offset } => {
                write!(f, "reserved control block field {offset:#x} is not zero")
            }
            Self::Outside { offset } => {
                write!(f, "what control block field {offset:#x} describes leaves its BAR")
            }
            Self::Overlap { offset } => {
                write!(f, "what control block field {offset:#x} describes overlaps something else")
            }
        }
    }
}

impl core::error::Error for ControlError {}
