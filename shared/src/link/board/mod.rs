//! The board's end of the link: publishes the control block, accepts one
//! session at a time, answers bus messages, hands the rest to the devices.
//!
//! Guarantee: what the host writes can end its own session and nothing else.
//! Each host word is read once a poll, at most [`BUDGET`] messages are handled
//! a poll, and from the moment that a new session epoch is seen nothing more
//! is written to host memory.

mod messages;

pub(in crate::link) use messages::{DEVICE_READY, DEVICE_REMOVED};

use crate::fault::PeerFault;
use crate::msg::body::{RegionMessage, ResultCode};
use crate::msg::channel::{Channel, OUR_LAYOUT};
use crate::msg::device::DeviceEndpoint;
use crate::msg::kind::Side;
use crate::region::RegionTable;
use crate::window::{Barrier, Window};
use crate::wire::control::{
    CHANNEL_LEN, CHANNEL_OFFSET, CONTROL_LEN, HOST_PAGE_LEN, HOST_PAGE_OFFSET, LIVE_LEN,
    LIVE_OFFSET, board_state, field, host_page, live,
};

use super::control::{ControlError, OUR_AREAS, StaticPart};
use super::description::{BoardDescription, Epoch};
use super::words::{HeartbeatWatch, next_beat};

/// Messages that one [`BoardLink::poll`] handles at most.
pub const BUDGET: u32 = 64;

/// Device numbers that a board may use: 0 to 63.
pub const MAX_DEVICES: u16 = 64;

/// Milliseconds until the next look while something is under way.
const SOON_MS: u64 = 1;

/// What happens to sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    /// A host attached.
    Started {
        /// Its session epoch.
        session: Epoch,
        /// The protocol version it chose.
        version: u16,
    },
    /// The session is over; devices are drained and the region table is empty.
    Ended {
        /// Its session epoch.
        session: Epoch,
    },
}

/// The board around the link: memory and devices.
pub trait BoardModel<W: Window> {
    /// A session began or ended.
    fn session(&mut self, event: SessionEvent);

    /// The session's devices are reset, and the host is told next that it is
    /// over: behind this call nothing of the board's, its DMA engine included,
    /// touches host memory.
    fn quiesce(&mut self) {}

    /// The host added a region (its numbers are checked, its rights are valid):
    /// the window through which this board reaches it, of exactly its length.
    ///
    /// # Errors
    /// [`ResultCode::OutOfReach`] or [`ResultCode::NoRoom`], which the host is told.
    fn add_region(&mut self, region: &RegionMessage) -> Result<W, ResultCode>;

    /// The host takes a region back that no queue uses. `false`: the DMA
    /// engine is not drained yet (the host asks again).
    fn remove_region(&mut self, id: u8) -> bool;

    /// The device with this number, if there is one; always the same one. Also
    /// while it is away: it is then reset as any other.
    fn device(&mut self, number: u16) -> Option<&mut dyn DeviceEndpoint<W>>;

    /// Whether the device with this number is there for a host now. One that
    /// comes and goes is announced with [`BoardLink::announce`] as well.
    fn present(&self, _number: u16) -> bool {
        true
    }

    /// The host asks for a reboot of the board. Whether it will happen, after
    /// the answer has gone out.
    fn board_reset(&mut self) -> bool;
}

/// What [`BoardLink::poll`] wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkNext {
    /// Raise vector 0 now.
    pub raise_vector0: bool,
    /// The host announced buffers in band: look at all queues.
    pub look_at_queues: bool,
    /// Call again at this time at the latest, in milliseconds.
    pub come_back_at: u64,
}

/// What the board counted on its link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BoardLinkStats {
    /// Sessions accepted.
    pub sessions: u32,
    /// Sessions refused.
    pub refused: u32,
    /// Messages handled.
    pub messages: u64,
    /// Messages discarded: malformed, out of turn, not for us.
    pub discarded: u64,
    /// Sessions ended because the channel broke.
    pub channel_faults: u32,
    /// Sessions ended because the host fell silent.
    pub silent_hosts: u32,
    /// Events not sent because there was no room in time.
    pub events_dropped: u32,
}

/// A fault that the host is to be told with EVENT_FAULT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultReport {
    /// Device number.
    pub device: u16,
    /// Queue number.
    pub queue: u16,
    /// What the host did.
    pub fault: PeerFault,
}

