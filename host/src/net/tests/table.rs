//! Each cause by name: one frame that is good, and what is wrong with the next.

use shared::wire::net::{FLAG_DATA_VALID, FLAG_NEEDS_CSUM, GSO_ECN, GSO_UDP_L4, NetHeader};

use super::grammar::{BOARD_MAC, L4, Recipe, Sample, open_rules};
use crate::net::{FrameFault, Offloads, Rules, Tags, Vlans};

fn sample(recipe: &Recipe, segment: Option<usize>) -> Sample {
    Sample { header: recipe.header(segment), frame: recipe.build() }
}

fn tcp4() -> Sample {
    sample(&Recipe::new(false, L4::Tcp, 10_000), Some(1460))
}

fn udp6() -> Sample {
    sample(&Recipe::new(true, L4::Udp, 10_000), Some(1400))
}

fn plain() -> Sample {
    Sample { header: NetHeader::default(), frame: Recipe::new(false, L4::Udp, 100).build() }
}

#[test]
fn good_frames_pass_with_a_header_of_our_own() {
    for v6 in [false, true] {
        for l4 in [L4::Tcp, L4::Udp] {
            for (options, tcp_options) in [(vec![], 0), (vec![0, 60], 3)] {
                let (options, payload) = (if v6 { options } else { vec![1] }, 20_000);
                let recipe = Recipe { options, tcp_options, ..Recipe::new(v6, l4, payload) };
                let mut sample = sample(&recipe, Some(1300));
                let right = sample.header;
                // What the board says here is not asked.
                sample.header.hdr_len = 0xABCD;
                sample.header.num_buffers = 7;
                sample.header.flags |= 0xF0;
                let header = sample.check(open_rules(1500)).unwrap().header();
                assert_eq!(header, NetHeader { num_buffers: 0, ..right });
            }
        }
    }
}

#[test]
fn a_plain_frame_gets_an_empty_header() {
    let mut sample = plain();
    sample.header = NetHeader {
        flags: FLAG_DATA_VALID | 0xF8,
        hdr_len: 1,
        gso_size: 2,
        csum_start: 3,
        csum_offset: 4,
        num_buffers: 5,
        ..NetHeader::default()
    };
    assert_eq!(sample.check(open_rules(1500)).unwrap().header(), NetHeader::default());
    let trusting = Rules { trust_checksums: true, ..open_rules(1500) };
    let flags = sample.check(trusting).unwrap().header().flags;
    assert_eq!(flags, FLAG_DATA_VALID);
    let none = Rules { offloads: Offloads::NONE, ..trusting };
    assert_eq!(sample.check(none).unwrap().header(), NetHeader::default());
}

#[test]
fn the_private_head_carries_the_new_header() {
    let sample = tcp4();
    let checked = sample.check(open_rules(1500)).unwrap();
    let mut head = sample.head();
    let frame = head[12..].to_vec();
    let sent = checked.head(&mut head).to_vec();
    assert_eq!(sent[..12], checked.header().encode());
    assert_eq!(sent[12..], frame);
}

