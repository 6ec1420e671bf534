//! What happened, as a ring of small events and a set of counters.
//!
//! Nothing is formatted when something happens: an event is a `Copy` enum, and
//! whoever reads the ring (a debugger, the log, a test) formats it.
//! Events that repeat are counted in one entry, so a fault that comes back
//! for ever does not push out what led to it.

use core::fmt;

use shared::fault::PeerFault;

use crate::dma::DmaError;

/// Entries that a [`Trace`] keeps.
pub const TRACE_LEN: usize = 64;

/// Something worth remembering. Nothing here happens once a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The service started with this boot epoch.
    Boot {
        /// The boot epoch published.
        epoch: u32,
    },
    /// A host attached.
    Attached {
        /// The session's epoch.
        session: u32,
    },
    /// The session ended, whoever ended it.
    Detached {
        /// The session's epoch.
        session: u32,
    },
    /// The driver wrote a device's status.
    Status {
        /// The device.
        device: u16,
        /// The status that resulted.
        status: u32,
    },
    /// A queue came into use.
    QueueStarted {
        /// The device.
        device: u16,
        /// The queue.
        queue: u16,
        /// Its size, in descriptors.
        size: u16,
    },
    /// A queue was stopped because the host broke a rule.
    QueueFault {
        /// The device.
        device: u16,
        /// The queue.
        queue: u16,
        /// The rule.
        fault: PeerFault,
    },
    /// A queue was stopped because the DMA engine failed behind a batch.
    QueueDma {
        /// The device.
        device: u16,
        /// The queue.
        queue: u16,
        /// How it failed.
        error: DmaError,
    },
    /// The link refused a step or lost its peer.
    Link {
        /// The rule that was broken.
        fault: PeerFault,
    },
    /// The host, or somebody at a console, asked for a restart of the board.
    ResetAsked,
    /// A device became there for a host.
    DeviceCame {
        /// The device.
        device: u16,
    },
    /// A device is no longer there.
    DeviceWent {
        /// The device.
        device: u16,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Boot { epoch } => write!(f, "boot {epoch:08x}"),
            Self::Attached { session } => write!(f, "host attached, session {session:08x}"),
            Self::Detached { session } => write!(f, "host gone, session {session:08x}"),
            Self::Status { device, status } => write!(f, "device {device}: status {status:#x}"),
            Self::QueueStarted { device, queue, size } => {
                write!(f, "device {device} queue {queue}: {size} entries")
            }
            Self::QueueFault { device, queue, fault } => {
                write!(f, "device {device} queue {queue} stopped: {fault}")
            }
            Self::QueueDma { device, queue, error } => {
                write!(f, "device {device} queue {queue} stopped: {error}")
            }
            Self::Link { fault } => write!(f, "link: {fault}"),
            Self::ResetAsked => f.write_str("restart asked for"),
            Self::DeviceCame { device } => write!(f, "device {device} is there"),
            Self::DeviceWent { device } => write!(f, "device {device} is gone"),
        }
    }
}

/// One entry of the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When it happened last, in milliseconds of the service's time.
    pub at: u64,
    /// What happened.
    pub event: Event,
    /// How often, one after the other.
    pub times: u32,
}

/// The last [`TRACE_LEN`] events.
#[derive(Clone, Debug)]
pub struct Trace {
    entries: [Option<Entry>; TRACE_LEN],
    newest: usize,
    total: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl Trace {
    /// An empty ring.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: [None; TRACE_LEN], newest: TRACE_LEN - 1, total: 0 }
    }

    /// Takes an event into the ring.
    pub fn record(&mut self, at: u64, event: Event) {
        self.total = self.total.saturating_add(1);
        if let Some(Some(last)) = self.entries.get_mut(self.newest)
            && last.event == event
        {
            last.at = at;
            last.times = last.times.saturating_add(1);
            return;
        }
        self.newest = (self.newest + 1) % TRACE_LEN;
        if let Some(slot) = self.entries.get_mut(self.newest) {
            *slot = Some(Entry { at, event, times: 1 });
        }
    }

    /// The entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        let (newer, older) = self.entries.split_at(self.newest + 1);
        older.iter().chain(newer).flatten().copied()
    }

    /// Events recorded since the start, those that fell out of the ring included.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }
}

/// Defines counters with their names, so that a list cannot fall behind.
macro_rules! counters {
    ($(#[$about:meta])* $counters:ident { $($(#[$doc:meta])* $name:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct $counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl $counters {
            /// Each counter with its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// What one virtio-net device has done since the board started.
    ///
    /// Frames and bytes are without the virtio-net header.
    NetCounters {
        /// Frames taken from the host.
        to_board_frames,
        /// Their bytes.
        to_board_bytes,
        /// Frames given to the host.
        to_host_frames,
        /// Their bytes.
        to_host_bytes,
        /// Copies from windows into private memory: one a descriptor piece.
        fetches,
        /// Copies from private memory into windows.
        posts,
        /// Interrupts raised for the device's queues.
        interrupts,
        /// Frames dropped: shorter than a header and an Ethernet header.
        dropped_short,
        /// Frames dropped: longer than negotiated.
        dropped_long,
        /// Frames dropped: headers that contradict themselves or what was negotiated.
        dropped_header,
        /// Legitimate frames that nothing has a use for, such as multicast listener
        /// reports.
        ignored,
        /// Frames dropped: a checksum did not hold.
        dropped_checksum,
        /// Frames dropped: the driver does not take them back (offload not
        /// negotiated), or they can never fit into its buffers.
        dropped_unfit,
        /// Frames that the host has said it does not want: not sent.
        filtered,
        /// Commands of the control queue that were done.
        commands,
        /// Commands that were refused: unknown, malformed, or not negotiated.
        commands_refused,
        /// Frames lost to a failed DMA transfer.
        dropped_dma,
        /// Queues stopped because the host broke a rule.
        peer_faults,
    }
}

counters! {
    /// What one virtio-console device has done since the board started.
    ConsoleCounters {
        /// Bytes taken from the host.
        to_board_bytes,
        /// Bytes given to the host.
        to_host_bytes,
        /// Interrupts raised for the device's queues.
        interrupts,
        /// Bytes lost to a failed DMA transfer.
        dropped_dma,
        /// Queues stopped because the host broke a rule.
        peer_faults,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_share_one_entry() {
        let mut trace = Trace::new();
        for at in 0..10 {
            trace.record(at, Event::Attached { session: 7 });
        }
        trace.record(10, Event::Detached { session: 7 });
        let entries: Vec<_> = trace.iter().collect();
        assert_eq!(
            entries,
            [
                Entry { at: 9, event: Event::Attached { session: 7 }, times: 10 },
                Entry { at: 10, event: Event::Detached { session: 7 }, times: 1 },
            ]
        );
        assert_eq!(trace.total(), 11);
    }

    #[test]
    fn the_newest_entries_stay_in_order() {
        let mut trace = Trace::new();
        let count = u32::try_from(TRACE_LEN).unwrap() * 3 + 5;
        for epoch in 0..count {
            trace.record(u64::from(epoch), Event::Boot { epoch });
        }
        let kept: Vec<_> = trace.iter().map(|entry| entry.at).collect();
        let first = u64::from(count) - TRACE_LEN as u64;
        assert_eq!(kept, (first..u64::from(count)).collect::<Vec<_>>());
    }
}
