//! Whether a virtio-net header fits the frame behind it.

use shared::wire::net::{
    FLAG_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, HEADER_LEN, MAX_FRAME,
    NetHeader,
};

use super::fault::FrameFault;
use super::offload::Offloads;
use super::parse::{ETHERNET, Parsed, Transport, VLAN, parse};

/// Bytes of a frame's start that the checks may read: Ethernet to transport.
pub const CHECKED_BYTES: usize = 256;

/// `gso_size` that the kernel keeps for itself (GSO_BY_FRAGS).
const RESERVED_SEGMENT: u16 = 0xFFFF;

/// `gso_type` of UDP fragments (UFO): given up by the standard's devices.
const GSO_UDP: u8 = 3;

/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM: u16 = 16;

/// Offset of the checksum in a UDP header.
const UDP_CHECKSUM: u16 = 6;

/// The frame's bytes in `head`, behind the header.
pub(super) fn checked_part(head: &[u8], frame_len: u32) -> Result<&[u8], FrameFault> {
    let frame = head.get(HEADER_LEN..).unwrap_or(&[]);
    let most = usize::try_from(frame_len).unwrap_or(usize::MAX).min(CHECKED_BYTES);
    let frame = frame.get(..most).unwrap_or(frame);
    if frame.len() < ETHERNET { Err(FrameFault::TooShort) } else { Ok(frame) }
}

/// Longest frame in bytes: one VLAN tag is not part of the MTU, a second is.
pub(super) fn frame_limit(mtu: u16, tags: usize) -> u32 {
    let tag = if tags > 0 { VLAN } else { 0 };
    u32::from(mtu) + u32::try_from(ETHERNET + tag).unwrap_or(u32::MAX)
}

/// What is known of a frame besides its virtio-net header.
pub(super) struct Facts<'a> {
    pub(super) offloads: Offloads,
    /// Its first bytes, private.
    pub(super) frame: &'a [u8],
    pub(super) frame_len: u32,
    pub(super) limit: u32,
    /// Least `gso_size` for TCP. UDP's is bounded by the number of segments.
    pub(super) least_segment: u16,
}

