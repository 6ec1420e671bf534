//! `--boards 2`: two boards, each behind an interface of its own, and the
//! kernel's bridge between the two. Board A sends, board B sends back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use board::device::net::{Talker, Tally, Task};
use board::program::{Card, mac};
use virtio_phys_host::bus::sim::{SimBus, SimOptions};
use virtio_phys_host::daemon::Board;
use virtio_phys_host::netlink::Netlink;
use virtio_phys_host::session::Terms;
use virtio_phys_host::signals::EndSignals;

use super::Options;
use super::bill::{self, Instruments, Reading};
use super::pair_report::{BoardReport, PairReport};
use super::progress::Progress;
use super::report::BothWays;
use super::steps::{ADDRESSES, board_options, settled};
use super::watch::{Watch, attached};
use crate::emulated_board::{Behind, EmulatedBoard, Setup, Talk};

/// The boards' numbers.
const A: u8 = 0xA0;
const B: u8 = 0xB0;

/// The bridge's name; the namespace is the demo's own.
const BRIDGE: &str = "bridge0";

/// How long nothing may come back. Longer than a board's heartbeat may stand
/// still, which says more.
const STALL: Duration = Duration::from_secs(5);

/// How long the bridge may take to forward: it hears of carriers by and by.
const FORWARDS_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks at the figures.
const LOOK: Duration = Duration::from_millis(10);

/// A board, and the bus that it is on.
struct Slot {
    bus: SimBus,
    board: EmulatedBoard,
}

/// Runs the demo with two boards.
pub(super) fn perform(
    options: &Options,
    progress: Progress,
    signals: &EndSignals,
) -> Result<PairReport> {
    let setup = |name: &str, number, behind| Setup {
        name: name.to_owned(),
        number,
        addresses: ADDRESSES,
        behind,
        fault: options.board_fault,
    };
    let b = setup("board B", B, Behind::Echo);
    let mtu = u16::try_from(options.mtu).unwrap_or(u16::MAX);
    let talk = Talk::new(Talker::new(mac(A, Card::Board), b.mac(), mtu));
    let a = setup("board A", A, Behind::Talker(talk.clone()));
    let mut slots = Vec::new();
    for setup in [a, b] {
        let bus = SimBus::new(SimOptions::counted())?;
        let board = EmulatedBoard::start(&bus, setup)?;
        slots.push(Slot { bus, board });
    }
    let outcome = with_boards(options, progress, signals, &slots, &talk);
    // In the order of a real shutdown: the links have ended, now the boards.
    for slot in slots {
        slot.board.stop();
    }
    outcome
}

fn with_boards(
    options: &Options,
    progress: Progress,
    signals: &EndSignals,
    slots: &[Slot],
    talk: &Talk,
) -> Result<PairReport> {
    let (links, terms) = progress.step(
        "attach",
        || {
            let start = |slot: &Slot| Board::start(slot.bus.host(), board_options(options, vec![]));
            let links = slots.iter().map(start).collect::<Result<Vec<_>, _>>()?;
            let terms = links.iter().map(|link| attached(link, signals)).collect::<Result<_>>()?;
            Ok((links, terms))
        },
        |(links, terms): &(Vec<Board>, Vec<Terms>)| {
            let each = links.iter().zip(terms).map(|(link, terms)| {
                format!("{} to \"{}\"", link.status().interface, terms.board.name)
            });
            each.collect::<Vec<_>>().join(", ")
        },
    )?;
    for (slot, terms) in slots.iter().zip(&terms) {
        Instruments::Both(&slot.bus, &slot.board).label(terms);
    }
    let watch = Watch::new(signals, &links);
    let measurement = Measurement { options, progress, watch, slots, links: &links, talk };
    let outcome = measurement.run(&terms);
    let mut stopped = Ok(());
    for link in links {
        stopped = stopped.and(link.stop());
    }
    settled(outcome, stopped)
}

/// The steps that the report is made of.
struct Measurement<'a> {
    options: &'a Options,
    progress: Progress,
    watch: Watch<'a>,
    slots: &'a [Slot],
    links: &'a [Board],
    talk: &'a Talk,
}

