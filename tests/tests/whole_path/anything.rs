//! Options drawn at random, within what a host and a board may be.

use board::device::net::{Echo, NetBackend, Port};
use host::bus::sim::Mode;
use host::session::SessionError;
use shared::wire::features::{EVENT_IDX, IN_ORDER};
use shared::wire::net::feature;
use virtio_phys_tests::rig::frames::{LARGEST, SHORTEST, Sizes};
use virtio_phys_tests::rig::{EngineKind, Random, Rig, RigOptions};

use super::load::{Streams, echo, streams};
use super::{LAYOUTS, PROFILES};

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.between(0, from.len() - 1)]
}

/// What either end may leave out, as its own bits.
const OPTIONAL: [u64; 8] = [
    IN_ORDER,
    EVENT_IDX,
    feature::MRG_RXBUF,
    feature::CSUM,
    feature::HOST_TSO4,
    feature::GUEST_CSUM,
    feature::GUEST_TSO4,
    feature::MTU | feature::MAC | feature::STATUS,
];

fn some_of(random: &mut Random) -> u64 {
    OPTIONAL.iter().filter(|_| random.below(4) == 0).fold(0, |bits, bit| bits | bit)
}

fn options(seed: u64) -> RigOptions {
    let random = &mut Random::new(seed);
    let mut options = RigOptions::instrument(seed, pick(random, &PROFILES))
        .layout(pick(random, &LAYOUTS))
        .without(some_of(random))
        .mtu(pick(random, &[68, 576, 1500, 1501, 9004, 65_521]))
        .sizes(pick(random, &[8, 16, 64, 256]), pick(random, &[8, 16, 64, 256]));
    let spins = [pick(random, &[1, 2, 5, 40]), pick(random, &[0, 1, 5, 40])];
    options = options.spin(spins[0], spins[1]);
    options.session.push_limit = pick(random, &[64, 300, 2_048, 9_030, 70_000]);
    options.sim.bar_len = pick(random, &[1 << 20, 4 << 20, 32 << 20]);
    options.sim.bar_32_bit = random.below(3) == 0;
    options.sim.board_32_bit = random.below(3) == 0;
    let board = &mut options.board;
    board.mtu = 65_521;
    board.withhold = some_of(random);
    board.queue_entries = pick(random, &[8, 32, 100, 512]);
    board.engine = pick(random, &[EngineKind::Cpu, EngineKind::Dma, EngineKind::Mixed(512)]);
    if random.below(3) == 0 {
        options = options.non_coherent(options.board.engine);
    }
    let board = &mut options.board;
    board.interrupts_unordered = random.below(3) == 0;
    // A board that says so may be right.
    if let Mode::Instrument(settings) = &mut options.sim.mode
        && board.interrupts_unordered
    {
        settings.order.separate_interrupts = random.below(2) == 0;
    }
    options
}

/// Attaches; `false`: the board does not do for these options.
fn attached<B: NetBackend>(rig: &mut Rig<B>) -> bool {
    match rig.attach() {
        Ok(()) => true,
        Err(SessionError::BoardMemory { .. } | SessionError::Lock(_)) => false,
        // A board with a ring that holds no frame of the MTU.
        Err(SessionError::Queues { queue: 0, .. }) if rig.options.session.mtu > 30_000 => false,
        Err(error) => panic!("seed {:#x}: {error}", rig.options.seed),
    }
}

/// Frames that this session can carry both ways.
fn sizes<B: NetBackend>(rig: &Rig<B>, mtu: u32) -> Sizes {
    let features = rig.terms().features;
    let large = feature::CSUM | feature::HOST_TSO4 | feature::GUEST_CSUM | feature::GUEST_TSO4;
    // Segments of 1448 bytes have to fit the MTU, and a board with short rings
    // has no room for frames as large as it may send.
    let ring = rig.terms().areas.to_host[0].len / 16;
    let room = 4096 * ring.min(rig.options.board.queue_entries as u64);
    let large = features.has(large) && mtu >= 1500 && room > LARGEST as u64 + 12;
    let large_one_in = if large { 20 } else { 0 };
    let to = SHORTEST.max(usize::try_from(mtu).unwrap() + 14);
    Sizes { from: SHORTEST, to, large_one_in, short_one_in: 3 }
}

#[test]
fn whatever_the_options_nothing_is_lost() {
    let mut carried = 0;
    for seed in 0..600 {
        let options = options(seed);
        let mut rig = Rig::echo(options);
        if attached(&mut rig) {
            carried += 1;
            let sizes = sizes(&rig, options.session.mtu);
            echo(&mut rig, 60, sizes);
            rig.detach().unwrap();
            rig.assert_clean();
        }
        rig.assert_nothing_shared();

        let all = Echo::verbatim().features();
        let mut far = Streams::new(seed, Sizes::ETHERNET);
        let mut rig = Rig::new(options, Port::new(far.clone(), all));
        if attached(&mut rig) {
            let sizes = sizes(&rig, options.session.mtu);
            far = Streams::new(seed, sizes);
            *rig.board.backend().handler() = far;
            streams(&mut rig, 60, sizes);
            rig.detach().unwrap();
            rig.assert_clean();
        }
        rig.assert_nothing_shared();
    }
    assert!(carried > 400, "{carried} of 600 sets of options carry anything");
}
