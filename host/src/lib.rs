//! The host's side.

pub mod bus;
pub mod namespace;
pub mod net;
pub mod netlink;
pub mod pool;
pub mod raw;
pub mod tap;
