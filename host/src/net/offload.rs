//! Which work on a frame the sender may leave to the receiver, one direction.

use shared::wire::net::feature;

/// Offloads of one direction of a session. Each but `checksum` needs
/// `checksum`, and `ecn` one of `tso4` and `tso6` (VirtIO 1.3 §5.1.3.1);
/// [`Offloads::closed`] leaves out what lacks its ground.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one for each feature bit")]
pub struct Offloads {
    /// Partial checksums.
    pub checksum: bool,
    /// TCP over IPv4, segmented by the receiver.
    pub tso4: bool,
    /// TCP over IPv6.
    pub tso6: bool,
    /// Segmented TCP with the ECN CWR flag.
    pub ecn: bool,
    /// UDP datagrams of one flow over IPv4 as one frame.
    pub uso4: bool,
    /// The same over IPv6.
    pub uso6: bool,
}

/// The kernel's names for the same in TUNSETOFFLOAD (`linux/if_tun.h`).
mod tun {
    pub(super) const CSUM: u32 = 0x01;
    pub(super) const TSO4: u32 = 0x02;
    pub(super) const TSO6: u32 = 0x04;
    pub(super) const TSO_ECN: u32 = 0x08;
    pub(super) const USO4: u32 = 0x20;
    pub(super) const USO6: u32 = 0x40;
}

impl Offloads {
    /// Whole frames only.
    pub const NONE: Self =
        Self { checksum: false, tso4: false, tso6: false, ecn: false, uso4: false, uso6: false };

    /// Everything.
    pub const ALL: Self =
        Self { checksum: true, tso4: true, tso6: true, ecn: true, uso4: true, uso6: true };

    /// What the board may leave to the host: the GUEST_* feature bits.
    #[must_use]
    pub const fn to_host(features: u64) -> Self {
        Self {
            checksum: features & feature::GUEST_CSUM != 0,
            tso4: features & feature::GUEST_TSO4 != 0,
            tso6: features & feature::GUEST_TSO6 != 0,
            ecn: features & feature::GUEST_ECN != 0,
            uso4: features & feature::GUEST_USO4 != 0,
            uso6: features & feature::GUEST_USO6 != 0,
        }
        .closed()
    }

    /// What the host may leave to the board: CSUM and the HOST_* feature bits.
    #[must_use]
    pub const fn to_board(features: u64) -> Self {
        let uso = features & feature::HOST_USO != 0;
        Self {
            checksum: features & feature::CSUM != 0,
            tso4: features & feature::HOST_TSO4 != 0,
            tso6: features & feature::HOST_TSO6 != 0,
            ecn: features & feature::HOST_ECN != 0,
            uso4: uso,
            uso6: uso,
        }
        .closed()
    }

    /// The feature bits to accept for `self` in the direction to the board.
    #[must_use]
    pub const fn to_board_features(self) -> u64 {
        bit(self.checksum, feature::CSUM)
            | bit(self.tso4, feature::HOST_TSO4)
            | bit(self.tso6, feature::HOST_TSO6)
            | bit(self.ecn, feature::HOST_ECN)
            | bit(self.uso4 && self.uso6, feature::HOST_USO)
    }

    /// The same set without offloads whose ground is missing.
    #[must_use]
    pub const fn closed(self) -> Self {
        let checksum = self.checksum;
        let (tso4, tso6) = (self.tso4 && checksum, self.tso6 && checksum);
        Self {
            checksum,
            tso4,
            tso6,
            ecn: self.ecn && (tso4 || tso6),
            uso4: self.uso4 && checksum,
            uso6: self.uso6 && checksum,
        }
    }

    /// What both sets have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            checksum: self.checksum && other.checksum,
            tso4: self.tso4 && other.tso4,
            tso6: self.tso6 && other.tso6,
            ecn: self.ecn && other.ecn,
            uso4: self.uso4 && other.uso4,
            uso6: self.uso6 && other.uso6,
        }
        .closed()
    }

    /// The argument of TUNSETOFFLOAD. The kernel takes USO for both IP
    /// versions or for neither.
    #[must_use]
    pub const fn tun_bits(self) -> u32 {
        let set = self.closed();
        let uso = set.uso4 && set.uso6;
        bit32(set.checksum, tun::CSUM)
            | bit32(set.tso4, tun::TSO4)
            | bit32(set.tso6, tun::TSO6)
            | bit32(set.ecn, tun::TSO_ECN)
            | bit32(uso, tun::USO4 | tun::USO6)
    }
}

const fn bit(set: bool, bit: u64) -> u64 {
    if set { bit } else { 0 }
}

const fn bit32(set: bool, bit: u32) -> u32 {
    if set { bit } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_what_the_kernel_calls_0x6f() {
        assert_eq!(Offloads::ALL.tun_bits(), 0x6f);
        assert_eq!(Offloads::NONE.tun_bits(), 0);
    }

    #[test]
    fn each_offload_needs_its_ground() {
        for bits in 0..64u32 {
            let set = Offloads {
                checksum: bits & 1 != 0,
                tso4: bits & 2 != 0,
                tso6: bits & 4 != 0,
                ecn: bits & 8 != 0,
                uso4: bits & 16 != 0,
                uso6: bits & 32 != 0,
            };
            let tun = set.tun_bits();
            assert!(tun & 0x6e == 0 || tun & 1 != 0, "{set:?} without checksums: {tun:#x}");
            assert!(tun & 8 == 0 || tun & 6 != 0, "{set:?} has ECN without TSO: {tun:#x}");
            assert!(matches!(tun & 0x60, 0 | 0x60), "{set:?} has half of USO: {tun:#x}");
            assert_eq!(set.and(Offloads::ALL), set.closed());
            assert_eq!(set.and(Offloads::NONE), Offloads::NONE);
        }
    }

    #[test]
    fn directions_have_their_own_feature_bits() {
        let guest = 1 << 1 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 54 | 1 << 55;
        let host = 1 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 56;
        assert_eq!(Offloads::to_host(guest), Offloads::ALL);
        assert_eq!(Offloads::to_host(host), Offloads::NONE);
        assert_eq!(Offloads::to_board(host), Offloads::ALL);
        assert_eq!(Offloads::to_board(guest), Offloads::NONE);
        assert_eq!(Offloads::ALL.to_board_features(), host);
        assert_eq!(Offloads::to_board(host & !1), Offloads::NONE);
    }
}
