//! What holds for every frame.

use proptest::prelude::*;
use shared::wire::net::NetHeader;

use super::grammar::{Rng, Sample, open_rules};
use super::naive::assert_rules;
use crate::net::{FrameFault, Offloads, OutboundHeader, Rules, Sanitizer, Tags};

fn any_offloads() -> impl Strategy<Value = Offloads> {
    any::<[bool; 6]>().prop_map(|[checksum, tso4, tso6, ecn, uso4, uso6]| Offloads {
        checksum,
        tso4,
        tso6,
        ecn,
        uso4,
        uso6,
    })
}

prop_compose! {
    fn any_rules()(
        offloads in any_offloads(),
        mtu in prop_oneof![Just(1500u16), Just(9000), 68u16..=65_521],
        source in any::<bool>(),
        [vlan, bridge_control, trust_checksums] in any::<[bool; 3]>(),
        udp_segments in prop_oneof![Just(64u16), Just(128)],
    ) -> Rules {
        let mut rules = Rules::new(offloads, mtu, None);
        rules.source = source.then_some(super::grammar::BOARD_MAC);
        let tags = if vlan { Tags::All } else { rules.tags };
        Rules { tags, bridge_control, trust_checksums, udp_segments, ..rules }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Bytes without any plan: no panic, and what passes is within the rules.
    #[test]
    fn random_bytes(
        rules in any_rules(),
        head in prop::collection::vec(any::<u8>(), 0..300),
        len in prop_oneof![0u32..400, Just(65_562u32), any::<u32>()],
    ) {
        let verdict = Sanitizer::new(rules).check(&head, len);
        let _ = OutboundHeader::new(rules.offloads, rules.mtu).check_private(&mut head.clone());
        if let Ok(checked) = verdict {
            let mut frame = head[12..].to_vec();
            frame.resize(len as usize, 0);
            assert_rules(&rules, &NetHeader::decode(&head).unwrap(), &frame, &checked.header());
        }
    }

    /// Frames by grammar, good and lying: what passes is within the rules, and
    /// passes again unchanged.
    #[test]
    fn grammar(rules in any_rules(), seed: u64) {
        let sample = Sample::random(&mut Rng(seed), usize::from(rules.mtu));
        if let Ok(checked) = sample.check(rules) {
            let out = checked.header();
            assert_rules(&rules, &sample.header, &sample.frame, &out);
            let again = Sample { header: out, ..sample };
            prop_assert_eq!(again.check(rules).map(|c| c.header()), Ok(out));
        }
    }

    /// Only the header and the first 256 bytes decide.
    #[test]
    fn nothing_behind_the_checked_bytes_counts(seed: u64, noise: u8) {
        let sample = Sample::random(&mut Rng(seed), 1500);
        let mut other = sample.clone();
        for byte in other.frame.iter_mut().skip(256) {
            *byte = noise;
        }
        let rules = open_rules(1500);
        prop_assert_eq!(sample.check(rules), other.check(rules));
        // Nor does it help to show more.
        let mut head = sample.header.encode().to_vec();
        head.extend(&sample.frame);
        let more = Sanitizer::new(rules).check(&head, sample.frame.len() as u32);
        prop_assert_eq!(sample.check(rules), more);
    }

    /// Every refusal is counted once, under its cause.
    #[test]
    fn refusals_are_counted(seeds in prop::collection::vec(any::<u64>(), 1..40)) {
        let mut sanitizer = Sanitizer::new(open_rules(1500));
        let mut expected = std::collections::HashMap::<FrameFault, u64>::new();
        for seed in seeds {
            let sample = Sample::random(&mut Rng(seed), 1500);
            if let Err(fault) = sanitizer.check(&sample.head(), sample.frame.len() as u32) {
                *expected.entry(fault).or_default() += 1;
            }
        }
        for (fault, count) in sanitizer.counts().iter() {
            prop_assert_eq!(count, expected.get(&fault).copied().unwrap_or(0));
        }
        prop_assert_eq!(sanitizer.counts().total(), expected.values().sum::<u64>());
    }
}

/// The generator is worth something: all kinds pass, all faults occur.
#[test]
fn grammar_reaches_every_kind() {
    let mut rng = Rng(0x5EED);
    let mut kinds = std::collections::BTreeMap::<u8, u32>::new();
    let mut sanitizer = Sanitizer::new(open_rules(1500));
    for _ in 0..20_000 {
        let sample = Sample::random(&mut rng, 1500);
        if let Ok(checked) = sanitizer.check(&sample.head(), sample.frame.len() as u32) {
            *kinds.entry(checked.header().gso_type).or_default() += 1;
        }
    }
    for kind in [0, 1, 4, 5, 0x81, 0x84] {
        assert!(kinds.get(&kind).is_some_and(|n| *n > 200), "{kind:#x}: {kinds:?}");
    }
    for fault in FrameFault::ALL {
        // The grammar's rules are open here: these have cases in the table.
        let closed = matches!(
            fault,
            FrameFault::ChecksumNotNegotiated | FrameFault::VlanTag | FrameFault::BridgeControl
        );
        assert!(closed || sanitizer.counts().of(fault) > 0, "{fault:?} never seen");
    }
}
