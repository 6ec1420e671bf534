//! Nothing is lost: a million frames there and back, byte for byte, and
//! streams both ways beside them.
//!
//! Lengths are even between 60 and 9018 bytes, every hundredth frame has
//! offload headers and up to 64 KiB.

use board::device::net::{Echo, NetBackend, Port};
use host::bus::sim::Mode;
use host::session::Layout;
use shared::wire::features::{EVENT_IDX, IN_ORDER};
use shared::wire::net::feature;
use virtio_phys_tests::rig::frames::Sizes;
use virtio_phys_tests::rig::{EngineKind, Rig, RigOptions};

use super::load::{Streams, echo, streams};
use super::{LAYOUTS, PROFILES};

/// Feature bits that are negotiated or not, in each combination.
const OPTIONAL: [u64; 3] = [IN_ORDER, EVENT_IDX, feature::MRG_RXBUF];

/// Combinations in a layout: profiles times sets of features.
const COMBINATIONS: u64 = 24;

const SIZES: Sizes = Sizes { large_one_in: 100, ..Sizes::PLAIN };

/// Combination `number` of `layout`.
fn options(layout: Layout, number: u64) -> RigOptions {
    let profile = PROFILES[usize::try_from(number / 8).unwrap()];
    let left_out = (0..OPTIONAL.len()).filter(|bit| number & 1 << bit != 0);
    let left_out = left_out.fold(0, |bits, bit| bits | OPTIONAL[bit]);
    let mut options = RigOptions::instrument(0x1057 + number, profile)
        .layout(layout)
        .without(left_out)
        .mtu(9004)
        .sizes(64, 32);
    if number % 3 == 1 {
        options.board.engine = EngineKind::Cpu;
    }
    if number % 5 == 2 {
        // The board says so, and is right; the host flushes at each publish.
        options.board.interrupts_unordered = true;
        if let Mode::Instrument(settings) = &mut options.sim.mode {
            settings.order.separate_interrupts = true;
        }
    }
    options.sim.bar_32_bit = number % 7 == 3;
    options
}

fn attached<B: NetBackend>(options: RigOptions, backend: B) -> Rig<B> {
    let mut rig = Rig::new(options, backend);
    rig.attach().unwrap();
    assert!(rig.terms().offloads.tso4, "large frames were negotiated");
    let asked = options.session.feature_mask;
    for bit in OPTIONAL {
        assert_eq!(rig.terms().features.has(bit), asked & bit != 0);
    }
    rig
}

fn detached<B: NetBackend>(mut rig: Rig<B>) {
    rig.detach().unwrap();
    rig.assert_clean();
}

/// `frames` frames there and back, over all combinations of a layout.
fn echoed(layout: Layout, frames: u64) {
    for number in 0..COMBINATIONS {
        let mut rig = attached(options(layout, number), Echo::verbatim());
        echo(&mut rig, frames / COMBINATIONS, SIZES);
        detached(rig);
    }
}

#[test]
fn half_a_million_frames_over_split() {
    echoed(Layout::Split, 528_000);
}

#[test]
fn a_quarter_of_a_million_frames_over_bar_only() {
    echoed(Layout::BarOnly, 240_000);
}

#[test]
fn a_quarter_of_a_million_frames_over_all_host() {
    echoed(Layout::AllHost, 240_000);
}

/// As many again, without an answer to each: two streams that have nothing to
/// do with each other.
#[test]
fn a_hundred_thousand_frames_each_way_at_once() {
    for layout in LAYOUTS {
        for number in 0..COMBINATIONS {
            let options = options(layout, number);
            let all = Echo::verbatim().features();
            let far = Streams::new(options.seed, SIZES);
            let mut rig = attached(options, Port::new(far, all));
            streams(&mut rig, 1_500, SIZES);
            detached(rig);
        }
    }
}
