//! `virtio-physd`, and `vphys` asking it, as a user runs them: what they print,
//! how they exit, and that nothing is left behind. Each test runs in a network
//! namespace of its own, so it needs the right to make one, and /dev/net/tun;
//! what only root can stage is left out for others, and said so.

mod asking;
#[cfg(feature = "emulated-board")]
mod boards;
mod configuration;
#[cfg(feature = "emulated-board")]
mod console;
#[cfg(feature = "emulated-board")]
mod ends;
mod live;
#[path = "../demo/run.rs"]
#[allow(dead_code, reason = "the demo's tests use the rest")]
mod run;
mod service;
mod setting;
mod starting;
