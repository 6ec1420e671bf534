//! Tests of both sides of a queue.

mod rig;
mod traffic;
