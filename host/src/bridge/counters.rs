//! What the bridge counts. One writer (the worker); readers take a copy. The
//! fields' names are those of the control socket's answers.

use serde::{Deserialize, Serialize};

use std::ops::Add;

/// Counters of frames on their way to the board.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ToBoardCounters {
    /// Frames handed to the board.
    pub frames: u64,
    /// Their bytes, without the virtio-net header.
    pub bytes: u64,
    /// Frames that the host copied into board memory (one copy of ours).
    pub pushed: u64,
    /// Frames that the board fetches from host memory.
    pub pulled: u64,
    /// Frames dropped because their header did not fit what was negotiated.
    pub dropped: u64,
    /// Doorbells rung.
    pub doorbells: u64,
    /// Event words read back across the bus before sleeping (R4).
    pub sleep_flushes: u64,
    /// Times that every descriptor was in flight when a frame was waiting.
    pub ring_full: u64,
    /// Frames that the board had not returned when their queue was reset.
    pub lost_in_reset: u64,
}

/// Counters of frames on their way to the host.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ToHostCounters {
    /// Frames handed to the port.
    pub frames: u64,
    /// Their bytes, without the virtio-net header.
    pub bytes: u64,
    /// Frames that the header check refused.
    pub refused: u64,
    /// Frames that the port would not take (interface down, queue full).
    pub dropped: u64,
    /// Doorbells rung to return buffers.
    pub doorbells: u64,
    /// Event words read back across the bus before sleeping (R4).
    pub sleep_flushes: u64,
    /// Frames that the port copied through private memory.
    pub bounced: u64,
    /// Wake-ups that found nothing.
    pub empty_wakeups: u64,
    /// Work that the timer found and no interrupt announced, not even within a
    /// second: a bug counter. Late interrupts are not counted.
    pub completion_polled: u64,
}

/// Both directions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgeCounters {
    /// Towards the board.
    pub to_board: ToBoardCounters,
    /// Towards the host.
    pub to_host: ToHostCounters,
}

impl Add for ToBoardCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            frames: self.frames + other.frames,
            bytes: self.bytes + other.bytes,
            pushed: self.pushed + other.pushed,
            pulled: self.pulled + other.pulled,
            dropped: self.dropped + other.dropped,
            doorbells: self.doorbells + other.doorbells,
            sleep_flushes: self.sleep_flushes + other.sleep_flushes,
            ring_full: self.ring_full + other.ring_full,
            lost_in_reset: self.lost_in_reset + other.lost_in_reset,
        }
    }
}

impl Add for ToHostCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            frames: self.frames + other.frames,
            bytes: self.bytes + other.bytes,
            refused: self.refused + other.refused,
            dropped: self.dropped + other.dropped,
            doorbells: self.doorbells + other.doorbells,
            sleep_flushes: self.sleep_flushes + other.sleep_flushes,
            bounced: self.bounced + other.bounced,
            empty_wakeups: self.empty_wakeups + other.empty_wakeups,
            completion_polled: self.completion_polled + other.completion_polled,
        }
    }
}

/// One session's and another's.
impl Add for BridgeCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { to_board: self.to_board + other.to_board, to_host: self.to_host + other.to_host }
    }
}
