//! A hostile peer over the whole path: each lie ends in the policy of
//! docs/safety.md, the other end gets to know, nothing arrives that was not
//! sent, and the next session is as good as new.

use board::device::net::Echo;
use board::trace::Event;
use host::bridge::BridgeError;
use host::session::{Layout, SessionError};
use shared::fault::{FaultPolicy, PeerFault};
use shared::wire::features::IN_ORDER;
use shared::wire::net::{HEADER_LEN, NetHeader};
use virtio_phys_tests::rig::frames::{Frames, Sizes};
use virtio_phys_tests::rig::{QueuePort, Rig, RigError, RigOptions};

use super::lies::{Part, Queue, memory, tell};
use super::load::echo;
use super::named::{Lie, TO_THE_BOARD, TO_THE_HOST};
use super::{LAYOUTS, PROFILES};

/// Frames of a lie's test: some span buffers.
const SIZES: Sizes = Sizes { short_one_in: 2, ..Sizes::PLAIN };

/// A rig that has carried frames, over `layout`.
fn rig(layout: Layout, in_order: bool, seed: u64) -> Rig<Echo> {
    let profile = PROFILES[usize::try_from(seed % 3).unwrap()];
    let options = RigOptions::instrument(seed, profile).layout(layout).mtu(9004).sizes(64, 32);
    let mut rig = Rig::echo(options.without(if in_order { 0 } else { IN_ORDER }));
    rig.attach().unwrap();
    echo(&mut rig, 150, SIZES);
    rig
}

/// Sends twelve frames, and runs until the session ends. Whatever arrives is
/// one of them, each at most once.
fn run_to_the_end(rig: &mut Rig<Echo>, forges: bool, what: &str) -> Result<(), RigError> {
    let mut frames = Frames::new(0xBAD, SIZES);
    let mut sent = Vec::new();
    for _ in 0..12 {
        rig.port.send_with(|into| {
            frames.next(into);
            sent.push(into.clone());
        });
    }
    let outcome = rig.run_until_idle().and_then(|()| rig.idle_for(3_000));
    while let Some(frame) = rig.port.take() {
        let which = sent.iter().position(|sent| *sent == frame);
        assert!(which.is_some() || forges, "{what}: {} bytes that nobody sent", frame.len());
        which.map(|which| sent.swap_remove(which));
    }
    outcome
}

/// The session ends in an orderly way, and the next one works.
fn begin_anew(rig: &mut Rig<Echo>) {
    rig.bus.set_faults(None).unwrap();
    rig.detach().unwrap();
    rig.assert_clean();
    rig.port = QueuePort::default();
    rig.next_session().unwrap();
    rig.attach().unwrap();
    echo(rig, 60, SIZES);
    rig.detach().unwrap();
    rig.assert_clean();
}

fn each(lies: &[Lie], mut test: impl FnMut(&Lie, &mut Rig<Echo>, &str)) {
    for (number, lie) in (0..).zip(lies) {
        for layout in LAYOUTS {
            for in_order in [true, false] {
                if lie.in_order.is_some_and(|only| only != in_order) {
                    continue;
                }
                for seed in 0..3 {
                    let mut rig = rig(layout, in_order, 3 * number + seed);
                    let what = format!(
                        "{}, {:?}, {layout}, in order {in_order}, seed {seed}",
                        lie.name, lie.queue
                    );
                    test(lie, &mut rig, &what);
                    begin_anew(&mut rig);
                }
            }
        }
    }
}

#[test]
fn a_board_that_lies_in_its_rings() {
    each(TO_THE_HOST, |lie, rig, what| {
        let told = tell(rig, lie.queue, lie.part, lie.times, lie.word);
        let outcome = run_to_the_end(rig, lie.forges, what);
        assert!(told.load(std::sync::atomic::Ordering::Relaxed) > 0, "{what}: not told");
        let Err(RigError::Bridge(BridgeError::Peer(fault))) = outcome else {
            panic!("{what}: {outcome:?}")
        };
        assert!((lie.fault)(&fault), "{what}: {fault:?}");
        assert_eq!(fault.policy(), FaultPolicy::StopQueue);
        let text = RigError::Bridge(BridgeError::Peer(fault)).to_string();
        assert_eq!(
            text,
            format!("the board broke the protocol: {fault}; if that goes on, update its firmware")
        );
    });
}

