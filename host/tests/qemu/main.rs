//! The boards' firmware on three processors, in QEMU, under the real daemon:
//! `./check qemu`.
//!
//! Needs QEMU, what `./check firmware` built (`VPHYS_FIRMWARE` is the folder), and
//! the right to make a network namespace and a tap.

#[path = "../../src/bin/vphys/qemu/command.rs"]
mod command;
mod conformance;
mod crashes;
mod demo;
mod hostile;
mod idle;
#[path = "../resets/interfaces.rs"]
mod interfaces;
mod loopback;
#[path = "../board/process.rs"]
#[allow(dead_code, reason = "the board's tests use the rest")]
mod process;
mod rack;
mod resets;
mod services;
#[path = "../resets/stream.rs"]
mod stream;
#[path = "../resets/survivor.rs"]
#[allow(dead_code, reason = "the resets' tests use the rest")]
mod survivor;
#[path = "../resets/taken.rs"]
mod taken;
mod traffic;
mod undisturbed;
