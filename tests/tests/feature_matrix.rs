//! Every combination of the features that each may be left out, by the host's
//! mask or by the board: the session agrees on exactly that set, and frames of
//! every kind go there and back byte for byte, with both ends asleep in between.

use std::collections::VecDeque;

use board::device::net::Echo;
use host::bridge::Way;
use host::bus::sim::Profile;
use host::net_control::Request;
use host::session::Layout;
use shared::wire::features::{EVENT_IDX, Features, IN_ORDER, INDIRECT_DESC, RING_RESET};
use shared::wire::net::feature;
use virtio_phys_tests::rig::frames::{Frames, SHORTEST, Sizes};
use virtio_phys_tests::rig::{HOST_MAC, Rig, RigOptions, Turn};

/// An Ethernet header and an MTU of 1500 bytes.
const FULL: usize = 1514;

const TSO_USO: u64 = feature::HOST_TSO4
    | feature::HOST_TSO6
    | feature::HOST_ECN
    | feature::HOST_USO
    | feature::GUEST_TSO4
    | feature::GUEST_TSO6
    | feature::GUEST_ECN
    | feature::GUEST_USO4
    | feature::GUEST_USO6;

/// What is on or off; without CSUM there is no TSO_USO.
const AXES: [u64; 7] = [
    IN_ORDER,
    EVENT_IDX,
    INDIRECT_DESC,
    RING_RESET,
    feature::MRG_RXBUF,
    feature::CSUM | feature::GUEST_CSUM,
    TSO_USO,
];

const COMBINATIONS: u64 = 1 << AXES.len();

/// Turns until frames that are under way must have arrived.
const PATIENCE: u64 = 400_000;

/// Which of the axes are off in combination `number`.
fn left_out(number: u64) -> u64 {
    let off = |(axis, bits): (usize, &u64)| if number >> axis & 1 == 1 { *bits } else { 0 };
    AXES.iter().enumerate().map(off).fold(0, |all, bits| all | bits)
}

/// A rig that is up. Every second combination is masked by the host, the
/// others are withheld by the board.
fn rig(layout: Layout, number: u64, off: u64) -> Rig<Echo> {
    let profiles = [Profile::Eager, Profile::Lazy, Profile::Adversarial];
    let profile = profiles[usize::try_from(number % 3).unwrap()];
    // Room for 16 of the large buffers that there are without MRG_RXBUF.
    let mut options = RigOptions::instrument(number, profile).layout(layout).sizes(512, 16);
    options = options.mtu(1500).spin(2, 1);
    if number.count_ones().is_multiple_of(2) {
        options = options.without(off);
    } else {
        options.board.withhold = off;
    }
    let mut rig = Rig::echo(options);
    rig.attach().unwrap();
    rig
}

/// Sends `count` frames at once and awaits each of them back, then sleep.
fn there_and_back(rig: &mut Rig<Echo>, count: u64, sizes: Sizes) -> u64 {
    let mut sent = Frames::new(rig.options.seed, sizes);
    let (mut came, mut scratch) = (sent.clone(), Vec::new());
    for _ in 0..count {
        rig.port.send_with(|into| _ = sent.next(into));
    }
    let arrived = usize::try_from(count).unwrap();
    rig.run_until(PATIENCE, |rig| rig.port.arrived() >= arrived).unwrap();
    while let Some(frame) = rig.port.take() {
        came.check(&frame, &mut scratch);
        rig.port.recycle(frame);
    }
    assert_eq!(came.number(), count);
    sleep(rig);
    count
}

/// Steps until both ends sleep.
fn sleep(rig: &mut Rig<Echo>) {
    let before = (rig.host.sleeps, rig.board.stats().sleeps);
    rig.run_until_idle().unwrap();
    assert!(rig.host.sleeps > before.0 || rig.board.stats().sleeps > before.1);
    assert!(rig.board.asleep().is_some(), "the board sleeps");
}

