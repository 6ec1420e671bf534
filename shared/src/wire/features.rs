//! Device-independent feature bits, and feature sets (VirtIO 1.3 §2.2, §6).

use core::fmt;
use core::ops::{BitAnd, BitOr};

use super::net::feature as net;

/// A set of feature bits. The protocol's devices have none beyond bit 63.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Features(u64);

/// Chains may be described by tables elsewhere (VirtIO 1.3 §2.7.5.3).
pub const INDIRECT_DESC: u64 = 1 << 28;
/// Event words in both rings (VirtIO 1.3 §2.7.7, §2.7.10).
pub const EVENT_IDX: u64 = 1 << 29;
/// Not a legacy device or driver.
pub const VERSION_1: u64 = 1 << 32;
/// Addresses are bus addresses, not physical ones.
pub const ACCESS_PLATFORM: u64 = 1 << 33;
/// Packed virtqueues.
pub const RING_PACKED: u64 = 1 << 34;
/// Buffers are returned in the order in which they were made available.
pub const IN_ORDER: u64 = 1 << 35;
/// Accesses are ordered as for a device on a bus.
pub const ORDER_PLATFORM: u64 = 1 << 36;
/// Single-root I/O virtualisation.
pub const SR_IOV: u64 = 1 << 37;
/// Doorbells carry queue and index.
pub const NOTIFICATION_DATA: u64 = 1 << 38;
/// Doorbells carry a value that the device names.
pub const NOTIF_CONFIG_DATA: u64 = 1 << 39;
/// A single queue can be reset.
pub const RING_RESET: u64 = 1 << 40;
/// Administration virtqueues.
pub const ADMIN_VQ: u64 = 1 << 41;
/// The driver can suspend the device (in drafts behind 1.3; here only to be
/// kept out).
pub const SUSPEND: u64 = 1 << 43;

/// What every virtio-phys driver has to accept (docs/protocol.md, "Features").
pub const REQUIRED: Features = Features(VERSION_1 | ACCESS_PLATFORM | ORDER_PLATFORM);

/// Each device-independent bit by its name in VirtIO 1.3 §6.
pub const NAMES: [(u64, &str); 13] = [
    (INDIRECT_DESC, "INDIRECT_DESC"),
    (EVENT_IDX, "EVENT_IDX"),
    (VERSION_1, "VERSION_1"),
    (ACCESS_PLATFORM, "ACCESS_PLATFORM"),
    (RING_PACKED, "RING_PACKED"),
    (IN_ORDER, "IN_ORDER"),
    (ORDER_PLATFORM, "ORDER_PLATFORM"),
    (SR_IOV, "SR_IOV"),
    (NOTIFICATION_DATA, "NOTIFICATION_DATA"),
    (NOTIF_CONFIG_DATA, "NOTIF_CONFIG_DATA"),
    (RING_RESET, "RING_RESET"),
    (ADMIN_VQ, "ADMIN_VQ"),
    (SUSPEND, "SUSPEND"),
];

/// virtio-net's bits by their names in VirtIO 1.3 §5.1.3, those of
/// [`super::net::feature`].
pub const NET_NAMES: [(u64, &str); 23] = [
    (net::CSUM, "CSUM"),
    (net::GUEST_CSUM, "GUEST_CSUM"),
    (net::CTRL_GUEST_OFFLOADS, "CTRL_GUEST_OFFLOADS"),
    (net::MTU, "MTU"),
    (net::MAC, "MAC"),
    (net::GUEST_TSO4, "GUEST_TSO4"),
    (net::GUEST_TSO6, "GUEST_TSO6"),
    (net::GUEST_ECN, "GUEST_ECN"),
    (net::HOST_TSO4, "HOST_TSO4"),
    (net::HOST_TSO6, "HOST_TSO6"),
    (net::HOST_ECN, "HOST_ECN"),
    (net::MRG_RXBUF, "MRG_RXBUF"),
    (net::STATUS, "STATUS"),
    (net::CTRL_VQ, "CTRL_VQ"),
    (net::CTRL_RX, "CTRL_RX"),
    (net::CTRL_VLAN, "CTRL_VLAN"),
    (net::CTRL_RX_EXTRA, "CTRL_RX_EXTRA"),
    (net::GUEST_ANNOUNCE, "GUEST_ANNOUNCE"),
    (net::CTRL_MAC_ADDR, "CTRL_MAC_ADDR"),
    (net::NOTF_COAL, "NOTF_COAL"),
    (net::GUEST_USO4, "GUEST_USO4"),
    (net::GUEST_USO6, "GUEST_USO6"),
    (net::HOST_USO, "HOST_USO"),
];