/// Where the link stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing is published.
    Silent,
    /// Waiting for a session epoch (step B4).
    Ready,
    /// Serving a session.
    Session { session: Epoch, version: u16, attached: bool },
    /// The session ended, devices drain.
    Draining { session: Epoch },
}

/// Why a session ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The host wrote another session epoch: its memory is no longer ours to write.
    HostLeft,
    /// Its heartbeat stands still.
    HostSilent,
    /// The channel broke.
    Channel,
}

/// What waits to be told to the host.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    /// Devices that went, and that came after that, by number.
    removed: u64,
    ready: u64,
    fault: Option<FaultReport>,
    faults: u32,
}

/// The board's end of the link.
#[derive(Debug)]
pub struct BoardLink<W> {
    description: BoardDescription,
    control: W,
    live: W,
    host_page: W,
    channel: Channel<W>,
    regions: RegionTable<W>,
    /// The status page and the region that holds it.
    status: Option<(u8, W)>,
    windows_used: u64,
    phase: Phase,
    boot: u32,
    state: u32,
    accepted: u32,
    heartbeat: u32,
    next_beat_ms: u64,
    next_look_ms: u64,
    host: HeartbeatWatch,
    /// The last session epoch that ended or was refused: never accepted again.
    done_with: u32,
    pending: Pending,
    stats: BoardLinkStats,
}

impl<W: Window + Clone> BoardLink<W> {
    /// A link over `control`, the first 16 KiB of BAR `control_bar`, that
    /// will publish `description`. Nothing is written yet.
    ///
    /// # Errors
    /// What in the description breaks a rule, or a window that is too short.
    pub fn new(
        control: W,
        control_bar: u8,
        description: BoardDescription,
    ) -> Result<Self, ControlError> {
        // The host checks against the BARs' real lengths; the board need not know them.
        StaticPart::encode(&description, &OUR_AREAS).check(control_bar, &[u64::MAX; 6])?;
        let outside = ControlError::Outside { offset: field::LENGTH };
        if control.len() < CONTROL_LEN {
            return Err(outside);
        }
        let part = |offset: u32, len: u32| control.part(offset.into(), len.into()).ok_or(outside);
        let live = part(LIVE_OFFSET, LIVE_LEN)?;
        let host_page = part(HOST_PAGE_OFFSET, HOST_PAGE_LEN)?;
        let channel = Channel::new(part(CHANNEL_OFFSET, CHANNEL_LEN)?, &OUR_LAYOUT, Side::Device);
        Ok(Self {
            description,
            control,
            live,
            host_page,
            channel,
            regions: RegionTable::new(),
            status: None,
            windows_used: 0,
            phase: Phase::Silent,
            boot: 0,
            state: board_state::BOOTING,
            accepted: 0,
            heartbeat: 1,
            next_beat_ms: 0,
            next_look_ms: 0,
            host: HeartbeatWatch::new(0, 0, u64::MAX),
            done_with: 0,
            pending: Pending::default(),
            stats: BoardLinkStats::default(),
        })
    }

    /// Publishes the control block (steps B1 to B3). Called once, at boot.
    pub fn publish(&mut self, boot: Epoch, now_ms: u64) {
        // Whatever a host wrote before it saw this boot is not for this boot,
        // not even if two boots chose the same epoch.
        self.done_with = self.host_page.load(host_page::SESSION);
        self.live.store(live::ACCEPTED, 0_u32);
        self.live.store(live::BOOT_EPOCH, 0_u32);
        self.control.store(field::MAGIC as u64, 0_u32);
        self.control.barrier(Barrier::Write);

        let part = StaticPart::encode(&self.description, &OUR_AREAS);
        part.publish_all_but_magic(&self.control);
        self.live.store(live::REFUSED, 0_u32);
        self.live.store(live::REFUSAL, 0_u32);
        OUR_LAYOUT.publish(&self.channel_window());
        (self.boot, self.accepted, self.state) = (0, 0, board_state::READY);
        self.post();
        self.control.barrier(Barrier::Write);

        self.boot = boot.get();
        self.live.store(live::BOOT_EPOCH, self.boot);
        self.control.barrier(Barrier::Write);
        part.publish_magic(&self.control);
        self.control.barrier(Barrier::Full);
        self.phase = Phase::Ready;
        self.next_beat_ms = now_ms.saturating_add(self.interval_ms());
    }