impl Facts<'_> {
    /// Checks a frame whose checksum the receiver completes, without segmentation.
    pub(super) fn partial_checksum(&self, header: NetHeader) -> Result<NetHeader, FrameFault> {
        if !self.offloads.checksum {
            return Err(FrameFault::ChecksumNotNegotiated);
        }
        let NetHeader { csum_start: start, csum_offset: offset, .. } = header;
        let parsed = parse(self.frame).ok_or(FrameFault::Headers)?;
        if parsed.end > self.frame_len {
            return Err(FrameFault::LengthMismatch);
        }
        // In 32 bits: the sum of the two 16-bit fields may not fit 16.
        let end = u32::from(start) + u32::from(offset) + 2;
        let seen = u32::try_from(self.frame.len()).unwrap_or(0);
        if start < parsed.transport_at || end > seen.min(parsed.end) {
            return Err(FrameFault::ChecksumRange);
        }
        let own = start == parsed.transport_at;
        let fits = match parsed.transport {
            Transport::Tcp { .. } => own && offset == TCP_CHECKSUM,
            // Behind the UDP header: the checksum of a tunnelled packet.
            Transport::Udp { .. } if own => offset == UDP_CHECKSUM,
            Transport::Udp { .. } => start >= parsed.transport_at + 8,
            Transport::Other { fragment, .. } => !fragment,
        };
        if !fits {
            return Err(FrameFault::ChecksumPlace);
        }
        let hdr_len = if own { parsed.header_len() } else { None };
        // At most 256: `end` lies within the checked bytes.
        let hdr_len = hdr_len.unwrap_or(0).max(u16::try_from(end).unwrap_or(0));
        Ok(NetHeader {
            flags: FLAG_NEEDS_CSUM,
            hdr_len,
            csum_start: start,
            csum_offset: offset,
            ..NetHeader::default()
        })
    }

    /// Checks a frame that the receiver segments; returns the number of
    /// segments as well.
    pub(super) fn segmented(&self, header: NetHeader) -> Result<(NetHeader, u32), FrameFault> {
        let kind = header.gso_type & !GSO_ECN;
        let ecn = header.gso_type & GSO_ECN != 0;
        self.check_kind(kind, ecn)?;
        if header.flags & FLAG_NEEDS_CSUM == 0 {
            return Err(FrameFault::SegmentationWithoutChecksum);
        }
        let too_small = kind != GSO_UDP_L4 && header.gso_size < self.least_segment;
        if matches!(header.gso_size, 0 | RESERVED_SEGMENT) || too_small {
            return Err(FrameFault::SegmentSize);
        }
        let parsed = parse(self.frame).ok_or(FrameFault::Headers)?;
        let (headers, checksum) = self.check_protocols(kind, &parsed)?;
        if (header.csum_start, header.csum_offset) != (parsed.transport_at, checksum) {
            return Err(FrameFault::ChecksumPlace);
        }
        let payload = self.frame_len.saturating_sub(u32::from(headers));
        if payload == 0 {
            return Err(FrameFault::NothingToSegment);
        }
        if usize::try_from(self.frame_len).map_or(true, |len| len > MAX_FRAME + VLAN) {
            return Err(FrameFault::TooLong);
        }
        if u32::from(headers) + u32::from(header.gso_size) > self.limit {
            return Err(FrameFault::SegmentTooLong);
        }
        let rebuilt = NetHeader {
            flags: FLAG_NEEDS_CSUM,
            gso_type: header.gso_type,
            hdr_len: headers,
            gso_size: header.gso_size,
            csum_start: parsed.transport_at,
            csum_offset: checksum,
            num_buffers: 0,
        };
        Ok((rebuilt, payload.div_ceil(u32::from(header.gso_size))))
    }

    /// Whether this kind of segmentation may be asked for at all.
    fn check_kind(&self, kind: u8, ecn: bool) -> Result<(), FrameFault> {
        let set = self.offloads;
        let (allowed, tcp) = match kind {
            GSO_TCPV4 => (set.tso4, true),
            GSO_TCPV6 => (set.tso6, true),
            // Which of the two is seen when the IP header is read.
            GSO_UDP_L4 => (set.uso4 || set.uso6, false),
            GSO_UDP => (false, false),
            GSO_NONE => return Err(FrameFault::EcnFlag),
            _ => return Err(FrameFault::SegmentationType),
        };
        if !allowed || !set.checksum {
            return Err(FrameFault::SegmentationNotNegotiated);
        }
        if ecn && !(tcp && set.ecn) {
            return Err(FrameFault::EcnFlag);
        }
        Ok(())
    }

    /// Whether the frame is what its segmentation type says; returns the
    /// length of all headers and the checksum's offset.
    fn check_protocols(&self, kind: u8, parsed: &Parsed) -> Result<(u16, u16), FrameFault> {
        let set = self.offloads;
        let checksum = match (kind, parsed.v6, parsed.transport) {
            (GSO_TCPV4, false, Transport::Tcp { .. })
            | (GSO_TCPV6, true, Transport::Tcp { .. }) => TCP_CHECKSUM,
            (GSO_UDP_L4, v6, Transport::Udp { length }) => {
                if !(if v6 { set.uso6 } else { set.uso4 }) {
                    return Err(FrameFault::SegmentationNotNegotiated);
                }
                let most = self.frame_len.saturating_sub(u32::from(parsed.transport_at));
                if u32::from(length) < 8 || u32::from(length) > most {
                    return Err(FrameFault::LengthMismatch);
                }
                UDP_CHECKSUM
            }
            _ => return Err(FrameFault::ProtocolMismatch),
        };
        if parsed.end != self.frame_len {
            return Err(FrameFault::LengthMismatch);
        }
        let headers = parsed.header_len().ok_or(FrameFault::ProtocolMismatch)?;
        Ok((headers, checksum))
    }
}
