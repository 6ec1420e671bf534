//! `vphys demo`: the whole way, from kernel sockets to board firmware and back.
//!
//! The daemon's own code attaches to a simulated board that runs the board
//! library with its IP stack; the kernel sees an ordinary tap interface, or a
//! tun. With `--boards 2` one board's frames go to another, over a bridge.

mod bill;
mod options;
mod pair;
mod pair_report;
mod ping;
mod progress;
mod report;
mod shell;
mod steps;
mod traffic;
mod watch;

pub(crate) use options::Options;
pub(crate) use steps::run;
pub(crate) use watch::signal_status;