/// virtio-net's requirements (VirtIO 1.3 §5.1.3.1): a bit, and those of which
/// at least one must come with it.
const NET_REQUIREMENTS: [(u64, u64); 14] = [
    (net::GUEST_TSO4, net::GUEST_CSUM),
    (net::GUEST_TSO6, net::GUEST_CSUM),
    (net::GUEST_ECN, net::GUEST_TSO4 | net::GUEST_TSO6),
    (net::GUEST_USO4, net::GUEST_CSUM),
    (net::GUEST_USO6, net::GUEST_CSUM),
    (net::HOST_TSO4, net::CSUM),
    (net::HOST_TSO6, net::CSUM),
    (net::HOST_ECN, net::HOST_TSO4 | net::HOST_TSO6),
    (net::HOST_USO, net::CSUM),
    (net::CTRL_RX, net::CTRL_VQ),
    (net::CTRL_VLAN, net::CTRL_VQ),
    (net::GUEST_ANNOUNCE, net::CTRL_VQ),
    (net::CTRL_MAC_ADDR, net::CTRL_VQ),
    (net::NOTF_COAL, net::CTRL_VQ),
];

impl Features {
    /// No feature.
    pub const NONE: Self = Self(0);

    /// The set of these bits.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all of `bits` are in the set.
    #[must_use]
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// Whether all of `other` is in the set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.has(other.0)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The bits of 32-bit block `index`, as virtio-msg moves them.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "takes one half")]
    pub const fn block(self, index: u32) -> u32 {
        match index {
            0 => self.0 as u32,
            1 => (self.0 >> 32) as u32,
            _ => 0,
        }
    }

    /// The set with `bits` in 32-bit block `index`; `None` if that needs bits
    /// beyond 63.
    #[must_use]
    pub const fn with_block(self, index: u32, bits: u32) -> Option<Self> {
        match (index, bits) {
            (0, _) => Some(Self(self.0 & !0xFFFF_FFFF | bits as u64)),
            (1, _) => Some(Self(self.0 & 0xFFFF_FFFF | (bits as u64) << 32)),
            (_, 0) => Some(self),
            _ => None,
        }
    }

    /// A bit of a virtio-net set whose requirement is not in the set (VirtIO
    /// 1.3 §5.1.3.1): such a set is neither offered nor accepted.
    #[must_use]
    pub fn net_requirement_missing(self) -> Option<Self> {
        NET_REQUIREMENTS
            .iter()
            .find(|(bit, any)| self.has(*bit) && self.0 & any == 0)
            .map(|(bit, _)| Self(*bit))
    }

    /// The set without those bits of a virtio-net set whose requirements are
    /// not in it.
    #[must_use]
    pub fn net_consistent(self) -> Self {
        let mut set = self;
        // Each round takes a bit away.
        while let Some(unmet) = set.net_requirement_missing() {
            set = set.without(unmet);
        }
        set
    }
}

