//! No allocation per frame: an allocator that counts, and both ends in the
//! process's only thread, so that every allocation there is counts. That is
//! why this is a test without a harness.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use host::namespace::enter_namespace;
use host::netlink::Netlink;
use host::session::Layout;
use host::tap::{Tap, TapOptions};
use shared::wire::features::IN_ORDER;
use virtio_phys_tests::bill::{LAYOUTS, flow};
use virtio_phys_tests::lockstep::{Failure, Lockstep};
use virtio_phys_tests::rig::RigOptions;

#[path = "../src/raw/counting.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod counting;

use counting::{Counting, allocations};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Frames each way, and before the count begins.
const FRAMES: u32 = 100_000;
const WARM_UP: u32 = 1000;

/// Frames a batch.
const BATCH: u32 = 32;

/// The host's address on the tap, and its network's broadcast address, which
/// the kernel sends to without asking anybody.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const EVERYBODY: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 255);
const PREFIX: u8 = 24;
const DISCARD: u16 = 9;

type Part = (&'static str, fn() -> Result<Outcome, Failure>);

const PARTS: [Part; 3] = [
    ("frames_in_a_flow_allocate_nothing", in_a_flow),
    ("frames_between_sleeps_allocate_nothing", between_sleeps),
    ("frames_through_a_tap_allocate_nothing", through_a_tap),
];

enum Outcome {
    Held,
    Skipped(String),
}

fn main() {
    let list = std::env::args().any(|argument| argument == "--list");
    if list {
        return;
    }
    println!("\nrunning {} tests", PARTS.len());
    let (mut passed, mut ignored) = (0, 0);
    for (name, part) in PARTS {
        match part() {
            Ok(Outcome::Held) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Ok(Outcome::Skipped(why)) => {
                ignored += 1;
                println!("test {name} ... ignored, {why}");
            }
            Err(failure) => {
                println!("test {name} ... FAILED\n\n{failure}\n\ntest result: FAILED.");
                std::process::exit(101);
            }
        }
    }
    println!(
        "\ntest result: ok. {passed} passed; 0 failed; {ignored} ignored; 0 measured; 0 filtered out\n"
    );
}

/// Fails if `work` allocates.
fn without_allocations(
    what: &dyn std::fmt::Display,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let before = allocations();
    let worked = work();
    let made = allocations() - before;
    worked?;
    if made == 0 { Ok(()) } else { Err(format!("{what}: {made} allocations").into()) }
}

fn in_a_flow() -> Result<Outcome, Failure> {
    // The count counts: a vector is one.
    let before = allocations();
    drop(Vec::<u64>::with_capacity(std::hint::black_box(4)));
    if allocations() != before + 1 {
        return Err("the allocator does not count".into());
    }
    for layout in LAYOUTS {
        for options in [RigOptions::counted(), RigOptions::counted().without(IN_ORDER)] {
            let mut link = Lockstep::with(options.layout(layout))?;
            flow(&mut link, BATCH, WARM_UP)?;
            without_allocations(&layout, || flow(&mut link, BATCH, FRAMES).map(drop))?;
        }
    }
    Ok(Outcome::Held)
}

fn between_sleeps() -> Result<Outcome, Failure> {
    let mut link = Lockstep::new(Layout::Split)?;
    flow(&mut link, 1, WARM_UP)?;
    without_allocations(&"asleep before each frame", || {
        for _ in 0..FRAMES {
            link.port.waiting = 1;
            link.host_to_sleep()?;
            link.board().waiting = 1;
            link.board_to_sleep();
        }
        Ok(())
    })?;
    Ok(Outcome::Held)
}

/// The same with the kernel as the port: a socket's datagrams go down, frames
/// of the board's come up.
fn through_a_tap() -> Result<Outcome, Failure> {
    if let Err(error) = enter_namespace() {
        return Ok(Outcome::Skipped(error.to_string()));
    }
    let mut tap = match Tap::open(&TapOptions::new("vphys%d")) {
        Ok(tap) => tap,
        Err(error) => return Ok(Outcome::Skipped(error.to_string())),
    };
    let name = tap.name().to_owned();
    let mut netlink = Netlink::open()?;
    netlink.set_up(&name)?;
    netlink.add_address(&name, IpAddr::V4(HOST), PREFIX)?;
    tap.set_carrier(true)?;
    let socket = UdpSocket::bind((HOST, 0))?;
    socket.set_broadcast(true)?;

    let mut link = Lockstep::new(Layout::Split)?;
    let mut sent = 0;
    let mut exchange = |link: &mut Lockstep, frames: u32| -> Result<(), Failure> {
        let bytes = [0; 1472];
        for _ in 0..frames.div_ceil(BATCH) {
            link.board().waiting += BATCH;
            for _ in 0..BATCH {
                sent += 1;
                socket.send_to(&bytes[..18 + sent * 463 % 1455], (EVERYBODY, DISCARD))?;
            }
            let mut quiet = false;
            while !quiet {
                quiet = link.pair.step(link.rig.now, &mut tap)?.frames == 0;
                link.board_step();
            }
        }
        Ok(())
    };
    exchange(&mut link, WARM_UP)?;
    let (before, came) = (link.pair.counters(), link.board().came);
    without_allocations(&"a tap as the port", || exchange(&mut link, FRAMES))?;
    let counters = link.pair.counters();
    let down = link.board().came - came;
    let up = counters.to_host.frames - before.to_host.frames;
    if down < FRAMES.into() || up < FRAMES.into() {
        return Err(format!("{down} frames went down and {up} up").into());
    }
    if counters.to_host.bounced > 0 {
        return Err("the tap copied frames twice".into());
    }
    Ok(Outcome::Held)
}
