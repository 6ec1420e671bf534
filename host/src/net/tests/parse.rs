//! Our own reading of headers.

use super::grammar::{L4, Recipe, Rng};
use crate::net::parse::{Transport, parse};

/// What was built is what is read, however the frame is made.
#[test]
fn reads_back_every_recipe() {
    let mut rng = Rng(1);
    for _ in 0..20_000 {
        let mut recipe = Recipe::random(&mut rng);
        recipe.tags = rng.below(3);
        recipe.payload = rng.below(100);
        let frame = recipe.build();
        let parsed = parse(&frame).unwrap();
        assert_eq!(parsed.v6, recipe.v6);
        assert_eq!(usize::from(parsed.network), 14 + 4 * recipe.tags);
        assert_eq!(parsed.end as usize, frame.len());
        assert_eq!(usize::from(parsed.transport_at), recipe.transport_at());
        match (recipe.fragment, recipe.l4, parsed.transport) {
            (false, L4::Tcp, Transport::Tcp { header }) => {
                assert_eq!(usize::from(header), 20 + 4 * recipe.tcp_options);
            }
            (false, L4::Udp, Transport::Udp { length }) => {
                assert_eq!(usize::from(length), 8 + recipe.payload);
            }
            (true, _, Transport::Other { fragment: true, .. }) => {}
            (false, L4::Raw(47), Transport::Other { protocol: 47, fragment: false }) => {}
            other => panic!("{other:?}"),
        }
        if !recipe.fragment && recipe.l4 != L4::Raw(47) {
            assert_eq!(parsed.header_len().map(usize::from), Some(recipe.headers()));
        }
    }
}

/// Cut anywhere before the payload, a frame has no reading; cut behind, the
/// same one.
#[test]
fn a_cut_frame_is_not_guessed_at() {
    let mut rng = Rng(2);
    for _ in 0..500 {
        let recipe = Recipe { payload: 20, ..Recipe::random(&mut rng) };
        let frame = recipe.build();
        let whole = parse(&frame);
        let headers = match whole.unwrap().transport {
            Transport::Other { .. } => recipe.transport_at(),
            _ => recipe.headers(),
        };
        for len in 0..frame.len() {
            let expected = if len < headers { None } else { whole };
            assert_eq!(parse(&frame[..len]), expected, "{recipe:?} cut to {len}");
        }
    }
}

#[test]
fn extension_headers_are_bounded() {
    let chain = |n| Recipe { options: vec![0; n], ..Recipe::new(true, L4::Udp, 10) };
    assert!(parse(&chain(7).build()).is_some());
    assert!(parse(&chain(8).build()).is_none());
    // One that claims 2 KiB.
    let mut frame = chain(1).build();
    frame[55] = 0xFF;
    assert!(parse(&frame).is_none());
}

#[test]
fn three_tags_are_too_many() {
    let tagged = |tags| Recipe { tags, ..Recipe::new(false, L4::Udp, 10) };
    assert!(parse(&tagged(2).build()).is_some());
    assert!(parse(&tagged(3).build()).is_none());
}

/// A length field that ends inside the transport header.
#[test]
fn transport_headers_lie_within_the_packet() {
    let mut frame = Recipe::new(false, L4::Tcp, 50).build();
    for total in 0..=90u16 {
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        assert_eq!(parse(&frame).is_some(), total >= 40, "{total}");
    }
}
