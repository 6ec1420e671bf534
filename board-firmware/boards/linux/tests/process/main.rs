//! `virtio-phys-board-linux` as its user runs it, with the daemon's own code at
//! the other end: what lies behind it, how it ends, and a link with a real
//! kernel at both ends.

mod behind;
mod command_line;
mod conformance;
mod endings;
mod kernels;
mod ping;
mod stage;
