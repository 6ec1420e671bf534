//! The emulated board's boots, one after the other.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use board::device::net::stack::Stack;
use board::program::{self, Addresses, HEARTBEAT, Memory, Order, Port, Surroundings, boot_behind};
use nix::poll::{PollFd, ppoll};
use nix::sys::time::TimeSpec;
use shared::link::{Epoch, Versions};

use super::{Behind, BoardFault, Setup};

/// Bytes of each of the stack's large socket buffers.
const SOCKET_BUFFER: usize = 512 << 10;

/// Runs the board, boot after boot, until it is switched off or its bus is gone.
pub(crate) fn run<P: Port>(port: &P, setup: &Setup, around: &mut impl Surroundings) -> Result<()> {
    // Another one with each start of the process, and counted up from there.
    let seed = RandomState::new().hash_one(0);
    let mut epoch = Epoch::from_random(u32::try_from(seed >> 32).unwrap_or(1));
    let mut memory = Box::new(Memory::new());
    let mut sockets = vec![0; Stack::LEAST_BYTES + Stack::BULK_BUFFERS * SOCKET_BUFFER];
    let Versions { max, .. } = Versions::OURS;
    let board = program::Setup {
        name: &setup.name,
        firmware: env!("CARGO_PKG_VERSION"),
        number: setup.number,
        versions: match setup.fault {
            Some(BoardFault::Version) => Versions { min: max + 1, max: max + 2 },
            _ => Versions::OURS,
        },
        heartbeat: HEARTBEAT,
    };
    let (v4, v6) = (setup.addresses.v4, setup.addresses.v6);
    let addresses = Addresses { v4: (v4.0.octets(), v4.1), v6: (v6.0.octets(), v6.1) };
    loop {
        let memory = memory.as_mut();
        let behind = match &setup.behind {
            Behind::Echo => program::Behind::Echo,
            Behind::Talker(talk) => program::Behind::Handler(talk.clone()),
            Behind::Stack => program::Behind::Stack(addresses, sockets.as_mut_slice()),
        };
        let order = boot_behind(port, &board, epoch, memory, behind, around);
        if order.context("the board cannot boot")? == Order::Off {
            return Ok(());
        }
        log::info!("the board reboots");
        epoch = epoch.next();
    }
}

/// The time since it was made, and waits until times of that clock.
#[derive(Debug)]
pub(crate) struct Clock(Instant);

