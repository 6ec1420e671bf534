//! Base address registers: how long, and where.

use super::{ConfigSpace, Function, PciError};
use crate::raw::{Aperture, Span};

const FIRST: u16 = 0x10;
const COUNT: u8 = 6;

const IO: u32 = 1;
/// Bits 2 and 1: what kind of memory BAR it is.
const KIND: u32 = 0b110;
const BITS_32: u32 = 0b000;
const BITS_64: u32 = 0b100;
/// What of a memory BAR's low word is no address.
const FLAGS: u64 = 0xF;

/// Gives the function's BAR number `bar` addresses from `aperture`.
///
/// The function must not answer in its BARs meanwhile
/// ([`enable`](super::enable)): for a moment they hold all ones.
///
/// # Errors
/// [`PciError::NoMemoryBar`], [`PciError::BarLength`], [`PciError::NoRoom`].
pub fn assign(
    config: &impl ConfigSpace,
    function: Function,
    bar: u8,
    aperture: &mut Aperture,
) -> Result<Span, PciError> {
    let none = PciError::NoMemoryBar { bar };
    let low = FIRST + 4 * u16::from(bar);
    let kind = config.read(function, low) & (KIND | IO);
    let wide = match kind {
        BITS_32 if bar < COUNT => false,
        BITS_64 if bar < COUNT - 1 => true,
        _ => return Err(none),
    };
    let probe = |offset| {
        config.write(function, offset, u32::MAX);
        config.read(function, offset)
    };
    // Address bits that are too low for the length read 0.
    let upper = if wide { probe(low + 4) } else { u32::MAX };
    let mask = (u64::from(upper) << 32 | u64::from(probe(low))) & !FLAGS;
    let len = mask.wrapping_neg();
    if mask & u64::from(u32::MAX) == 0 && !wide || len == 0 {
        return Err(none);
    }
    if !len.is_power_of_two() {
        return Err(PciError::BarLength { bar, len });
    }
    let no_room = PciError::NoRoom { bar, len };
    let span = aperture.take(len).ok_or(no_room)?;
    let (start, last) = (span.bus(), span.bus() + (len - 1));
    if !wide && last > u64::from(u32::MAX) {
        return Err(no_room);
    }
    let [a, b, c, d, high @ ..] = start.to_le_bytes();
    config.write(function, low, u32::from_le_bytes([a, b, c, d]));
    if wide {
        config.write(function, low + 4, u32::from_le_bytes(high));
    }
    Ok(span)
}
