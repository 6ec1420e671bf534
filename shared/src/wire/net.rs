//! The virtio-net device: feature bits, configuration and frame header
//! (VirtIO 1.3 §5.1).

use core::mem::offset_of;

use super::{Le16, Le32};

/// The device id of virtio-net.
pub const DEVICE_ID: u32 = 1;

/// Feature bits of the device, as masks (VirtIO 1.3 §5.1.3).
pub mod feature {
    /// The device takes frames with a partial checksum.
    pub const CSUM: u64 = 1 << 0;
    /// The driver takes frames with a partial checksum.
    pub const GUEST_CSUM: u64 = 1 << 1;
    /// The driver switches its own offloads on and off while it runs.
    pub const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
    /// `mtu` is valid.
    pub const MTU: u64 = 1 << 3;
    /// `mac` is valid.
    pub const MAC: u64 = 1 << 5;
    /// The driver takes unsegmented TCP over IPv4.
    pub const GUEST_TSO4: u64 = 1 << 7;
    /// The driver takes unsegmented TCP over IPv6.
    pub const GUEST_TSO6: u64 = 1 << 8;
    /// The driver takes unsegmented TCP with ECN.
    pub const GUEST_ECN: u64 = 1 << 9;
    /// The device takes unsegmented TCP over IPv4.
    pub const HOST_TSO4: u64 = 1 << 11;
    /// The device takes unsegmented TCP over IPv6.
    pub const HOST_TSO6: u64 = 1 << 12;
    /// The device takes unsegmented TCP with ECN.
    pub const HOST_ECN: u64 = 1 << 13;
    /// A frame to the driver may span several buffers.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// `status` is valid.
    pub const STATUS: u64 = 1 << 16;
    /// There is a control queue.
    pub const CTRL_VQ: u64 = 1 << 17;
    /// The driver says which frames it wants, by kind and by address.
    pub const CTRL_RX: u64 = 1 << 18;
    /// The driver says which VLANs it wants.
    pub const CTRL_VLAN: u64 = 1 << 19;
    /// More kinds of frames that the driver may want or not.
    pub const CTRL_RX_EXTRA: u64 = 1 << 20;
    /// The device may ask the driver to announce itself to the network.
    pub const GUEST_ANNOUNCE: u64 = 1 << 21;
    /// The driver may change its MAC address.
    pub const CTRL_MAC_ADDR: u64 = 1 << 23;
    /// The driver says how long interrupts may be put off.
    pub const NOTF_COAL: u64 = 1 << 53;
    /// The driver takes unsegmented UDP over IPv4.
    pub const GUEST_USO4: u64 = 1 << 54;
    /// The driver takes unsegmented UDP over IPv6.
    pub const GUEST_USO6: u64 = 1 << 55;
    /// The device takes unsegmented UDP.
    pub const HOST_USO: u64 = 1 << 56;
}

/// Layout of the configuration space, as far as version 1 uses it (VirtIO 1.3 §5.1.4).
#[repr(C)]
struct ConfigLayout {
    mac: [u8; 6],
    status: Le16,
    max_virtqueue_pairs: Le16,
    mtu: Le16,
    speed: Le32,
    duplex: u8,
}

/// Bytes of the configuration space that both sides know: up to and with `mtu`.
pub const CONFIG_LEN: usize = offset_of!(ConfigLayout, speed);

/// `status`: the link is up (VirtIO 1.3 §5.1.4.1).
pub const STATUS_LINK_UP: u16 = 1;

/// `status`: the driver is asked to announce itself to the network, and to
/// acknowledge that on the control queue (VirtIO 1.3 §5.1.6.5.4).
pub const STATUS_ANNOUNCE: u16 = 2;

/// Range of `mtu`: what IPv4 needs at least (VirtIO 1.3 §5.1.4.1), and what
/// fits a frame that a network interface can have.
pub const MTU_RANGE: core::ops::RangeInclusive<u16> = 68..=65_521;

/// The configuration space's content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetConfig {
    /// The driver's own MAC address.
    pub mac: [u8; 6],
    /// [`STATUS_LINK_UP`] and [`STATUS_ANNOUNCE`], or neither.
    pub status: u16,
    /// Queue pairs; 1 without multi-queue.
    pub max_virtqueue_pairs: u16,
    /// Longest packet without Ethernet header, in bytes.
    pub mtu: u16,
}

