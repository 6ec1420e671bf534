//! The device: buffers of every shape, floods, broken rules, failing engines.

use proptest::collection::vec;
use proptest::prelude::*;
use shared::address::BusAddress;
use shared::fault::PeerFault;
use shared::msg::device::DeviceModel;
use shared::virtq::Segment;

use crate::device::console::{Log, RECEIVEQ, Shell, TRANSMITQ};
use crate::device::{BoardDevice, Stop};
use crate::dma::{DmaError, FakeEngine, Fault};
use crate::rig::{ConsoleRig, Memories, Memory, RigOptions, leak};

type Engine = FakeEngine<Memory, 48, 300>;

fn ready() -> ConsoleRig<Shell<'static>> {
    let mut rig = ConsoleRig::shell(2048);
    assert_eq!(rig.screen(), "> ");
    rig
}

#[test]
fn output_waits_for_buffers_and_is_woken_by_them() {
    let mut rig = ConsoleRig::shell(2048);
    assert_eq!(rig.run().moved, 0);
    assert!(rig.device.arm(), "it has nothing to do");
    rig.offer(1, 1);
    assert!(!rig.device.arm(), "it slept over a buffer");
    let ran = rig.run();
    assert_eq!((ran.moved, ran.announced), (1, 1));
    assert_eq!(rig.received(), b">");
    assert_eq!(rig.board.raised, [1], "no interrupt for the output");
    // The rest of it goes on waiting.
    assert_eq!(rig.run().moved, 0);
    assert_eq!(rig.screen(), " ");
}

#[test]
fn input_is_announced_when_it_was_asked_for() {
    let mut rig = ready();
    assert!(rig.device.arm());
    rig.send(b"x");
    assert!(!rig.device.arm(), "it slept over a key");
    rig.offer(1, 16);
    let ran = rig.run();
    assert_eq!((ran.moved, ran.announced), (2, 1));
}

/// While output waits, input does too: in the host's buffers, not in ours.
#[test]
fn input_waits_while_output_does() {
    let mut rig = ready();
    rig.received();
    let mut rig = rig.again();
    rig.run();
    for _ in 0..20 {
        assert!(rig.send(b"help\rhelp\rhelp\r"));
        rig.run();
    }
    let taken = rig.sent();
    assert!(taken < 20, "{taken} buffers taken");
    let screen = rig.screen();
    assert_eq!(screen.matches("this list").count(), 60, "{screen}");
}

#[test]
fn empty_buffers_come_back() {
    let mut rig = ready();
    let queued = usize::from(rig.receive.in_flight());
    for _ in 0..20 {
        assert!(rig.send(b""));
    }
    assert!(rig.send(b"x"));
    assert_eq!(rig.screen(), "x");
    let mut rig = rig.again();
    assert_eq!(usize::from(rig.receive.in_flight()), 0, "of {queued}");
    rig.offer(20, 0);
    rig.offer(4, 8);
    for _ in 0..4 {
        rig.run();
    }
    assert_eq!(rig.received(), b"> ");
    // All the empty ones, and the one with the prompt.
    assert_eq!(rig.receive.in_flight(), 3);
}

#[test]
fn a_long_buffer_is_taken_in_pieces_and_returned_once() {
    let mut rig = ready();
    let keys = "status\r".repeat(500);
    assert!(rig.send(keys.as_bytes()));
    let mut returned = 0;
    let mut answers = String::new();
    for _ in 0..10_000 {
        rig.offer(8, 256);
        let moved = rig.run().moved;
        assert!(moved <= 32, "{moved} pieces in one run");
        answers.push_str(&String::from_utf8(rig.received()).unwrap());
        returned += rig.sent();
        if moved == 0 {
            break;
        }
    }
    assert_eq!(answers.matches("firmware 1.2.3").count(), 500);
    assert_eq!(returned, 1);
}

#[test]
fn a_chain_is_read_across_its_pieces() {
    let mut rig = ready();
    let at = |offset: u64| Memories::READ.checked_add(offset).unwrap();
    let piece = |offset, len| Segment { address: at(offset), len, writable: false };
    use shared::window::Window;
    rig.memories.read.write(0, b"he");
    rig.memories.read.write(100, b"l");
    rig.memories.read.write(200, b"p\r");
    let chain = [piece(0, 2), piece(50, 0), piece(100, 1), piece(150, 0), piece(200, 2)];
    rig.transmit.add(&chain).unwrap();
    let _ = rig.transmit.publish();
    assert!(rig.screen().contains("this list"));
}