/// A change to a frame, to the rules, and what comes of it.
type Case = (&'static str, Sample, Rules, FrameFault);

fn cases() -> Vec<Case> {
    let rules = open_rules(1500);
    let with = |mut sample: Sample, change: &dyn Fn(&mut Sample)| {
        change(&mut sample);
        sample
    };
    let header = |sample, change: fn(&mut NetHeader)| with(sample, &|s| change(&mut s.header));
    let byte = |sample, at: usize, value: u8| with(sample, &|s: &mut Sample| s.frame[at] = value);
    let offloads = |offloads| Rules { offloads, ..rules };
    let all = Offloads::ALL;
    let long =
        |len: usize| Sample { frame: Recipe::new(false, L4::Udp, len - 42).build(), ..plain() };
    let no_vlan = Rules { tags: Tags::These(Vlans::NONE), ..rules };
    let tagged = Recipe { tags: 1, ..Recipe::new(false, L4::Tcp, 100) };
    let fragment = Recipe { fragment: true, ..Recipe::new(false, L4::Tcp, 100) };
    let fragment6 = Recipe { fragment: true, ..Recipe::new(true, L4::Udp, 100) };
    let partial = || sample(&Recipe::new(false, L4::Tcp, 100), None);
    let partial_udp = || sample(&Recipe::new(true, L4::Udp, 100), None);
    let many = Recipe::new(false, L4::Udp, 128 * 100 + 1);
    let few = Rules { udp_segments: 64, ..rules };
    let deep = Recipe { options: vec![60; 9], ..Recipe::new(true, L4::Tcp, 2000) };
    use FrameFault as F;
    vec![
        ("13 bytes", with(plain(), &|s| s.frame.truncate(13)), rules, F::TooShort),
        ("nothing", with(plain(), &|s| s.frame.clear()), rules, F::TooShort),
        ("one byte over the MTU", long(1515), rules, F::TooLong),
        (
            "a tag is no excuse",
            sample(&Recipe { payload: 1500, ..tagged.clone() }, None),
            rules,
            F::TooLong,
        ),
        ("checksum off", partial(), offloads(Offloads::NONE), F::ChecksumNotNegotiated),
        ("sum in the IP header", header(partial(), |h| h.csum_start -= 1), rules, F::ChecksumRange),
        (
            "sum in the Ethernet header",
            header(partial(), |h| h.csum_start = 0),
            rules,
            F::ChecksumRange,
        ),
        (
            "sum behind the frame",
            header(partial(), |h| h.csum_start = 153),
            rules,
            F::ChecksumRange,
        ),
        (
            "sum wraps 16 bits",
            header(partial(), |h| h.csum_offset = 0xFFF0),
            rules,
            F::ChecksumRange,
        ),
        ("start all ones", header(partial(), |h| h.csum_start = 0xFFFF), rules, F::ChecksumRange),
        ("TCP sum elsewhere", header(partial(), |h| h.csum_offset = 14), rules, F::ChecksumPlace),
        ("TCP sum later", header(partial(), |h| h.csum_start += 2), rules, F::ChecksumPlace),
        (
            "UDP sum elsewhere",
            header(partial_udp(), |h| h.csum_offset = 16),
            rules,
            F::ChecksumPlace,
        ),
        (
            "UDP sum in its header",
            header(partial_udp(), |h| h.csum_start += 4),
            rules,
            F::ChecksumPlace,
        ),
        ("sum of a fragment", sample(&fragment, None), rules, F::ChecksumPlace),
        ("sum of an IPv6 fragment", sample(&fragment6, None), rules, F::ChecksumPlace),
        ("TSO sum elsewhere", header(tcp4(), |h| h.csum_offset = 6), rules, F::ChecksumPlace),
        ("TSO sum later", header(tcp4(), |h| h.csum_start += 1), rules, F::ChecksumPlace),
        ("USO sum elsewhere", header(udp6(), |h| h.csum_offset = 16), rules, F::ChecksumPlace),
        ("type 2", header(tcp4(), |h| h.gso_type = 2), rules, F::SegmentationType),
        ("type 6", header(tcp4(), |h| h.gso_type = 6), rules, F::SegmentationType),
        ("type 0x7F", header(tcp4(), |h| h.gso_type = 0x7F), rules, F::SegmentationType),
        ("UFO", header(tcp4(), |h| h.gso_type = 3), rules, F::SegmentationNotNegotiated),
        (
            "TSO4 off",
            tcp4(),
            offloads(Offloads { tso4: false, ..all }),
            F::SegmentationNotNegotiated,
        ),
        (
            "USO6 off",
            udp6(),
            offloads(Offloads { uso6: false, ..all }),
            F::SegmentationNotNegotiated,
        ),
        (
            "USO off",
            udp6(),
            offloads(Offloads { uso4: false, uso6: false, ..all }),
            F::SegmentationNotNegotiated,
        ),
        (
            "no ground",
            tcp4(),
            offloads(Offloads { checksum: false, ..all }),
            F::SegmentationNotNegotiated,
        ),
        ("ECN alone", header(plain(), |h| h.gso_type = GSO_ECN), rules, F::EcnFlag),
        ("ECN and UDP", header(udp6(), |h| h.gso_type |= GSO_ECN), rules, F::EcnFlag),
        (
            "ECN off",
            header(tcp4(), |h| h.gso_type |= GSO_ECN),
            offloads(Offloads { ecn: false, ..all }),
            F::EcnFlag,
        ),
        ("no sum", header(tcp4(), |h| h.flags = 0), rules, F::SegmentationWithoutChecksum),
        (
            "sum said to be good",
            header(tcp4(), |h| h.flags = FLAG_DATA_VALID),
            rules,
            F::SegmentationWithoutChecksum,
        ),
        ("segments of 0", header(udp6(), |h| h.gso_size = 0), rules, F::SegmentSize),
        ("TCP segments of 0", header(tcp4(), |h| h.gso_size = 0), rules, F::SegmentSize),
        ("segments of 0xFFFF", header(tcp4(), |h| h.gso_size = 0xFFFF), rules, F::SegmentSize),
        ("TCP segments of 31", header(tcp4(), |h| h.gso_size = 31), rules, F::SegmentSize),
        ("segments over the MTU", header(tcp4(), |h| h.gso_size = 1461), rules, F::SegmentTooLong),
        (
            "UDP segments over the MTU",
            header(udp6(), |h| h.gso_size = 1453),
            rules,
            F::SegmentTooLong,
        ),
        ("129 UDP segments", sample(&many, Some(100)), rules, F::TooManySegments),
        (
            "65 on an old kernel",
            sample(&Recipe { payload: 6401, ..many }, Some(100)),
            few,
            F::TooManySegments,
        ),
        (
            "headers alone",
            sample(&Recipe::new(false, L4::Tcp, 0), Some(1460)),
            rules,
            F::NothingToSegment,
        ),
        ("TCP called UDP", header(tcp4(), |h| h.gso_type = GSO_UDP_L4), rules, F::ProtocolMismatch),
        (
            "IPv6 called IPv4",
            header(sample(&Recipe::new(true, L4::Tcp, 3000), Some(1400)), |h| h.gso_type = 1),
            rules,
            F::ProtocolMismatch,
        ),
        ("IPv4 called IPv6", header(tcp4(), |h| h.gso_type = 4), rules, F::ProtocolMismatch),
        ("TSO of a fragment", sample(&fragment, Some(1400)), rules, F::ProtocolMismatch),
        ("TSO of GRE", byte(tcp4(), 23, 47), rules, F::ProtocolMismatch),
        (
            "IP longer than the frame",
            with(tcp4(), &|s| {
                s.frame.pop();
            }),
            rules,
            F::LengthMismatch,
        ),
        ("IP shorter than the frame", with(tcp4(), &|s| s.frame.push(0)), rules, F::LengthMismatch),
        (
            "partial and cut off",
            with(partial(), &|s| {
                s.frame.pop();
            }),
            rules,
            F::LengthMismatch,
        ),
        (
            "UDP length 7",
            with(udp6(), &|s| s.frame[58..60].copy_from_slice(&[0, 7])),
            rules,
            F::LengthMismatch,
        ),
        (
            "UDP length too long",
            with(udp6(), &|s| s.frame[58..60].copy_from_slice(&[0xFF, 0xFF])),
            rules,
            F::LengthMismatch,
        ),
        ("IP version", byte(tcp4(), 14, 0x65), rules, F::Headers),
        ("IP header of 16 bytes", byte(tcp4(), 14, 0x44), rules, F::Headers),
        ("TCP header of 16 bytes", byte(tcp4(), 46, 0x40), rules, F::Headers),
        ("not IP", byte(tcp4(), 12, 0x09), rules, F::Headers),
        ("too many extensions", sample(&deep, Some(1300)), rules, F::Headers),
        (
            "a cut tag",
            with(plain(), &|s| {
                s.frame.truncate(14);
                s.frame[12..].copy_from_slice(&[0x81, 0]);
            }),
            rules,
            F::Headers,
        ),
        ("another source", byte(plain(), 11, 0x77), rules, F::SourceAddress),
        (
            "a bridge's address",
            with(plain(), &|s| s.frame[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 0xe])),
            rules,
            F::BridgeControl,
        ),
        ("a tag", sample(&tagged, None), no_vlan, F::VlanTag),
        ("a service tag", byte(byte(plain(), 12, 0x88), 13, 0xa8), no_vlan, F::VlanTag),
    ]
}