impl NetConfig {
    /// The bytes of the configuration space.
    #[must_use]
    pub fn encode(&self) -> [u8; CONFIG_LEN] {
        let [a, b, c, d, e, f] = self.mac;
        let [g, h] = self.status.to_le_bytes();
        let [i, j] = self.max_virtqueue_pairs.to_le_bytes();
        let [k, l] = self.mtu.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// The content of a configuration space; `None` if it is too short.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes.first_chunk::<CONFIG_LEN>()?;
        Some(Self {
            mac: [a, b, c, d, e, f],
            status: u16::from_le_bytes([g, h]),
            max_virtqueue_pairs: u16::from_le_bytes([i, j]),
            mtu: u16::from_le_bytes([k, l]),
        })
    }
}

/// Layout of the header before every frame (VirtIO 1.3 §5.1.6).
#[repr(C)]
struct HeaderLayout {
    flags: u8,
    gso_type: u8,
    hdr_len: Le16,
    gso_size: Le16,
    csum_start: Le16,
    csum_offset: Le16,
    num_buffers: Le16,
}

/// Bytes of the header. With VIRTIO_F_VERSION_1 `num_buffers` is always there.
pub const HEADER_LEN: usize = size_of::<HeaderLayout>();

/// The same, as lengths on the wire are counted.
#[expect(clippy::cast_possible_truncation, reason = "the header has 12 bytes")]
pub const HEADER_BYTES: u32 = HEADER_LEN as u32;

/// Longest frame behind a header: a packet of 64 KiB and its Ethernet header,
/// 65562 bytes with the header (VirtIO 1.3 §5.1.6.3.1).
pub const MAX_FRAME: usize = 65_562 - HEADER_LEN;

/// Flag: the checksum from `csum_start` on is partial.
pub const FLAG_NEEDS_CSUM: u8 = 1;
/// Flag: the sender checked the checksum.
pub const FLAG_DATA_VALID: u8 = 2;

/// `gso_type`: one packet, nothing to segment.
pub const GSO_NONE: u8 = 0;
/// `gso_type`: TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// `gso_type`: TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// `gso_type`: UDP datagrams of one flow.
pub const GSO_UDP_L4: u8 = 5;
/// Bit in `gso_type`: the TCP header has CWR set.
pub const GSO_ECN: u8 = 0x80;

/// The header before every frame, as numbers: nothing is checked yet.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NetHeader {
    /// `FLAG_*`.
    pub flags: u8,
    /// `GSO_*`.
    pub gso_type: u8,
    /// Bytes of all headers of a frame to be segmented: a hint.
    pub hdr_len: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// Where the checksum starts, from the frame's first byte.
    pub csum_start: u16,
    /// Where it is stored, from `csum_start`.
    pub csum_offset: u16,
    /// Buffers that the frame spans; 0 towards the device.
    pub num_buffers: u16,
}

