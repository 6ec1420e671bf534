//! The notification protocol (R4 of the design; docs/protocol-rings.md,
//! "Notification"), explored whole: every interleaving of two programs, their
//! store buffers and a PCIe bus. What is modelled, and what not, is in
//! docs/notification-model.md; so are the tables that these tests print (and
//! compare with that document):
//!
//!     cargo test -p virtio-phys-tests --test notification_model -- --nocapture --test-threads 1
//!
//! With `NOTIFICATION_TRACE=1` each mutation prints the shortest way to lose a
//! wake-up.

mod bus;
mod programs;
mod protocol;
mod state;

use std::fs;

use shared::virtq::notify;
use virtio_phys_tests::explore::{Report, Verdict, explore};

use bus::{End, Layout, StoreBuffer};
use protocol::{Mutation, Path, Protocol, Suppression};
use state::witness;

/// More than any model here has: about a gigabyte.
const LIMIT: usize = 12_000_000;

/// Both store orders, one after the other. `AnyOrder` allows all that
/// `InOrder` allows; parking multiplies its states, so a queue of two entries
/// parks in order, one of one entry in any order, and the long form does both.
const IN_ORDER: Protocol = Protocol {
    layout: Layout::SplitPush,
    suppression: Suppression::EventIndex,
    path: Path::Ordered,
    publish_flush: false,
    store_buffer: StoreBuffer::InOrder,
    size: 2,
    modulus: 8,
    batch: 2,
    parks: true,
    mutation: Mutation::Nothing,
    turned: true,
};
const ANY_ORDER: Protocol =
    Protocol { store_buffer: StoreBuffer::AnyOrder, parks: false, ..IN_ORDER };
const ANY_ORDER_PARKING: Protocol = Protocol { size: 1, batch: 1, parks: true, ..ANY_ORDER };

/// The largest queue that an index has room for (32768 of 65536).
const LARGEST: Protocol = Protocol { modulus: 4, ..IN_ORDER };

/// Flags have fewer states: everything at once.
const FLAGS: Protocol = Protocol {
    suppression: Suppression::Flags,
    store_buffer: StoreBuffer::AnyOrder,
    modulus: 4,
    ..IN_ORDER
};

