//! The bill of one phase of the demo.

use std::time::Duration;

use anyhow::Result;
use board::program::Counters;
use virtio_phys_host::bridge::BridgeCounters;
use virtio_phys_host::bus::sim::{Bill, Initiator, Label, Plane, SimBus};
use virtio_phys_host::daemon::Board;
use virtio_phys_host::session::Terms;

use super::report::{HostShare, PerPacket};
use super::watch::Watch;
use crate::emulated_board::EmulatedBoard;

/// Queue numbers plus one: doorbell and vector 0 are the message channel's.
const TO_HOST_NOTIFICATION: u32 = 1;
const TO_BOARD_NOTIFICATION: u32 = 2;

/// Tells the simulated bus which memory is whose.
pub(crate) fn label(bus: &SimBus, terms: &Terms) {
    let areas = &terms.areas;
    bus.label(&[
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
    ]);
}

/// What counts on the simulated bus; a board in QEMU has nothing of the kind.
#[derive(Clone, Copy)]
pub(crate) struct Instruments<'a> {
    pub(crate) bus: &'a SimBus,
    pub(crate) board: &'a EmulatedBoard,
}

/// Reads all counters once both sides have come to rest: each publishes its
/// own before it sleeps, and an idle link sleeps after some microseconds.
pub(crate) fn quiet(
    watch: Watch<'_>,
    instruments: Option<Instruments<'_>>,
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
    board: Option<(Bill, Counters)>,
}

impl Reading {
    /// Reads them all. Host and board publish theirs before they sleep, so
    /// the link should be quiet.
    pub(crate) fn take(instruments: Option<Instruments<'_>>, link: &Board) -> Self {
        let counted = |Instruments { bus, board }: Instruments<'_>| (bus.bill(), board.counters());
        Self { host: link.status().counters, board: instruments.map(counted) }
    }

    /// Whether no frame has moved since `before`.
    pub(crate) fn moved_nothing_since(&self, before: &Self) -> bool {
        let frames = |reading: &Self| {
            let host = (reading.host.to_board.frames, reading.host.to_host.frames);
            let board = reading.board.as_ref().map(|(_, board)| &board.net);
            (host, board.map(|net| (net.to_board_frames, net.to_host_frames)))
        };
        frames(self) == frames(before)
    }

    /// Frames that the host moved since `before`: to the board, to the host.
    pub(crate) fn frames_since(&self, before: &Self) -> (u64, u64) {
        let (now, then) = (&self.host, &before.host);
        (now.to_board.frames - then.to_board.frames, now.to_host.frames - then.to_host.frames)
    }

    /// The host's share of the queue to the board since `before`.
    pub(crate) fn host_to_board(&self, before: &Self) -> HostShare {
        let (now, then) = (&self.host.to_board, &before.host.to_board);
        let each = each_of(now.frames - then.frames);
        HostShare {
            sleep_flushes: each(now.sleep_flushes - then.sleep_flushes),
            doorbells: each(now.doorbells - then.doorbells),
            copies: each(now.pushed - then.pushed),
        }
    }

    /// The same of the queue to the host.
    pub(crate) fn host_to_host(&self, before: &Self) -> HostShare {
        let (now, then) = (&self.host.to_host, &before.host.to_host);
        let each = each_of(now.frames - then.frames);
        HostShare {
            sleep_flushes: each(now.sleep_flushes - then.sleep_flushes),
            doorbells: each(now.doorbells - then.doorbells),
            copies: each(now.bounced - then.bounced),
        }
    }

    /// The bill of the queue to the board since `before`.
    pub(crate) fn to_board(self, before: &Self) -> Option<PerPacket> {
        let (now, then) = (&self.board?.1, &before.board?.1);
        let frames = self.host.to_board.frames - before.host.to_board.frames;
        let pushed = self.host.to_board.pushed - before.host.to_board.pushed;
        let fetched = now.net.to_board_frames - then.net.to_board_frames;
        let flushes = self.host.to_board.sleep_flushes - before.host.to_board.sleep_flushes
            + now.queues[1].flushes
            - then.queues[1].flushes;
        self.per_packet(before, Plane::ToBoard, frames, flushes, pushed + fetched)
    }

    /// The bill of the queue to the host since `before`.
    pub(crate) fn to_host(self, before: &Self) -> Option<PerPacket> {
        let (now, then) = (&self.board?.1, &before.board?.1);
        let frames = self.host.to_host.frames - before.host.to_host.frames;
        let posted = now.net.to_host_frames - then.net.to_host_frames;
        let bounced = self.host.to_host.bounced - before.host.to_host.bounced;
        let flushes = self.host.to_host.sleep_flushes - before.host.to_host.sleep_flushes
            + now.queues[0].flushes
            - then.queues[0].flushes;
        self.per_packet(before, Plane::ToHost, frames, flushes, posted + bounced)
    }

    fn per_packet(
        self,
        before: &Self,
        plane: Plane,
        frames: u64,
        flushes: u64,
        copies: u64,
    ) -> Option<PerPacket> {
        let bill = self.board?.0 - before.board?.0;
        let of = |who| bill[(who, plane)];
        let (host, board, dma) =
            (of(Initiator::HostCpu), of(Initiator::BoardCpu), of(Initiator::BoardDma));
        let reads = host.bus_reads() + board.bus_reads();
        let each = each_of(frames);
        Some(PerPacket {
            bus_reads: each(reads.saturating_sub(flushes)),
            dma_fetches: each(dma.bus_reads()),
            sleep_flushes: each(flushes),
            control_stores_host: each(host.control_stores()),
            control_stores_board: each(board.control_stores() + dma.control_stores()),
            doorbells: each(host.doorbells),
            interrupts: each(board.interrupts),
            copies: each(copies),
        })
    }
}

/// Divides by `frames`.
fn each_of(frames: u64) -> impl Fn(u64) -> f64 {
    move |count| count as f64 / frames.max(1) as f64
}