impl NetHeader {
    /// The header's bytes.
    #[must_use]
    pub const fn encode(&self) -> [u8; HEADER_LEN] {
        let [a, b] = self.hdr_len.to_le_bytes();
        let [c, d] = self.gso_size.to_le_bytes();
        let [e, f] = self.csum_start.to_le_bytes();
        let [g, h] = self.csum_offset.to_le_bytes();
        let [i, j] = self.num_buffers.to_le_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h, i, j]
    }

    /// The header at the start of `bytes`; `None` if there are fewer than
    /// [`HEADER_LEN`].
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [flags, gso_type, a, b, c, d, e, f, g, h, i, j] = *bytes.first_chunk::<HEADER_LEN>()?;
        Some(Self {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([a, b]),
            gso_size: u16::from_le_bytes([c, d]),
            csum_start: u16::from_le_bytes([e, f]),
            csum_offset: u16::from_le_bytes([g, h]),
            num_buffers: u16::from_le_bytes([i, j]),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use virtio_spec::net::{F, Hdr, HdrF, HdrGso, S};

    use super::*;

    #[test]
    fn feature_bits_are_those_of_an_independent_definition() {
        for (ours, theirs) in [
            (feature::CSUM, F::CSUM),
            (feature::GUEST_CSUM, F::GUEST_CSUM),
            (feature::CTRL_GUEST_OFFLOADS, F::CTRL_GUEST_OFFLOADS),
            (feature::MTU, F::MTU),
            (feature::MAC, F::MAC),
            (feature::GUEST_TSO4, F::GUEST_TSO4),
            (feature::GUEST_TSO6, F::GUEST_TSO6),
            (feature::GUEST_ECN, F::GUEST_ECN),
            (feature::HOST_TSO4, F::HOST_TSO4),
            (feature::HOST_TSO6, F::HOST_TSO6),
            (feature::HOST_ECN, F::HOST_ECN),
            (feature::MRG_RXBUF, F::MRG_RXBUF),
            (feature::STATUS, F::STATUS),
            (feature::CTRL_VQ, F::CTRL_VQ),
            (feature::CTRL_RX, F::CTRL_RX),
            (feature::CTRL_VLAN, F::CTRL_VLAN),
            (feature::CTRL_RX_EXTRA, F::CTRL_RX_EXTRA),
            (feature::GUEST_ANNOUNCE, F::GUEST_ANNOUNCE),
            (feature::CTRL_MAC_ADDR, F::CTRL_MAC_ADDR),
            (feature::NOTF_COAL, F::NOTF_COAL),
            (feature::GUEST_USO4, F::GUEST_USO4),
            (feature::GUEST_USO6, F::GUEST_USO6),
            (feature::HOST_USO, F::HOST_USO),
        ] {
            assert_eq!(u128::from(ours), theirs.bits().to_ne());
        }
    }

    #[test]
    fn header_is_laid_out_as_an_independent_definition_has_it() {
        assert_eq!(HEADER_LEN, size_of::<Hdr>());
        for (ours, theirs) in [
            (offset_of!(HeaderLayout, flags), offset_of!(Hdr, flags)),
            (offset_of!(HeaderLayout, gso_type), offset_of!(Hdr, gso_type)),
            (offset_of!(HeaderLayout, hdr_len), offset_of!(Hdr, hdr_len)),
            (offset_of!(HeaderLayout, gso_size), offset_of!(Hdr, gso_size)),
            (offset_of!(HeaderLayout, csum_start), offset_of!(Hdr, csum_start)),
            (offset_of!(HeaderLayout, csum_offset), offset_of!(Hdr, csum_offset)),
            (offset_of!(HeaderLayout, num_buffers), offset_of!(Hdr, num_buffers)),
        ] {
            assert_eq!(ours, theirs);
        }
        assert_eq!(FLAG_NEEDS_CSUM, HdrF::NEEDS_CSUM.bits());
        assert_eq!(FLAG_DATA_VALID, HdrF::DATA_VALID.bits());
        for (ours, theirs) in [
            (GSO_NONE, HdrGso::None),
            (GSO_TCPV4, HdrGso::Tcpv4),
            (GSO_TCPV6, HdrGso::Tcpv6),
            (GSO_UDP_L4, HdrGso::UdpL4),
            (GSO_ECN, HdrGso::Ecn),
        ] {
            assert_eq!(ours, u8::from(theirs));
        }
        assert_eq!(STATUS_LINK_UP, S::LINK_UP.bits().to_ne());
        assert_eq!(STATUS_ANNOUNCE, S::ANNOUNCE.bits().to_ne());
    }

    #[test]
    fn header_golden() {
        let header = NetHeader {
            flags: 1,
            gso_type: 4,
            hdr_len: 0x0203,
            gso_size: 0x0405,
            csum_start: 0x0607,
            csum_offset: 0x0809,
            num_buffers: 0x0A0B,
        };
        assert_eq!(header.encode(), [1, 4, 3, 2, 5, 4, 7, 6, 9, 8, 0x0B, 0x0A]);
    }

    #[test]
    fn config_golden() {
        let config = NetConfig {
            mac: [1, 2, 3, 4, 5, 6],
            status: STATUS_LINK_UP,
            max_virtqueue_pairs: 0x0809,
            mtu: 0x0A0B,
        };
        assert_eq!(config.encode(), [1, 2, 3, 4, 5, 6, 1, 0, 9, 8, 0x0B, 0x0A]);
        assert_eq!(offset_of!(ConfigLayout, status), 6);
        assert_eq!(offset_of!(ConfigLayout, max_virtqueue_pairs), 8);
        assert_eq!(offset_of!(ConfigLayout, mtu), 10);
        assert_eq!(offset_of!(ConfigLayout, duplex), 16);
        assert_eq!(NetConfig::decode(&config.encode()), Some(config));
        assert_eq!(NetConfig::decode(&[0; CONFIG_LEN - 1]), None);
    }

    proptest! {
        #[test]
        fn header_round_trip(bytes: [u8; HEADER_LEN]) {
            let header = NetHeader::decode(&bytes).unwrap();
            prop_assert_eq!(header.encode(), bytes);
        }

        #[test]
        fn a_short_header_is_none(len in 0..HEADER_LEN) {
            prop_assert_eq!(NetHeader::decode(&[0; HEADER_LEN][..len]), None);
        }
    }
}