#[test]
fn a_host_that_lies_in_its_rings() {
    each(TO_THE_BOARD, |lie, rig, what| {
        let told = tell(rig, lie.queue, lie.part, lie.times, lie.word);
        let outcome = run_to_the_end(rig, lie.forges, what);
        assert!(told.load(std::sync::atomic::Ordering::Relaxed) > 0, "{what}: not told");
        let Err(RigError::Session(error @ SessionError::NeedsReset)) = outcome else {
            panic!("{what}: {outcome:?}, {:?}", rig.board.counters())
        };
        let text = "the board's network device met a fault and asks for a reset; if that goes on, look at its log";
        assert_eq!(error.to_string(), text);
        let number = if lie.queue == Queue::ToHost { 0 } else { 1 };
        let seen = rig.board.service.trace().iter().find_map(|entry| match entry.event {
            Event::QueueFault { queue, fault, .. } if queue == number => Some(fault),
            _ => None,
        });
        assert!(seen.is_some_and(|fault| (lie.fault)(&fault)), "{what}: {seen:?}");
        assert_eq!(rig.board.counters().peer_faults, 1, "{what}");
    });
}

/// Memory that the board may read is not for it to write, whoever says so.
#[test]
fn a_host_that_names_memory_without_the_right() {
    for layout in [Layout::Split, Layout::AllHost] {
        for seed in 0..3 {
            let mut rig = rig(layout, seed != 1, seed);
            let readable = memory(&rig, Queue::ToBoard)[3];
            assert_eq!(readable.bar, None);
            tell(&rig, Queue::ToHost, Part::Address, 1, move |_, _| readable.start);
            let outcome = run_to_the_end(&mut rig, false, "rights");
            assert!(matches!(outcome, Err(RigError::Session(SessionError::NeedsReset))));
            let right = |event: Event| {
                let Event::QueueFault { queue: 0, fault, .. } = event else { return false };
                matches!(fault, PeerFault::AddressRights { .. })
            };
            assert!(rig.board.service.trace().iter().any(|entry| right(entry.event)));
            assert_eq!(rig.bill().iommu_faults, 0, "the board asked before it wrote");
            begin_anew(&mut rig);
        }
    }
}

/// Changes the header of the frame in the first buffer that the board returns
/// next, behind the board's back and before the host looks.
fn bend_header(rig: &mut Rig<Echo>, bend: impl Fn(&mut NetHeader)) {
    let buffers = memory(rig, Queue::ToHost)[3];
    let before = rig.board.counters().to_host_frames;
    rig.port.send(&NetHeader::default(), &plain_frame());
    while rig.board.counters().to_host_frames == before {
        if rig.port.waiting() > 0 {
            rig.host_turn().unwrap();
        }
        rig.bus.settle();
        rig.board_turn();
    }
    rig.bus.settle();
    rig.scribble(buffers, |bytes| {
        for slot in bytes.chunks_mut(4096) {
            if slot[HEADER_LEN..].starts_with(&plain_frame()) {
                let mut header = NetHeader::decode(slot).expect("a header");
                bend(&mut header);
                slot[..HEADER_LEN].copy_from_slice(&header.encode());
            }
        }
    });
}

/// A frame that the other tests of this file do not send.
fn plain_frame() -> Vec<u8> {
    let mut bytes = Vec::new();
    Frames::new(0x91A1, Sizes { from: 300, to: 300, ..Sizes::PLAIN }).next(&mut bytes);
    bytes.split_off(HEADER_LEN)
}

#[test]
fn a_board_that_lies_about_the_number_of_buffers() {
    for layout in LAYOUTS {
        for (count, seed) in [(0, 0), (2, 1), (33, 2), (34, 3), (u16::MAX, 4)] {
            let mut rig = rig(layout, seed % 2 == 0, seed);
            bend_header(&mut rig, |header| header.num_buffers = count);
            let outcome = rig.run_until_idle();
            let Err(RigError::Bridge(BridgeError::Peer(fault))) = outcome else {
                panic!("{layout}, {count}: {outcome:?}")
            };
            assert_eq!(fault, PeerFault::NumBuffers { count });
            assert_eq!(rig.port.arrived(), 0);
            begin_anew(&mut rig);
        }
    }
}

/// A header that lies costs its frame, not the queue.
#[test]
fn a_board_that_lies_in_a_header() {
    let bends: [fn(&mut NetHeader); 4] = [
        |header| header.flags = 1,
        |header| header.gso_type = 1,
        |header| header.gso_type = 0x7F,
        |header| header.gso_type = 3,
    ];
    for layout in LAYOUTS {
        for (seed, bend) in (0..).zip(bends) {
            let mut rig = rig(layout, true, seed);
            let before = rig.host.counters().to_host.refused;
            bend_header(&mut rig, bend);
            rig.run_until_idle().unwrap();
            assert_eq!(rig.port.arrived(), 0, "{layout}, {seed}");
            assert_eq!(rig.host.counters().to_host.refused, before + 1);
            run_to_the_end(&mut rig, false, "").unwrap();
            begin_anew(&mut rig);
        }
    }
}