impl Measurement<'_> {
    fn run(self, terms: &[Terms]) -> Result<PairReport> {
        let first = self.progress.step(
            "bridge",
            || self.bridge(),
            |_| format!("both interfaces on {BRIDGE}: a frame went there and back"),
        )?;
        let time = self.options.seconds;
        let (before, after, elapsed) = self.progress.timed(
            "A to B and back",
            time,
            |tick| {
                let before = self.quiet_readings()?;
                let elapsed = self.stream(&first, time, tick)?;
                Ok((before, self.quiet_readings()?, elapsed))
            },
            |(_, _, elapsed)| {
                let (frames, bytes) = self.since(&first);
                format!(
                    "{frames} frames, {bytes} bytes there and back in {:.2} s, all as they were sent",
                    elapsed.as_secs_f64()
                )
            },
        )?;
        let (frames, bytes) = self.since(&first);
        let per_board =
            terms.iter().zip(self.links).zip(self.slots).zip(before.into_iter().zip(after));
        let per_board = per_board.map(|(((terms, link), slot), (before, after))| {
            let (status, board) = (link.status(), slot.board.counters());
            let (to_board, to_host) = after.frames_since(&before);
            BoardReport {
                board: terms.board.name.to_string(),
                interface: status.interface,
                frames: BothWays { to_board, to_host },
                per_packet: BothWays {
                    to_board: after.to_board(&before),
                    to_host: after.to_host(&before),
                },
                completion_polled: status.counters.to_host.completion_polled + board.service.polled,
            }
        });
        Ok(PairReport {
            ok: true,
            layout: terms.first().map(|terms| terms.layout.to_string()).unwrap_or_default(),
            mtu: self.options.mtu,
            frames_checked: frames,
            bytes_checked: bytes,
            gbit_per_s: bytes as f64 * 8.0 / elapsed.as_secs_f64().max(1e-9) / 1e9,
            boards: per_board.collect(),
        })
    }

    /// Frames and bytes that came back since `first`.
    fn since(&self, first: &Tally) -> (u64, u64) {
        let now = self.talk.tally();
        (now.back - first.back, now.bytes - first.bytes)
    }

    /// Puts both interfaces on a bridge and waits until it forwards.
    fn bridge(&self) -> Result<Tally> {
        let mut netlink = Netlink::open()?;
        netlink.add_bridge(BRIDGE)?;
        for link in self.links {
            netlink.add_to_bridge(&link.status().interface, BRIDGE)?;
        }
        netlink.set_up(BRIDGE)?;
        let start = Instant::now();
        self.talk.set(Task::Probe);
        while self.talk.tally().back == 0 {
            ensure!(
                start.elapsed() < FORWARDS_WITHIN,
                "no frame came back over the bridge within {} s",
                FORWARDS_WITHIN.as_secs()
            );
            self.watch.pause(LOOK)?;
        }
        self.talk.set(Task::Wait);
        self.quiet_readings()?;
        // What the bridge dropped before it forwarded.
        self.talk.give_up();
        Ok(self.talk.tally())
    }

    /// Sends for `time`, and waits for the last frame: the time that took.
    fn stream(
        &self,
        first: &Tally,
        time: Duration,
        tick: &mut dyn FnMut(Duration),
    ) -> Result<Duration> {
        let start = Instant::now();
        let (mut moved, mut back, mut ends) = (start, first.back, false);
        self.talk.set(Task::Stream);
        let elapsed = loop {
            self.watch.pause(LOOK)?;
            let (elapsed, tally) = (start.elapsed(), self.talk.tally());
            tick(elapsed.min(time));
            if tally.back > back {
                (moved, back) = (Instant::now(), tally.back);
            }
            ensure!(
                moved.elapsed() < STALL,
                "{} frames have not come back to board A for {} s",
                tally.under_way(),
                STALL.as_secs()
            );
            if elapsed >= time {
                if ends && tally.under_way() == 0 {
                    break elapsed;
                }
                self.talk.set(Task::Wait);
                ends = true;
            }
        };
        let tally = self.talk.tally();
        ensure!(
            tally.wrong == first.wrong,
            "{} frames came back to board A changed or out of order",
            tally.wrong - first.wrong
        );
        ensure!(
            tally.lost == first.lost,
            "{} frames of board A did not come back",
            tally.lost - first.lost
        );
        Ok(elapsed)
    }

    /// All counters, once nobody moves any more.
    fn quiet_readings(&self) -> Result<Vec<Reading>> {
        let each = self.slots.iter().zip(self.links);
        each.map(|(Slot { bus, board }, link)| {
            bill::quiet(self.watch, Instruments::Both(bus, board), link)
        })
        .collect()
    }
}