/// Longest single wait: a board wakes for its heartbeat long before.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since it was made.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Waits for `fds` until `until_us`, as finely as the kernel does.
    pub(crate) fn wait(&self, fds: &mut [PollFd<'_>], until_us: u64) -> nix::Result<i32> {
        let timeout = Duration::from_micros(until_us.saturating_sub(self.now_us()));
        ppoll(fds, Some(TimeSpec::from_duration(timeout.min(LONGEST_WAIT))), None)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::net::{Ipv4Addr, Ipv6Addr};

    use board::dma::CpuCopy;
    use board::program::{BUSY_STEPS, BUSY_US, CONTROL_LEN, Wiring};
    use board::support::Doorbells;
    use shared::address::BusAddress;
    use shared::msg::channel::{Channel, OUR_LAYOUT};
    use shared::msg::{Body, Message, Request, Side};
    use shared::window::Window;
    use shared::wire::control::{
        CHANNEL_LEN, CHANNEL_OFFSET, HOST_PAGE_OFFSET, LIVE_OFFSET, host_page, live,
    };
    use virtio_phys_host::bus::sim::{SimBus, SimOptions, SimWindow};

    use super::super::{Addresses, SimPort};
    use super::*;

    /// A bus whose host does something between any two steps of the board.
    struct Flooded {
        bus: SimPort,
        channel: RefCell<Option<Channel<SimWindow>>>,
        steps: Cell<u32>,
        answers: Cell<u32>,
    }

    /// Steps after which it gives up.
    const PATIENCE: u32 = 100_000;

    impl Flooded {
        /// One ping more, and all answers taken.
        fn flood(&self) -> Option<()> {
            let memory = self.bus.memory(0, CONTROL_LEN)?;
            let mut place = self.channel.borrow_mut();
            let Some(channel) = place.as_mut() else {
                let boot: u32 = memory.load(u64::from(LIVE_OFFSET) + live::BOOT_EPOCH);
                if boot == 0 {
                    // It has not published anything yet.
                    return Some(());
                }
                let page = u64::from(HOST_PAGE_OFFSET);
                memory.store(page + host_page::VERSION, u32::from(Versions::OURS.max));
                memory.store(page + host_page::BOOT_EPOCH, boot);
                memory.store(page + host_page::SESSION, 4242_u32);
                let window = memory.part(CHANNEL_OFFSET.into(), CHANNEL_LEN.into())?;
                let mut channel = Channel::new(window, &OUR_LAYOUT, Side::Driver);
                channel.begin();
                *place = Some(channel);
                return Some(());
            };
            channel.poll().ok()?;
            let mut frame = [0; 64];
            while channel.receive(&mut frame).ok()? {
                self.answers.set(self.answers.get() + 1);
            }
            let body = Body::Request(Request::Ping { data: 1 });
            channel.send(&Message { device: 0, token: 1, body }.encode()).ok()?;
            Some(())
        }
    }

    impl Port for Flooded {
        type Window = SimWindow;
        type Engine = CpuCopy;

        fn wiring(&self) -> Wiring {
            self.bus.wiring()
        }

        fn memory(&self, offset: u64, len: u64) -> Option<SimWindow> {
            self.bus.memory(offset, len)
        }

        fn outbound(&self, iova: BusAddress, len: u64) -> Option<SimWindow> {
            self.bus.outbound(iova, len)
        }

        fn take_doorbells(&self) -> Doorbells {
            self.steps.set(self.steps.get() + 1);
            if self.steps.get() < PATIENCE {
                self.flood().unwrap();
            }
            Doorbells::ALL
        }

        fn raise(&self, _vector: u16) {}

        fn take_reset(&self) -> bool {
            false
        }
    }

    /// Switches the board off behind so many pauses.
    struct Impatient {
        pauses: usize,
        /// Its clock, and by how much it goes on between two looks.
        now: u64,
        each: u64,
        until: Vec<u64>,
    }

    impl Surroundings for Impatient {
        fn now_us(&mut self) -> u64 {
            self.now += self.each;
            self.now
        }

        fn pause(&mut self, until_us: u64) -> Order {
            self.until.push(until_us);
            if self.until.len() > self.pauses { Order::Off } else { Order::Go }
        }
    }

    /// Keeps a board busy until it was switched off at its fourth pause, with a
    /// clock that goes on by `each` microseconds at a look: its steps, and the
    /// answers that it gave.
    fn kept_busy(each: u64) -> (u32, u32) {
        let sim = SimBus::new(SimOptions::counted()).unwrap();
        let port = Flooded {
            bus: SimPort(sim.board()),
            channel: RefCell::default(),
            steps: Cell::default(),
            answers: Cell::default(),
        };
        let setup = Setup {
            name: "busy".into(),
            number: 0,
            addresses: Addresses { v4: (Ipv4Addr::LOCALHOST, 8), v6: (Ipv6Addr::LOCALHOST, 128) },
            behind: Behind::Echo,
            fault: None,
        };
        let mut around = Impatient { pauses: 3, now: 0, each, until: Vec::new() };
        run(&port, &setup, &mut around).unwrap();
        assert_eq!(around.until, [0; 4]);
        (port.steps.get(), port.answers.get())
    }

    #[test]
    fn a_board_that_is_kept_busy_can_be_switched_off() {
        let (steps, answers) = kept_busy(1);
        assert!(steps < 8 * BUSY_STEPS, "{steps} steps");
        assert!(answers > 3 * BUSY_STEPS, "{answers} answers, so it was not kept busy");
    }

    #[test]
    fn a_board_with_long_steps_pauses_as_often_in_time() {
        let (steps, _) = kept_busy(BUSY_US / 10);
        assert!(steps <= 4 * 11 + 1, "{steps} steps");
    }
}
