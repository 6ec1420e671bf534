//! The bill of one phase of the demo.

use std::time::Duration;

use anyhow::Result;
use board::program::Counters;
use virtio_phys_host::bridge::BridgeCounters;
use virtio_phys_host::bus::bill::{Bill, Initiator, Label, Plane};
use virtio_phys_host::bus::metered::BusMeter;
use virtio_phys_host::bus::sim::SimBus;
use virtio_phys_host::daemon::Board;
use virtio_phys_host::session::Terms;

use super::report::PerPacket;
use super::watch::Watch;
use crate::emulated_board::EmulatedBoard;

/// Queue numbers plus one: doorbell and vector 0 are the message channel's.
const TO_HOST_NOTIFICATION: u32 = 1;
const TO_BOARD_NOTIFICATION: u32 = 2;

/// What counts.
#[derive(Clone, Copy)]
pub(crate) enum Instruments<'a> {
    /// The simulated bus and its board: both sides.
    Both(&'a SimBus, &'a EmulatedBoard),
    /// The host's end of the bus, where the board is a machine of its own.
    Host(&'a BusMeter),
}

impl Instruments<'_> {
    /// Says which memory is whose.
    pub(crate) fn label(self, terms: &Terms) {
        let areas = &terms.areas;
        let labels = [
            Label {
                plane: Plane::ToBoard,
                stretches: &areas.to_board,
                notification: TO_BOARD_NOTIFICATION,
            },
            Label {
                plane: Plane::ToHost,
                stretches: &areas.to_host,
                notification: TO_HOST_NOTIFICATION,
            },
        ];
        match self {
            Self::Both(bus, _) => bus.label(&labels),
            Self::Host(meter) => meter.label(&labels),
        }
    }

    fn bill(self) -> Bill {
        match self {
            Self::Both(bus, _) => bus.bill(),
            Self::Host(meter) => meter.bill(),
        }
    }

    fn board(self) -> Option<Counters> {
        match self {
            Self::Both(_, board) => Some(board.counters()),
            Self::Host(_) => None,
        }
    }

    /// Work that the board's timer found, as far as it is known.
    pub(crate) fn board_polled(self) -> u64 {
        self.board().map_or(0, |board| board.service.polled)
    }
}

/// Reads all counters once both sides have come to rest: each publishes its
/// own before it sleeps, and an idle link sleeps after some microseconds.
pub(crate) fn quiet(
    watch: Watch<'_>,
    instruments: Instruments<'_>,
    link: &Board,
) -> Result<Reading> {
    let take = || Reading::take(instruments, link);
    let mut reading = take();
    for _ in 0..50 {
        watch.pause(Duration::from_millis(20))?;
        let again = take();
        if again.moved_nothing_since(&reading) {
            return Ok(again);
        }
        reading = again;
    }
    // A connection that is still being closed moves a few frames: they are counted.
    Ok(reading)
}

/// All counters at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    host: BridgeCounters,
    bill: Bill,
    board: Option<Counters>,
}

impl Reading {
    /// Reads them all. Host and board publish theirs before they sleep, so
    /// the link should be quiet.
    pub(crate) fn take(instruments: Instruments<'_>, link: &Board) -> Self {
        let host = link.status().counters;
        Self { host, bill: instruments.bill(), board: instruments.board() }
    }

    /// Whether no frame has moved since `before`.
    pub(crate) fn moved_nothing_since(&self, before: &Self) -> bool {
        let frames = |reading: &Self| {
            let host = (reading.host.to_board.frames, reading.host.to_host.frames);
            let board = reading.board.as_ref().map(|board| &board.net);
            (host, board.map(|net| (net.to_board_frames, net.to_host_frames)))
        };
        frames(self) == frames(before)
    }

    /// Frames that the host moved since `before`: to the board, to the host.
    pub(crate) fn frames_since(&self, before: &Self) -> (u64, u64) {
        let (now, then) = (&self.host, &before.host);
        (now.to_board.frames - then.to_board.frames, now.to_host.frames - then.to_host.frames)
    }

    /// The bill of the queue to the board since `before`.
    pub(crate) fn to_board(self, before: &Self) -> PerPacket {
        let (now, then) = (&self.host.to_board, &before.host.to_board);
        let host = Share {
            flushes: now.sleep_flushes - then.sleep_flushes,
            copies: now.pushed - then.pushed,
        };
        let board = self.board_share(before, |board| Share {
            flushes: board.queues[1].flushes,
            copies: board.net.to_board_frames,
        });
        self.per_packet(before, Plane::ToBoard, now.frames - then.frames, host, board)
    }

    /// The bill of the queue to the host since `before`.
    pub(crate) fn to_host(self, before: &Self) -> PerPacket {
        let (now, then) = (&self.host.to_host, &before.host.to_host);
        let host = Share {
            flushes: now.sleep_flushes - then.sleep_flushes,
            copies: now.bounced - then.bounced,
        };
        let board = self.board_share(before, |board| Share {
            flushes: board.queues[0].flushes,
            copies: board.net.to_host_frames,
        });
        self.per_packet(before, Plane::ToHost, now.frames - then.frames, host, board)
    }

    fn board_share(&self, before: &Self, of: impl Fn(&Counters) -> Share) -> Option<Share> {
        let (now, then) = (of(self.board.as_ref()?), of(before.board.as_ref()?));
        Some(Share { flushes: now.flushes - then.flushes, copies: now.copies - then.copies })
    }

    fn per_packet(
        &self,
        before: &Self,
        plane: Plane,
        frames: u64,
        host_share: Share,
        board_share: Option<Share>,
    ) -> PerPacket {
        let bill = self.bill - before.bill;
        let of = |who| bill[(who, plane)];
        let (host, board, dma) =
            (of(Initiator::HostCpu), of(Initiator::BoardCpu), of(Initiator::BoardDma));
        let each = each_of(frames);
        let boards = |figure: &dyn Fn(Share) -> u64| board_share.map(|share| each(figure(share)));
        PerPacket {
            bus_reads_host: each(host.bus_reads().saturating_sub(host_share.flushes)),
            bus_reads_board: boards(&|share| board.bus_reads().saturating_sub(share.flushes)),
            dma_fetches: boards(&|_| dma.bus_reads()),
            sleep_flushes_host: each(host_share.flushes),
            sleep_flushes_board: boards(&|share| share.flushes),
            control_stores_host: each(host.control_stores()),
            control_stores_board: boards(&|_| board.control_stores() + dma.control_stores()),
            bytes_pushed_host: each(host.remote.payload_store_bytes),
            bytes_read_host: each(host.remote.payload_load_bytes),
            doorbells: each(host.doorbells),
            interrupts: each(board.interrupts),
            copies_host: each(host_share.copies),
            copies_board: boards(&|share| share.copies),
        }
    }
}

/// What one side has counted by itself.
#[derive(Clone, Copy)]
struct Share {
    /// Reads of R4 before sleeping.
    flushes: u64,
    copies: u64,
}

/// Divides by `frames`.
fn each_of(frames: u64) -> impl Fn(u64) -> f64 {
    move |count| count as f64 / frames.max(1) as f64
}
