//! Both sides reset at once: the handshake of epochs (docs/protocol.md,
//! "Bring-up" and "Sessions") explored whole, with a reboot of the board, a
//! restart of the host or the loss of a message at any point and any number
//! of times. What is modelled, step by step, is in docs/notification-model.md,
//! "The reset model".

mod link;

use link::{Link, Mutation, witness};
use virtio_phys_tests::explore::{Report, Verdict, explore};

fn explored(mutation: Mutation, sessions: u8) -> Report<Link> {
    explore(&Link { mutation, sessions }, 6_000_000)
}

/// Prints a row, or the end of one, and sees that the document has it.
fn document(row: &str) {
    println!("{row}");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let document = std::fs::read_to_string(path.join("docs/notification-model.md"));
    let document = document.expect("the document is there");
    assert!(document.contains(row), "docs/notification-model.md lacks this row:\n{row}");
}

fn print_trace(trace: &[(link::Step, link::State)]) {
    for (number, (step, _)) in trace.iter().enumerate() {
        println!("    {:>3}  {step}", number + 1);
    }
}

#[test]
fn a_session_always_comes_back() {
    let report = explored(Mutation::Nothing, 3);
    document(&format!(
        "| {} | {} | {} | {} |",
        report.states,
        report.steps,
        report.depth,
        report.longest.unwrap_or_default()
    ));
    match &report.verdict {
        Verdict::Holds => {}
        Verdict::Violated { what, trace } => {
            print_trace(trace);
            panic!("{what}");
        }
        Verdict::Stuck { trace } => {
            print_trace(trace);
            panic!("no session can come back from there");
        }
        Verdict::Circles { trace } => {
            print_trace(trace);
            panic!("attaches in circles without end");
        }
        Verdict::TooManyStates => panic!("too many states"),
    }
    let wanted = witness::UP
        | witness::REFUSED
        | witness::BOTH_RESET
        | witness::SAME_EPOCHS
        | witness::TIMEOUT;
    assert_eq!(report.witnesses & wanted, wanted, "explored too little");
}

/// Each rule taken out alone: the check must notice.
fn fails_without(mutation: Mutation, why: &str) {
    // Two session epochs do for that.
    let report = explored(mutation, 2);
    let (what, trace) = match &report.verdict {
        Verdict::Violated { what, trace } => (*what, trace),
        Verdict::Stuck { trace } => ("no session can come back", trace),
        Verdict::Circles { trace } => ("attaches in circles without end", trace),
        Verdict::Holds => panic!("the check does not notice {mutation:?}"),
        Verdict::TooManyStates => panic!("too many states"),
    };
    document(&format!("| {what} | {} |", trace.len()));
    if std::env::var_os("RESET_TRACE").is_some() {
        print_trace(trace);
    }
    assert!(what.contains(why), "{what}");
}

#[test]
fn a_boot_must_not_accept_what_was_written_before_it() {
    fails_without(Mutation::OldSessionAccepted, "the board knows nothing of");
}

#[test]
fn an_ended_session_must_not_be_accepted_again() {
    fails_without(Mutation::EndedSessionAccepted, "the board knows nothing of");
}

#[test]
fn every_wait_needs_its_timer() {
    fails_without(Mutation::NoTimers, "no session");
}

#[test]
fn a_board_must_withdraw_its_acceptance_at_boot() {
    fails_without(Mutation::AcceptanceKept, "the board knows nothing of");
}

#[test]
fn a_host_must_wait_until_the_board_has_let_go() {
    fails_without(Mutation::NoWaitAtDetach, "memory again");
}

/// One epoch may be the last that was refused and another the last that ended:
/// a host that alternates between the two attaches for ever.
#[test]
fn two_session_epochs_are_not_enough() {
    fails_without(Mutation::Nothing, "circles");
}
