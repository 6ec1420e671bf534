//! Numbered frames of which every byte is known.

use std::collections::BTreeSet;

/// A type that nobody else uses (IEEE 802 local experimental).
const KIND: [u8; 2] = [0x88, 0xb5];

/// Bytes in front of the pattern: Ethernet header, stream, number.
const FIXED: usize = 23;

/// Shortest frame, and how many lengths there are up to an MTU of 1500.
const SHORTEST: usize = 60;
const LENGTHS: u64 = 1514 - 60 + 1;

/// A stream of frames between two stations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) name: u8,
    pub(crate) from: [u8; 6],
    pub(crate) to: [u8; 6],
}

impl Stream {
    /// Frame `number`, every length in turn.
    pub(crate) fn frame(&self, number: u64) -> Vec<u8> {
        let mut frame = [self.to, self.from].concat();
        frame.extend(KIND);
        frame.push(self.name);
        frame.extend(number.to_be_bytes());
        let len = SHORTEST + usize::try_from(number * 37 % LENGTHS).unwrap();
        let seed = number as u8 ^ self.name;
        frame.extend((FIXED..len).map(|at| (at as u8).wrapping_mul(29) ^ (at >> 8) as u8 ^ seed));
        frame
    }

    /// The number of one of these frames on its way back, or what is wrong with it.
    /// `None`: it is somebody else's.
    pub(crate) fn read_back(&self, frame: &[u8]) -> Option<Result<u64, String>> {
        let number = frame.get(15..FIXED)?;
        if frame[12..14] != KIND || frame[14] != self.name || frame[..6] != self.from {
            return None;
        }
        let number = u64::from_be_bytes(number.try_into().unwrap());
        let back = Self { from: self.to, to: self.from, ..*self };
        // As sent, with the addresses exchanged.
        let right = back.frame(number) == frame;
        Some(if right { Ok(number) } else { Err(format!("frame {number} came back changed")) })
    }
}

/// What became of a stream's frames.
#[derive(Clone, Default, Debug)]
pub(crate) struct Tally {
    /// The next number to send, and the next to come back.
    pub(crate) sent: u64,
    pub(crate) expected: u64,
    /// Frames that came back as they were.
    pub(crate) back: u64,
    /// Frames that did not, so far.
    pub(crate) lost: BTreeSet<u64>,
    /// What must not happen.
    pub(crate) wrong: Vec<String>,
}

impl Tally {
    /// Frames that are under way.
    pub(crate) fn under_way(&self) -> u64 {
        self.sent - self.expected
    }

    /// Takes a frame that came back. None comes twice.
    pub(crate) fn take(&mut self, read: Result<u64, String>) {
        match read {
            Ok(number) if (self.expected..self.sent).contains(&number) => {
                self.lost.extend(self.expected..number);
                self.back += 1;
                self.expected = number + 1;
            }
            // It had been given up too early.
            Ok(number) if self.lost.remove(&number) => self.back += 1,
            Ok(number) => self.wrong.push(format!("frame {number} came twice or was never sent")),
            Err(what) => self.wrong.push(what),
        }
    }

    /// Gives up what is under way.
    pub(crate) fn give_up(&mut self) {
        self.lost.extend(self.expected..self.sent);
        self.expected = self.sent;
    }
}
