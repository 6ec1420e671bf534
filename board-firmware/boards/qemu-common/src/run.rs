//! From reset to the board's loop.

use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};

use board::device::net::stack::Stack;
use board::program::{
    self, Addresses, HEARTBEAT, Memory, Order, Port, ProgramError, Setup, Surroundings,
};
use log::LevelFilter;
use shared::link::{Epoch, Versions};
use shared::window::Window;
use shared::wire::control::{LIVE_OFFSET, live};

use crate::console::{Console, Uart};
use crate::endpoint::Endpoint;
use crate::machine::{End, Machine};
use crate::parameters::{Behind, Parameters, Provoke};
use crate::port::EndpointPort;
use crate::raw::Owned;
use crate::station::Station;
use crate::{stack_alone, vectors};

/// Bytes of each of the stack's large socket buffers.
const SOCKET_BUFFER: usize = 256 << 10;

/// How often the stack's paint is looked at, in microseconds.
const LOOK_AT_STACK: u64 = 10_000_000;

static MEMORY: Owned<Memory> = Owned::new(Memory::new());
static SOCKETS: Owned<[u8; Stack::LEAST_BYTES + Stack::BULK_BUFFERS * SOCKET_BUFFER]> =
    Owned::new([0; _]);

/// More frames than any stack has.
const MOST_FRAMES: u64 = 1 << 16;

/// Whether a panic or an exception is to end QEMU.
static CRASH_EXITS: AtomicBool = AtomicBool::new(false);

/// How a boot ends in which the processor went astray: for panic handlers and
/// exception vectors.
pub fn after_a_crash() -> End {
    if CRASH_EXITS.load(Ordering::Relaxed) { End::Exit(1) } else { End::Reset }
}

/// Runs the board on `machine`, whose interrupts are on, until it is reset.
pub fn run<U: Uart + Send>(
    mut machine: impl Machine,
    console: &'static Console<U>,
    parameters: &Parameters,
) -> ! {
    CRASH_EXITS.store(parameters.crash_exits, Ordering::Relaxed);
    if log::set_logger(console).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
    if parameters.ignored > 0 {
        log::warn!("{} parameters were not understood", parameters.ignored);
    }
    if let Some(what) = parameters.provoke {
        provoke(&mut machine, what);
    }
    if cfg!(feature = "stack-alone") {
        let outcome = SOCKETS.take().map(|bytes| stack_alone::run(&mut machine, parameters, bytes));
        log::error!("{outcome:?}");
    } else {
        serve(&mut machine, parameters);
    }
    // Another boot would find the same.
    if parameters.crash_exits {
        machine.end(End::Exit(2));
    }
    loop {
        machine.sleep_until(u64::MAX);
        vectors::take();
    }
}

/// Serves hosts; returns where it cannot.
fn serve(machine: &mut impl Machine, parameters: &Parameters) {
    match Endpoint::open(machine) {
        Ok(endpoint) => {
            log::info!("{endpoint}");
            let port = EndpointPort::new(endpoint, parameters.outbound);
            match boot(machine, &port, parameters) {
                Ok(_) => {
                    log::info!("reboot");
                    machine.end(End::Reset)
                }
                Err(error) => log::error!("{error}"),
            }
        }
        Err(error) => log::error!("{error}"),
    }
}

/// Does what goes wrong, and returns where it does not.
#[expect(clippy::panic, reason = "asked for")]
fn provoke(machine: &mut impl Machine, what: Provoke) {
    log::warn!("provoking: {what:?}");
    match what {
        Provoke::Panic => panic!("asked for"),
        Provoke::Stack => {
            let depth = deeper(0);
            log::error!("the stack has {depth} frames and no end");
        }
        Provoke::Alignment => machine.load_misaligned(),
    }
    log::error!("nothing went wrong");
}

/// How many calls deep it came, each of more than 256 bytes.
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    let below = if depth < MOST_FRAMES { deeper(depth + 1) } else { depth };
    below.max(black_box(frame)[0])
}

fn boot(
    machine: &mut impl Machine,
    port: &EndpointPort,
    parameters: &Parameters,
) -> Result<Order, ProgramError> {
    let setup = Setup {
        name: parameters.name,
        firmware: env!("CARGO_PKG_VERSION"),
        number: parameters.number,
        versions: Versions::OURS,
        heartbeat: HEARTBEAT,
    };
    let epoch = epoch(machine.entropy(), port);
    let (v4, v6) = (parameters.v4, parameters.v6);
    let (name, boot) = (setup.name, epoch.get());
    log::info!("{name}: boot {boot:#010x}, {}/{} and {}/{}", v4.0, v4.1, v6.0, v6.1);
    let (Some(memory), Some(sockets)) = (MEMORY.take(), SOCKETS.take()) else {
        return Ok(Order::Reboot);
    };
    let mut around = Around { machine, deepest: 0, look_at: 0 };
    let behind = match parameters.behind {
        Behind::Stack => program::Behind::Stack(
            Addresses { v4: (v4.0.octets(), v4.1), v6: (v6.0.octets(), v6.1) },
            sockets,
        ),
        Behind::Talker { peer } => program::Behind::Handler(Station::new(setup.number, peer)),
        Behind::Echo => program::Behind::Echo,
    };
    program::boot_behind(port, &setup, epoch, memory, behind, &mut around)
}

/// This boot's epoch: noise. Where the last boot's should still stand, the host
/// may have written anything: this one only differs from it.
fn epoch(entropy: u64, port: &EndpointPort) -> Epoch {
    // Each bit of the noise turns over half of the result's (SplitMix64's last steps).
    let mixed = (entropy ^ entropy >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    let [.., a, b, c, d] = (mixed ^ mixed >> 31).to_le_bytes();
    let epoch = Epoch::from_random(u32::from_le_bytes([a, b, c, d]));
    let last = port.memory(LIVE_OFFSET.into(), 4096).map(|page| page.load::<u32>(live::BOOT_EPOCH));
    if last == Some(epoch.get()) { epoch.next() } else { epoch }
}

/// The machine, as the board's loop knows it.
struct Around<'a, M> {
    machine: &'a mut M,
    /// Bytes of the stack, as far as it has been said.
    deepest: usize,
    look_at: u64,
}

impl<M: Machine> Surroundings for Around<'_, M> {
    fn now_us(&mut self) -> u64 {
        self.machine.now_us()
    }

    fn pause(&mut self, until_us: u64) -> Order {
        let now = self.machine.now_us();
        if now >= self.look_at {
            self.look_at = now.saturating_add(LOOK_AT_STACK);
            let stack = self.machine.stack();
            let deepest = stack.deepest();
            if deepest > self.deepest {
                self.deepest = deepest;
                log::info!("stack: {deepest} of {} bytes have been used", stack.len());
            }
        }
        if until_us > now {
            self.machine.sleep_until(until_us);
        }
        Order::Go
    }
}
