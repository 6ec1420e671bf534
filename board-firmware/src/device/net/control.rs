//! Commands from the driver: virtio-net's controlq (VirtIO 1.3 §5.1.6.5).
//!
//! Guarantee: a command that is none, or that was not negotiated, is answered
//! with an error and changes nothing; a chain without room for an answer stops
//! this queue.

use shared::fault::PeerFault;
use shared::virtq::{Chain, UsedEntry};
use shared::window::Window;
use shared::wire::features::Features;
use shared::wire::net::{NetConfig, STATUS_ANNOUNCE};
use shared::wire::net_control::{
    ACK_ERR, ACK_OK, COMMAND_MAX, Coalescing, Command, GUEST_OFFLOADS, Malformed,
};

use super::backend::NetBackend;
use super::filter::Filter;
use super::model::{CONTROLQ, NetDevice};
use crate::device::queue::Queue;
use crate::device::transfer::{Mover, Stuck};
use crate::device::{ConfigChange, Context, Stop};
use crate::dma::DmaEngine;
use crate::support::BoardSupport;
use crate::trace::NetCounters;

/// How long a board that is never idle leaves the queue unlooked at, in ms.
const LOOK_MS: u64 = 10;

/// Commands in one run.
const COMMAND_BUDGET: u32 = 8;

/// What the driver sets while it runs; a reset makes it new.
#[derive(Debug)]
pub(super) struct Settings {
    /// Which frames it wants.
    pub(super) filter: Filter,
    /// How long interrupts may be put off: receiveq, transmitq.
    pub(super) coalescing: [Coalescing; 2],
    /// Those of its offloads that it takes now.
    pub(super) offloads: u64,
    /// What was accepted.
    features: Features,
}

impl Settings {
    /// What a driver that has accepted these features begins with.
    pub(super) fn new(features: Features) -> Self {
        Self {
            filter: Filter::new(features),
            coalescing: [Coalescing::default(); 2],
            offloads: features.bits() & GUEST_OFFLOADS,
            features,
        }
    }

    /// Does what a command says. `config` changes with some.
    ///
    /// # Errors
    /// [`Malformed`]: not negotiated, or a value that is none; nothing changed.
    fn apply(&mut self, command: Command<'_>, config: &mut NetConfig) -> Result<(), Malformed> {
        if !self.features.has(command.needs()) {
            return Err(Malformed);
        }
        match command {
            Command::Receive { switch, on } => self.filter.switch(switch, on),
            Command::MacTables { unicast, multicast } => {
                self.filter.set_tables(unicast, multicast);
            }
            Command::MacAddress(mac) => {
                let [first, ..] = mac;
                if first & 1 != 0 || mac == [0; 6] {
                    return Err(Malformed);
                }
                config.mac = mac;
            }
            Command::Vlan { id, wanted } => self.filter.set_vlan(id, wanted),
            Command::AnnounceAck => config.status &= !STATUS_ANNOUNCE,
            Command::GuestOffloads(offloads) => {
                let wanted = Features::new(offloads);
                let may = self.features.bits() & GUEST_OFFLOADS;
                if !Features::new(may).contains(wanted)
                    || wanted.net_requirement_missing().is_some()
                {
                    return Err(Malformed);
                }
                self.offloads = offloads;
            }
            Command::CoalesceReceive(limits) => {
                let [receive, _] = &mut self.coalescing;
                *receive = limits;
            }
            Command::CoalesceTransmit(limits) => {
                let [_, transmit] = &mut self.coalescing;
                *transmit = limits;
            }
        }
        Ok(())
    }
}

