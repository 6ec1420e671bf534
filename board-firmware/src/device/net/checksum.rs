//! Checks of the virtio-net header, and the Internet checksum that a driver
//! left to the device.

use shared::wire::net::{
    FLAG_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NetHeader, feature,
};

use super::backend::Negotiated;

/// Bytes of an Ethernet header without tags.
pub(super) const ETHERNET_HEADER: usize = 14;

/// Whether a header from the driver agrees with itself, with the frame's
/// length and with what was negotiated (VirtIO 1.3 §5.1.6.2.1).
pub(super) fn header_holds(header: &NetHeader, frame_len: usize, negotiated: &Negotiated) -> bool {
    // The driver sets no other flag; what it sets besides is ignored (§5.1.6.2.2).
    let partial = header.flags & FLAG_NEEDS_CSUM != 0;
    if partial {
        let start = usize::from(header.csum_start);
        let end = start + usize::from(header.csum_offset) + 2;
        if !negotiated.has(feature::CSUM) || start < ETHERNET_HEADER || end > frame_len {
            return false;
        }
    }
    let needed = match header.gso_type & !GSO_ECN {
        GSO_NONE => return header.gso_type == GSO_NONE,
        GSO_TCPV4 => feature::HOST_TSO4,
        GSO_TCPV6 => feature::HOST_TSO6,
        GSO_UDP_L4 => feature::HOST_USO,
        _ => return false,
    };
    let ecn = header.gso_type & GSO_ECN != 0;
    let ecn_holds =
        !ecn || (header.gso_type & !GSO_ECN != GSO_UDP_L4 && negotiated.has(feature::HOST_ECN));
    // All ones is the kernel's mark for "by fragments": no peer may say it.
    let size_holds = header.gso_size != 0 && header.gso_size != u16::MAX;
    negotiated.has(needed) && ecn_holds && size_holds && partial
}

/// The ones' complement sum of `bytes`, folded to 16 bits, `start` included.
pub(super) fn sum(start: u16, bytes: &[u8]) -> u16 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    // 64 KiB of pairs stay far below 2^64.
    let mut total = u64::from(start);
    for pair in pairs {
        total += u64::from(u16::from_be_bytes(*pair));
    }
    if let [last] = odd {
        total += u64::from(u16::from_be_bytes([*last, 0]));
    }
    fold(total)
}

fn fold(mut total: u64) -> u16 {
    while let Some(carry) = Some(total >> 16).filter(|carry| *carry != 0) {
        total = (total & 0xFFFF) + carry;
    }
    u16::try_from(total).unwrap_or(u16::MAX)
}

/// Completes a partial checksum in place and takes the flag back. `false` if
/// the header does not fit the frame.
pub(super) fn complete(header: &mut NetHeader, frame: &mut [u8]) -> bool {
    if header.flags & FLAG_NEEDS_CSUM == 0 {
        return true;
    }
    let start = usize::from(header.csum_start);
    let Some(covered) = frame.get_mut(start..) else { return false };
    // The field holds the pseudo header's sum, so it belongs to the bytes summed.
    let checksum = match !sum(0, covered) {
        // Zero means "no checksum" in UDP; both are zero in ones' complement.
        0 => 0xFFFF,
        checksum => checksum,
    };
    let offset = usize::from(header.csum_offset);
    let Some(field) = covered.get_mut(offset..offset + 2) else { return false };
    field.copy_from_slice(&checksum.to_be_bytes());
    header.flags &= !FLAG_NEEDS_CSUM;
    header.csum_start = 0;
    header.csum_offset = 0;
    true
}
