//! The daemon is small: at most 32 MiB resident beyond its pool.
//!
//! What is measured is more than that: the peak of a whole `vphys demo`, which
//! is the daemon's own threads and code with the pool, the emulated board with
//! its memory and its stack's buffers, the simulated bus, and the sockets that
//! make the traffic, all in one process. The bound holds even so.
#![cfg(feature = "emulated-board")]

use std::path::Path;
use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::geteuid;

/// The bound, in KiB, as the kernel counts resident memory.
const MOST: i64 = 32 << 10;

#[test]
fn the_whole_demo_stays_below_what_the_daemon_may_take() {
    if !Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: no /dev/net/tun");
        return;
    }
    let demo = Command::new(env!("CARGO_BIN_EXE_vphys"))
        .args(["demo", "--json", "--seconds", "1"])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&demo.stdout), String::from_utf8_lossy(&demo.stderr));
    // An ordinary user may lack either; the message says which.
    let lacks = err.contains("namespace") || err.contains("/dev/net/tun");
    if !demo.status.success() && !geteuid().is_root() && lacks {
        eprintln!("skipped: {err}");
        return;
    }
    assert!(demo.status.success(), "{out}\n{err}");
    // Frames went both ways, so pool and buffers have been touched.
    assert!(out.contains("\"ok\":true"), "{out}");
    // The demo is this process's only child.
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    println!("peak of the whole demo: {peak} KiB");
    assert!(peak > 4 << 10 && peak < MOST, "{peak} KiB resident at the peak");
}