/// Resets a queue while frames are under way, and sets it up again. What
/// arrives was sent, in order and once; the rest is accounted for.
fn reset_under_way(rig: &mut Rig<Echo>, way: Way, seed: u64) -> u64 {
    let before = (rig.board.counters().dropped_unfit, rig.host.counters().to_board.lost_in_reset);
    let restarted = rig.host.restarted;
    let mut frames = Frames::new(seed, Sizes { from: SHORTEST, to: FULL, ..Sizes::PLAIN });
    let mut sent = VecDeque::new();
    for _ in 0..60 {
        rig.port.send_with(|into| {
            frames.next(into);
            sent.push_back(into.clone());
        });
    }
    rig.run_until(PATIENCE, |rig| rig.port.waiting() < 40).unwrap();
    rig.host.reset_queue(way).unwrap();
    rig.run_until(PATIENCE, |rig| rig.host.restarted > restarted).unwrap();
    while rig.step().unwrap() == Turn::Taken || rig.port.waiting() > 0 {}
    let mut lost = 0;
    while let Some(frame) = rig.port.take() {
        while sent.pop_front().expect("a frame that nobody sent, or twice") != frame {
            lost += 1;
        }
        rig.port.recycle(frame);
    }
    lost += sent.len() as u64;
    let dropped = rig.board.counters().dropped_unfit - before.0;
    let in_reset = rig.host.counters().to_board.lost_in_reset - before.1;
    assert!(lost <= dropped + in_reset, "{lost} lost; {dropped} dropped, {in_reset} in reset");
    60 - lost
}

/// Runs combination `number`; the frames that came back.
fn combination(layout: Layout, number: u64, all: Features) -> u64 {
    let off = left_out(number);
    let mut rig = rig(layout, number, off);
    let features = rig.terms().features;
    assert_eq!(features, all.without(Features::new(off)).net_consistent(), "{layout} {number:#x}");

    let of = |len| Sizes { from: len, to: len, ..Sizes::PLAIN };
    let mut frames = there_and_back(&mut rig, 20, of(SHORTEST));
    frames += there_and_back(&mut rig, 20, of(FULL));
    if features.has(feature::HOST_TSO4 | feature::GUEST_TSO4) {
        frames += there_and_back(&mut rig, 4, Sizes { large_one_in: 1, ..of(FULL) });
    }
    // Two segments: in an indirect table, if there are some.
    let commands = rig.board.counters().commands;
    rig.host.ask(Request::MacAddress(HOST_MAC)).unwrap();
    rig.run_until(PATIENCE, |rig| rig.board.counters().commands > commands).unwrap();

    if features.has(RING_RESET) {
        for (way, seed) in [(Way::ToBoard, number), (Way::ToHost, number + 1000)] {
            frames += reset_under_way(&mut rig, way, seed);
            frames += there_and_back(&mut rig, 20, of(FULL));
        }
        assert_eq!(rig.host.restarted, 2);
    } else {
        rig.host.reset_queue(Way::ToHost).unwrap_err();
        if let Some(pair) = &mut rig.host.pair {
            pair.resume(Way::ToHost);
        }
        frames += there_and_back(&mut rig, 5, of(FULL));
    }
    assert_eq!(rig.board.counters().peer_faults, 0);
    rig.assert_nothing_polled();
    rig.detach().unwrap();
    rig.assert_clean();
    frames
}

fn combinations(layout: Layout, numbers: impl Iterator<Item = u64>) {
    let all = rig(layout, 0, 0).terms().features;
    for bits in AXES {
        assert!(all.has(bits), "{layout}: {all} has all of {}", Features::new(bits));
    }
    let (mut count, mut frames) = (0, 0);
    for number in numbers {
        count += 1;
        frames += combination(layout, number, all);
    }
    println!("{layout}: {count} combinations, {frames} frames there and back");
    assert!(frames > 40 * count);
}

#[test]
fn every_combination_in_layout_split() {
    combinations(Layout::Split, 0..COMBINATIONS);
}

#[test]
fn every_combination_in_layout_bar_only() {
    combinations(Layout::BarOnly, 0..COMBINATIONS);
}

/// Each axis on and off, with every second other one.
#[test]
fn combinations_in_layout_all_host() {
    combinations(Layout::AllHost, (0..COMBINATIONS).filter(|number| number % 7 == 0));
}
