//! A board that talks to another one, and says on its console how that goes.

use board::device::Wake;
use board::device::net::{FrameHandler, Talker, Tally, Task};
use board::program::{Card, mac};
use shared::wire::net::NetHeader;

/// Frames between two lines on the console.
const LINES_APART: u64 = 1000;

/// A station that sends frames to another board's, as many as come back. It
/// probes until one does: the way there need not be open yet.
#[derive(Debug)]
pub(crate) struct Station {
    talker: Talker,
    /// When the first frame was back, once one was.
    first: Option<Tally>,
    told: Tally,
}

impl Station {
    /// The station of board `number`, which talks to board `peer`'s.
    pub(crate) fn new(number: u8, peer: u8) -> Self {
        let mut talker = Talker::new(mac(number, Card::Board), mac(peer, Card::Board), 1500);
        talker.set(Task::Probe);
        Self { talker, first: None, told: Tally::default() }
    }
}

impl FrameHandler for Station {
    fn take(&mut self, now: u64, header: &NetHeader, frame: &[u8]) {
        self.talker.take(now, header, frame);
        let Some(first) = self.first else {
            if self.talker.tally().back > 0 {
                // Probes that a bridge dropped before it forwarded.
                self.talker.give_up();
                self.talker.set(Task::Stream);
                self.told = self.talker.tally();
                self.first = Some(self.told);
                log::info!("talker: the first frame is back");
            }
            return;
        };
        let tally = self.talker.tally();
        if tally.back >= self.told.back + LINES_APART || tally.wrong > self.told.wrong {
            self.told = tally;
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
        self.talker.give(now, into)
    }

    fn next(&self, now: u64) -> Wake {
        self.talker.next(now)
    }
}
