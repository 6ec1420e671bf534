//! Tests of both sides of a queue.

mod decisions;
mod device_faults;
mod driver_faults;
mod indirect;
mod indirect_faults;
mod once;
mod restart;
mod rig;
mod shape;
mod stores;
mod traffic;
