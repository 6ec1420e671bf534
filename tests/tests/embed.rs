//! The example of an embedded host does what it says, in so many lines.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[path = "../examples/embed.rs"]
mod embed;

#[test]
fn frames_go_there_and_back_without_an_interface() {
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(embed::main().map_err(|error| error.to_string())));
    outcome.recv_timeout(Duration::from_secs(60)).expect("it ends").unwrap();
}

#[test]
fn it_is_short_enough_to_copy() {
    let lines = include_str!("../examples/embed.rs").lines().count();
    assert!(lines <= 60, "{lines} lines");
}
