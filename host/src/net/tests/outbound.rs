//! What the board is shown of the kernel's header.

use shared::window::Window;
use shared::wire::net::{FLAG_DATA_VALID, FLAG_NEEDS_CSUM, HEADER_LEN, NetHeader};

use super::grammar::{L4, Recipe, Rng, Sample};
use crate::net::{FrameFault, Offloads, OutboundHeader};
use crate::raw::SharedMemory;

fn check(offloads: Offloads, sample: &Sample) -> Result<NetHeader, FrameFault> {
    let mut bytes = sample.header.encode().to_vec();
    bytes.extend(&sample.frame);
    let memory = SharedMemory::new(128 * 1024).unwrap();
    let window = memory.window();
    window.write(64, &bytes);
    let mut outbound = OutboundHeader::new(offloads, 1500);
    let in_window = outbound.check(&window, 64, bytes.len() as u32);
    let mut private = bytes.clone();
    // Both ways give the same verdict and leave the frame alone.
    assert_eq!(outbound.check_private(&mut private), in_window);
    let mut shown = vec![0; bytes.len()];
    window.read(64, &mut shown);
    assert_eq!(shown, private);
    assert_eq!(shown[HEADER_LEN.min(shown.len())..], sample.frame);
    assert_eq!(outbound.counts().total(), 2 * u64::from(in_window.is_err()));
    in_window.map(|()| NetHeader::decode(&shown).unwrap())
}

#[test]
fn a_plain_frame_shows_nothing_of_the_buffer_before_it() {
    // The kernel writes 10 of the 12 bytes.
    let stale = NetHeader { num_buffers: 0xBEEF, hdr_len: 5, ..NetHeader::default() };
    let frame = Recipe::new(false, L4::Udp, 100).build();
    for flags in [0, FLAG_DATA_VALID, 0xF0] {
        let header = NetHeader { flags, ..stale };
        let shown = check(Offloads::ALL, &Sample { header, frame: frame.clone() });
        assert_eq!(shown, Ok(NetHeader::default()));
    }
}

#[test]
fn what_was_not_negotiated_is_dropped() {
    let tcp = Recipe::new(true, L4::Tcp, 4000);
    let sample = |segment| Sample { header: tcp.header(segment), frame: tcp.build() };
    let short = Recipe::new(true, L4::Tcp, 400);
    let partial = Sample { header: short.header(None), frame: short.build() };
    assert_eq!(check(Offloads::NONE, &partial), Err(FrameFault::ChecksumNotNegotiated));
    assert_eq!(
        check(Offloads { tso6: false, ..Offloads::ALL }, &sample(Some(1400))),
        Err(FrameFault::SegmentationNotNegotiated)
    );
    assert_eq!(check(Offloads::ALL, &sample(None)), Err(FrameFault::TooLong));
    let good = check(Offloads::ALL, &sample(Some(1400))).unwrap();
    assert_eq!(good, NetHeader { num_buffers: 0, ..tcp.header(Some(1400)) });
}

#[test]
fn ranges_hold_for_the_kernels_frames_as_well() {
    let recipe = Recipe::new(false, L4::Raw(47), 600);
    let frame = recipe.build();
    let at = |csum_start, csum_offset| {
        let flags = FLAG_NEEDS_CSUM;
        let header = NetHeader { flags, csum_start, csum_offset, ..NetHeader::default() };
        check(Offloads::ALL, &Sample { header, frame: frame.clone() }).is_ok()
    };
    let len = frame.len() as u16;
    assert!(at(34, 16) && at(500, 16) && at(len - 2, 0));
    assert!(!at(13, 16) && !at(len - 1, 0) && !at(len, 0) && !at(0xFFFF, 0xFFFF));
}

/// Nothing that a buffer can hold makes it panic or show an offload that was
/// not negotiated.
#[test]
fn only_negotiated_offloads_are_shown() {
    let mut rng = Rng(3);
    for turn in 0..5_000u32 {
        let sample = Sample::random(&mut rng, 1500);
        let offloads = Offloads {
            checksum: turn & 1 != 0,
            tso4: turn & 2 != 0,
            tso6: turn & 4 != 0,
            ecn: turn & 8 != 0,
            uso4: turn & 16 != 0,
            uso6: turn & 16 != 0,
        };
        let Ok(shown) = check(offloads, &sample) else { continue };
        assert!(shown.flags == 0 || offloads.checksum && shown.flags == FLAG_NEEDS_CSUM);
        let allowed = match shown.gso_type {
            0 => true,
            1 => offloads.tso4,
            0x81 => offloads.tso4 && offloads.ecn,
            4 => offloads.tso6,
            0x84 => offloads.tso6 && offloads.ecn,
            5 => offloads.uso4,
            _ => false,
        };
        assert!(allowed, "{offloads:?} {shown:?}");
        assert!(shown.gso_type == 0 || offloads.checksum);
    }
}
