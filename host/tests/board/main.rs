//! `vphys board`: the emulated board as a process of its own, and the daemon's
//! own code attached to it.
#![cfg(feature = "emulated-board")]

mod attached;
mod process;
mod programs;
mod traffic;