#[test]
fn a_bad_address_stops_its_queue_only() {
    let address = BusAddress::new(0x9999_0000);
    let fault = PeerFault::AddressUnmapped { address: 0x9999_0000 };
    let stop = Stop::Peer(fault);

    let mut rig = ready();
    rig.transmit.add(&[Segment { address, len: 4, writable: false }]).unwrap();
    assert!(!rig.transmit.publish() || rig.device.arm() || rig.run().moved == 0);
    rig.run();
    assert_eq!(rig.device.take_stop(), Some((TRANSMITQ, stop)));
    assert_eq!(rig.device.take_stop(), None);
    assert_eq!(rig.device.counters().peer_faults, 1);
    // What the board has to say still comes.
    rig.device.backend().log().line(1, format_args!("still here"));
    assert!(rig.screen().contains("still here"));
    assert_eq!(rig.device.take_stop(), None, "told twice");

    let mut rig = ConsoleRig::shell(2048);
    rig.receive.add(&[Segment { address, len: 64, writable: true }]).unwrap();
    let _ = rig.receive.publish();
    rig.run();
    assert_eq!(rig.device.take_stop(), Some((RECEIVEQ, stop)));
    assert!(rig.send(b"help\r"));
    for _ in 0..10 {
        rig.run();
        assert!(rig.device.arm());
    }
    // A reset mends it.
    assert_eq!(rig.again().screen(), "> ");
}

#[test]
fn a_buffer_that_shrinks_half_taken_is_done_with() {
    use shared::window::Window;
    let mut rig = ready();
    // 100 bytes, of which the first run takes some: the answer needs buffers.
    let head = rig.transmit.next_head().unwrap();
    assert!(rig.send(&[b"help\r".as_slice(), &[b'x'; 95]].concat()));
    rig.receive.take().unwrap();
    rig.run();
    assert_eq!(rig.sent(), 0);
    // The descriptor's length, in board memory: 64 KiB of rings a queue.
    rig.memories.board.store(0x8_0000 + u64::from(head) * 16 + 8, 3_u32);
    rig.screen();
    assert_eq!(rig.keys("\x03"), "^C\r\n> ");
}

#[test]
fn a_failing_engine_loses_bytes_and_nothing_else() {
    let mut lost = 0;
    for error in [DmaError::Timeout, DmaError::Bus] {
        for after in 0..40 {
            let shell = Shell::new(Log::new(leak(1024)));
            let mut rig = ConsoleRig::new(RigOptions::default(), shell, Engine::default());
            rig.screen();
            rig.dma.fail_after(after, Fault::Fail(error));
            rig.keys("help\rstatus\r");
            assert!(rig.dma.is_idle(), "something is under way");
            let stop = rig.device.take_stop();
            if stop.is_some() {
                assert_eq!(stop, Some((RECEIVEQ, Stop::Dma(error))));
                continue;
            }
            lost += rig.device.counters().dropped_dma;
            rig.dma = Engine::default();
            rig.keys("\x03");
            assert!(rig.keys("help\r").contains("this list"), "after {after}");
        }
    }
    assert!(lost > 0);
}

#[test]
fn a_queue_that_is_reset_forgets_the_half_it_had() {
    let mut rig = ready();
    assert!(rig.send(&[b"help\r".as_slice(), &[b'x'; 60]].concat()));
    // No buffers beyond those that are out: it stays half taken.
    rig.run();
    rig.device.reset_queue(TRANSMITQ);
    let mut rig = rig.again();
    assert_eq!(rig.screen(), "> ");
    assert_eq!(rig.keys("abcd"), "abcd");
}

proptest! {
    /// Any bytes, in buffers of any length, with buffers of any length for the
    /// answers: each run is bounded, all input is taken, and the shell answers.
    #[test]
    fn any_bytes_are_taken(
        pieces in vec(vec(any::<u8>(), 0..200), 0..30),
        len in 1..300_u32,
        late in any::<bool>(),
    ) {
        let mut rig = ConsoleRig::shell(256);
        for piece in &pieces {
            prop_assert!(rig.send(piece));
            if !late {
                rig.screen_in(len);
            }
        }
        rig.screen_in(len);
        prop_assert_eq!(rig.transmit.in_flight(), 0);
        // Ends an escape sequence, then the line.
        rig.keys("~\x03");
        prop_assert!(rig.keys("help\r").contains("this list"));
        let bytes: usize = pieces.iter().map(Vec::len).sum();
        prop_assert_eq!(rig.device.counters().to_board_bytes, bytes as u64 + 7);
        prop_assert_eq!(rig.device.take_stop(), None);
    }
}