    /// Writes again what is the same throughout a boot. Whoever has the BAR can
    /// write there too; the next host finds the board all the same.
    fn restore(&self) {
        let part = StaticPart::encode(&self.description, &OUR_AREAS);
        part.publish_all_but_magic(&self.control);
        OUR_LAYOUT.publish(&self.channel_window());
        self.control.barrier(Barrier::Write);
        part.publish_magic(&self.control);
    }

    fn channel_window(&self) -> W {
        let part = self.control.part(CHANNEL_OFFSET.into(), CHANNEL_LEN.into());
        part.unwrap_or_else(|| self.control.clone())
    }

    fn interval_ms(&self) -> u64 {
        self.description.heartbeat.interval_ms.into()
    }

    /// Posts the live words: the status page first, so that what a host reads
    /// in the BAR was true of host memory before.
    fn post(&self) {
        if let Some((_, page)) = &self.status {
            self.store_words(page);
            page.barrier(Barrier::Full);
        }
        self.store_words(&self.live);
    }

    fn store_words(&self, to: &W) {
        to.store(live::BOOT_EPOCH, self.boot);
        to.store(live::STATE, self.state);
        to.store(live::HEARTBEAT, self.heartbeat);
        to.barrier(Barrier::Write);
        to.store(live::ACCEPTED, self.accepted);
    }

    /// Looks at the host page and the channel, handles what is due, beats the
    /// heartbeat. Never waits; handles at most [`BUDGET`] messages.
    // On a board everything is inlined into one function otherwise.
    #[inline(never)]
    pub fn poll(
        &mut self,
        now_ms: u64,
        doorbell_rung: bool,
        model: &mut impl BoardModel<W>,
    ) -> LinkNext {
        let mut next =
            LinkNext { raise_vector0: false, look_at_queues: false, come_back_at: u64::MAX };
        if self.phase == Phase::Silent {
            return next;
        }
        if now_ms >= self.next_beat_ms {
            self.heartbeat = next_beat(self.heartbeat);
            self.next_beat_ms = now_ms.saturating_add(self.interval_ms());
            if self.phase == Phase::Ready {
                self.restore();
            }
            self.post();
        }
        // Without a doorbell a look a millisecond is enough.
        if doorbell_rung || now_ms >= self.next_look_ms {
            self.next_look_ms = now_ms.saturating_add(SOON_MS);
            let soon = self.look(now_ms, model, &mut next);
            next.come_back_at = if soon { self.next_look_ms } else { self.next_beat_ms };
        } else {
            next.come_back_at = self.next_look_ms;
        }
        next.come_back_at = next.come_back_at.min(self.next_beat_ms);
        next
    }

    /// One look; `true`: look again soon.
    fn look(&mut self, now_ms: u64, model: &mut impl BoardModel<W>, next: &mut LinkNext) -> bool {
        // The doorbell was drained before: what it announced is loaded now.
        self.host_page.barrier(Barrier::Read);
        let written: u32 = self.host_page.load(host_page::SESSION);
        match self.phase {
            Phase::Silent => false,
            Phase::Ready => match Epoch::new(written) {
                Some(session) if written != self.done_with => {
                    self.open(session, now_ms, model);
                    true
                }
                _ => false,
            },
            Phase::Session { session, .. } => {
                let beat: u32 = self.host_page.load(host_page::HEARTBEAT);
                if written != session.get() {
                    self.end(session, End::HostLeft, model);
                    true
                } else if !self.host.beats(beat, now_ms) {
                    self.stats.silent_hosts = self.stats.silent_hosts.saturating_add(1);
                    self.end(session, End::HostSilent, model);
                    true
                } else {
                    match self.serve(model, next) {
                        Ok(soon) => soon,
                        Err(_) => {
                            self.stats.channel_faults = self.stats.channel_faults.saturating_add(1);
                            // What was answered before it broke is answered to nobody.
                            (next.raise_vector0, next.look_at_queues) = (false, false);
                            self.end(session, End::Channel, model);
                            true
                        }
                    }
                }
            }
            Phase::Draining { session } => {
                if written != session.get() {
                    // As in `end`: what the next post writes may not be ours.
                    self.status = None;
                }
                self.drain(session, model);
                true
            }
        }
    }