/// Prints a row of a table and sees that the document has it.
fn document(row: &str) {
    println!("{row}");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join("docs/notification-model.md");
    let document = fs::read_to_string(path).expect("the document is there");
    assert!(document.contains(row), "docs/notification-model.md lacks this row:\n{row}");
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// Explores `protocol`, which must hold and must have been put to the test.
fn explored(protocol: &Protocol) -> Report<Protocol> {
    let report = explore(protocol, LIMIT);
    match &report.verdict {
        Verdict::Holds => {}
        Verdict::Violated { what, trace } => {
            print_trace(trace);
            panic!("{what}: {protocol:?}");
        }
        Verdict::Stuck { trace } | Verdict::Circles { trace } => {
            print_trace(trace);
            panic!("cannot be finished from there: {protocol:?}");
        }
        Verdict::TooManyStates => panic!("too many states: {protocol:?}"),
    }
    let mut wanted = witness::LOOK_AGAIN_FOUND | witness::EMPTY_WAKE | witness::BOTH_ASLEEP;
    if protocol.parks || protocol.suppression == Suppression::EventIndex {
        wanted |= witness::SUPPRESSED;
    }
    if protocol.layout == Layout::SplitPush && protocol.mutation == Mutation::Nothing {
        wanted |= witness::BOTH_FLUSHING;
    }
    if protocol.path == Path::Separate {
        wanted |= witness::OVERTAKEN;
    }
    assert_eq!(report.witnesses & wanted, wanted, "explored too little: {protocol:?}");
    report
}

/// The same, with its row in the document.
fn holds(protocol: Protocol) {
    let report = explored(&protocol);
    let without = match protocol.mutation {
        Mutation::Nothing => String::new(),
        mutation => format!("{mutation:?}"),
    };
    document(&format!(
        "| {} | {} | {} | {} | {without} | {} | {}/{}/{} | {} | {} | {} | {} | {} |",
        protocol.layout,
        protocol.suppression,
        protocol.path,
        yes_or_no(protocol.publish_flush),
        protocol.store_buffer,
        protocol.size,
        protocol.modulus,
        protocol.batch,
        yes_or_no(protocol.parks),
        report.states,
        report.steps,
        report.depth,
        yes_or_no(report.witnesses & witness::BUS_FULL != 0),
    ));
}

fn print_trace(trace: &[(state::Step, state::State)]) {
    for (number, (step, _)) in trace.iter().enumerate() {
        println!("    {:>3}  {step}", number + 1);
    }
}

/// `victim` loses a wake-up in `protocol`, whatever the way to suppress
/// notifications, even on the machine that keeps its stores in order.
fn loses(protocol: Protocol, victim: End) {
    assert_eq!(protocol.store_buffer, StoreBuffer::InOrder);
    for suppression in [Suppression::EventIndex, Suppression::Flags] {
        let protocol = Protocol { suppression, turned: false, ..protocol };
        let last_entry = protocol.mutation == Mutation::LastEntryOnly;
        if last_entry && suppression == Suppression::Flags {
            continue;
        }
        let report = explore(&protocol, LIMIT);
        let Verdict::Violated { what, trace } = &report.verdict else {
            panic!("the check does not notice {protocol:?}");
        };
        document(&format!(
            "| {:?} | {} | {suppression} | {} | {} | {victim} | {} |",
            protocol.mutation,
            protocol.layout,
            protocol.path,
            yes_or_no(protocol.publish_flush),
            trace.len()
        ));
        assert!(what.starts_with(&format!("the {victim} sleeps")), "{what}");
        if std::env::var_os("NOTIFICATION_TRACE").is_some() {
            print_trace(trace);
        }
    }
}

fn without(mutation: Mutation, victim: End) {
    loses(Protocol { mutation, ..IN_ORDER }, victim);
}

mod holds {
    use super::*;

    #[test]
    fn split() {
        for protocol in [IN_ORDER, ANY_ORDER, ANY_ORDER_PARKING, LARGEST] {
            holds(protocol);
        }
    }

    #[test]
    fn split_with_notifications_on_a_separate_path() {
        for protocol in [ANY_ORDER, ANY_ORDER_PARKING] {
            holds(Protocol { path: Path::Separate, ..protocol });
        }
    }

    #[test]
    fn split_with_flags() {
        holds(FLAGS);
        holds(Protocol { path: Path::Separate, ..FLAGS });
    }

    /// A board that cannot promise that its interrupts are ordered: the host
    /// flushes at its publishes as well.
    #[test]
    fn split_with_a_flush_at_publishes() {
        for protocol in [ANY_ORDER, FLAGS] {
            for path in [Path::Ordered, Path::Separate] {
                holds(Protocol { path, publish_flush: true, ..protocol });
            }
        }
    }

    #[test]
    fn bar_only() {
        holds_across_the_bus(Layout::BarOnly);
    }

    #[test]
    fn all_in_host() {
        holds_across_the_bus(Layout::AllInHost);
    }

    fn holds_across_the_bus(layout: Layout) {
        for protocol in [IN_ORDER, ANY_ORDER, ANY_ORDER_PARKING, FLAGS] {
            for path in [Path::Ordered, Path::Separate] {
                holds(Protocol { layout, path, ..protocol });
            }
        }
    }

    /// Both at once, which the fast form takes apart.
    #[test]
    #[ignore = "long: eight million states"]
    fn split_in_any_order_and_parking() {
        holds(Protocol { parks: true, ..ANY_ORDER });
        holds(Protocol { path: Path::Separate, ..IN_ORDER });
    }

    /// Larger queues and batches.
    #[test]
    fn split_with_four_entries() {
        holds(Protocol { size: 4, batch: 4, parks: false, ..IN_ORDER });
    }
}

/// What a layout does not need: so that nobody takes a rule for idle, or for
/// needed everywhere.
mod holds_without {
    use super::*;

    /// Interrupts and doorbells in order, behind their data: a wake-up that
    /// finds nothing was a late one, and the event word still stands.
    #[test]
    fn arming_again_where_notifications_are_in_order() {
        for end in bus::ENDS {
            holds(Protocol { mutation: Mutation::NoReArm(end), ..ANY_ORDER });
        }
    }

    /// The read-back waits for the store to its own address, and the look for
    /// the read-back.
    #[test]
    fn the_sleepers_full_barrier_where_it_reads_its_word_back() {
        for end in bus::ENDS {
            holds(Protocol { mutation: Mutation::NoSleeperBarrier(end), ..ANY_ORDER });
        }
    }

    /// A flush at the host's publishes stands in for the board's own: a board
    /// whose reads push nothing, or that does not wait for them.
    #[test]
    fn the_boards_flush_where_the_host_flushes_at_publishes() {
        for mutation in [
            Mutation::NoFlush(End::Board),
            Mutation::LookBeforeCompletion(End::Board),
            Mutation::RelaxedCompletion(End::Board),
        ] {
            for protocol in [ANY_ORDER, FLAGS] {
                holds(Protocol { publish_flush: true, mutation, ..protocol });
            }
        }
    }
}

/// Each rule taken out alone: the check must notice. Who loses the wake-up is
/// part of the claim.
mod loses_without {
    use super::*;

    #[test]
    fn the_sleepers_flush_on_the_host() {
        without(Mutation::NoFlush(End::Host), End::Host);
    }

    #[test]
    fn the_sleepers_flush_on_the_board() {
        without(Mutation::NoFlush(End::Board), End::Board);
    }

    #[test]
    fn a_flush_that_is_not_served_from_a_cache() {
        without(Mutation::CachedFlush(End::Host), End::Host);
        without(Mutation::CachedFlush(End::Board), End::Board);
    }

    #[test]
    fn the_publishers_full_barrier_on_the_host() {
        without(Mutation::NoPublishBarrier(End::Host), End::Board);
    }

    #[test]
    fn the_publishers_full_barrier_on_the_board() {
        without(Mutation::NoPublishBarrier(End::Board), End::Host);
    }

    /// In the split layout the flush implies it (`holds_without`).
    #[test]
    fn the_sleepers_full_barrier() {
        for layout in [Layout::BarOnly, Layout::AllInHost] {
            for end in bus::ENDS {
                let mutation = Mutation::NoSleeperBarrier(end);
                loses(Protocol { layout, mutation, ..IN_ORDER }, end);
            }
        }
    }

    #[test]
    fn the_look_behind_the_completion_on_the_host() {
        without(Mutation::LookBeforeCompletion(End::Host), End::Host);
    }

    #[test]
    fn the_look_behind_the_completion_on_the_board() {
        without(Mutation::LookBeforeCompletion(End::Board), End::Board);
    }

    #[test]
    fn requests_in_order() {
        without(Mutation::RelaxedRequest(End::Host), End::Host);
        without(Mutation::RelaxedRequest(End::Board), End::Board);
    }

    #[test]
    fn completions_in_order() {
        without(Mutation::RelaxedCompletion(End::Host), End::Host);
        without(Mutation::RelaxedCompletion(End::Board), End::Board);
    }

    /// Where all loads of one end cross the bus, they are the flushes, of its
    /// index as a publisher and of its event word as a sleeper: the shortest
    /// way to lose is the board's in both cases.
    #[test]
    fn requests_in_order_where_the_loads_are_the_flushes() {
        for (layout, end) in [(Layout::BarOnly, End::Host), (Layout::AllInHost, End::Board)] {
            let mutation = Mutation::RelaxedRequest(end);
            loses(Protocol { layout, mutation, ..IN_ORDER }, End::Board);
        }
    }

    #[test]
    fn arming_again_after_an_empty_wake_up() {
        for end in bus::ENDS {
            let mutation = Mutation::NoReArm(end);
            loses(Protocol { path: Path::Separate, mutation, ..IN_ORDER }, end);
        }
    }

    #[test]
    fn draining_before_the_look() {
        for layout in [Layout::SplitPush, Layout::BarOnly, Layout::AllInHost] {
            for end in bus::ENDS {
                let mutation = Mutation::DrainAfterLook(end);
                loses(Protocol { layout, mutation, ..IN_ORDER }, end);
            }
        }
    }

    #[test]
    fn comparing_over_the_whole_batch() {
        without(Mutation::LastEntryOnly, End::Board);
    }

    /// A flush at the host's publishes does not stand in for the host's flush
    /// before sleep: interrupts that overtake data need that one.
    #[test]
    fn the_hosts_flush_whatever_it_flushes_at_publishes() {
        let mutation = Mutation::NoFlush(End::Host);
        loses(Protocol { publish_flush: true, mutation, ..IN_ORDER }, End::Host);
    }

    /// A flush at the host's publishes does not mend what the board owes.
    #[test]
    fn the_boards_full_barrier_whatever_the_host_flushes() {
        let mutation = Mutation::NoPublishBarrier(End::Board);
        loses(Protocol { publish_flush: true, mutation, ..IN_ORDER }, End::Host);
    }
}

/// The model itself.
mod model {
    use super::*;
    use bus::{Message, Messages, Relaxed, Word, WordKind};

    /// Turning is no more than counting: without it there are exactly as many
    /// states more as an index has values, and the indices are seen to wrap.
    #[test]
    fn turned_states_stand_for_all() {
        for protocol in [
            Protocol { size: 1, batch: 1, modulus: 4, ..IN_ORDER },
            Protocol { size: 1, batch: 1, modulus: 4, path: Path::Separate, ..IN_ORDER },
            Protocol { size: 1, batch: 1, modulus: 4, ..FLAGS },
            Protocol { layout: Layout::BarOnly, ..ANY_ORDER },
        ] {
            let turned = explored(&protocol);
            let all = explored(&Protocol { turned: false, ..protocol });
            assert_eq!(all.states, turned.states * usize::from(protocol.modulus));
            assert_eq!(all.steps, turned.steps * usize::from(protocol.modulus));
            assert_ne!(all.witnesses & witness::WRAPPED, 0);
        }
    }

    /// The code's functions, on indices that go in steps of 2^16 / modulus,
    /// are the same rules in the smaller modulus.
    #[test]
    fn the_scaled_rules_are_the_rules_in_a_smaller_modulus() {
        for modulus in [2, 4, 8_u8] {
            let unit = 0x1_0000 / u32::from(modulus);
            let real = |index: u8| u16::try_from(u32::from(index) * unit).unwrap();
            let distance = |from: u8, to: u8| (to + modulus - from) % modulus;
            for event in 0..modulus {
                assert_eq!(notify::armed_event(real(event)), real(event));
                for old in 0..modulus {
                    for batch in 1..modulus {
                        let new = (old + batch) % modulus;
                        // Is it among the entries old, old + 1, ... new - 1?
                        let among = distance(old, event) < batch;
                        assert_eq!(
                            notify::needs_event(real(event), real(new), real(old)),
                            among,
                            "event {event}, {old} to {new} of {modulus}"
                        );
                    }
                }
            }
        }
    }

    /// PCIe's ordering table, as far as it is used: whether the second of two
    /// messages may arrive before the first.
    #[test]
    fn messages_pass_as_pcie_lets_them() {
        let store = Message::Store(WordKind::Index, 2);
        let read = Message::Read(Word::event_of(End::Board));
        let completion = Message::Completion(WordKind::Event, 1);
        let strict = Relaxed::default();
        let requests = Relaxed { requests: true, ..strict };
        let completions = Relaxed { completions: true, ..strict };
        for (rules, first, second, passes) in [
            (strict, store, store, false),
            (strict, store, Message::Notify, false),
            (strict, Message::Notify, store, false),
            (strict, store, read, false),
            (strict, store, completion, false),
            (strict, read, store, true),
            (strict, read, completion, true),
            (strict, completion, store, true),
            (strict, completion, Message::Notify, true),
            (strict, completion, read, true),
            (requests, store, read, true),
            (requests, store, completion, false),
            (requests, store, store, false),
            (completions, store, completion, true),
            (completions, store, read, false),
            (completions, store, store, false),
        ] {
            let mut queue = Messages::default();
            queue.push(first);
            queue.push(second);
            let ready: Vec<_> = rules.ready(queue).collect();
            assert_eq!(ready[0], (0, first));
            assert_eq!(ready.len() > 1, passes, "{rules:?}: {first:?} before {second:?}");
        }
    }

    #[test]
    fn stores_leave_a_cpu_in_its_order() {
        let index = Message::Store(WordKind::Index, 1);
        let event = Message::Store(WordKind::Event, 1);
        let mut buffer = Messages::default();
        for message in [index, Message::Notify, event, index] {
            buffer.push(message);
        }
        let ready = |order: StoreBuffer| order.ready(buffer).map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(ready(StoreBuffer::InOrder), [0]);
        assert_eq!(ready(StoreBuffer::AnyOrder), [0, 1, 2], "not the second to one address");
        buffer.remove(1);
        assert_eq!(buffer.iter().collect::<Vec<_>>(), [index, event, index]);
    }
}
