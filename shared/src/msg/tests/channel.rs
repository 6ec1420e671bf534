use proptest::prelude::*;

use crate::fault::PeerFault;
use crate::msg::channel::{Channel, ChannelLayout, ChannelState, OUR_LAYOUT};
use crate::msg::kind::Side;
use crate::window::testing::TestWindow;
use crate::wire::amp;

const SMALL: ChannelLayout =
    ChannelLayout { elements: 4, device: (0x40, 0x100), driver: (0x80, 0x200) };

pub(super) fn pair(
    layout: &ChannelLayout,
) -> (TestWindow, Channel<TestWindow>, Channel<TestWindow>) {
    let window = TestWindow::new(0x2000);
    layout.publish(&window);
    let read = ChannelLayout::read(&window).unwrap();
    assert_eq!(read, *layout);
    let mut device = Channel::new(window.clone(), &read, Side::Device);
    let mut driver = Channel::new(window.clone(), &read, Side::Driver);
    device.begin();
    driver.begin();
    for _ in 0..3 {
        device.poll().unwrap();
        driver.poll().unwrap();
    }
    assert!(device.is_running() && driver.is_running());
    (window, device, driver)
}

#[test]
fn numbers() {
    let statuses = [
        amp::STATUS_INIT,
        amp::STATUS_READY,
        amp::STATUS_RUN,
        amp::STATUS_SHUTDOWN,
        amp::STATUS_PEER_DEAD,
    ];
    assert_eq!(statuses, [0, 1, 2, 3, 4]);
    assert_eq!((amp::LAYOUT_MAGIC, amp::HEAD_MAGIC), (0x4C4F, 0x514F));
    assert_eq!((amp::LAYOUT_LEN, amp::LAYOUT_VERSION, amp::STATUS_MASK), (64, 1, 0x1F));
    assert_eq!(
        (OUR_LAYOUT.elements, OUR_LAYOUT.device, OUR_LAYOUT.driver),
        (60, (0x40, 0x100), (0x1000, 0x1100))
    );
}

#[test]
fn the_start_in_every_order_of_turns() {
    for order in 0_u32..1 << 10 {
        let window = TestWindow::new(0x2000);
        SMALL.publish(&window);
        let mut ends =
            [Side::Device, Side::Driver].map(|side| Channel::new(window.clone(), &SMALL, side));
        ends.iter_mut().for_each(Channel::begin);
        for turn in 0..10 {
            ends[usize::from(order >> turn & 1 == 1)].poll().unwrap();
        }
        for _ in 0..3 {
            ends.iter_mut().for_each(|end| end.poll().unwrap());
        }
        assert!(ends.iter().all(Channel::is_running));
    }
}

#[test]
fn every_status_word_in_every_state() {
    for seen in [amp::STATUS_INIT, amp::STATUS_READY, amp::STATUS_RUN] {
        for status in (0..=0x20_u16).chain([0x8000, 0x8002, u16::MAX]) {
            for magic in [amp::HEAD_MAGIC, 0, 0xFFFF] {
                let window = TestWindow::new(0x2000);
                let mut end = Channel::new(window.clone(), &SMALL, Side::Driver);
                end.begin();
                let word = |magic: u16, status: u16| u32::from(magic) | u32::from(status) << 16;
                window.poke(0x40, word(amp::HEAD_MAGIC, seen));
                end.poll().unwrap();
                window.poke(0x40, word(magic, status));
                let masked = status & amp::STATUS_MASK;
                let wanted = match (magic, masked) {
                    (0xFFFF, _) if status == u16::MAX => Err(PeerFault::LinkLost),
                    (amp::HEAD_MAGIC, masked) if masked >= seen && masked <= 2 => Ok(()),
                    (amp::HEAD_MAGIC, status) => Err(PeerFault::ChannelClosed { status }),
                    _ => Err(PeerFault::ChannelLayout),
                };
                assert_eq!(end.poll(), wanted, "seen {seen}, then {magic:#x} {status:#x}");
            }
        }
    }
}