    /// Steps B5 and B6.
    fn open(&mut self, session: Epoch, now_ms: u64, model: &mut impl BoardModel<W>) {
        self.host_page.barrier(Barrier::Read);
        let version: u32 = self.host_page.load(host_page::VERSION);
        let boot: u32 = self.host_page.load(host_page::BOOT_EPOCH);
        let beat: u32 = self.host_page.load(host_page::HEARTBEAT);
        let versions = self.description.versions;
        let chosen = u16::try_from(version)
            .ok()
            .filter(|version| (versions.min..=versions.max).contains(version));
        let refusal = match chosen {
            _ if boot != self.boot => ResultCode::StaleEpoch,
            None => ResultCode::Version,
            Some(version) => {
                self.host =
                    HeartbeatWatch::new(beat, now_ms, self.description.heartbeat.limit_ms());
                self.channel.begin();
                self.channel_window().barrier(Barrier::Write);
                self.phase = Phase::Session { session, version, attached: false };
                (self.accepted, self.state) = (session.get(), board_state::SESSION);
                self.post();
                self.stats.sessions = self.stats.sessions.saturating_add(1);
                self.pending = Pending::default();
                model.session(SessionEvent::Started { session, version });
                return;
            }
        };
        self.stats.refused = self.stats.refused.saturating_add(1);
        self.done_with = session.get();
        self.live.store(live::REFUSAL, refusal.code());
        self.live.barrier(Barrier::Write);
        self.live.store(live::REFUSED, session.get());
    }

    /// The session is over: devices begin to drain.
    fn end(&mut self, session: Epoch, why: End, model: &mut impl BoardModel<W>) {
        self.channel.close(why == End::HostSilent);
        if why == End::HostLeft {
            // A host that came back may have other things at these addresses.
            self.status = None;
        }
        self.phase = Phase::Draining { session };
        self.state = board_state::DRAINING;
        self.done_with = session.get();
        self.post();
        for number in 0..MAX_DEVICES {
            if let Some(device) = model.device(number) {
                device.begin_reset();
            }
        }
        self.drain(session, model);
    }

    fn drain(&mut self, session: Epoch, model: &mut impl BoardModel<W>) {
        let mut drained = true;
        for number in 0..MAX_DEVICES {
            if let Some(device) = model.device(number) {
                drained &= device.drained();
            }
        }
        if !drained {
            return;
        }
        model.quiesce();
        (self.accepted, self.state) = (0, board_state::READY);
        self.post();
        self.status = None;
        self.windows_used = 0;
        self.regions.clear();
        self.phase = Phase::Ready;
        model.session(SessionEvent::Ended { session });
    }

    /// What the control block says.
    pub const fn description(&self) -> &BoardDescription {
        &self.description
    }

    /// The regions of the session, empty without one.
    pub const fn regions(&self) -> &RegionTable<W> {
        &self.regions
    }

    /// The session that is being served, if any.
    pub const fn session(&self) -> Option<Epoch> {
        match self.phase {
            Phase::Session { session, .. } => Some(session),
            Phase::Silent | Phase::Ready | Phase::Draining { .. } => None,
        }
    }

    /// Tells the host about a fault, at the next poll. Reports are summed up
    /// while they wait: the newest is sent with the number of all.
    pub const fn report_fault(&mut self, report: FaultReport) {
        self.pending.fault = Some(report);
        self.pending.faults = self.pending.faults.saturating_add(1);
    }

    /// Tells the host that device `number` came (`ready`) or went; call it
    /// when [`BoardModel::present`] has changed. A device that went is reset at
    /// once, and the host is told when it is drained: with the message it may
    /// reuse rings and buffers. What waits to be told is kept for each device
    /// until there is room: that it went, and behind that whether it is back.
    pub fn announce(&mut self, number: u16, ready: bool, model: &mut impl BoardModel<W>) {
        if number >= MAX_DEVICES {
            return;
        }
        let bit = 1 << number;
        if ready {
            self.pending.ready |= bit;
        } else {
            self.pending.ready &= !bit;
            self.pending.removed |= bit;
            if let Some(device) = model.device(number) {
                device.begin_reset();
                let _ = device.drained();
            }
        }
    }

    /// What was counted.
    pub const fn stats(&self) -> &BoardLinkStats {
        &self.stats
    }
}