impl<W: Window + Clone, B: NetBackend> NetDevice<'_, W, B> {
    /// Has the bounds of the control queue hold for the queues in use.
    pub(super) fn pace(&mut self) {
        let places = [&mut self.receive, &mut self.transmit];
        for (place, limits) in places.into_iter().zip(self.settings.coalescing) {
            if let Some(queue) = place.used() {
                queue.pacing.set(limits);
            }
        }
    }

    /// Has the offloads of the control queue hold from the next frame on.
    fn set_offloads(&mut self, now: u64) {
        let others = self.negotiated.features & !GUEST_OFFLOADS;
        let features = others | self.settings.offloads;
        if features != self.negotiated.features {
            self.negotiated.features = features;
            self.backend.renegotiated(now, self.negotiated);
            self.counters.dropped_unfit += u64::from(self.waiting.drop_unfit(&self.negotiated));
        }
    }

    /// Serves the control queue, and returns how many commands there were.
    pub(super) fn run_control<S, E>(&mut self, context: &mut Context<'_, S, E>) -> u32
    where
        S: BoardSupport<Window = W>,
        E: DmaEngine<W>,
    {
        // Its doorbell is always asked for. A timer looks all the same (R4).
        let late = context.now.saturating_sub(self.control_looked) >= LOOK_MS;
        if !context.rung && !late && !self.control_waits {
            return 0;
        }
        self.control_looked = context.now;
        let Some(queue) = self.control.queue() else {
            self.control_waits = false;
            return 0;
        };
        let mut mover = Mover::new(context.support, context.dma, context.regions);
        let before = self.config;
        let (chain, settings) = (&mut self.chain, &mut self.settings);
        let served =
            serve(queue, chain, &mut mover, settings, &mut self.config, &mut self.counters);
        mover.leave_nothing_under_way();
        self.counters.fetches += mover.fetches;
        self.counters.posts += mover.posts;
        if self.config != before {
            self.changed.get_or_insert(ConfigChange::Asked);
        }
        if let Err(stop) = served {
            queue.stop(stop);
            self.note(CONTROLQ, stop);
        }
        // Also what came before a fault was done.
        self.pace();
        self.set_offloads(context.now);
        let served = served.unwrap_or(1);
        self.control_waits = served >= COMMAND_BUDGET;
        served
    }

    /// Raises the interrupts that were put off and are due.
    pub(super) fn raise_due<S, E>(&mut self, context: &mut Context<'_, S, E>)
    where
        S: BoardSupport<Window = W>,
    {
        for place in [&mut self.receive, &mut self.transmit] {
            if let Some(queue) = place.used() {
                self.counters.interrupts += queue.raise_due(context.support, context.clock);
            }
        }
    }

    /// The control queue's part of going to sleep. `armed`: another queue was,
    /// behind this one's [`ask`](shared::virtq::DeviceQueue::ask), and whether
    /// it read its event word back; that does for both, unless only this one's
    /// lies across the bus. `true`: no command is there.
    pub(super) fn arm_control(&mut self, armed: Option<bool>) -> bool {
        let Some(queue) = self.control.queue() else { return true };
        let ring = &mut queue.ring;
        let flushed = armed.is_some_and(|read_back| read_back || !ring.reads_back());
        let quiet = if flushed { ring.available().map(|there| there == 0) } else { ring.arm() };
        if let Err(fault) = quiet {
            queue.stop(fault.into());
            self.note(CONTROLQ, fault.into());
        }
        self.control_waits = quiet == Ok(false);
        quiet == Ok(true)
    }
}

/// Serves the commands that are there, at most [`COMMAND_BUDGET`], and returns
/// how many. Each has its own used entry, and all are published.
fn serve<S: BoardSupport, E: DmaEngine<S::Window>>(
    queue: &mut Queue<'_, S::Window>,
    chain: &mut Chain,
    mover: &mut Mover<'_, S, E>,
    settings: &mut Settings,
    config: &mut NetConfig,
    counters: &mut NetCounters,
) -> Result<u32, Stop> {
    let mut served = 0;
    while served < COMMAND_BUDGET
        && let Some(head) = queue.pop(chain, mover)?
    {
        served += 1;
        if chain.writable_len() == 0 {
            return Err(PeerFault::ChainTooShort { found: 0, needed: 1 }.into());
        }
        let (ack, counter) = match command(chain, mover, settings, config)? {
            Ok(()) => (ACK_OK, &mut counters.commands),
            Err(Malformed) => (ACK_ERR, &mut counters.commands_refused),
        };
        *counter += 1;
        match mover.scatter(chain, 0, &[ack]) {
            Ok(()) => {}
            Err(Stuck::Peer(fault)) => return Err(fault.into()),
            Err(Stuck::Dma(error)) => return Err(Stop::Dma(error)),
        }
        queue.complete(head, 1, UsedEntry::Own)?;
    }
    counters.interrupts += queue.publish(mover)?;
    Ok(served)
}

/// Reads a command and does it.
fn command<S: BoardSupport, E: DmaEngine<S::Window>>(
    chain: &Chain,
    mover: &mut Mover<'_, S, E>,
    settings: &mut Settings,
    config: &mut NetConfig,
) -> Result<Result<(), Malformed>, Stop> {
    let mut bytes = [0; COMMAND_MAX];
    let len = chain.readable_len();
    let copied = bytes.len().min(len as usize);
    let Some(bytes) = bytes.get_mut(..copied) else { return Ok(Err(Malformed)) };
    match mover.gather(chain, 0, bytes) {
        Ok(()) => {}
        Err(Stuck::Peer(fault)) => return Err(fault.into()),
        // The engine stays usable; only this command is lost, and said to be.
        Err(Stuck::Dma(_)) => return Ok(Err(Malformed)),
    }
    Ok(Command::decode(bytes, len).and_then(|command| settings.apply(command, config)))
}
