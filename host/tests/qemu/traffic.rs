//! What users do with an interface, on each processor.

use std::time::Duration;

use virtio_phys_host::namespace::in_namespace;

use crate::command::Machine;
use crate::rack::{ADDRESSES, Rack};
use crate::services::{addresses, echo_tcp, echo_udp, ping, status_page};

const PINGS: u16 = 100;
const TCP_BYTES: usize = 64 << 20;
const DATAGRAMS: u32 = 100_000;

/// Pings, TCP, UDP and the status page, over IPv4 and IPv6, through an
/// interface of this mode.
fn carries_traffic(machine: Machine, mode: &str) {
    let rack = Rack::up_with(machine, &format!("mode = {mode:?}\n{ADDRESSES}"));
    let [v4, v6] = addresses(0);
    for to in [v4, v6] {
        let times = ping(to, PINGS);
        println!("{}: {PINGS} pings of {to}, half within {:?}", machine.name(), times[50]);
    }
    let page = status_page(v6);
    assert!(page.starts_with("HTTP/1.0 200"), "{page}");
    assert!(page.contains(&format!("board: {}", machine.name())), "{page}");
    // Both ways at once, so each way carries all of it.
    for (to, bytes) in [(v4, TCP_BYTES), (v6, TCP_BYTES / 16)] {
        let time = echo_tcp(to, bytes);
        println!("{}: {bytes} bytes of TCP to {to} and back in {time:?}", machine.name());
    }
    let (lost, time) = echo_udp(v4, DATAGRAMS);
    println!("{}: {DATAGRAMS} datagrams there and back in {time:?}, {lost} lost", machine.name());
    // With a session that ends goes what is under way.
    let most = if rack.sessions(0) == 1 { 0 } else { DATAGRAMS / 100 };
    assert!(time > Duration::ZERO && lost <= most, "{lost} datagrams were lost");
    let stats = rack.ask(&["stats"]);
    println!("{stats}");
    rack.end();
}

#[test]
fn aarch64_carries_traffic() {
    in_namespace("traffic::aarch64_carries_traffic", || {
        carries_traffic(Machine::QemuAarch64, "tap")
    });
}

#[test]
fn riscv64_carries_traffic() {
    in_namespace("traffic::riscv64_carries_traffic", || {
        carries_traffic(Machine::QemuRiscv64, "tun")
    });
}

#[test]
fn powerpc_carries_traffic() {
    in_namespace("traffic::powerpc_carries_traffic", || {
        carries_traffic(Machine::QemuPowerpc, "tap")
    });
}
