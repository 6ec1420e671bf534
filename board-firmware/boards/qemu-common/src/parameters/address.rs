//! Addresses from text. The library's own readers are several times as long,
//! and a firmware is small.

use core::net::{Ipv4Addr, Ipv6Addr};

/// A number up to `most`: digits alone.
pub(super) fn number(text: &[u8], radix: u32, most: u16) -> Option<u16> {
    let mut number = 0_u32;
    for byte in text {
        number = number * radix + char::from(*byte).to_digit(radix)?;
        if number > u32::from(most) {
            return None;
        }
    }
    if text.is_empty() { None } else { u16::try_from(number).ok() }
}

/// As many numbers as there are, divided by `mark`: how many.
fn numbers(text: &[u8], mark: u8, radix: u32, most: u16, into: &mut [u16]) -> Option<usize> {
    let mut places = into.iter_mut();
    let mut count = 0;
    for part in text.split(|byte| *byte == mark) {
        *places.next()? = number(part, radix, most)?;
        count += 1;
    }
    Some(count)
}

/// Four numbers with dots between them.
pub(super) fn v4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut parts = [0; 4];
    let count = numbers(text, b'.', 10, 255, &mut parts)?;
    let [a, b, c, d] = parts.map(|part| part.to_le_bytes()[0]);
    (count == 4).then_some(Ipv4Addr::new(a, b, c, d))
}

/// Eight groups with colons between them; `::` once, for groups of zeros.
pub(super) fn v6(text: &[u8]) -> Option<Ipv6Addr> {
    let groups = |text: &[u8], into: &mut [u16; 8]| match text {
        [] => Some(0),
        _ => numbers(text, b':', 16, u16::MAX, into),
    };
    let mut all = [0; 8];
    let gap = text.windows(2).position(|pair| pair == b"::");
    let Some((head, tail)) = gap.and_then(|at| Some((text.get(..at)?, text.get(at + 2..)?))) else {
        return (groups(text, &mut all)? == 8).then_some(all.into());
    };
    let mut behind = [0; 8];
    let (before, count) = (groups(head, &mut all)?, groups(tail, &mut behind)?);
    if before + count > 7 {
        return None;
    }
    let from_behind = behind.iter().take(count).rev();
    for (group, found) in all.iter_mut().rev().zip(from_behind) {
        *group = *found;
    }
    Some(all.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_library_reads_them() {
        let texts = [
            "10.77.0.2",
            "0.0.0.0",
            "255.255.255.255",
            "256.0.0.1",
            "1.2.3",
            "1.2.3.4.5",
            "1..2.3",
            "",
            ".",
            "1.2.3.4 ",
            "+1.2.3.4",
            "a.b.c.d",
        ];
        for text in texts {
            assert_eq!(v4(text.as_bytes()), text.parse().ok(), "{text}");
        }
        let texts = [
            "::",
            "::1",
            "1::",
            "fd77::2",
            "fd77:3::2",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "1::2::3",
            ":::",
            ":",
            "",
            "1:2:3:4::5:6:7:8",
            "12345::",
            "g::",
            ":1::2",
            "1::2:",
            "FD77::ABCD",
        ];
        for text in texts {
            assert_eq!(v6(text.as_bytes()), text.parse().ok(), "{text}");
        }
    }
}