/// Row 10: all pairs of peer indices against all states of a ring of 4.
#[test]
fn all_pairs_of_indices() {
    for sent in 0..4_u16 {
        for taken in 0..=sent {
            for got in 0..4_u16 {
                for tail in (0..6_u16).chain([u16::MAX]) {
                    for head in (0..6_u16).chain([u16::MAX]) {
                        let (window, mut device, mut driver) = pair(&SMALL);
                        // The driver sent `sent`, the board took `taken` and sent `got`, all seen.
                        for _ in 0..sent.min(3) {
                            assert!(driver.send(&[1; 64]).unwrap());
                        }
                        let mut frame = [0; 64];
                        for _ in 0..taken.min(3) {
                            assert!(device.receive(&mut frame).unwrap());
                        }
                        for _ in 0..got.min(3) {
                            assert!(device.send(&[2; 64]).unwrap());
                        }
                        for _ in 0..got.min(3) {
                            assert!(driver.receive(&mut frame).unwrap());
                        }
                        let (sent, taken) = (sent.min(3), taken.min(3));
                        // The board now says this.
                        window.poke(0x44, u32::from(tail) | u32::from(head) << 16);
                        let result = driver.receive(&mut frame);
                        let all_ones = tail == u16::MAX && head == u16::MAX;
                        // Before the last look only what `got` needed was seen.
                        let seen_head = if got.min(3) > 0 { taken } else { 0 };
                        let head_possible = (seen_head..=sent).any(|at| at % 4 == head);
                        match result {
                            Err(PeerFault::LinkLost) => assert!(all_ones),
                            Err(PeerFault::ChannelIndex { .. }) => {
                                assert!(tail >= 4 || head >= 4 || !head_possible);
                            }
                            Ok(more) => {
                                assert!(tail < 4 && head_possible);
                                assert_eq!(more, tail != got.min(3) % 4);
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_tail_that_takes_elements_back() {
    let (window, mut device, mut driver) = pair(&SMALL);
    let mut frame = [0; 64];
    for _ in 0..3 {
        assert!(device.send(&[3; 64]).unwrap());
    }
    assert!(driver.receive(&mut frame).unwrap());
    for _ in 0..3 {
        assert!(driver.send(&[4; 64]).unwrap());
    }
    // Three were seen; the board now claims that it sent one. A full queue makes us look.
    window.poke(0x44, 1);
    assert_eq!(driver.send(&[4; 64]), Err(PeerFault::ChannelIndex { index: 1 }));
}

/// Row 11: the element is copied once; what the peer does then changes nothing.
#[test]
fn a_body_that_changes_behind_the_copy() {
    let (window, mut device, mut driver) = pair(&SMALL);
    assert!(device.send(&[5; 64]).unwrap());
    window.hook(|_, offset, bytes| {
        if (0x100..0x200).contains(&offset) {
            bytes[0x100..0x200].fill(0xEE);
        }
    });
    let mut frame = [0; 64];
    assert!(driver.receive(&mut frame).unwrap());
    assert_eq!(frame, [5; 64]);
    let elements = window.take_loads().into_iter().filter(|at| (0x100..0x200).contains(at));
    assert_eq!(elements.count(), 1);
}

#[test]
fn closing_is_seen_and_final() {
    let (_, mut device, mut driver) = pair(&OUR_LAYOUT);
    device.close(false);
    assert_eq!(driver.poll(), Err(PeerFault::ChannelClosed { status: 3 }));
    assert_eq!(device.state(), ChannelState::Closed);
    assert!(device.poll().is_err());
    assert_eq!(device.send(&[0; 64]), Ok(false));
    device.begin();
    assert_eq!(device.state(), ChannelState::Init);
}

#[test]
fn every_rule_of_the_layout() {
    let window = TestWindow::new(0x2000);
    OUR_LAYOUT.publish(&window);
    let good: [u32; 16] = core::array::from_fn(|at| window.peek(at as u64 * 4));
    assert_eq!(ChannelLayout::check(&good, 0x2000), Some(OUR_LAYOUT));
    assert_eq!(ChannelLayout::check(&good, 0x1FFF), None, "it ends behind the area");
    let mut masked = good;
    masked[1] |= 1 << 16;
    assert_eq!(ChannelLayout::check(&masked, 0x2000), Some(OUR_LAYOUT));
    let broken: [(usize, u32); 22] = [
        (0, 0x0040_4C4E),
        (0, 0x0041_4C4F),
        (1, 2),
        (1, 0x0002_0001),
        (2, 0x003C_0001),
        (2, 0x003C_0100),
        (2, 0x0001_0000),
        (2, 0),
        (2, 0x0401_0000),
        (2, 0xFFFF_0000),
        (3, 63),
        (3, 128),
        (3, 0x0001_0040),
        (4, 8),
        (6, 0x3C),
        (6, 0x42),
        (6, 0x2000),
        (7, 1),
        (7, u32::MAX - 1),
        (8, 0x40),
        (12, 0x40),
        (14, 0x100),
    ];
    for (word, value) in broken {
        let mut copy = good;
        copy[word] = value;
        assert_eq!(ChannelLayout::check(&copy, 0x2000), None, "word {word} = {value:#x}");
    }
    for word in 0..16 {
        let value = window.peek(word * 4);
        window.poke(word * 4, u32::MAX);
        assert_eq!(ChannelLayout::read(&window), Err(PeerFault::LinkLost), "word {word}");
        window.poke(word * 4, value);
    }
}

proptest! {
    #[test]
    fn layouts_of_any_numbers(words in any::<[u32; 16]>(), len in 0_u64..0x4000) {
        let mut words = words;
        words[..4].copy_from_slice(&[0x0040_4C4F, 1, 0x0004_0000, 64]);
        for high in [5, 7, 9, 11, 13, 15] { words[high] &= 1; }
        for low in [4, 10] { words[low] = 0; words[low + 1] = 0; }
        for low in [6, 8, 12, 14] { words[low] &= 0x3FFF; }
        if let Some(layout) = ChannelLayout::check(&words, len) {
            let bytes = u64::from(layout.elements) * 64;
            for (at, size) in [(layout.device.0, 8), (layout.device.1, bytes),
                (layout.driver.0, 8), (layout.driver.1, bytes)] {
                prop_assert!(at >= 64 && at + size <= len);
            }
        }
    }

    #[test]
    fn messages_arrive_in_order_whatever_the_turns(turns in prop::collection::vec(any::<bool>(), 1..400)) {
        let (_, mut device, mut driver) = pair(&SMALL);
        let (mut sent, mut received) = (0_u8, 0_u8);
        for send in turns {
            if send {
                if device.send(&[sent; 64]).unwrap() {
                    sent = sent.wrapping_add(1);
                }
            } else {
                let mut frame = [0; 64];
                if driver.receive(&mut frame).unwrap() {
                    prop_assert_eq!(frame, [received; 64]);
                    received = received.wrapping_add(1);
                }
            }
            prop_assert!(sent.wrapping_sub(received) <= 3);
        }
    }
}