#[test]
fn each_lie_has_its_name() {
    for good in [tcp4(), udp6(), plain()] {
        assert!(good.check(open_rules(1500)).is_ok());
    }
    let mut seen = vec![];
    for (what, sample, rules, fault) in cases() {
        assert_eq!(sample.check(rules).err(), Some(fault), "{what}");
        seen.push(fault);
    }
    for fault in FrameFault::ALL {
        assert!(seen.contains(&fault), "no case for {fault:?}");
    }
}

#[test]
fn limits_are_inclusive() {
    let rules = open_rules(1500);
    let good = |sample: Sample| sample.check(rules).map(|_| ());
    assert_eq!(
        good(Sample { frame: Recipe::new(false, L4::Udp, 1472).build(), ..plain() }),
        Ok(())
    );
    let tagged = Recipe { tags: 1, ..Recipe::new(false, L4::Udp, 1472) };
    assert_eq!(good(sample(&tagged, None)), Ok(()));
    assert_eq!(good(sample(&Recipe::new(false, L4::Udp, 128 * 100), Some(100))), Ok(()));
    assert_eq!(good(sample(&Recipe::new(false, L4::Udp, 128), Some(1))), Ok(()));
    assert_eq!(good(sample(&Recipe::new(false, L4::Tcp, 9000), Some(32))), Ok(()));
    assert_eq!(good(sample(&Recipe::new(false, L4::Tcp, 1), Some(1460))), Ok(()));
    assert_eq!(good(Sample { frame: plain().frame[..14].to_vec(), ..plain() }), Ok(()));
    // The longest TSO frame that IPv4 can name.
    assert_eq!(good(sample(&Recipe::new(false, L4::Tcp, 65_495), Some(1460))), Ok(()));
}

