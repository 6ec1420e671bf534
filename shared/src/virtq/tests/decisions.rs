//! The pure notification decisions, exhaustively where that is possible.

use crate::virtq::notify::{armed_event, flags_ask, needs_event, parked_event};

/// VirtIO 1.3 §2.7.7.2, in its own terms: of the entries `old` to `new - 1`
/// that were just written, one has the index `event`.
fn spec_says(event: u16, new: u16, old: u16) -> bool {
    let count = u32::from(new.wrapping_sub(old));
    let distance = u32::from(event.wrapping_sub(old));
    distance < count
}

#[test]
fn spec_2_7_7_2_needs_event_for_every_event_and_many_batches() {
    let batches =
        (0..=260).chain([4095, 4096, 32767, 32768, 32769, 65534, 65535]).collect::<Vec<u16>>();
    for old in [0, 1, 255, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF] {
        for &batch in &batches {
            let new = u16::wrapping_add(old, batch);
            for event in 0..=u16::MAX {
                assert_eq!(
                    needs_event(event, new, old),
                    spec_says(event, new, old),
                    "event {event} new {new} old {old}"
                );
            }
        }
    }
}

#[test]
fn spec_2_7_7_2_needs_event_by_counting_entries() {
    // The same against a walk over the entries, for small batches.
    for old in 0..=u16::MAX {
        for batch in 0..5 {
            for event in [old.wrapping_sub(2), old.wrapping_sub(1), old, old.wrapping_add(3)] {
                let walked = (0..batch).any(|i| old.wrapping_add(i) == event);
                assert_eq!(needs_event(event, old.wrapping_add(batch), old), walked);
            }
        }
    }
}

#[test]
fn the_armed_event_is_passed_by_the_next_entry() {
    for seen in 0..=u16::MAX {
        for batch in [1, 2, 31, 32768] {
            assert!(needs_event(armed_event(seen), seen.wrapping_add(batch), seen));
        }
    }
}

#[test]
fn a_parked_event_is_not_reached_and_rarely_moves() {
    for size in (1..=15).map(|shift| 1_u16 << shift) {
        for seen in [0, 1, 0x3FFF, 0x4000, 0x7FFF, 0x8000, 0xFFFF] {
            for event in 0..=u16::MAX {
                let moved = parked_event(event, seen, size);
                let stands = moved.unwrap_or(event);
                // Whatever the peer publishes from here on, in any batch.
                assert!(!needs_event(stands, seen.wrapping_add(size), seen));
                if moved.is_some() && size <= 1 << 14 {
                    let later = seen.wrapping_add(1 << 14);
                    assert_eq!(parked_event(stands, later, size), None);
                }
            }
        }
    }
}

#[test]
fn flags_are_one_bit() {
    for flags in 0..=u16::MAX {
        assert_eq!(flags_ask(flags), flags % 2 == 0);
    }
}
