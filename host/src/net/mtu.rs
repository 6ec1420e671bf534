//! The MTU that an interface gets.

use std::fmt;

/// Least MTU, in bytes: IPv4's (RFC 791).
pub const MIN_MTU: u16 = 68;

/// Least MTU of a link with IPv6, in bytes (RFC 8200).
pub const MIN_MTU_IPV6: u16 = 1280;

/// Greatest MTU of a tap, in bytes: the kernel's limit of 65535 less the
/// Ethernet header.
pub const MAX_MTU: u16 = 65_521;

/// An MTU that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MtuError {
    /// Outside what an interface can have.
    Range {
        /// The MTU asked for.
        wanted: u32,
    },
    /// Too small for IPv6 addresses, which are asked for.
    Ipv6 {
        /// The MTU asked for.
        wanted: u32,
    },
    /// The board of a running session takes less than IPv6 addresses need.
    BoardIpv6 {
        /// The board's limit.
        limit: u16,
    },
    /// More than the board takes.
    Board {
        /// The MTU asked for.
        wanted: u32,
        /// The board's limit.
        limit: u16,
    },
}

impl fmt::Display for MtuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { wanted } => write!(
                f,
                "an MTU of {wanted} is not possible: choose {MIN_MTU} to {MAX_MTU} \
                 (1280 or more for IPv6)"
            ),
            Self::Ipv6 { wanted } => write!(
                f,
                "an MTU of {wanted} is too small for an IPv6 address: choose {MIN_MTU_IPV6} or \
                 more, or leave the address out"
            ),
            Self::BoardIpv6 { limit } => write!(
                f,
                "the board takes packets of up to {limit} bytes, and IPv6 needs {MIN_MTU_IPV6}: \
                 the interface's MTU goes no lower; leave its IPv6 addresses out to let it follow"
            ),
            Self::Board { wanted, limit } => write!(
                f,
                "an MTU of {wanted} is more than the board takes: choose {MIN_MTU} to {limit}"
            ),
        }
    }
}

impl std::error::Error for MtuError {}

/// The MTU to set: `wanted` if it is possible and within the board's limit,
/// which is its configuration's `mtu` where VIRTIO_NET_F_MTU is offered.
///
/// # Errors
/// [`MtuError`] says which limit it breaks.
pub fn check_mtu(wanted: u32, board: Option<u16>) -> Result<u16, MtuError> {
    let mtu = u16::try_from(wanted)
        .ok()
        .filter(|mtu| (MIN_MTU..=MAX_MTU).contains(mtu))
        .ok_or(MtuError::Range { wanted })?;
    match board {
        Some(limit) if mtu > limit => Err(MtuError::Board { wanted, limit }),
        _ => Ok(mtu),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_kernels_and_the_boards() {
        for (wanted, board, good) in [
            (67, None, false),
            (68, None, true),
            (1500, None, true),
            (65_521, None, true),
            (65_522, None, false),
            (65_536 + 1500, None, false),
            (1500, Some(1500), true),
            (1501, Some(1500), false),
            (67, Some(1500), false),
        ] {
            assert_eq!(check_mtu(wanted, board).is_ok(), good, "{wanted} {board:?}");
        }
    }

    #[test]
    fn texts_say_what_to_choose() {
        let text = check_mtu(70_000, None).unwrap_err().to_string();
        assert_eq!(
            text,
            "an MTU of 70000 is not possible: choose 68 to 65521 (1280 or more for IPv6)"
        );
        let text = check_mtu(9000, Some(1500)).unwrap_err().to_string();
        assert_eq!(text, "an MTU of 9000 is more than the board takes: choose 68 to 1500");
    }
}
