//! A board to copy. docs/porting-a-board.md leads from here to a link that
//! pings; every "Look up" in the code is a question to the datasheet.
//!
//! - `soc.rs`: the datasheet in numbers. Start there.
//! - `link.ld`, `raw/start.s`: where things lie, and the way to `main`.
//! - `machine.rs`: time, sleep, watchdog, reset.
//! - `endpoint.rs`: doorbells, interrupts, windows, caches.
//! - `engine.rs`: the DMA engine.
//! - `window.rs`: cached payload beside words that are not.
//! - this file: who the board is, and what lies behind its network device.
//! - `raw/`: the unsafe rest.
#![no_std]
#![no_main]

mod endpoint;
mod engine;
mod machine;
mod raw;
mod soc;
mod window;

use core::fmt::{self, Arguments, Write};
use core::panic::PanicInfo;

use board::device::net::stack::{
    PacketMetadata, SOCKETS, SocketStorage, Stack, StackConfig, StackMemory, UDP_PACKETS,
};
use board::program::{
    CONTROL_LEN, HEARTBEAT, Memory, Parts, ProgramError, Setup, Wiring, boot_parts,
};
use shared::link::{Epoch, Versions};
use shared::window::Window;

use self::endpoint::Endpoint;
use self::engine::Engine;
use self::machine::Machine;
use self::raw::{CONSOLE, Owned};

/// Who the board is.
const SETUP: Setup<'static> = Setup {
    name: "template",
    firmware: env!("CARGO_PKG_VERSION"),
    // Another one for each board in a host: from a strap, a fuse, flash. It is in the MAC addresses.
    number: 1,
    versions: Versions::OURS,
    heartbeat: HEARTBEAT,
};

/// Its addresses: the host's interface has 10.77.0.1 in the guide.
const IPV4: ([u8; 4], u8) = ([10, 77, 0, 2], 24);

/// How often the serial port is asked for room.
const CONSOLE_PATIENCE: u32 = 100_000;

/// Bytes of each of the stack's large socket buffers.
const SOCKET_BUFFER: usize = 64 << 10;

static MEMORY: Owned<Memory> = Owned::new(Memory::new());
static BYTES: Owned<[u8; Stack::LEAST_BYTES + Stack::BULK_BUFFERS * SOCKET_BUFFER]> =
    Owned::new([0; _]);

/// From start.s.
fn main() -> ! {
    if soc::INCOMPLETE {
        park_until_the_addresses_are_complete();
    }
    match serve() {
        Ok(()) => {}
        Err(error) => say(format_args!("{error}")),
    }
    machine::reset()
}

/// With placeholders for addresses there is no console to say so on.
#[inline(never)]
fn park_until_the_addresses_are_complete() -> ! {
    loop {
        raw::wait();
    }
}

/// One boot.
fn serve() -> Result<(), ProgramError> {
    let short = ProgramError::Bar { len: soc::BAR_LEN as u64 };
    let (bar, bounce) = raw::bar().zip(raw::bounce()).ok_or(short)?;
    let control = bar.part(0, CONTROL_LEN).ok_or(short)?;
    let (Some(memory), Some(bytes)) = (MEMORY.take(), BYTES.take()) else { return Ok(()) };
    let epoch = Epoch::from_random(raw::count_boot());

    let mut description = SETUP.describe(&Wiring {
        bar_len: bar.len(),
        doorbell: endpoint::DOORBELL,
        outbound: Some(endpoint::REACH),
        vectors: soc::endpoint::VECTORS,
        dma_engine: true,
    })?;
    description.interrupts_unordered = soc::endpoint::INTERRUPTS_UNORDERED;
    description.widest_store = soc::WIDEST_STORE_IN;

    let mut sockets = [const { SocketStorage::EMPTY }; SOCKETS];
    let mut packets = [PacketMetadata::EMPTY; 2 * UDP_PACKETS];
    let stack = Stack::new(
        &StackConfig {
            mac: SETUP.mac(),
            ipv4: Some(IPV4),
            ipv6: None,
            seed: machine::now_us() ^ u64::from(epoch.get()) << 32,
            name: SETUP.name,
        },
        StackMemory { sockets: &mut sockets, packets: &mut packets, bytes },
    )?;
    say(format_args!("{}: boot {}", SETUP.name, epoch.get()));
    let parts = Parts {
        control,
        description,
        support: Endpoint::new(bar),
        engine: Engine::new(bounce),
        take_reset: endpoint::take_reset,
    };
    boot_parts(parts, &SETUP, epoch, memory, stack, &mut Machine).map(|_| ())
}

/// Prints a line on the serial port.
fn say(text: Arguments<'_>) {
    struct Port;
    impl Write for Port {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            use soc::console::{DATA, ROOM, STATUS};
            for byte in text.bytes() {
                // Bounded: a port that is not there must not stop the board.
                let room = || CONSOLE.read(STATUS) & ROOM != 0;
                let _ = (0..CONSOLE_PATIENCE).any(|_| room());
                CONSOLE.write(DATA, byte.into());
            }
            Ok(())
        }
    }
    // The port takes everything.
    let _ = write!(Port, "{text}\r\n");
}

/// From start.s: an instruction or an address that the processor refuses.
fn trapped(cause: usize, counter: usize, value: usize) -> ! {
    say(format_args!("trap {cause:#x} at {counter:#010x}, value {value:#010x}"));
    machine::reset()
}

/// In the field a board starts over: the host sees another boot epoch.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say(format_args!("{info}"));
    machine::reset()
}