#[test]
fn options_open_what_is_closed_by_default() {
    let closed = Rules::new(Offloads::ALL, 1500, Some(BOARD_MAC));
    assert_eq!(closed.tags, Tags::These(Vlans::NONE));
    assert!(!closed.bridge_control && !closed.trust_checksums);
    let mut bpdu = plain();
    bpdu.frame[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 0]);
    assert!(bpdu.check(Rules { bridge_control: true, ..closed }).is_ok());
    // 01:80:c2:00:00:10 is the first that a bridge forwards.
    bpdu.frame[5] = 0x10;
    assert!(bpdu.check(closed).is_ok());
    let mut spoofed = plain();
    spoofed.frame[6] = 0x66;
    assert!(spoofed.check(Rules { source: None, ..closed }).is_ok());
}

#[test]
fn older_kernels_take_fewer_udp_segments() {
    for (release, segments) in [
        ("6.1.0-37-amd64", 64),
        ("6.8.12", 64),
        ("6.9.0", 128),
        ("6.12.48+deb13-cloud-amd64", 128),
        ("7.0", 128),
        ("5.10.0", 64),
        ("", 64),
        ("unknown", 64),
    ] {
        assert_eq!(open_rules(1500).for_kernel(release).udp_segments, segments, "{release}");
    }
}

#[test]
fn tunnelled_and_rare_protocols_may_leave_their_checksum_open() {
    // GRE with a TCP packet in it, whose checksum lies 24 bytes on.
    let mut gre = sample(&Recipe::new(false, L4::Raw(47), 200), None);
    gre.header.flags = FLAG_NEEDS_CSUM;
    (gre.header.csum_start, gre.header.csum_offset) = (34 + 24, 16);
    let header = gre.check(open_rules(1500)).unwrap().header();
    assert_eq!((header.csum_start, header.csum_offset, header.hdr_len), (58, 16, 76));
    // VXLAN: behind the UDP header.
    let mut vxlan = sample(&Recipe::new(true, L4::Udp, 200), None);
    vxlan.header.csum_start += 8 + 8 + 14 + 20;
    assert!(vxlan.check(open_rules(1500)).is_ok());
}
