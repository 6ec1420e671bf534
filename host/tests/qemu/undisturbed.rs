//! What must not lose a session, or is measured: no other test's boards run beside
//! these. They come last by their name, so that nobody else waits meanwhile.

use virtio_phys_host::namespace::in_namespace;

use crate::hostile::{MACHINES, rings_in_a_loop};
use crate::idle::idle;
use crate::loopback::three_boards;

#[test]
fn doorbells_ring_in_a_tight_loop() {
    in_namespace("undisturbed::doorbells_ring_in_a_tight_loop", || {
        MACHINES.into_iter().for_each(rings_in_a_loop);
    });
}

#[test]
fn idle_links_take_no_processor_time() {
    in_namespace("undisturbed::idle_links_take_no_processor_time", idle);
}

#[test]
fn two_boards_talk_while_a_third_is_reset() {
    in_namespace("undisturbed::two_boards_talk_while_a_third_is_reset", three_boards);
}