impl BitOr for Features {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Features {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The names of a virtio-net set, device-independent ones first; what has no
/// name as a number.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut left = self.0;
        let mut separator = "";
        for (bit, name) in NAMES.iter().chain(&NET_NAMES) {
            if left & bit != 0 {
                write!(f, "{separator}{name}")?;
                separator = " ";
                left &= !bit;
            }
        }
        if left == 0 { Ok(()) } else { write!(f, "{separator}{left:#x}") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use virtio_spec::net::F as NetF;
    use virtio_spec::{F, FeatureBits};

    use super::*;

    #[test]
    fn every_number() {
        // Pinned here, named in the table, and defined independently: the
        // table is as long as the list of constants, each exactly once.
        let pinned: [(u64, u32, F); 13] = [
            (INDIRECT_DESC, 28, F::INDIRECT_DESC),
            (EVENT_IDX, 29, F::EVENT_IDX),
            (VERSION_1, 32, F::VERSION_1),
            (ACCESS_PLATFORM, 33, F::ACCESS_PLATFORM),
            (RING_PACKED, 34, F::RING_PACKED),
            (IN_ORDER, 35, F::IN_ORDER),
            (ORDER_PLATFORM, 36, F::ORDER_PLATFORM),
            (SR_IOV, 37, F::SR_IOV),
            (NOTIFICATION_DATA, 38, F::NOTIFICATION_DATA),
            (NOTIF_CONFIG_DATA, 39, F::NOTIF_CONFIG_DATA),
            (RING_RESET, 40, F::RING_RESET),
            (ADMIN_VQ, 41, F::ADMIN_VQ),
            (SUSPEND, 43, F::SUSPEND),
        ];
        for ((bit, number, theirs), (named, name)) in pinned.into_iter().zip(NAMES) {
            assert_eq!(bit, 1 << number, "{name}");
            assert_eq!(bit, named, "{name}");
            assert_eq!(u128::from(bit), theirs.bits().to_ne(), "{name}");
            assert_eq!(format!("{}", Features::new(bit)), name);
        }
        assert_eq!(REQUIRED.bits(), 1 << 32 | 1 << 33 | 1 << 36);
    }

    #[test]
    fn names_are_the_spec_crates() {
        use bitflags_names::name;
        for (bit, ours) in NET_NAMES {
            assert_eq!(Some(ours), name(bit).as_deref(), "bit {bit:#x}");
        }
    }

    /// The names that the independent definition prints.
    mod bitflags_names {
        use virtio_spec::{le128, net::F};

        pub(super) fn name(bit: u64) -> Option<String> {
            let set = F::from_bits_retain(le128::from_ne(u128::from(bit)));
            let text = format!("{set:?}");
            text.strip_prefix("F(")?.strip_suffix(")").map(str::to_owned)
        }
    }

    #[test]
    fn blocks_are_the_halves() {
        let set = Features::new(0x0123_4567_89AB_CDEF);
        assert_eq!((set.block(0), set.block(1), set.block(2)), (0x89AB_CDEF, 0x0123_4567, 0));
        let built = Features::NONE.with_block(1, 0x0123_4567).unwrap();
        assert_eq!(built.with_block(0, 0x89AB_CDEF), Some(set));
        assert_eq!(set.with_block(2, 0), Some(set));
        assert_eq!(set.with_block(2, 1), None);
        assert_eq!(set.with_block(u32::MAX, 1), None);
    }

    #[test]
    fn display_names_and_numbers() {
        let set = Features::new(VERSION_1 | net::MAC | 1 << 63);
        assert_eq!(set.to_string(), "VERSION_1 MAC 0x8000000000000000");
        assert_eq!(Features::NONE.to_string(), "none");
    }

    proptest! {
        #[test]
        fn requirements_agree_with_the_spec_crate(bits: u64) {
            let known: u64 = NET_NAMES.iter().map(|(bit, _)| bit).sum();
            let set = Features::new(bits & known);
            let theirs = NetF::from_bits_retain(
                virtio_spec::le128::from_ne(u128::from(set.bits())),
            );
            prop_assert_eq!(
                set.net_requirement_missing().is_none(),
                theirs.requirements_satisfied()
            );
            let consistent = set.net_consistent();
            prop_assert!(set.contains(consistent));
            prop_assert_eq!(consistent.net_requirement_missing(), None);
        }
    }
}
