//! A board that talks to another one, and says on its console how that goes.

use board::device::Wake;
use board::device::net::{FrameHandler, Talker, Tally, Task};
use board::program::{Card, mac};
use shared::wire::net::NetHeader;

/// Frames between two lines on the console.
const LINES_APART: u64 = 1000;

/// Milliseconds between two lines at least: each is the host's to cause.
const LINES_APART_MS: u64 = 1000;

/// Milliseconds without a frame back after which the way there is lost: longer
/// than a busy machine keeps whoever is on that way from its work.
const STALL_MS: u64 = 10_000;

/// A station that sends frames to another board's, as many as come back. It
/// probes until one does: the way there need not be open yet, or any more.
#[derive(Debug)]
pub(crate) struct Station {
    talker: Talker,
    /// When the first frame was back, once one was.
    first: Option<Tally>,
    told: Tally,
    told_at: u64,
    /// Whether it streams, and when a frame came back last.
    streams: bool,
    moved: u64,
}

impl Station {
    /// The station of board `number`, which talks to board `peer`'s.
    pub(crate) fn new(number: u8, peer: u8) -> Self {
        let mut talker = Talker::new(mac(number, Card::Board), mac(peer, Card::Board), 1500);
        talker.set(Task::Probe);
        let told = Tally::default();
        Self { talker, first: None, told, told_at: 0, streams: false, moved: 0 }
    }
}

impl FrameHandler for Station {
    fn take(&mut self, now: u64, header: &NetHeader, frame: &[u8]) {
        let before = self.talker.tally().back;
        self.talker.take(now, header, frame);
        if self.talker.tally().back > before {
            self.moved = now;
            if !self.streams {
                // Probes that a bridge dropped before it forwarded.
                self.talker.give_up();
                self.talker.set(Task::Stream);
                self.streams = true;
            }
        }
        let tally = self.talker.tally();
        let Some(first) = self.first else {
            if tally.back > 0 {
                (self.first, self.told) = (Some(tally), tally);
                log::info!("talker: the first frame is back");
            }
            return;
        };
        let news = tally.back >= self.told.back + LINES_APART || tally.wrong > self.told.wrong;
        if news && now >= self.told_at.saturating_add(LINES_APART_MS) {
            (self.told, self.told_at) = (tally, now);
            log::info!(
                "talker: sent {}, back {}, wrong {}, lost {}",
                tally.sent - first.sent,
                tally.back - first.back,
                tally.wrong - first.wrong,
                tally.lost - first.lost
            );
        }
    }

    fn give(&mut self, now: u64, into: &mut [u8]) -> Option<(NetHeader, usize)> {
        if self.streams && now >= self.moved.saturating_add(STALL_MS) {
            self.talker.give_up();
            self.talker.set(Task::Probe);
            self.streams = false;
        }
        self.talker.give(now, into)
    }

    fn next(&self, now: u64) -> Wake {
        let stalled = Wake::At(self.moved.saturating_add(STALL_MS).max(now));
        let next = self.talker.next(now);
        if self.streams { next.sooner(stalled) } else { next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_after_all_frames_under_way_were_lost() {
        let mut station = Station::new(1, 2);
        let header = NetHeader::default();
        let mut into = [0; 2000];
        let mut now = 10;
        let (_, len) = station.give(now, &mut into).unwrap();
        let back = |frame: &[u8]| [&frame[6..12], &frame[..6], &frame[12..]].concat();
        station.take(now, &header, &back(&into[..len]));
        // None of these comes back.
        while station.give(now, &mut into).is_some() {}
        assert_eq!(station.next(now), Wake::At(now + STALL_MS));
        now += STALL_MS;
        // A probe, and no stream; then one that does come back.
        let (_, len) = station.give(now, &mut into).unwrap();
        assert!(station.give(now, &mut into).is_none());
        station.take(now, &header, &back(&into[..len]));
        assert!(station.give(now, &mut into).is_some() && station.give(now, &mut into).is_some());
        assert!(station.talker.tally().lost > 60);
    }
}
